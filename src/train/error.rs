//! What can go wrong in a job, by what the reader can do about it.

use crate::checkpoint::CheckpointError;
use crate::data::DataError;
use crate::recipe::NeverUpdates;
use crate::results::RunError;
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

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
    #[error(
        "the device is out of memory: {0}\n\
         hint: halve `batch_size` and double `accum_iter` (the same effective batch), or set runtime.gradient_checkpointing = \
         true; `mae plan` estimates what a step takes"
    )]
    OutOfMemory(String),
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
            | Self::OutOfMemory(_)
            | Self::Crashed(_)
            | Self::Stuck
            | Self::OtherRank => false,
        }
    }

    /// Does `work`; a panic in it is an error.
    pub(super) fn catch<T>(work: impl FnOnce() -> T) -> Result<T, Self> {
        catch_unwind(AssertUnwindSafe(work)).map_err(|panic| Self::from_panic(&*panic))
    }

    fn from_panic(panic: &(dyn Any + Send)) -> Self {
        let text = panic
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned())
            .or_else(|| panic.downcast_ref::<String>().cloned());
        Self::from_device(text.unwrap_or_else(|| "a worker thread panicked".to_owned()))
    }

    /// Tells what a device or its driver says, by what can be done about it.
    pub(super) fn from_device(text: String) -> Self {
        let low = text.to_lowercase().replace('-', " ");
        if ["out of memory", "outofmemory", "out of device memory", "t allocate"]
            .iter()
            .any(|w| low.contains(w))
        {
            // What follows is a backtrace.
            return Self::OutOfMemory(text.lines().next().unwrap_or_default().to_owned());
        }
        Self::Crashed(text)
    }
}

#[cfg(test)]
mod tests {
    use super::TrainError;

    #[test]
    fn a_full_device_is_told_from_a_fault_of_the_program() {
        let full = "An out-of-memory error happened during launch\nBacktrace\n  0: main";
        let error = TrainError::from_device(full.to_owned());
        assert!(matches!(&error, TrainError::OutOfMemory(text) if !text.contains("Backtrace")));
        assert!(error.to_string().contains("double `accum_iter`"), "{error}");
        let other = TrainError::from_device("a shape does not fit".to_owned());
        assert!(matches!(other, TrainError::Crashed(_)));
    }
}
