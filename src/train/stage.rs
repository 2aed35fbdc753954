//! A stage says how a batch becomes a loss, and a model a metric. The loop is the same for all.

use super::gradient::add_to;
use super::{GradientSum, JobDir, Part, Team, TrainError, Watch};
use crate::data::{Batch, ImagesSlice, Scale};
use crate::model::{self, Chain, NamedParam, PartialGrads, Pass};
use crate::random::Key;
use burn::module::Module;
use burn::tensor::{DType, Device, FloatDType, Int, IntDType, Tensor, TensorData};
use std::ops::Range;
use std::sync::Arc;

/// One of pre-training, fine-tuning, linear probing.
pub trait Stage {
    /// What is trained. Held without autodiff; each shard's replica is a fork of it with autodiff.
    type Model: Module + Sync + 'static;

    /// Runs a micro-batch forward and backward, into `sum`; its loss and gradients count `scale` of an update's.
    ///
    /// `key` names the epoch's random numbers. A stage may move statistics in the model, never its trained parameters.
    fn backward(
        &self,
        model: &mut Self::Model,
        batch: Batch,
        key: Key,
        scale: f64,
        team: &Team,
        sum: &mut GradientSum<'_>,
    ) -> Result<(), TrainError>;

    /// Measures the model after an epoch; every rank gets the result.
    fn evaluate(&self, model: &Self::Model, team: &Team) -> Result<Evaluated, TrainError>;

    /// Gives what a checkpoint holds, under the official names.
    fn export(&self, model: &Self::Model) -> Vec<NamedParam> {
        model::named(model)
    }

    /// Leaves a picture of what a kept epoch's model does in the job's folder. A failure of it is told, and ends nothing.
    fn show(&self, _model: &Self::Model, _dir: &JobDir, _epoch: usize) -> Result<(), TrainError> {
        Ok(())
    }

    /// Explains an epoch's loss where it means something that people take for a fault.
    fn notice(&self, _epoch: usize, _train_loss: f64) -> Option<String> {
        None
    }
}

/// The outcome of an evaluation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Evaluated {
    /// The stage has nothing to measure.
    Nothing,
    Metrics(Metrics),
    /// Stopped by the user before the end.
    Stopped,
}

/// A classifier on the validation split. Accuracies are percent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Metrics {
    /// Mean cross-entropy.
    pub loss: f64,
    pub top1: f64,
    pub top5: f64,
    pub images: usize,
}

/// Runs a micro-batch in shards, into `sum`: `chain_of` gets the model, a range of the batch, and what the range's mean loss
/// counts.
///
/// Every shard counts by its images; losses and gradients are added in shard order. A lone shard's gradients are added as they
/// come, on the calling thread.
pub(super) fn backward_in_shards<M, F>(
    model: &M,
    batch: Batch,
    scale: f64,
    team: &Team,
    pass: Pass,
    sum: &mut GradientSum<'_>,
    chain_of: F,
) -> Result<(), TrainError>
where
    M: Module + Sync + 'static,
    F: Fn(&M, &Batch, Range<usize>, f64) -> Chain<M> + Send + Sync + 'static,
{
    let n = batch.len();
    let shards: Vec<_> = team.replicas.shards(n).collect();
    if shards.len() == 1 {
        let loss = TrainError::catch(|| {
            let chain = || chain_of(model, &batch, 0..n, scale);
            forward_backward(model, chain, pass, &team.watch, |grads| sum.add(grads))
        })?;
        sum.add_loss(loss);
        return Ok(());
    }
    let watch = team.watch.clone();
    let batch = Arc::new(batch);
    let inputs = shards.into_iter().map(|range| (model.clone(), Arc::clone(&batch), range));
    let results = team.replicas.map(inputs.collect::<Vec<_>>(), move |(model, batch, range)| {
        let weight = scale * range.len() as f64 / n as f64;
        let chain = || chain_of(&model, &batch, range, weight);
        let mut grads = PartialGrads::new();
        let loss = forward_backward(&model, chain, pass, &watch, |more| grads.extend(more));
        (loss, grads)
    })?;
    let mut grads = Vec::new();
    let mut losses = Vec::new();
    for (loss, shard) in results {
        losses.push(loss);
        add_to(&mut grads, shard);
    }
    sum.add_loss(losses.into_iter().reduce(|a, b| a + b).expect("a batch is never empty"));
    sum.add(model::present(grads));
    Ok(())
}

/// Runs a chain forward and backward, each watched; gives the loss.
fn forward_backward<M: Module>(
    model: &M,
    chain: impl FnOnce() -> Chain<M>,
    pass: Pass,
    watch: &Watch,
    give: impl FnMut(PartialGrads),
) -> Tensor<1> {
    let device = model::device(model);
    let forward = watch.time(Part::Forward, &device, || chain().forward(model, pass));
    watch.time(Part::Backward, &device, || forward.backward(give))
}

/// Puts images of a batch on the device, `[N, C, side, side]`.
pub(super) fn images(
    batch: &Batch,
    range: Range<usize>,
    in_chans: usize,
    side: usize,
    device: &Device,
) -> Tensor<4> {
    let shape = [range.len(), in_chans, side, side];
    match batch.shard(range).images {
        ImagesSlice::Values(values) => {
            Tensor::from_data(TensorData::new(values.to_vec(), shape), device)
        }
        ImagesSlice::Levels(levels, scale) => normalized(levels, scale, shape, device),
    }
}

/// Normalizes on the device; on the host where the device has no bytes.
fn normalized(levels: &[u8], scale: &Scale, shape: [usize; 4], device: &Device) -> Tensor<4> {
    let channels = |values: &[f32]| {
        Tensor::<4>::from_data(TensorData::new(values.to_vec(), [1, shape[1], 1, 1]), device)
    };
    let levels: Tensor<4> = if device.supports_dtype(IntDType::U8) {
        let levels = TensorData::new(levels.to_vec(), shape);
        Tensor::<4, Int>::from_data(levels, (device, DType::U8)).cast(FloatDType::F32)
    } else {
        let levels: Vec<f32> = levels.iter().copied().map(f32::from).collect();
        Tensor::from_data(TensorData::new(levels, shape), device)
    };
    (levels / 255.0 - channels(&scale.mean)) / channels(&scale.std)
}

#[cfg(test)]
mod tests {
    use super::normalized;
    use crate::data::Scale;
    use burn::tensor::Device;

    #[test]
    fn the_device_normalizes_as_the_host_does_to_the_bit() {
        let scale = Scale { mean: vec![0.485, 0.456], std: vec![0.229, 0.224] };
        let levels: Vec<u8> = (0..512).map(|i| (i % 256) as u8).collect();
        let values = normalized(&levels, &scale, [1, 2, 16, 16], &Device::flex());
        let values: Vec<f32> = values.into_data().try_to_vec().unwrap();
        for (i, value) in values.into_iter().enumerate() {
            let (level, channel) = (f32::from(levels[i]), i / 256);
            let expected = (level / 255.0 - scale.mean[channel]) / scale.std[channel];
            assert_eq!(value.to_bits(), expected.to_bits(), "level {level}");
        }
    }
}
