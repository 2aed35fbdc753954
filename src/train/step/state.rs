//! The state of a job: model, optimizer and progress. `resume.safetensors` contains it.

use crate::checkpoint::{CheckpointError, HostTensor, TensorFile, load_module};
use crate::infer::host;
use crate::model::{self, NamedParam, PartialGrads};
use crate::optim::{self, Optimizer};
use crate::results::{Remedy, RunError};
use crate::train::error::TrainError;
use burn::module::Module;
use burn::tensor::{Tensor, TensorData};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

/// Sums over the finished updates of the current epoch, from which the row in `epochs.csv` is computed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct EpochSums {
    pub updates: usize,
    pub loss: f64,
    pub grad_norm: f64,
    pub lr: f64,
    pub images: usize,
    pub train_s: f64,
    pub data_wait_s: f64,
}

/// The state of a job that is being trained, which is saved to resume the job.
pub(crate) struct TrainingState<M> {
    pub model: M,
    pub optimizer: Optimizer,
    pub progress: Progress,
}

/// The epoch and the update that a job has reached.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Progress {
    /// Current epoch, counted from 1.
    pub epoch: usize,
    /// Number of finished updates in the current epoch.
    pub update: usize,
    /// Number of optimizer updates since the job started. Only `save` sets this field.
    pub optimizer_updates: usize,
    pub sums: EpochSums,
}

impl Progress {
    /// Returns the progress of a job that has not started.
    pub(crate) fn start() -> Self {
        Self { epoch: 1, update: 0, optimizer_updates: 0, sums: EpochSums::default() }
    }
}

impl<M: Module> TrainingState<M> {
    /// Returns the state of a job that has not started.
    pub(crate) fn start(model: M, optimizer: Optimizer) -> Self {
        Self { model, optimizer, progress: Progress::start() }
    }

    /// Clips the gradients and updates the trained parameters. Returns the gradient norm before clipping, `[1]`.
    ///
    /// A trained parameter without a gradient is updated with a gradient of zeros.
    pub(crate) fn update(
        &mut self,
        grads: PartialGrads,
        lr: f64,
        clip_grad: Option<f64>,
    ) -> Tensor<1> {
        let (places, grads): (Vec<_>, Vec<_>) = grads.into_iter().unzip();
        let norm = optim::global_norm(&grads);
        let grads = match clip_grad {
            Some(max_norm) => optim::clip_by_global_norm(grads, &norm, max_norm),
            None => grads,
        };
        let mut grads: HashMap<_, _> = places.into_iter().zip(grads).collect();
        let optimizer = &mut self.optimizer;
        self.model = model::update(self.model.clone(), |place, param| {
            let grad = grads.remove(&place).unwrap_or_else(|| param.zeros_like());
            optimizer.step(place, param, grad, lr)
        });
        norm
    }

    /// Writes the state to `path`. A job that resumes from this file gives bit-identical results.
    pub(crate) fn save(&self, path: &Path) -> Result<(), TrainError> {
        let mut tensors = BTreeMap::new();
        for param in model::named(&self.model) {
            tensors.insert(format!("model.{}", param.name), host_finite(&param)?);
        }
        let (state, optimizer_updates) = self.optimizer.state();
        for (name, values) in state {
            let shape = values.dims();
            tensors.insert(format!("optimizer.{name}"), host(&values, &shape)?);
        }
        let progress = Progress { optimizer_updates, ..self.progress };
        let note = serde_json::to_string(&progress).expect("numbers are valid JSON");
        Ok(TensorFile { tensors, note }.write(path)?)
    }

    /// Returns the state that was saved to `path`. Fails if a tensor is missing.
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
        let mut weights = TensorFile::default();
        let mut states = BTreeMap::new();
        let device = model::device(&self.model);
        for (name, tensor) in file.tensors {
            if let Some(name) = name.strip_prefix("model.") {
                weights.tensors.insert(name.to_owned(), tensor);
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
        Ok(Self { model, optimizer, progress })
    }
}

/// Copies parameters from the device into the tensors of a checkpoint. Fails if a value is NaN or infinite.
pub(crate) fn tensor_file(params: Vec<NamedParam>) -> Result<TensorFile, TrainError> {
    let mut file = TensorFile::default();
    for param in params {
        let tensor = host_finite(&param)?;
        file.tensors.insert(param.name, tensor);
    }
    Ok(file)
}

/// Copies a parameter from the device. Fails if a value is NaN or infinite.
fn host_finite(param: &NamedParam) -> Result<HostTensor, TrainError> {
    let tensor = host(&param.values, &param.shape)?;
    if tensor.values.iter().all(|value| value.is_finite()) {
        return Ok(tensor);
    }
    Err(TrainError::BadWeights { name: param.name.clone() })
}

#[cfg(test)]
mod tests {
    use super::host_finite;
    use crate::model::NamedParam;
    use crate::train::error::TrainError;
    use burn::tensor::{Device, Tensor};

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
