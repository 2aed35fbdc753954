//! Trains the jobs of a resolved recipe, skips finished jobs, and resumes unfinished jobs.

use super::copied_jobs::CopiedJob;
use super::failed_jobs::{FailedPoint, PointError};
use super::hosts::{self, Command, Finish};
use super::preflight::{CheckedJob, CheckedPoint, Purpose, preflight};
use super::provenance;
use crate::data::DataSet;
use crate::durable::SharedLock;
use crate::infer::{StopFlag, forget_faults};
use crate::recipe::{self, Job, Plan, Resolved};
use crate::results::{self, Moved, OpenOptions, RunError, RunFolder, StartLayout};
use crate::shape::StageKind;
use crate::train::{
    self, ChosenDevice, DeviceThreads, Event, HostCause, Hosts, JobEnd, Observer, RunContext,
    TrainError, check_stages,
};
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

/// Options of `mae run`.
#[derive(Debug, Clone)]
pub struct RunOptions {
    /// Folder of all runs (`--runs`).
    pub runs: PathBuf,
    /// Whether to move an earlier run of this name to the trash and start over.
    pub fresh: bool,
    /// Whether to take over the lock of a process on another host.
    pub break_lock: bool,
    /// The only stage to run; `None` for all stages.
    pub only: Option<StageKind>,
    /// Command line of this process, which `provenance.json` records.
    pub command_line: Vec<String>,
}

/// Runs all jobs of a recipe or a sweep.
pub struct Runner<'a> {
    pub options: &'a RunOptions,
    pub stop: &'a StopFlag,
    pub observer: Observer,
    /// The hosts that train together.
    pub hosts: Hosts,
}

/// The state of a sweep. A recipe without `[sweep]` is a sweep of one run.
pub(super) struct Sweep<'a> {
    pub resolved: &'a Resolved,
    /// Results of the checks, one per run of the sweep.
    pub points: Vec<CheckedPoint>,
    pub device_threads: DeviceThreads,
    /// Lock on the folder of the sweep; `None` until a run starts.
    pub folder: Option<SharedLock>,
    /// Names of the runs whose folders this process has opened.
    pub opened: Vec<String>,
    pub failed: Vec<FailedPoint>,
}

impl Runner<'_> {
    /// Runs all runs of a sweep and returns the failed runs. A recipe without `[sweep]` is a single run.
    ///
    /// If a run of a sweep fails, the other runs continue. If no run can start, creates no files and returns the problems
    /// of the first run.
    pub fn run(&self, resolved: &Resolved) -> Result<(JobEnd, Vec<FailedPoint>), PointError> {
        let preflight = preflight(resolved, self.options, Purpose::Run);
        let refusal = preflight.refusal();
        let cause = refusal.as_ref().map(|problems| HostCause {
            text: problems.to_string(),
            is_input: problems.is_input(),
        });
        let same =
            hosts::check_same(&self.hosts, self.options, (resolved, &preflight.points), cause);
        if let Some(problems) = refusal {
            return Err(problems.into());
        }
        same?;
        let devices = resolved.points.iter().map(|point| point.plan.runtime.devices);
        let device_threads = DeviceThreads::start(devices.max().unwrap_or(1));
        if !self.hosts.is_first() {
            self.follow(resolved, &preflight.points, &device_threads)?;
            return Ok((JobEnd::Done, Vec::new()));
        }
        let _finish = Finish(&self.hosts);
        self.run_points(resolved, preflight.points, device_threads)
    }

    fn run_points(
        &self,
        resolved: &Resolved,
        points: Vec<CheckedPoint>,
        device_threads: DeviceThreads,
    ) -> Result<(JobEnd, Vec<FailedPoint>), PointError> {
        let mut sweep = Sweep {
            resolved,
            device_threads,
            points,
            folder: None,
            opened: Vec::new(),
            failed: Vec::new(),
        };
        for index in 0..sweep.points.len() {
            match self.run_point(index, &mut sweep) {
                Ok(JobEnd::Done) => {}
                Ok(JobEnd::Interrupted) => return Ok((JobEnd::Interrupted, sweep.failed)),
                Err(error @ (PointError::Refused(_) | PointError::Failed(_)))
                    if resolved.swept.is_empty() =>
                {
                    return Err(error);
                }
                Err(error) => {
                    let name = sweep.points[index].name.clone();
                    sweep.failed.push(FailedPoint { name, error });
                }
            }
            // Free the memory of the data.
            sweep.points[index].data = None;
        }
        let mut failed = sweep.failed;
        if failed.len() == resolved.points.len()
            && failed.iter().all(|point| point.error.is_input())
        {
            return Err(failed.swap_remove(0).error);
        }
        Ok((JobEnd::Done, failed))
    }

    fn run_point(&self, index: usize, sweep: &mut Sweep<'_>) -> Result<JobEnd, PointError> {
        let point = &sweep.points[index];
        if let Some(problems) = point.refusal() {
            return Err(problems.into());
        }
        let has_failed = sweep.failed_pretraining(index);
        let has_failed = has_failed.map(|point| TrainError::SharedPretraining { point });
        let needs_none = |job: &CheckedJob| {
            job.job.stage != StageKind::Pretrain && !job.job.is_after_pretraining()
        };
        let has_failed = match has_failed {
            Some(error) if !point.asked().any(needs_none) => return Err(error.into()),
            other => other,
        };
        let plan = &sweep.resolved.points[index].plan;
        let data = point.data.clone().expect("the preflight opens the data of a point");
        let device = self.check_device(index, plan, &data, &sweep.device_threads)?;
        self.tell_notes(point, &data);
        let is_new = point.before.is_none();
        let data = self.readable_data(index, data, sweep)?;
        let Some(data) = data.filter(|_| !(is_new && self.stop.requested())) else {
            return Ok(JobEnd::Interrupted);
        };
        let copied = sweep.copied_jobs(index);
        if sweep.folder.is_none() && !sweep.resolved.swept.is_empty() {
            let name = &sweep.resolved.name;
            sweep.folder = Some(results::join_sweep(&self.options.runs, name)?);
        }
        let folder = self.open_folder(sweep.resolved, index)?;
        sweep.opened.push(plan.name.clone());
        let point = &sweep.points[index];
        let work = self.context((sweep.resolved, index), point, data, device, folder.layouts());
        self.copy_jobs(&copied, point, &work, &folder)?;
        self.work(index, &work, &folder, sweep, has_failed)
    }

    pub(super) fn context(
        &self,
        (resolved, index): (&Resolved, usize),
        point: &CheckedPoint,
        data: Arc<DataSet>,
        device: ChosenDevice,
        layouts: &[StartLayout],
    ) -> RunContext {
        RunContext {
            plan: Arc::new(resolved.points[index].plan.clone()),
            data,
            device,
            run: point.path.clone(),
            recipe_of: recipe_of(resolved, index),
            stop: self.stop.clone(),
            parallel_jobs: 0,
            start_files: point.start_files.clone().into(),
            layouts: layouts.into(),
            hosts: self.hosts.clone(),
        }
    }

    /// Checks the devices of all hosts.
    fn check_device(
        &self,
        point: usize,
        plan: &Plan,
        data: &DataSet,
        device_threads: &DeviceThreads,
    ) -> Result<ChosenDevice, TrainError> {
        hosts::tell(&self.hosts, &Command::CheckDevice { point })?;
        self.hosts.end_job(self.check_device_here(plan, data, device_threads))
    }

    /// Chooses the devices of this host, and compares a small training step with the CPU.
    pub(super) fn check_device_here(
        &self,
        plan: &Plan,
        data: &DataSet,
        device_threads: &DeviceThreads,
    ) -> Result<ChosenDevice, TrainError> {
        forget_faults();
        let device = train::choose(&plan.runtime)?;
        for note in &device.notes {
            (self.observer)(Event::Notice { job: "device", text: note });
        }
        check_stages(&device, plan, data.facts.num_classes, device_threads)?;
        Ok(device)
    }

    fn tell_notes(&self, point: &CheckedPoint, data: &DataSet) {
        if let Some(note) = &data.note {
            (self.observer)(Event::Notice { job: "data", text: note });
        }
        for (job, text) in &point.notes {
            (self.observer)(Event::Warning { job, text });
        }
    }

    fn open_folder(&self, resolved: &Resolved, index: usize) -> Result<RunFolder, RunError> {
        let point = &resolved.points[index];
        let RunOptions { runs, fresh, break_lock, .. } = self.options;
        let open = OpenOptions { fresh: *fresh, break_lock: *break_lock };
        let (folder, moved) = RunFolder::open(runs, &point.plan.name, &point.recipe, open)?;
        if let Some(moved) = moved {
            (self.observer)(Event::Notice { job: "run", text: &moved_text(&moved) });
        }
        if folder.lacked_checksums() {
            let text = "an older version of mae wrote this run without checksums. mae adds checksums now, but cannot \
                        detect earlier damage";
            (self.observer)(Event::Notice { job: "run", text });
        }
        if let Some(change) = folder.layout_change() {
            let text = format!(
                "the run continues with {change}. Each update keeps its number of images, so the results change only by rounding"
            );
            (self.observer)(Event::Notice { job: "run", text: &text });
        }
        Ok(folder)
    }

    fn copy_jobs(
        &self,
        copied: &[CopiedJob],
        point: &CheckedPoint,
        work: &RunContext,
        folder: &RunFolder,
    ) -> Result<(), TrainError> {
        if point.before.is_none() && !copied.is_empty() {
            // Write the data fingerprint before the first job. A later start compares the data with this fingerprint.
            folder.write_provenance(&provenance::of(point, work, &self.options.command_line))?;
        }
        copied.iter().try_for_each(|job| self.copy_job(job, folder.path()))
    }
}

/// Returns a function that gives the recipe to store in the checkpoints of a job.
///
/// If several runs of a sweep share the job, this is the recipe of the first run.
fn recipe_of(resolved: &Resolved, index: usize) -> Arc<dyn Fn(&Job) -> String + Send + Sync> {
    let resolved = resolved.clone();
    Arc::new(move |job| {
        let first = resolved.same_job_before(index, job).next();
        recipe::recipe_toml(&first.unwrap_or(&resolved.points[index]).recipe)
    })
}

fn moved_text(moved: &Moved) -> String {
    let mut text = format!("mae moved the files of the earlier run to {}", moved.to.display());
    if !moved.stayed.is_empty() {
        let stayed: Vec<String> =
            moved.stayed.iter().map(|path| path.display().to_string()).collect();
        let _ = write!(
            text,
            ". These files are not from mae and stay in the run folder: {}",
            stayed.join(", ")
        );
    }
    text
}
