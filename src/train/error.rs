//! Errors of training jobs.

use crate::checkpoint::CheckpointError;
use crate::data::DataError;
use crate::infer::{DeviceError, InferError};
use crate::recipe::{NeverUpdates, RecipeErrors};
use crate::results::RunError;

/// An error of a training job.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    #[error(transparent)]
    Data(#[from] DataError),
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    #[error(transparent)]
    Run(#[from] RunError),
    /// The recipe refers to a missing file.
    #[error(transparent)]
    Recipe(#[from] RecipeErrors),
    #[error(
        "cannot train: {0}\nhint: lower `batch_size` or `accum_iter`. The official code would run this recipe without a single update"
    )]
    NeverUpdates(#[from] NeverUpdates),
    /// A setting does not fit the machine, the data or a checkpoint.
    #[error("{problem}\nhint: {hint}")]
    Setting { problem: String, hint: String },
    #[error(
        "cannot continue {job}: {what} is {value} in epoch {epoch}, update {update} (lr {lr:.3e}){}: the training has \
         diverged\nhint: {}. The existing checkpoints are valid",
        after_skipped(*skipped),
        against_divergence(job, rate)
    )]
    NotFinite {
        what: &'static str,
        value: f64,
        job: String,
        epoch: usize,
        update: usize,
        lr: f64,
        /// Recipe key of the learning rate: `lr` or `blr`.
        rate: &'static str,
        /// Number of updates that `on_nan = "skip"` has skipped earlier in this epoch.
        skipped: usize,
    },
    #[error(transparent)]
    Device(#[from] DeviceError),
    #[error(
        "cannot write a checkpoint: {name} contains NaN or infinity. The training has diverged, or the device is \
         faulty\n\
         hint: set a new `name` and a lower learning rate, or set another `runtime.device`. The existing checkpoints \
         are valid"
    )]
    BadWeights { name: String },
    #[error(
        "cannot start: this run uses the pre-training of the run {point}, and that pre-training failed\n\
         hint: fix the error of {point} first"
    )]
    SharedPretraining { point: String },
    /// The pre-training failed before it wrote the checkpoint that this job needs.
    #[error(
        "cannot start: the pre-training failed before it wrote the checkpoint of epoch {epoch}"
    )]
    NotStarted { epoch: String },
    #[error(
        "cannot continue: one device has failed, and another device still waits for the failed device\n\
         hint: run the same command again to resume from the last saved state"
    )]
    Stuck,
    /// A job failed on another host.
    #[error("rank {rank} on host {host} failed: {cause}")]
    OtherHost { rank: usize, host: String, cause: HostCause },
    /// A job that another host trained alone failed, with an error that affects only this job.
    #[error("{text}")]
    JobOfHost { text: String },
    /// Another rank of the job failed. The run reports that rank's error instead.
    #[error("cannot continue: another device of this job has failed")]
    OtherRank,
}

/// Why a job failed on one host. This host sends the cause to all other hosts.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{text}")]
pub struct HostCause {
    pub text: String,
    /// Whether the recipe, the data or a checkpoint caused the failure.
    pub is_input: bool,
}

impl From<&TrainError> for HostCause {
    fn from(error: &TrainError) -> Self {
        Self { text: error.to_string(), is_input: error.is_input() }
    }
}

fn against_divergence(job: &str, rate: &str) -> String {
    let stage = job.split('/').next().unwrap_or(job);
    let lower =
        format!("set a new `name`, and lower `{stage}.{rate}` or raise `{stage}.warmup_epochs`");
    match stage {
        "pretrain" => {
            format!(
                "{lower}. With `pretrain.resume`, the new run can continue from a checkpoint of this run"
            )
        }
        "finetune" => format!("{lower}, or set `finetune.clip_grad`"),
        _ => lower,
    }
}

fn after_skipped(skipped: usize) -> String {
    match skipped {
        0 => String::new(),
        1 => ", after 1 skipped update of this epoch".to_owned(),
        n => format!(", after {n} skipped updates of this epoch"),
    }
}

impl TrainError {
    /// Returns whether the other jobs of the run can continue after this error.
    pub fn is_of_one_job(&self) -> bool {
        matches!(self, Self::NotFinite { .. } | Self::BadWeights { .. } | Self::JobOfHost { .. })
    }

    /// Returns whether the device may be broken, so that it would fail the next jobs, too.
    pub fn is_of_device(&self) -> bool {
        matches!(self, Self::Device(error) if !matches!(error, DeviceError::OutOfMemory(_)))
    }

    /// Returns whether the recipe, the data or a checkpoint caused the error.
    pub fn is_input(&self) -> bool {
        match self {
            Self::Data(_) | Self::Recipe(_) | Self::NeverUpdates(_) | Self::Setting { .. } => true,
            Self::Checkpoint(error) => error.is_input(),
            Self::Run(error) => error.is_input(),
            Self::OtherHost { cause, .. } => cause.is_input,
            Self::NotFinite { .. }
            | Self::BadWeights { .. }
            | Self::SharedPretraining { .. }
            | Self::NotStarted { .. }
            | Self::Device(_)
            | Self::Stuck
            | Self::JobOfHost { .. }
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
