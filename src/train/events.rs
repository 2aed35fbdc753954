//! The events that a run reports. `cli` shows them.

use super::error::TrainError;
use crate::results::EpochRow;
use std::sync::Arc;

/// An event of a run.
#[derive(Debug, Clone)]
pub enum Event<'a> {
    /// A job starts or resumes in `epoch`, counted from 1. The job has already made `steps_before` of its `steps`
    /// updates.
    JobStarted {
        job: &'a str,
        epoch: usize,
        epochs: usize,
        steps_before: usize,
        steps: usize,
    },
    /// The job made an update.
    ///
    /// `loss` is the mean over those updates of this epoch whose losses have been read from the device. Before the
    /// first read, it is `None`.
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
    /// The job failed. `error` is set if other jobs continue. If `error` is `None`, the run ends and returns the error.
    JobFailed {
        job: &'a str,
        error: Option<&'a TrainError>,
    },
    /// The job was skipped, because an earlier start of the run has finished the job.
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

/// A function that receives the events of a run. The function is called on the thread that runs the job.
pub type Observer = Arc<dyn Fn(Event<'_>) + Send + Sync>;
