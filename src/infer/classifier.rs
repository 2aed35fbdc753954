//! Trained classifiers, for evaluation and prediction: fine-tuned networks and linear probes.

use super::error::InferError;
use super::evaluate::{Evaluated, Evaluation, ShareCounts};
use super::host::host;
use super::replicas::Replicas;
use super::same_encoder::same_encoder;
use super::stop::StopFlag;
use crate::checkpoint::{Head, Opened, TensorFile, load_frozen, load_module};
use crate::data::{DataSet, Share};
use crate::model::{self, ProbeHead, Vit, official_probe_name};
use crate::recipe::Plan;
use crate::shape::EncoderDims;
use burn::tensor::{Device, Tensor, TensorData};
use std::path::PathBuf;

/// A classifier from a `finetune` or `linprobe` checkpoint.
pub struct Classifier {
    network: Network,
    encoder: EncoderDims,
    device: Device,
    path: PathBuf,
}

enum Network {
    Finetuned(Box<Vit>),
    Probe(Box<(Vit, ProbeHead)>),
}

impl Classifier {
    /// Loads the classifier of a checkpoint.
    ///
    /// `plan` provides settings that tensor shapes do not show, such as the number of heads.
    pub fn load(opened: &Opened, plan: &Plan, device: &Device) -> Result<Self, InferError> {
        let encoder = plan.encoder_dims();
        let (file, path) = (&opened.file, &opened.path);
        same_encoder(opened, &plan.model)?;
        let vit = |classes, global_pool| Vit::zeros(&encoder, classes, global_pool, device);
        let network = match opened.facts.head {
            Head::Linear { classes, global_pool } => {
                Network::Finetuned(Box::new(load_module(vit(classes, global_pool), file, path)?))
            }
            Head::Probe { classes, global_pool } => {
                let frozen = load_frozen(vit(classes, global_pool), file, path)?;
                let head = ProbeHead::zeros(encoder.embed_dim, classes, encoder.precision, device);
                let own = model::named(&head).into_iter().filter_map(|param| {
                    let tensor = file.tensors.get(official_probe_name(&param.name))?;
                    Some((param.name, tensor.clone()))
                });
                let own = TensorFile { tensors: own.collect(), ..TensorFile::default() };
                Network::Probe(Box::new((frozen, load_module(head, &own, path)?)))
            }
            Head::Absent => {
                return Err(InferError::Setting {
                    problem: format!(
                        "cannot classify with {}: the checkpoint has no classification head",
                        path.display()
                    ),
                    hint: "use a checkpoint from the `finetune/` or `linprobe/` folder of a run. To fine-tune this \
                           checkpoint, set `finetune.from`"
                        .to_owned(),
                });
            }
        };
        Ok(Self { network, encoder, device: device.clone(), path: path.clone() })
    }

    /// Sums the loss and counts the correct predictions on one share of the validation images.
    pub fn count(
        &self,
        plan: &Plan,
        data: &DataSet,
        batch_size: usize,
        replicas: &Replicas,
        share: Share,
        stop: &StopFlag,
    ) -> Result<ShareCounts, InferError> {
        let evaluation = Evaluation::new(plan, data, batch_size, &self.device, stop, 0)?;
        match &self.network {
            Network::Finetuned(vit) => evaluation.count(&**vit, replicas, share, Vit::forward),
            Network::Probe(probe) => {
                let (frozen, head) = (probe.0.clone(), &probe.1);
                evaluation.count(head, replicas, share, move |head, imgs| {
                    head.forward(frozen.forward_features(imgs))
                })
            }
        }
    }

    /// Returns `measured` unchanged. Fails if the loss is NaN or infinite.
    pub fn check(&self, measured: Evaluated) -> Result<Evaluated, InferError> {
        match measured {
            Evaluated::Metrics(metrics) if !metrics.loss.is_finite() => Err(self.not_finite()),
            measured => Ok(measured),
        }
    }

    fn not_finite(&self) -> InferError {
        InferError::Setting {
            problem: format!(
                "cannot classify with {}: the output of the network contains NaN or infinity",
                self.path.display()
            ),
            hint: "download the checkpoint again, or use another checkpoint".to_owned(),
        }
    }

    /// Returns the probability of each class for an image `[C, H, W]`.
    ///
    /// The image comes from `data::transform_picture`.
    pub fn probabilities(&self, picture: Vec<f32>) -> Result<Vec<f64>, InferError> {
        let EncoderDims { in_chans, input_size, .. } = self.encoder;
        let picture = TensorData::new(picture, [1, in_chans, input_size, input_size]);
        let imgs = Tensor::from_data(picture, &self.device);
        let logits = match &self.network {
            Network::Finetuned(vit) => vit.forward(imgs),
            Network::Probe(probe) => probe.1.forward(probe.0.forward_features(imgs)),
        };
        let logits = host(&logits.flatten(0, 1), &[])?.values;
        let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let exp: Vec<f64> = logits.iter().map(|&v| f64::from(v - max).exp()).collect();
        let sum: f64 = exp.iter().sum();
        if !sum.is_finite() {
            return Err(self.not_finite());
        }
        Ok(exp.into_iter().map(|e| e / sum).collect())
    }
}
