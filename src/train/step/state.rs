//! The state of a job: model, optimizer and progress. It is saved as `resume.safetensors`.

use super::average::Average;
use super::loss_scale::LossScale;
use crate::checkpoint::{CheckpointError, HostTensor, OptimizerState, TensorFile, load_module};
use crate::infer::host;
use crate::model::{self, NamedParam, PartialGrads};
use crate::optim::{self, Optimizer};
use crate::results::{Remedy, RunError};
use crate::shape::Precision;
use crate::train::error::TrainError;
use burn::module::Module;
use burn::tensor::{Tensor, TensorData};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

/// Sums over the updates of the current epoch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct EpochSums {
    pub updates: usize,
    /// Number of updates skipped because of NaN or infinity.
    #[serde(default)]
    pub skipped: usize,
    /// Number of updates skipped because a scaled fp16 gradient overflowed.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub overflows: usize,
    pub loss: f64,
    pub grad_norm: f64,
    pub lr: f64,
    pub images: usize,
    pub train_s: f64,
    pub data_wait_s: f64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(count: &usize) -> bool {
    *count == 0
}

/// The state of a training job. Clones share the memory of their tensors.
#[derive(Clone)]
pub(crate) struct TrainingState<M> {
    pub model: M,
    pub optimizer: Optimizer,
    /// Moving average of the weights; `None` without EMA.
    pub average: Option<Average<M>>,
    /// Loss scale; `None` unless the precision is fp16.
    pub loss_scale: Option<LossScale>,
    pub progress: Progress,
}

/// How far a job has trained.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Progress {
    /// Current epoch, counted from 1.
    pub epoch: usize,
    /// Number of finished updates in the current epoch.
    pub update: usize,
    /// Number of updates by the optimizer, without skipped updates. Set only in saved states.
    pub optimizer_updates: usize,
    pub sums: EpochSums,
    /// Loss scale of fp16. Set only in saved states.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss_scale: Option<LossScale>,
}

impl Progress {
    pub(crate) fn start() -> Self {
        Self {
            epoch: 1,
            update: 0,
            optimizer_updates: 0,
            sums: EpochSums::default(),
            loss_scale: None,
        }
    }
}

impl<M: Module> TrainingState<M> {
    pub(crate) fn start(model: M, optimizer: Optimizer) -> Self {
        Self { model, optimizer, average: None, loss_scale: None, progress: Progress::start() }
    }

    /// Adds a moving average of the weights (EMA). Without `decay`, changes nothing.
    #[must_use]
    pub(crate) fn averaged(self, decay: Option<f64>) -> Self {
        let average = decay.map(|decay| Average::new(&self.model, decay));
        Self { average, ..self }
    }

    /// Adds a loss scale if the precision is fp16.
    #[must_use]
    pub(crate) fn scaled(self, precision: Precision) -> Self {
        let loss_scale = (precision == Precision::Fp16).then(LossScale::start);
        Self { loss_scale, ..self }
    }

    /// Returns the model to evaluate and to save: the averaged weights with EMA, otherwise the model.
    pub(crate) fn result(&self) -> &M {
        self.average.as_ref().map_or(&self.model, |average| &average.model)
    }

    /// Clips the gradients and updates the trained parameters.
    ///
    /// Returns the gradient norm before clipping, `[1]`. A missing gradient counts as zeros.
    pub(crate) fn update(
        &mut self,
        grads: PartialGrads,
        lr: f64,
        clip_grad: Option<f64>,
    ) -> Tensor<1> {
        let (norm, grads) = clipped(grads, clip_grad);
        self.model = self.stepped(grads, lr, None);
        if let Some(average) = &mut self.average {
            average.add(&self.model, None);
        }
        norm
    }

    /// Returns the model with the new values of the trained parameters.
    fn stepped(
        &mut self,
        mut grads: HashMap<usize, Tensor<1>>,
        lr: f64,
        gate: Option<&optim::Gate>,
    ) -> M {
        let params = model::named(&self.model);
        let mut trained = params.iter().map(|param| param.trained).collect::<Vec<_>>().into_iter();
        let params = params.into_iter().filter(|param| param.trained);
        let params: Vec<Tensor<1>> = params.map(|param| param.values).collect();
        let of_param = |(place, param): (usize, &Tensor<1>)| {
            grads.remove(&place).unwrap_or_else(|| param.zeros_like())
        };
        let grads = params.iter().enumerate().map(of_param).collect();
        let mut news = self.optimizer.step_all(params, grads, lr, gate).into_iter();
        model::apply(self.model.clone(), |_, _, _| {
            trained.next().expect("one for each parameter").then(|| news.next()).flatten()
        })
    }

    /// Does the same as [`TrainingState::update`], unless the loss or the gradient norm is NaN or infinite.
    ///
    /// `before` is the model before the backward pass. The device decides, so the host does not wait.
    pub(crate) fn update_if_finite(
        &mut self,
        before: &M,
        loss: &Tensor<1>,
        grads: PartialGrads,
        lr: f64,
        clip_grad: Option<f64>,
    ) -> Tensor<1> {
        let (norm, grads) = clipped(grads, clip_grad);
        let gate = self.optimizer.gate(loss.clone().is_finite().bool_and(norm.clone().is_finite()));
        let model = self.stepped(grads, lr, Some(&gate));
        // Also what the forward pass changes: the statistics of a BatchNorm.
        let mut before = model::named(before).into_iter();
        self.model = model::apply(model, |_, _, new| {
            let old = before.next().expect("the same network");
            Some(if old.trained { new } else { gate.choose(new, old.values) })
        });
        if let Some(average) = &mut self.average {
            average.add(&self.model, Some(&gate));
        }
        norm
    }

    /// Copies the state from the device, to save it. Fails if a weight is NaN or infinite.
    ///
    /// A job that resumes from this file has the same results, bit for bit, as a job without interruption.
    pub(crate) fn to_host(&self) -> Result<TensorFile, TrainError> {
        let mut tensors = BTreeMap::new();
        for param in model::named(&self.model) {
            tensors.insert(format!("model.{}", param.name), host_finite(&param)?);
        }
        for param in self.average.iter().flat_map(|average| model::named(&average.model)) {
            tensors.insert(format!("ema.{}", param.name), host_finite(&param)?);
        }
        let (state, optimizer_updates) = self.optimizer.state();
        for (name, values) in state {
            let shape = values.dims();
            tensors.insert(format!("optimizer.{name}"), host(&values, &shape)?);
        }
        let progress = Progress { optimizer_updates, loss_scale: self.loss_scale, ..self.progress };
        let note = serde_json::to_string(&progress).expect("numbers are valid JSON");
        Ok(TensorFile { tensors, note })
    }

    /// Copies the moments of AdamW from the device, for a checkpoint.
    pub(crate) fn optimizer_state(&self) -> Result<OptimizerState, TrainError> {
        let (tensors, updates) = self.optimizer.state();
        let mut tensors: HashMap<String, Tensor<1>> = tensors.into_iter().collect();
        let mut moments = BTreeMap::new();
        for param in model::named(&self.model) {
            let mut take = |kind: &str| tensors.remove(&format!("{kind}.{}", param.name));
            if let (Some(first), Some(second)) = (take("exp_avg"), take("exp_avg_sq")) {
                let both = [host(&first, &param.shape)?, host(&second, &param.shape)?];
                moments.insert(param.name, both);
            }
        }
        Ok(OptimizerState { updates, moments })
    }

    /// Loads the saved state at `path`. Fails if a tensor is missing.
    pub(crate) fn resume(self, path: &Path) -> Result<Self, TrainError> {
        let damaged = |problem: String| RunError::Damaged {
            path: path.into(),
            problem,
            way_on: Remedy::RemoveIt,
        };
        let file = TensorFile::read(path).map_err(|error| match error {
            CheckpointError::Damaged { problem, .. } => damaged(problem).into(),
            other => TrainError::from(other),
        })?;
        let progress: Progress = serde_json::from_str(&file.note)
            .map_err(|e| damaged(format!("invalid progress: {e}")))?;
        let (mut weights, mut averages) = (TensorFile::default(), TensorFile::default());
        let mut states = BTreeMap::new();
        let device = model::device(&self.model);
        for (name, tensor) in file.tensors {
            if let Some(name) = name.strip_prefix("model.") {
                weights.tensors.insert(name.to_owned(), tensor);
            } else if let Some(name) = name.strip_prefix("ema.") {
                averages.tensors.insert(name.to_owned(), tensor);
            } else if let Some(name) = name.strip_prefix("optimizer.") {
                let len = tensor.values.len();
                let values = Tensor::<1>::from_data(TensorData::new(tensor.values, [len]), &device);
                states.insert(name.to_owned(), values);
            }
        }
        let model = load_module(self.model, &weights, path)?;
        let mut optimizer = self.optimizer;
        optimizer
            .load(states, progress.optimizer_updates)
            .map_err(|error| damaged(error.to_string()))?;
        let mut average = self.average;
        if let Some(average) = &mut average {
            average.model = load_module(average.model.clone(), &averages, path)?;
        }
        let loss_scale = progress.loss_scale.or(self.loss_scale);
        Ok(Self { model, optimizer, average, loss_scale, progress })
    }
}

/// Returns the gradient norm before clipping, `[1]`, and the clipped gradients by parameter index.
fn clipped(grads: PartialGrads, clip_grad: Option<f64>) -> (Tensor<1>, HashMap<usize, Tensor<1>>) {
    let (places, grads): (Vec<_>, Vec<_>) = grads.into_iter().unzip();
    let norm = optim::global_norm(&grads);
    let grads = match clip_grad {
        Some(max_norm) => optim::clip_by_global_norm(grads, &norm, max_norm),
        None => grads,
    };
    (norm, places.into_iter().zip(grads).collect())
}

/// Copies parameters from the device to CPU memory. Fails if a value is NaN or infinite.
pub(crate) fn tensor_file(params: Vec<NamedParam>) -> Result<TensorFile, TrainError> {
    let mut file = TensorFile::default();
    for param in params {
        let tensor = host_finite(&param)?;
        file.tensors.insert(param.name, tensor);
    }
    Ok(file)
}

fn host_finite(param: &NamedParam) -> Result<HostTensor, TrainError> {
    let tensor = host(&param.values, &param.shape)?;
    if tensor.values.iter().all(|value| value.is_finite()) {
        return Ok(tensor);
    }
    Err(TrainError::BadWeights { name: param.name.clone() })
}

#[cfg(test)]
mod tests {
    use super::{TrainingState, host_finite};
    use crate::model::{self, NamedParam, ProbeHead};
    use crate::optim::{Optimizer, Rule, probe_group};
    use crate::shape::Precision;
    use crate::train::error::TrainError;
    use burn::tensor::{Device, Tensor};

    #[test]
    fn a_skipped_update_also_restores_the_statistics_of_a_batch_norm() {
        let device = Device::flex();
        let before = model::init_probe_head(ProbeHead::zeros(3, 2, Precision::Fp32, &device), 1);
        let values = |head: &ProbeHead| -> Vec<_> {
            model::named(head).into_iter().map(|param| param.values.into_data()).collect()
        };
        for bad in [f32::NAN, f32::INFINITY, 1.0] {
            let statistics = || Tensor::from_data([bad; 3], &device);
            let head = before.clone().observe([statistics(), statistics()]);
            let trained = model::named(&head).into_iter().filter(|param| param.trained);
            let (names, groups): (Vec<_>, Vec<_>) =
                trained.map(|param| (param.name, probe_group(&param.shape, 0.0))).unzip();
            let grads = vec![(0, Tensor::from_data([bad; 6], &device))];
            let optimizer = Optimizer::new(Rule::Lars { momentum: 0.9 }, names, groups);
            let mut state = TrainingState::start(head, optimizer);
            let loss = Tensor::from_data([0.5f32], &device);
            state.update_if_finite(&before, &loss, grads, 0.1, None);
            assert_eq!(values(&state.model) == values(&before), !bad.is_finite(), "{bad}");
        }
    }

    #[test]
    fn weights_with_nan_or_infinity_are_never_written() {
        let param = |values: [f32; 2]| NamedParam {
            name: "blocks.0.mlp.fc1.bias".to_owned(),
            shape: vec![2],
            values: Tensor::from_data(values, &Device::flex()),
            trained: true,
        };
        assert!(host_finite(&param([0.0, 1.0])).is_ok());
        for bad in [f32::NAN, f32::INFINITY] {
            let error = host_finite(&param([0.0, bad])).err();
            assert!(matches!(error, Some(TrainError::BadWeights { name }) if name.contains("fc1")));
        }
    }
}
