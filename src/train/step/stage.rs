//! What a stage defines. The training loop is the same for all stages.

use super::job::{JobDir, RankContext};
use super::micro_batch::MicroBatch;
use crate::infer::ShareCounts;
use crate::model::{self, NamedParam};
use crate::train::error::TrainError;
use burn::module::Module;
use std::sync::Arc;

/// Pre-training, fine-tuning or linear probing.
pub(crate) trait Stage: Send + Sync + 'static {
    /// The trained model, without autodiff. Each replica is a copy of it with autodiff.
    type Model: Module + Sync + 'static;

    /// Computes the gradients of a micro-batch and adds them to the sums of the update.
    ///
    /// A stage may change the running statistics of the model's `BatchNorm`, but not its trained parameters.
    fn backward(
        self: &Arc<Self>,
        model: &mut Self::Model,
        micro_batch: MicroBatch<'_, '_>,
    ) -> Result<(), TrainError>;

    /// Counts the model's correct predictions on this rank's share of the validation split.
    ///
    /// Returns `None` if the stage has no accuracy.
    fn evaluate(
        &self,
        _model: &Self::Model,
        _rank_context: &RankContext,
    ) -> Result<Option<ShareCounts>, TrainError> {
        Ok(None)
    }

    /// Returns the tensors of a checkpoint under their official names.
    fn export(&self, model: &Self::Model) -> Vec<NamedParam> {
        model::named(model)
    }

    /// Writes a picture of the model's output into the job's folder.
    fn show(&self, _model: &Self::Model, _dir: &JobDir, _epoch: usize) -> Result<(), TrainError> {
        Ok(())
    }

    /// Returns an explanation of an epoch's training loss if people are likely to misread the loss.
    fn notice(&self, _epoch: usize, _train_loss: f64) -> Option<String> {
        None
    }
}
