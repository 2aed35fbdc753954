//! The events that a run reports. The module `cli` shows these events.

use super::error::TrainError;
use crate::results::EpochRow;
use std::sync::Arc;

/// An event of a run.
#[derive(Debug, Clone)]
pub enum Event<'a> {
    /// A job starts or resumes in `epoch`, counted from 1.
    ///
    /// The job has already made `steps_before` of its `steps` updates.
    JobStarted {
        job: &'a str,
        epoch: usize,
        epochs: usize,
        steps_before: usize,
        steps: usize,
    },
    /// The job made an update.
    ///
    /// `loss` is the mean loss of this epoch so far, from the losses that the host has read. `None` before the first
    /// read.
    Updated {
        job: &'a str,
        epoch: usize,
        step: usize,
        loss: Option<f64>,
        lr: f64,
    },
    EpochDone {
        job: &'a str,
        epochs: usize,
        row: &'a EpochRow,
    },
    JobDone {
        job: &'a str,
    },
    /// The job failed.
    ///
    /// `error` is `None` if this failure also ends the run. The run then returns the error.
    JobFailed {
        job: &'a str,
        error: Option<&'a TrainError>,
    },
    /// The run skips the job, because an earlier start of the run has finished it.
    JobSkipped {
        job: &'a str,
    },
    /// A problem that does not stop the run.
    Warning {
        job: &'a str,
        text: &'a str,
    },
    /// A message for the user.
    Notice {
        job: &'a str,
        text: &'a str,
    },
}

/// A function that receives the events of a run, on the job's thread.
pub type Observer = Arc<dyn Fn(Event<'_>) + Send + Sync>;
