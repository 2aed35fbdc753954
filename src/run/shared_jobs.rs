//! Jobs that several points of a sweep have in common: done once, and taken over by the points that follow.
//!
//! Points that differ in how they fine-tune share a pre-training; those that differ in how they pre-train share what does not
//! start from it.

use super::runner::{FailedPoint, Runner};
use crate::data::DataSet;
use crate::recipe::{Job, Plan, Resolved, ResolvedPoint};
use crate::results::{self, RunError, job_path};
use crate::shape::StageKind;
use crate::train::{Event, TrainError};
use crate::{checkpoint, durable};
use std::path::{Path, PathBuf};

/// A job that an earlier point has done.
pub(super) struct SharedJob {
    pub job: Job,
    /// Its folder in that point's run.
    folder: PathBuf,
}

impl Runner<'_> {
    /// Gives the jobs of a point that earlier ones have done, those which it has not begun itself.
    ///
    /// With one stage asked for, the pre-training is among them all the same: the stage may start from it.
    pub(super) fn done_before(
        &self,
        index: usize,
        all: &Resolved,
        data: &DataSet,
        failed: &[FailedPoint],
    ) -> Result<Vec<SharedJob>, TrainError> {
        let point = &all.points[index];
        let only = self.options.only;
        let mut done = Vec::new();
        for job in point.plan.jobs() {
            let begun = job_path(&self.path(point), &job.dir).exists() && !self.options.fresh;
            let wanted =
                job.stage == StageKind::Pretrain || only.is_none_or(|stage| stage == job.stage);
            if begun || !wanted {
                continue;
            }
            if let Some(folder) = self.whole_before(index, all, &job, (data, failed))? {
                done.push(SharedJob { job, folder });
            }
        }
        Ok(done)
    }

    /// Gives the folder of a job of this point where an earlier one has finished it on the same data.
    fn whole_before(
        &self,
        index: usize,
        all: &Resolved,
        job: &Job,
        (data, failed): (&DataSet, &[FailedPoint]),
    ) -> Result<Option<PathBuf>, TrainError> {
        // A fresh start takes nothing from a point that it could not begin: what lies there is an earlier start's.
        let refused = |point: &ResolvedPoint| {
            let mut refused = failed.iter().filter(|failed| failed.error.is_input());
            self.options.fresh && refused.any(|failed| failed.name == point.plan.name)
        };
        for other in all.same_job_before(index, job).filter(|other| !refused(other)) {
            let run = self.path(other);
            // Another recipe's run may lie in the point's folder.
            if results::refuse_other(&run, &other.recipe).is_err() {
                continue;
            }
            let same_data = results::read_provenance(&run)?
                .is_some_and(|made| made.data_fingerprint == data.fingerprint);
            if same_data && self.is_whole(other, job) {
                return Ok(Some(job_path(&run, &job.dir)));
            }
        }
        Ok(None)
    }

    /// Gives the point of this start whose pre-training, the same as this one's, failed: it would fail again.
    pub(super) fn failed_pretraining_before(
        &self,
        index: usize,
        all: &Resolved,
        failed: &[FailedPoint],
    ) -> Option<String> {
        let jobs = all.points[index].plan.jobs();
        let pretraining = jobs.iter().find(|job| job.stage == StageKind::Pretrain)?;
        let mut before = all.same_job_before(index, pretraining).filter(|other| {
            // What could not even begin says nothing of its pre-training.
            let tried =
                |failed: &FailedPoint| failed.name == other.plan.name && !failed.error.is_input();
            failed.iter().any(tried) && !self.is_whole(other, pretraining)
        });
        before.next().map(|other| other.plan.name.clone())
    }

    /// Puts a finished job of an earlier point into `run`.
    pub(super) fn take_over(&self, same: &SharedJob, run: &Path) -> Result<(), TrainError> {
        let SharedJob { job, folder } = same;
        let own = job_path(run, &job.dir);
        durable::share_folder(folder, &own).map_err(|source| RunError::Io { path: own, source })?;
        let text = format!("the same as {}: taken from there", folder.display());
        (self.observer)(Event::Notice { job: &job.dir, text: &text });
        Ok(())
    }

    /// Whether a point has finished a job.
    fn is_whole(&self, point: &ResolvedPoint, job: &Job) -> bool {
        let last = |plan: &Plan| plan.training(job.stage).map(|training| training.epochs);
        last(&point.plan).is_some_and(|epochs| {
            let folder = job_path(&self.path(point), &job.dir);
            checkpoint::is_whole(&checkpoint::epoch_folder(&folder, epochs))
        })
    }
}
