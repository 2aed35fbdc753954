//! A trained classifier, for evaluation and prediction: a fine-tuned one, or a probe on its frozen encoder.

use super::crew::Crew;
use super::evaluate::Evaluation;
use super::linprobe::official_name;
use super::schedule::on_every_rank;
use super::self_check::{self, Trial};
use super::state::host;
use super::{ChosenDevice, Evaluated, Stop, Team, TrainError, Watch, imported};
use crate::checkpoint::{Head, Opened, TensorFile, load_frozen, load_module};
use crate::data::DataSet;
use crate::model::{self, ProbeHead, Vit};
use crate::recipe::Plan;
use crate::shape::EncoderDims;

use burn::tensor::{Device, Tensor, TensorData};
use std::path::PathBuf;

/// A checkpoint of `finetune` or `linprobe`, ready to answer.
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

/// Measures a checkpoint on the validation split of `data`, on all devices of `device`.
pub fn evaluate(
    opened: Opened,
    plan: Plan,
    data: DataSet,
    batch_size: usize,
    device: &ChosenDevice,
    stop: &Stop,
) -> Result<Evaluated, TrainError> {
    let crew = Crew::start(device.devices.len());
    let stop = stop.clone();
    on_every_rank(device, &crew, move |rank, device| {
        let classifier = Classifier::load(&opened, &plan, &device, batch_size)?;
        let team = Team { rank, replicas: device.replicas(), watch: Watch::default() };
        classifier.evaluate(&plan, &data, batch_size, &team, &stop)
    })
}

impl Classifier {
    /// Makes a classifier of an opened checkpoint; `plan` says what shapes do not: heads, epsilon.
    ///
    /// Fails on a device that computes `images` at a time wrongly, unless `runtime.verify_device` is off.
    pub fn load(
        opened: &Opened,
        plan: &Plan,
        device: &ChosenDevice,
        images: usize,
    ) -> Result<Self, TrainError> {
        let encoder = plan.encoder_dims();
        let (file, path) = (&opened.file, &opened.path);
        imported::same_encoder(opened, &plan.model)?;
        if let Head::Linear { classes, global_pool } | Head::Probe { classes, global_pool } =
            opened.facts.head
        {
            let trial = Trial::Classifier { images, classes, global_pool, trained: false };
            self_check::check(device, plan, trial)?;
        }
        let device = &device.device;
        let vit = |classes, global_pool| Vit::zeros(&encoder, classes, global_pool, device);
        let network = match opened.facts.head {
            Head::Linear { classes, global_pool } => {
                Network::Finetuned(Box::new(load_module(vit(classes, global_pool), file, path)?))
            }
            Head::Probe { classes, global_pool } => {
                let frozen = load_frozen(vit(classes, global_pool), file, path)?;
                let head = ProbeHead::zeros(encoder.embed_dim, classes, encoder.precision, device);
                let own = model::named(&head).into_iter().filter_map(|param| {
                    let tensor = file.tensors.get(official_name(&param.name))?;
                    Some((param.name, tensor.clone()))
                });
                let own = TensorFile { tensors: own.collect(), ..TensorFile::default() };
                Network::Probe(Box::new((frozen, load_module(head, &own, path)?)))
            }
            Head::Absent => {
                return Err(TrainError::Setting {
                    problem: format!("{}: no classifier, it has no head", path.display()),
                    hint: "give a checkpoint from a run's finetune/ or linprobe/ folder, or fine-tune this one: \
                           `finetune.from`"
                        .to_owned(),
                });
            }
        };
        Ok(Self { network, encoder, device: device.clone(), path: path.clone() })
    }

    /// Measures it on the validation split of `data`.
    fn evaluate(
        &self,
        plan: &Plan,
        data: &DataSet,
        batch_size: usize,
        team: &Team,
        stop: &Stop,
    ) -> Result<Evaluated, TrainError> {
        let evaluation = Evaluation::new(plan, data, batch_size, &self.device, stop, 0)?;
        let measured = match &self.network {
            Network::Finetuned(vit) => evaluation.run(&**vit, team, Vit::forward),
            Network::Probe(probe) => {
                let (frozen, head) = (probe.0.clone(), &probe.1);
                evaluation
                    .run(head, team, move |head, imgs| head.forward(frozen.forward_features(imgs)))
            }
        }?;
        match measured {
            Evaluated::Metrics(metrics) if !metrics.loss.is_finite() => Err(self.no_numbers()),
            measured => Ok(measured),
        }
    }

    fn no_numbers(&self) -> TrainError {
        TrainError::Setting {
            problem: format!("{}: what it gives are no finite numbers", self.path.display()),
            hint: "its weights are damaged; take another copy, or another checkpoint".to_owned(),
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
        if !sum.is_finite() {
            return Err(self.no_numbers());
        }
        Ok(exp.into_iter().map(|e| e / sum).collect())
    }
}
