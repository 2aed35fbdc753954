//! Trained classifiers, for evaluation and prediction: fine-tuned networks and linear probes.

use super::error::InferError;
use super::evaluate::{Evaluation, Metrics};
use super::host::host;
use super::replicas::Replicas;
use super::same_encoder::same_encoder;
use super::tally::Tally;
use crate::checkpoint::{Head, Opened, TensorFile, load_frozen, load_module};
use crate::data::Share;
use crate::model::{self, ProbeHead, Vit, official_probe_name};
use crate::recipe::Plan;
use crate::shape::EncoderDims;
use burn::tensor::{Device, Tensor, TensorData};
use std::path::PathBuf;
use std::sync::Arc;

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
    /// `plan` provides settings that the tensors do not show, such as the number of heads.
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

    /// Counts right and wrong predictions. `share` selects the images of `pass` that this rank evaluates.
    ///
    /// With `among`, the classifier can predict only these labels. Returns `None` if the user stops the command.
    pub fn tally(
        &self,
        pass: &Evaluation,
        among: Option<Arc<[u32]>>,
        replicas: &Replicas,
        share: Share,
    ) -> Result<Option<Tally>, InferError> {
        let counted = move |logits: Tensor<2>, labels: &[u32]| {
            let classes = logits.dims()[1];
            let logits = host(&logits.flatten(0, 1), &[])?.values;
            Ok(Tally::of(&logits, labels, classes, among.as_deref()))
        };
        let mut all = Tally::default();
        let add = |part: Tally| {
            all.add(&part);
            Ok::<_, InferError>(())
        };
        let whole = match &self.network {
            Network::Finetuned(vit) => {
                let work =
                    move |vit: &Vit, imgs, labels: &[u32]| counted(vit.forward(imgs), labels);
                pass.each_shard(&**vit, replicas, share, work, add)?
            }
            Network::Probe(probe) => {
                let frozen = probe.0.clone();
                let work = move |head: &ProbeHead, imgs, labels: &[u32]| {
                    counted(head.forward(frozen.forward_features(imgs)), labels)
                };
                pass.each_shard(&probe.1, replicas, share, work, add)?
            }
        };
        Ok(whole.then_some(all))
    }

    /// Returns the metrics of `tally`. Fails if the loss is NaN or infinite.
    pub fn checked(&self, tally: &Tally) -> Result<Metrics, InferError> {
        let metrics = tally.metrics();
        if metrics.loss.is_finite() { Ok(metrics) } else { Err(self.not_finite()) }
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

    /// Returns the probability of each class for one image, `[C, H, W]`.
    ///
    /// `picture` comes from `data::transform_picture`.
    pub fn probabilities(&self, picture: Vec<f32>) -> Result<Vec<f64>, InferError> {
        let EncoderDims { in_chans, input_size, .. } = self.encoder;
        let picture = TensorData::new(picture, [1, in_chans, input_size.height, input_size.width]);
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
