//! Jobs that several runs of a sweep share: one run trains the job, and later runs copy the result.
//!
//! Runs that differ only in fine-tuning share the pre-training. Runs that differ only in pre-training share the jobs
//! that start from other checkpoints or from scratch. The checks before the run decide which jobs are shared.

use super::failed_jobs::FailedPoint;
use super::preflight::{CheckedPoint, JobState, Preflight, is_finished};
use super::runner::{Runner, Sweep};
use crate::durable;
use crate::recipe::Job;
use crate::results::{RunError, job_path};
use crate::shape::StageKind;
use crate::train::{Event, TrainError};
use std::path::{Path, PathBuf};

/// A finished job of an earlier run in the sweep, which a later run copies.
pub(super) struct CopiedJob {
    dir: String,
    /// Folder of the job in the earlier run.
    folder: PathBuf,
}

impl Sweep<'_> {
    /// Returns the finished jobs that run `index` of the sweep can copy.
    pub(super) fn copied_jobs(&self, index: usize) -> Vec<CopiedJob> {
        let shared = |state: &JobState| matches!(state, JobState::Shared { .. });
        let jobs = self.points[index].jobs.iter().filter(|job| shared(&job.state));
        jobs.filter_map(|job| {
            let mut from = self.with_same_job(index, &job.job);
            let from = from.find(|other| self.has_finished(other, &job.job))?;
            let dir = job.job.dir.clone();
            Some(CopiedJob { folder: job_path(&from.path, &dir), dir })
        })
        .collect()
    }

    /// Returns the name of an earlier run of the sweep that failed in the same pre-training.
    pub(super) fn failed_pretraining(&self, index: usize) -> Option<String> {
        let jobs = &self.points[index].jobs;
        let pretraining = jobs.iter().find(|job| job.job.stage == StageKind::Pretrain)?;
        let mut failed = self.with_same_job(index, &pretraining.job).filter(|other| {
            // If the checks before the run failed, the run has not tried the pre-training.
            let tried =
                |failed: &FailedPoint| failed.name == other.name && !failed.error.is_input();
            self.failed.iter().any(tried) && !self.is_finished(other, &pretraining.job)
        });
        failed.next().map(|other| other.name.clone())
    }

    fn with_same_job<'a>(
        &'a self,
        index: usize,
        job: &'a Job,
    ) -> impl Iterator<Item = &'a CheckedPoint> {
        Preflight::with_same_job(&self.points, self.resolved, index, job)
    }

    fn has_finished(&self, other: &CheckedPoint, job: &Job) -> bool {
        (self.opened.contains(&other.name) || other.had(&job.dir)) && self.is_finished(other, job)
    }

    fn is_finished(&self, other: &CheckedPoint, job: &Job) -> bool {
        let mut points = self.resolved.points.iter();
        let point = points.find(|point| point.plan.name == other.name);
        point.is_some_and(|point| is_finished(&other.path, &point.plan, job))
    }
}

impl Runner<'_> {
    pub(super) fn copy_job(&self, copied: &CopiedJob, run: &Path) -> Result<(), TrainError> {
        let CopiedJob { dir, folder } = copied;
        let own = job_path(run, dir);
        durable::share_folder(folder, &own).map_err(|source| RunError::Io { path: own, source })?;
        let text = format!("copied from {}, because both runs have the same job", folder.display());
        (self.observer)(Event::Notice { job: dir, text: &text });
        Ok(())
    }
}
