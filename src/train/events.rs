//! What a run tells while it works; `cli` shows it. Nothing here prints.

use super::error::TrainError;
use crate::results::EpochRow;
use std::sync::Arc;

/// Something a watcher may want to know.
#[derive(Debug, Clone)]
pub enum Event<'a> {
    /// A job begins or goes on at `epoch` (from 1); `steps_before` updates of `steps` are done.
    JobStarted {
        job: &'a str,
        epoch: usize,
        epochs: usize,
        steps_before: usize,
        steps: usize,
    },
    /// An update was made. `loss` is the mean of the epoch's updates read so far.
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
    /// The job failed. `error` is there where others go on beside it.
    JobFailed {
        job: &'a str,
        error: Option<&'a TrainError>,
    },
    /// The job was finished by an earlier start.
    JobSkipped {
        job: &'a str,
    },
    /// Something worth a sentence.
    Notice {
        job: &'a str,
        text: &'a str,
    },
}

/// Who is told, from whichever thread the job runs on.
pub type Observer = Arc<dyn Fn(Event<'_>) + Send + Sync>;
