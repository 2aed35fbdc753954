//! What can go wrong in a job, by what the reader can do about it.

use crate::checkpoint::CheckpointError;
use crate::data::DataError;
use crate::infer::{DeviceError, InferError};
use crate::recipe::NeverUpdates;
use crate::results::RunError;

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
    #[error(transparent)]
    Device(#[from] DeviceError),
    #[error(
        "{name} has a value that is not finite: the training has diverged, or the device computes wrong\n\
         hint: it was not written, and what was kept before stays; lower `blr`, or try another runtime.device"
    )]
    BadWeights { name: String },
    #[error("its pre-training is that of {point}, which failed\nhint: see there")]
    SharedPretraining { point: String },
    #[error(
        "a device still waits for one that failed, and computes nothing more\nhint: start the command again; it goes on where it was"
    )]
    Stuck,
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
            Self::NotFinite { .. }
            | Self::BadWeights { .. }
            | Self::SharedPretraining { .. }
            | Self::Device(_)
            | Self::Stuck
            | Self::OtherRank => false,
        }
    }
}

impl From<InferError> for TrainError {
    fn from(error: InferError) -> Self {
        match error {
            InferError::Data(error) => Self::Data(error),
            InferError::Checkpoint(error) => Self::Checkpoint(error),
            InferError::Setting { problem, hint } => Self::Setting { problem, hint },
            InferError::Device(error) => Self::Device(error),
        }
    }
}
