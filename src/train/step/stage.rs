//! The interface between a stage and the training loop, which all stages share.

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

    /// Adds the loss and the gradients of a micro-batch to the sums of the update.
    ///
    /// A stage may change `BatchNorm`'s running statistics, but not trained parameters.
    fn backward(
        self: &Arc<Self>,
        model: &mut Self::Model,
        micro_batch: MicroBatch<'_, '_>,
    ) -> Result<(), TrainError>;

    /// Counts correct predictions on this rank's share of the validation images.
    ///
    /// Returns `None` if the stage does not measure an accuracy.
    fn evaluate(
        &self,
        _model: &Self::Model,
        _rank_context: &RankContext,
    ) -> Result<Option<ShareCounts>, TrainError> {
        Ok(None)
    }

    /// Returns the tensors to save in a checkpoint, under their official names.
    fn export(&self, model: &Self::Model) -> Vec<NamedParam> {
        model::named(model)
    }

    /// Draws a figure of the model's output, if the stage has one.
    fn show(&self, _model: &Self::Model, _dir: &JobDir, _epoch: usize) -> Result<(), TrainError> {
        Ok(())
    }

    /// Returns a notice if an epoch's training loss is easy to misread.
    fn notice(&self, _epoch: usize, _train_loss: f64) -> Option<String> {
        None
    }
}
