//! The events that a run reports. The module `cli` shows these events.

use super::error::TrainError;
use crate::results::EpochRow;
use std::sync::Arc;

/// What a run reports while it trains.
#[derive(Debug, Clone)]
pub enum Event<'a> {
    /// A job starts or resumes in `epoch`, counted from 1.
    ///
    /// `steps` is the number of updates of the whole job. The job has already made `steps_before` of them.
    JobStarted {
        job: &'a str,
        epoch: usize,
        epochs: usize,
        steps_before: usize,
        steps: usize,
    },
    /// The job made an update.
    ///
    /// `loss` is the mean loss of this epoch so far; `None` if no loss was read from the device yet.
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
    /// If `error` is `None`, the whole run ends, and its result contains the error.
    JobFailed {
        job: &'a str,
        error: Option<&'a TrainError>,
    },
    /// The run skips the job, because the job is already finished.
    JobSkipped {
        job: &'a str,
    },
    /// A problem that does not stop the run.
    Warning {
        job: &'a str,
        text: &'a str,
    },
    /// Information for the user.
    Notice {
        job: &'a str,
        text: &'a str,
    },
}

/// A callback for the events of a run. It runs on the thread of the job.
pub type Observer = Arc<dyn Fn(Event<'_>) + Send + Sync>;
