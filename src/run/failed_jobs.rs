//! Failed jobs of a run, and failed runs of a sweep.

use super::accuracy_tables::AccuracyTables;
use super::preflight::Problems;
use super::schedule::is_done;
use crate::checkpoint;
use crate::recipe::Job;
use crate::results::{FailedJobNote, Provenance, RunError, RunFolder};
use crate::shape::StageKind;
use crate::train::{RunContext, TrainError, source_file};
use std::fmt;
use std::sync::Arc;

/// A failed job, with its error.
#[derive(Debug)]
pub struct FailedJob {
    /// Folder of the job in the run folder, such as `finetune/from-0800`.
    pub job: String,
    pub error: TrainError,
}

/// The failed jobs of a run. The list is never empty.
#[derive(Debug)]
pub struct FailedJobs {
    pub failed: Vec<FailedJob>,
    jobs: usize,
}

/// A failed run of a sweep, with its error.
pub struct FailedPoint {
    /// Name of the run.
    pub name: String,
    pub error: PointError,
}

/// The reason why a run of a sweep failed.
#[derive(Debug, thiserror::Error)]
pub enum PointError {
    /// The checks before the run found problems. No files were created.
    #[error(transparent)]
    Refused(#[from] Problems),
    #[error(transparent)]
    Failed(#[from] TrainError),
    /// Some jobs failed, but the other jobs continued.
    #[error("{0}")]
    Jobs(FailedJobs),
}

impl PointError {
    /// Returns whether the user's input caused the error.
    pub fn is_input(&self) -> bool {
        match self {
            Self::Refused(problems) => problems.is_input(),
            Self::Failed(error) => error.is_input(),
            Self::Jobs(_) => false,
        }
    }
}

impl From<RunError> for PointError {
    fn from(error: RunError) -> Self {
        Self::Failed(error.into())
    }
}

/// Collects failed jobs, and records each in `provenance.json`.
pub(super) struct Failures<'a> {
    pub folder: &'a RunFolder,
    pub tables: &'a Arc<AccuracyTables>,
    pub provenance: Provenance,
    pub failed: Vec<FailedJob>,
}

impl Failures<'_> {
    pub(super) fn add(&mut self, failed: FailedJob) -> Result<(), TrainError> {
        let FailedJob { job, error } = &failed;
        let text = error.to_string();
        let reason = text.lines().next().unwrap_or_default().to_owned();
        self.provenance.failed_jobs.push(FailedJobNote { job: job.clone(), reason });
        self.failed.push(failed);
        self.folder.write_provenance(&self.provenance)?;
        Ok(self.tables.write()?)
    }

    /// Returns an error if the job needs a checkpoint that is missing because the pre-training failed.
    pub(super) fn prevents(&self, work: &RunContext, job: &Job) -> Option<FailedJob> {
        let source = source_file(&work.run, job).filter(|_| job.is_after_pretraining())?;
        let pretrain = StageKind::Pretrain.to_string();
        let pretrain_failed = self.failed.iter().any(|failed| failed.job == pretrain);
        if !pretrain_failed || is_done(work, job) || checkpoint::is_whole(&source) {
            return None;
        }
        let from = job.from.as_ref().map(ToString::to_string).unwrap_or_default();
        Some(FailedJob { job: job.dir.clone(), error: TrainError::NotStarted { epoch: from } })
    }

    /// Returns the failed jobs; `None` if no job failed. `jobs` is the number of all jobs.
    pub(super) fn into_failed(self, jobs: usize) -> Option<FailedJobs> {
        (!self.failed.is_empty()).then_some(FailedJobs { failed: self.failed, jobs })
    }
}

impl fmt::Display for FailedJobs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} jobs failed:", self.failed.len(), self.jobs)?;
        self.failed.iter().try_for_each(|FailedJob { job, error }| write!(f, "\n  {job}: {error}"))
    }
}

impl std::error::Error for FailedJobs {}
