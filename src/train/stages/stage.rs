//! A stage says how a batch becomes a loss, and a model a metric. The loop is the same for all.

use crate::data::Batch;
use crate::infer::Evaluated;
use crate::model::{self, NamedParam};
use crate::random::Key;
use crate::train::{GradientSum, JobDir, RankContext, TrainError};
use burn::module::Module;

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
        rank_context: &RankContext,
        sum: &mut GradientSum<'_>,
    ) -> Result<(), TrainError>;

    /// Measures the model after an epoch; every rank gets the result.
    fn evaluate(
        &self,
        model: &Self::Model,
        rank_context: &RankContext,
    ) -> Result<Evaluated, TrainError>;

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
