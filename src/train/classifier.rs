//! A trained classifier, for evaluation and prediction: a fine-tuned one, or a probe on its frozen encoder.

use super::Evaluated;
use super::Replicas;
use super::Stop;
use super::TrainError;
use super::dims;
use super::evaluate::Evaluation;
use super::linprobe::official_name;
use super::state::host;
use crate::checkpoint::Meta;
use crate::checkpoint::TensorFile;
use crate::checkpoint::load_encoder;
use crate::checkpoint::load_module;
use crate::data::DataSet;
use crate::model;
use crate::model::EncoderDims;
use crate::model::ProbeHead;
use crate::model::Vit;
use crate::recipe::Plan;

use burn::tensor::Device;
use burn::tensor::Tensor;
use burn::tensor::TensorData;
use std::path::Path;

/// A checkpoint of `finetune` or `linprobe`, ready to answer.
pub struct Classifier {
    network: Network,
    encoder: EncoderDims,
    device: Device,
}

enum Network {
    Finetuned(Box<Vit>),
    Probe(Box<(Vit, ProbeHead)>),
}

impl Classifier {
    /// Loads the checkpoint whose tensors are at `path`, built as `plan` (the recipe it was trained by) says.
    pub fn load(
        path: &Path,
        meta: &Meta,
        plan: &Plan,
        device: &Device,
    ) -> Result<Self, TrainError> {
        let encoder = dims::encoder(&plan.model, &plan.data);
        let file = TensorFile::read(path)?;
        let vit = |global_pool| Vit::zeros(&encoder, meta.num_classes, global_pool, device);
        let network = match (meta.stage.as_str(), &plan.finetune, &plan.linprobe) {
            ("finetune", Some(finetune), _) => {
                Network::Finetuned(Box::new(load_module(vit(finetune.global_pool), &file, path)?))
            }
            ("linprobe", _, Some(linprobe)) => {
                let frozen = load_encoder(vit(linprobe.global_pool), &file, path)?;
                let head = ProbeHead::zeros(encoder.embed_dim, meta.num_classes, device);
                let own = model::named(&head).into_iter().filter_map(|param| {
                    let tensor = file.tensors.get(official_name(&param.name))?;
                    Some((param.name, tensor.clone()))
                });
                let own = TensorFile { tensors: own.collect(), ..TensorFile::default() };
                Network::Probe(Box::new((frozen, load_module(head, &own, path)?)))
            }
            (stage, _, _) => {
                return Err(TrainError::Setting {
                    problem: format!("{}: a {stage} checkpoint is no classifier", path.display()),
                    hint: "give a checkpoint from the run's finetune/ or linprobe/ folder"
                        .to_owned(),
                });
            }
        };
        Ok(Self { network, encoder, device: device.clone() })
    }

    /// Measures it on the validation split of `data`.
    pub fn evaluate(
        &self,
        plan: &Plan,
        data: &DataSet,
        batch_size: usize,
        replicas: &Replicas,
        stop: &Stop,
    ) -> Result<Evaluated, TrainError> {
        let evaluation = Evaluation::new(plan, data, batch_size, &self.device, stop)?;
        match &self.network {
            Network::Finetuned(vit) => evaluation.run(&**vit, replicas, Vit::forward),
            Network::Probe(probe) => {
                let (frozen, head) = (probe.0.clone(), &probe.1);
                evaluation.run(head, replicas, move |head, imgs| {
                    head.forward(frozen.forward_features(imgs))
                })
            }
        }
    }

    /// Gives the class probabilities of one picture, `[C, H, W]` as `data::transform_picture` gives it.
    pub fn probabilities(&self, picture: Vec<f32>) -> Result<Vec<f64>, TrainError> {
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
        Ok(exp.into_iter().map(|e| e / sum).collect())
    }
}
