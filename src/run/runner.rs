//! The runner: trains the jobs of a resolved recipe, skips finished ones, resumes unfinished ones, and updates the tables.

use super::accuracy_tables::AccuracyTables;
use super::copied_jobs::CopiedJob;
use super::preflight::{CheckedPoint, Problems, Purpose, preflight};
use super::schedule::{self, JobContextMaker, is_done};
use crate::data::DataSet;
use crate::infer::{StopFlag, forget_faults, look_through};
use crate::recipe::{self, Job, Plan, Resolved};
use crate::results::{Moved, Provenance, RunError, RunFolder};
use crate::shape::StageKind;
use crate::train::{
    self, ChosenDevice, DeviceThreads, Event, JobEnd, Observer, RunContext, StepTimer, TrainError,
    check_stages,
};
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

/// With at least this many validation images, a notice tells the user that all of them are being read.
const MANY_IMAGES: usize = 5_000;

/// Command-line options of a run.
#[derive(Debug, Clone)]
pub struct RunOptions {
    /// The folder that contains all runs.
    pub runs: PathBuf,
    /// Whether to start over, and move the files of an earlier run of the same name to the trash.
    pub fresh: bool,
    /// Run only the jobs of this stage; `None` runs all jobs.
    pub only: Option<StageKind>,
    /// Arguments of this process, for `provenance.json`.
    pub command_line: Vec<String>,
}

/// Runs resolved recipes.
pub struct Runner<'a> {
    pub options: &'a RunOptions,
    pub stop: &'a StopFlag,
    pub observer: Observer,
}

/// A sweep point that failed, and its error.
pub struct FailedPoint {
    /// Name of the sweep point's run.
    pub name: String,
    pub error: PointError,
}

/// The error of a sweep point.
#[derive(Debug, thiserror::Error)]
pub enum PointError {
    /// The checks before the run found problems. No files were created.
    #[error(transparent)]
    Refused(#[from] Problems),
    #[error(transparent)]
    Failed(#[from] TrainError),
}

/// A running sweep. A recipe without `[sweep]` is a sweep with one point.
pub(super) struct Sweep<'a> {
    pub resolved: &'a Resolved,
    /// The results of the checks before the run, one for each sweep point.
    pub points: Vec<CheckedPoint>,
    pub device_threads: DeviceThreads,
    /// Names of the sweep points whose folder this process has opened so far.
    pub opened: Vec<String>,
    pub failed: Vec<FailedPoint>,
}

impl PointError {
    /// Returns whether the user's input caused the error.
    pub fn is_input(&self) -> bool {
        match self {
            Self::Refused(problems) => problems.is_input(),
            Self::Failed(error) => error.is_input(),
        }
    }
}

impl From<RunError> for PointError {
    fn from(error: RunError) -> Self {
        Self::Failed(error.into())
    }
}

impl Runner<'_> {
    /// Runs every sweep point.
    ///
    /// If a sweep point fails, the other points continue, and the result lists the failed points. If the recipe has no sweep,
    /// the error is returned instead.
    ///
    /// If the checks before the run find problems at every point, no files are created, and the problems of the first point
    /// are returned.
    pub fn run(&self, resolved: &Resolved) -> Result<(JobEnd, Vec<FailedPoint>), PointError> {
        let preflight = preflight(resolved, self.options, Purpose::Run);
        if let Some(problems) = preflight.refusal() {
            return Err(problems.into());
        }
        let devices = resolved.points.iter().map(|point| point.plan.runtime.devices);
        let mut sweep = Sweep {
            resolved,
            device_threads: DeviceThreads::start(devices.max().unwrap_or(1)),
            points: preflight.points,
            opened: Vec::new(),
            failed: Vec::new(),
        };
        for index in 0..sweep.points.len() {
            match self.run_point(index, &mut sweep) {
                Ok(JobEnd::Done) => {}
                Ok(JobEnd::Interrupted) => return Ok((JobEnd::Interrupted, sweep.failed)),
                Err(error) if resolved.swept.is_empty() => return Err(error),
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
        if let Some(point) = sweep.failed_pretraining(index) {
            return Err(TrainError::SharedPretraining { point }.into());
        }
        let plan = &sweep.resolved.points[index].plan;
        let data = point.data.clone().expect("the preflight opens the data of a point");
        let device = self.check_device(plan, &data, &sweep.device_threads)?;
        self.tell_notes(point, &data);
        if point.before.is_none() {
            if !sweep.has_read_validation(index) {
                self.read_validation(plan, &data, point)?;
            }
            if self.stop.requested() {
                return Ok(JobEnd::Interrupted);
            }
        }
        let copied = sweep.copied_jobs(index);
        let folder = self.open_folder(sweep.resolved, index)?;
        sweep.opened.push(plan.name.clone());
        let point = &sweep.points[index];
        let work = RunContext {
            plan: Arc::new(plan.clone()),
            data,
            device,
            run: folder.path().to_owned(),
            recipe: recipe::recipe_toml(&sweep.resolved.points[index].recipe).into(),
            stop: self.stop.clone(),
            parallel_jobs: 0,
        };
        self.copy_jobs(&copied, point, &work, &folder)?;
        self.work(point, &work, &folder, sweep)
    }

    /// Chooses the devices of a sweep point, and compares a small training step on them with the CPU.
    ///
    /// The checks before the run have already chosen the devices. They are chosen again, because an earlier sweep point may
    /// have changed the device setup.
    fn check_device(
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
            (self.observer)(Event::Notice { job, text });
        }
    }

    /// Reads all validation images once, if a job needs them. Fails if an image is unreadable.
    fn read_validation(
        &self,
        plan: &Plan,
        data: &DataSet,
        point: &CheckedPoint,
    ) -> Result<(), TrainError> {
        let is_needed = point.asked().any(|job| job.job.stage != StageKind::Pretrain);
        let Some(val) = data.val.clone().filter(|val| is_needed && !val.is_cheap()) else {
            return Ok(());
        };
        if data.facts.val_images >= MANY_IMAGES {
            let text =
                "reading all validation images once, to find unreadable ones before training";
            (self.observer)(Event::Notice { job: "data", text });
        }
        Ok(look_through(plan, val, self.stop)?)
    }

    fn open_folder(&self, resolved: &Resolved, index: usize) -> Result<RunFolder, RunError> {
        let point = &resolved.points[index];
        let RunOptions { runs, fresh, .. } = self.options;
        let (folder, moved) = RunFolder::open(runs, &point.plan.name, &point.recipe, *fresh)?;
        if let Some(moved) = moved {
            (self.observer)(Event::Notice { job: "run", text: &moved_text(&moved) });
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
            // Write the fingerprint of the data before any job starts. Otherwise, a later start cannot check the data.
            folder.write_provenance(&self.provenance(work))?;
        }
        copied.iter().try_for_each(|job| self.copy_job(job, folder.path()))
    }

    /// Trains the unfinished jobs of a sweep point. Updates its accuracy table and its provenance.
    fn work(
        &self,
        point: &CheckedPoint,
        work: &RunContext,
        folder: &RunFolder,
        sweep: &Sweep<'_>,
    ) -> Result<JobEnd, PointError> {
        let jobs: Vec<Job> = point.asked().map(|job| job.job.clone()).collect();
        let tables = Arc::new(self.tables(work, sweep.resolved));
        let all_done = jobs.iter().all(|job| is_done(work, job));
        let mut provenance = match &point.before {
            // If there is nothing to do, the provenance of the earlier start stays.
            Some(before) if all_done => {
                self.skip_all(work, &jobs, &tables)?;
                before.clone()
            }
            _ => {
                let provenance = self.provenance(work);
                folder.write_provenance(&provenance)?;
                tables.write()?;
                let end = self.all_jobs(work, jobs, &tables, &sweep.device_threads)?;
                if end == JobEnd::Interrupted {
                    return Ok(end);
                }
                provenance
            }
        };
        // Several starts with `--stage` may finish a run together.
        let is_whole = work.plan.jobs().iter().all(|job| is_done(work, job));
        if is_whole && provenance.finished_unix_s.is_none() {
            provenance.finished_unix_s = Some(now_unix_s());
            folder.write_provenance(&provenance)?;
        }
        Ok(JobEnd::Done)
    }

    fn tables(&self, work: &RunContext, resolved: &Resolved) -> AccuracyTables {
        AccuracyTables {
            runs: self.options.runs.clone(),
            plan: Arc::clone(&work.plan),
            run: work.run.clone(),
            all: Arc::new(resolved.clone()),
            writing: Mutex::default(),
        }
    }

    /// Trains jobs one after the other on all devices, or in parallel with one device each.
    ///
    /// With job-parallel scheduling, pre-training uses all devices, and the other jobs then run in parallel.
    fn all_jobs(
        &self,
        work: &RunContext,
        jobs: Vec<Job>,
        tables: &Arc<AccuracyTables>,
        device_threads: &DeviceThreads,
    ) -> Result<JobEnd, TrainError> {
        let tables = Arc::clone(tables);
        let context = JobContextMaker {
            observer: Arc::clone(&self.observer),
            row_written: Arc::new(move || tables.write()),
            timer: StepTimer::default(),
        };
        let left = jobs.iter().filter(|job| job.is_independent() && !is_done(work, job)).count();
        let apart = work.plan.is_job_parallel(left);
        let (side_by_side, together): (Vec<Job>, Vec<Job>) =
            jobs.into_iter().partition(|job| apart && job.is_independent());
        for job in together {
            if schedule::together(work, job, &context, device_threads)? == JobEnd::Interrupted {
                return Ok(JobEnd::Interrupted);
            }
        }
        schedule::side_by_side(work, side_by_side, &context, device_threads)
    }

    /// Reports that an earlier start has finished all jobs.
    fn skip_all(
        &self,
        work: &RunContext,
        jobs: &[Job],
        tables: &AccuracyTables,
    ) -> Result<(), TrainError> {
        for job in jobs {
            schedule::finish_done(work, job)?;
            (self.observer)(Event::JobSkipped { job: &job.dir });
        }
        tables.write()?;
        Ok(())
    }

    fn provenance(&self, work: &RunContext) -> Provenance {
        let RunContext { plan, data, device, .. } = work;
        Provenance {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            commit: env!("BUILT_FROM_COMMIT").to_owned(),
            command_line: self.options.command_line.clone(),
            device: device.name.clone(),
            devices: plan.runtime.devices,
            precision: plan.runtime.precision.to_string(),
            threads: device.threads,
            seed: plan.seed,
            data_fingerprint: data.fingerprint.clone(),
            val_images: data.val.as_ref().map(|val| val.len()),
            data_note: data.note.clone().unwrap_or_default(),
            started_unix_s: now_unix_s(),
            finished_unix_s: None,
        }
    }
}

impl Sweep<'_> {
    /// Returns whether the validation images were already read for an earlier sweep point with the same data.
    fn has_read_validation(&self, index: usize) -> bool {
        let points = &self.resolved.points;
        points[..index].iter().any(|other| {
            other.plan.data == points[index].plan.data
                && self.failed.iter().all(|failed| failed.name != other.plan.name)
        })
    }
}

/// Returns a notice that says where the files of an earlier run were moved, and which files were not moved.
fn moved_text(moved: &Moved) -> String {
    let mut text = format!("the files of the earlier run are in {}", moved.to.display());
    if !moved.stayed.is_empty() {
        let stayed: Vec<String> =
            moved.stayed.iter().map(|path| path.display().to_string()).collect();
        let _ = write!(
            text,
            "; these files were not moved, because mae did not write them: {}",
            stayed.join(", ")
        );
    }
    text
}

fn now_unix_s() -> u64 {
    // 0 if the clock is before 1970, which means that it is not set.
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
