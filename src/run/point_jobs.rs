//! Trains the jobs of one run of a sweep, and records their results.

use super::accuracy_tables::AccuracyTables;
use super::failed_jobs::{FailedJob, Failures, PointError};
use super::hosts::{self, Command, JobOrder, PointOrder};
use super::measures::Measures;
use super::provenance;
use super::runner::{Runner, Sweep};
use super::schedule::{self, Announce, JobContextMaker, is_done};
use super::shared_jobs;
use crate::durable::now_unix_s;
use crate::recipe::Job;
use crate::results::RunFolder;
use crate::shape::StageKind;
use crate::train::{DeviceThreads, Event, JobEnd, RunContext, StepTimer, TrainError};
use std::sync::Arc;

impl Runner<'_> {
    /// Trains the unfinished jobs of one run. Updates `accuracy.csv` and `provenance.json`.
    ///
    /// If an earlier run of the sweep failed in the same pre-training, `shared_failure` is the error. This run then
    /// skips the pre-training.
    pub(super) fn work(
        &self,
        index: usize,
        work: &RunContext,
        folder: &RunFolder,
        sweep: &Sweep<'_>,
        shared_failure: Option<TrainError>,
    ) -> Result<JobEnd, PointError> {
        let point = &sweep.points[index];
        let mut jobs: Vec<Job> = point.asked().map(|job| job.job.clone()).collect();
        let count = jobs.len();
        for job in &jobs {
            work.draw_missing_pictures(job, &sweep.device_threads, &self.observer);
        }
        let tables = Arc::new(AccuracyTables::new(&self.options.runs, work, sweep.resolved));
        let measures = Arc::new(Measures::new(index, work, &self.observer));
        let all_done = jobs.iter().all(|job| is_done(work, job));
        let mut provenance = match &point.before {
            // If all jobs are done, keep the provenance of the earlier start.
            Some(before) if all_done => {
                self.skip_all(work, &jobs, &measures, &tables)?;
                before.clone()
            }
            _ => {
                let provenance = provenance::of(point, work, &self.options.command_line);
                folder.write_provenance(&provenance)?;
                tables.write()?;
                measures.knn()?;
                let mut failures =
                    Failures { folder, tables: &tables, provenance, failed: Vec::new() };
                if let Some(error) = shared_failure {
                    jobs.retain(|job| job.stage != StageKind::Pretrain);
                    failures.add(FailedJob { job: StageKind::Pretrain.to_string(), error })?;
                }
                let place = (index, work, &sweep.device_threads);
                let end = self.all_jobs(place, jobs, &measures, &mut failures)?;
                measures.finetunings()?;
                tables.write()?;
                let provenance = failures.provenance.clone();
                match failures.into_failed(count) {
                    _ if end == JobEnd::Interrupted => return Ok(end),
                    Some(failed) => return Err(PointError::Jobs(failed)),
                    None => provenance,
                }
            }
        };
        // Earlier starts with `--stage` may have finished the other jobs.
        let is_whole = work.plan.jobs().iter().all(|job| is_done(work, job));
        if is_whole && provenance.finished_unix_s.is_none() {
            provenance.finished_unix_s = Some(now_unix_s());
            folder.write_provenance(&provenance)?;
        }
        Ok(JobEnd::Done)
    }

    /// Trains jobs on all devices, or several jobs in parallel on one device each.
    ///
    /// Pre-training always uses all devices. If a job fails, the other jobs continue, unless the error affects all
    /// jobs.
    fn all_jobs(
        &self,
        (index, work, device_threads): (usize, &RunContext, &DeviceThreads),
        jobs: Vec<Job>,
        measures: &Arc<Measures>,
        failures: &mut Failures<'_>,
    ) -> Result<JobEnd, TrainError> {
        let (tables, measures) = (Arc::clone(failures.tables), Arc::clone(measures));
        let context = JobContextMaker {
            observer: Arc::clone(&self.observer),
            row_written: Arc::new(move || Ok(tables.write()?)),
            checkpoint_kept: Arc::new(move || measures.knn()),
            timer: StepTimer::default(),
            announce: announce(index, work),
        };
        let left = jobs.iter().filter(|job| job.is_independent() && !is_done(work, job)).count();
        let apart = work.plan.is_job_parallel(left);
        let mut side_by_side = Vec::new();
        for job in jobs {
            if let Some(failed) = failures.prevents(work, &job) {
                let FailedJob { job, error } = &failed;
                (self.observer)(Event::JobFailed { job, error: Some(error) });
                failures.add(failed)?;
            } else if apart && job.is_independent() {
                side_by_side.push(job);
            } else {
                let dir = job.dir.clone();
                match schedule::together(work, job, &context, device_threads) {
                    Ok(JobEnd::Done) => {}
                    Err(error) if error.is_of_one_job() => {
                        failures.add(FailedJob { job: dir, error })?;
                    }
                    end => return end,
                }
            }
        }
        if !side_by_side.is_empty() {
            hosts::tell(&work.hosts, &Command::ShareJobs(order(index, work)))?;
        }
        let (end, failed) =
            shared_jobs::side_by_side(work, side_by_side, &context, device_threads)?;
        failed.into_iter().try_for_each(|failed| failures.add(failed))?;
        Ok(end)
    }

    /// Reports the finished jobs of an earlier start, and makes the missing measurements.
    fn skip_all(
        &self,
        work: &RunContext,
        jobs: &[Job],
        measures: &Measures,
        tables: &AccuracyTables,
    ) -> Result<(), TrainError> {
        for job in jobs {
            schedule::finish_done(work, job)?;
            (self.observer)(Event::JobSkipped { job: &job.dir });
        }
        measures.knn()?;
        measures.finetunings()?;
        Ok(tables.write()?)
    }
}

/// Returns a function that tells the other hosts which job to train.
fn announce(point: usize, work: &RunContext) -> Announce {
    let work = work.clone();
    Arc::new(move |job| {
        let order = JobOrder { of: order(point, &work), job: job.dir.clone() };
        hosts::tell(&work.hosts, &Command::Train(order))
    })
}

/// Returns what the other hosts need to know about sweep point `point`.
fn order(point: usize, work: &RunContext) -> PointOrder {
    let provenance = hosts::provenance_hash(&work.run);
    PointOrder { point, layouts: work.layouts.to_vec(), provenance }
}
