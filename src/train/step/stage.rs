//! The interface between the training loop and a stage. All stages share the loop.

use super::job::{JobDir, RankContext};
use super::micro_batch::MicroBatch;
use crate::infer::ShareCounts;
use crate::model::{self, NamedParam};
use crate::train::error::TrainError;
use burn::module::Module;
use std::sync::Arc;

/// What differs between pre-training, fine-tuning and linear probing.
pub(crate) trait Stage: Send + Sync + 'static {
    /// The trained model, without autodiff.
    type Model: Module + Sync + 'static;

    /// Adds loss and gradients of a micro-batch to the sums of the update.
    ///
    /// Must not change trained parameters. May change the running statistics of `BatchNorm`.
    fn backward(
        self: &Arc<Self>,
        model: &mut Self::Model,
        micro_batch: MicroBatch<'_, '_>,
    ) -> Result<(), TrainError>;

    /// Evaluates this rank's part of the validation images.
    ///
    /// Returns `None` if the stage has no accuracy.
    fn evaluate(
        &self,
        _model: &Self::Model,
        _rank_context: &RankContext,
    ) -> Result<Option<ShareCounts>, TrainError> {
        Ok(None)
    }

    /// Returns the tensors of a checkpoint, with their official names.
    fn export(&self, model: &Self::Model) -> Vec<NamedParam> {
        model::named(model)
    }

    /// Draws a figure of the model's output. Does nothing if the stage has no such figure.
    fn show(&self, _model: &Self::Model, _dir: &JobDir, _epoch: usize) -> Result<(), TrainError> {
        Ok(())
    }

    /// Returns a message if the training loss of an epoch is easy to misread.
    fn notice(&self, _epoch: usize, _train_loss: f64) -> Option<String> {
        None
    }
}
