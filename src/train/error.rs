//! What can go wrong in a job, by what the reader can do about it.

use crate::checkpoint::CheckpointError;
use crate::data::DataError;
use crate::recipe::NeverUpdates;
use crate::runs::RunError;
use std::any::Any;

/// A job that did not end well.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    #[error(transparent)]
    Data(#[from] DataError),
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    #[error(transparent)]
    Run(#[from] RunError),
    #[error(
        "{0}\nhint: lower `batch_size` or `accum_iter`: the official code would run such a recipe to the end without a single update"
    )]
    NeverUpdates(#[from] NeverUpdates),
    /// The recipe asks for what this build or this machine cannot do.
    #[error("{problem}\nhint: {hint}")]
    Setting { problem: String, hint: String },
    #[error(
        "{what} is {value} in {job}, epoch {epoch}, update {update} (lr {lr:.3e}): the training has diverged\n\
         hint: lower `blr` or lengthen `warmup_epochs`{}; kept checkpoints stay as they are",
        if job.starts_with("finetune") { ", or set `clip_grad`" } else { "" }
    )]
    NotFinite { what: &'static str, value: f64, job: String, epoch: usize, update: usize, lr: f64 },
    #[error(
        "the computation failed: {0}\nhint: this is a fault of the program, not of the recipe; please report it with this message"
    )]
    Crashed(String),
    /// Another device of the job failed; its error is the one to report.
    #[error("another device of the job has failed")]
    OtherRank,
}

impl TrainError {
    /// Whether the user's input is at fault rather than the work.
    pub fn is_input(&self) -> bool {
        match self {
            Self::Data(_) | Self::NeverUpdates(_) | Self::Setting { .. } => true,
            Self::Checkpoint(error) => error.is_input(),
            Self::Run(error) => error.is_input(),
            Self::NotFinite { .. } | Self::Crashed(_) | Self::OtherRank => false,
        }
    }

    pub(super) fn from_panic(panic: &(dyn Any + Send)) -> Self {
        let text = panic
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned())
            .or_else(|| panic.downcast_ref::<String>().cloned());
        Self::Crashed(text.unwrap_or_else(|| "a worker thread panicked".to_owned()))
    }
}
