//! Training errors, sorted by what the user can do about them.

use crate::checkpoint::CheckpointError;
use crate::data::DataError;
use crate::infer::{DeviceError, InferError};
use crate::recipe::NeverUpdates;
use crate::results::RunError;

/// Error of a job.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    #[error(transparent)]
    Data(#[from] DataError),
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    #[error(transparent)]
    Run(#[from] RunError),
    #[error(
        "{0}\nhint: lower `batch_size` or `accum_iter`. The official code would run this recipe without a single update"
    )]
    NeverUpdates(#[from] NeverUpdates),
    /// The recipe or the command needs something that is missing or does not fit.
    #[error("{problem}\nhint: {hint}")]
    Setting { problem: String, hint: String },
    #[error(
        "cannot continue {job}: {what} is {value} in epoch {epoch}, update {update} (lr {lr:.3e}): the training has diverged\n\
         hint: lower `blr` or raise `warmup_epochs`{}. The checkpoints written so far are valid",
        if job.starts_with("finetune") { ", or set `clip_grad`" } else { "" }
    )]
    NotFinite { what: &'static str, value: f64, job: String, epoch: usize, update: usize, lr: f64 },
    #[error(transparent)]
    Device(#[from] DeviceError),
    #[error(
        "cannot write a checkpoint: {name} contains NaN or infinity. The training has diverged, or the device is faulty\n\
         hint: lower `blr`, or set another runtime.device. The checkpoints written so far are valid"
    )]
    BadWeights { name: String },
    #[error(
        "cannot start: this run uses the pre-training of {point}, which has failed\nhint: see the error of {point}"
    )]
    SharedPretraining { point: String },
    #[error(
        "cannot use the devices: one device has failed, and another one still waits for it\nhint: run the command again, which resumes from the last saved state"
    )]
    Stuck,
    /// Another rank of the job failed. The run reports the error of that rank instead.
    #[error("cannot continue: another device of this job has failed")]
    OtherRank,
}

impl TrainError {
    /// Returns whether the user's input caused the error.
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
