//! The runner: does the jobs of a resolved recipe, skips what is done, resumes what is not, keeps the tables.

use super::accuracy_tables::AccuracyTables;
use super::schedule::{self, JobContextMaker, is_done};
use super::shared_jobs::SharedJob;
use crate::data::{self, DataSet, Labels};
use crate::infer::{StopFlag, forget_faults, look_through};
use crate::recipe::{self, Job, Plan, Resolved, ResolvedPoint};
use crate::results::{self, Moved, Provenance, RunFolder, job_path};
use crate::shape::StageKind;
use crate::train::{
    self, ChosenDevice, DeviceThreads, Event, JobEnd, Observer, RunContext, StepTimer, TrainError,
    check_memory, check_stages, source_file,
};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

/// Fewer images than this are read before anybody wonders what goes on.
const WORTH_A_WORD: usize = 5_000;

/// What the command line says about a run.
#[derive(Debug, Clone)]
pub struct RunOptions {
    /// The folder that holds all runs.
    pub runs: PathBuf,
    /// Start over where a run of that name exists.
    pub fresh: bool,
    /// Do the jobs of this stage alone.
    pub only: Option<StageKind>,
    /// For `provenance.json`.
    pub command_line: Vec<String>,
}

/// Runs resolved recipes.
pub struct Runner<'a> {
    pub options: &'a RunOptions,
    pub stop: &'a StopFlag,
    pub observer: Observer,
}

/// A point of a sweep that failed, by its folder's name.
pub struct FailedPoint {
    pub name: String,
    pub error: TrainError,
}

impl Runner<'_> {
    /// Runs every point. A point of a sweep that fails is listed, and the others go on; without a sweep its error is the result,
    /// and so is that of the first where every point asks for what the recipe or the data cannot give.
    ///
    /// What a point cannot be given is refused before anything of it is created.
    pub fn run(&self, resolved: &Resolved) -> Result<(JobEnd, Vec<FailedPoint>), TrainError> {
        let mut failed = Vec::new();
        if !resolved.swept.is_empty() {
            results::check_sweep(&self.options.runs, &resolved.name, &resolved.swept)?;
        }
        let devices = resolved.points.iter().map(|point| point.plan.runtime.devices);
        let device_threads = DeviceThreads::start(devices.max().unwrap_or(1));
        for (index, point) in resolved.points.iter().enumerate() {
            let done = match self.failed_pretraining_before(index, resolved, &failed) {
                Some(point) => Err(TrainError::SharedPretraining { point }),
                None => self.run_point(index, resolved, &device_threads, &failed),
            };
            match done {
                Ok(JobEnd::Done) => {}
                Ok(JobEnd::Interrupted) => return Ok((JobEnd::Interrupted, failed)),
                Err(error) if resolved.swept.is_empty() => return Err(error),
                Err(error) => failed.push(FailedPoint { name: point.plan.name.clone(), error }),
            }
        }
        // What is wrong with every point is wrong with the recipe.
        if failed.len() == resolved.points.len()
            && failed.iter().all(|failed| failed.error.is_input())
        {
            return Err(failed.swap_remove(0).error);
        }
        Ok((JobEnd::Done, failed))
    }

    fn run_point(
        &self,
        index: usize,
        all: &Resolved,
        device_threads: &DeviceThreads,
        failed: &[FailedPoint],
    ) -> Result<JobEnd, TrainError> {
        let point = &all.points[index];
        let plan = &point.plan;
        forget_faults();
        let device = train::choose(&plan.runtime)?;
        let data = data::open(&plan.data, labels(plan))?;
        for note in &device.notes {
            (self.observer)(Event::Notice { job: "device", text: note });
        }
        check_memory(&device, plan, &self.stages(plan), data.facts.num_classes)?;
        check_stages(&device, plan, data.facts.num_classes, device_threads)?;
        if let Some(note) = &data.note {
            (self.observer)(Event::Notice { job: "data", text: note });
        }
        let path = self.path(point);
        let done_before = self.done_before(index, all, &data, failed)?;
        let jobs = self.jobs(plan, &data, &path, &done_before)?;
        let before = if self.options.fresh {
            None
        } else {
            results::refuse_other(&path, &point.recipe)?;
            results::refuse_other_data(&path, &data.fingerprint)?
        };
        if before.is_none() {
            // An earlier point on the same data has looked, if it did not fail.
            let looked = |other: &ResolvedPoint| {
                other.plan.data == plan.data && failed.iter().all(|f| f.name != other.plan.name)
            };
            if !all.points[..index].iter().any(looked) {
                self.look_through_validation(plan, &data, &jobs)?;
            }
            if self.stop.requested() {
                return Ok(JobEnd::Interrupted);
            }
        }
        let opened =
            RunFolder::open(&self.options.runs, &plan.name, &point.recipe, self.options.fresh);
        let (folder, moved) = opened?;
        if let Some(moved) = moved {
            (self.observer)(Event::Notice { job: "run", text: &told(&moved) });
        }
        if before.is_none() && !done_before.is_empty() {
            // First, so that no job is there without the data's fingerprint.
            folder.write_provenance(&self.provenance(plan, &device, &data))?;
        }
        for same in &done_before {
            self.take_over(same, folder.path())?;
        }
        let work = RunContext {
            plan: Arc::new(plan.clone()),
            data: Arc::new(data),
            device,
            run: folder.path().to_owned(),
            recipe: recipe::recipe_toml(&point.recipe).into(),
            stop: self.stop.clone(),
            parallel_jobs: 0,
        };
        let tables = AccuracyTables {
            runs: self.options.runs.clone(),
            plan: Arc::clone(&work.plan),
            run: work.run.clone(),
            all: Arc::new(all.clone()),
            writing: Mutex::default(),
        };
        let skips = before.is_some() && jobs.iter().all(|job| is_done(&work, job));
        let mut provenance = match before {
            // What the earlier start said of itself stays.
            Some(before) if skips => before,
            _ => self.provenance(plan, &work.device, &work.data),
        };
        if skips {
            self.skip_all(&work, &jobs, &tables)?;
        } else {
            folder.write_provenance(&provenance)?;
            tables.write()?;
            if self.all_jobs(&work, jobs, &Arc::new(tables), device_threads)? == JobEnd::Interrupted
            {
                return Ok(JobEnd::Interrupted);
            }
        }
        // A run is finished when all its stages are, whichever start did the last of them.
        let whole = plan.jobs().iter().all(|job| is_done(&work, job));
        if whole && provenance.finished_unix_s.is_none() {
            provenance.finished_unix_s = Some(now_unix_s());
            folder.write_provenance(&provenance)?;
        }
        Ok(JobEnd::Done)
    }

    /// Fails where a validation image cannot be used, if one of the `jobs` needs it.
    fn look_through_validation(
        &self,
        plan: &Plan,
        data: &DataSet,
        jobs: &[Job],
    ) -> Result<(), TrainError> {
        let needed = jobs.iter().any(|job| job.stage != StageKind::Pretrain);
        let Some(val) = data.val.clone().filter(|val| needed && !val.is_cheap()) else {
            return Ok(());
        };
        if data.facts.val_images >= WORTH_A_WORD {
            let text = "reading all validation images once, so that a bad one is met now";
            (self.observer)(Event::Notice { job: "data", text });
        }
        Ok(look_through(plan, val, self.stop)?)
    }

    /// Returns the stage of each job that this start may run.
    fn stages(&self, plan: &Plan) -> Vec<StageKind> {
        match self.options.only {
            Some(stage) => vec![stage],
            None => plan.jobs().iter().map(|job| job.stage).collect(),
        }
    }

    /// The folder of a point's run.
    pub(super) fn path(&self, point: &ResolvedPoint) -> PathBuf {
        job_path(&self.options.runs, &point.plan.name)
    }

    /// Does the jobs in order, each on all devices; or the pre-training so, and then one job on each device.
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

    /// Tells that everything was done before.
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

    /// Gives the jobs to do, once it is sure that each can begin, with what was `done_before`.
    fn jobs(
        &self,
        plan: &Plan,
        data: &DataSet,
        run: &Path,
        done_before: &[SharedJob],
    ) -> Result<Vec<Job>, TrainError> {
        let only = self.options.only;
        let jobs: Vec<Job> = plan
            .jobs()
            .into_iter()
            .filter(|job| only.is_none_or(|stage| stage == job.stage))
            .collect();
        if jobs.is_empty() {
            let (problem, hint) = match only {
                Some(stage) => (
                    format!("--stage {stage}: the recipe has no [{stage}]"),
                    "leave --stage out, or add the table",
                ),
                None => (
                    "the recipe has no stage: there is nothing to run".to_owned(),
                    "add [pretrain], [finetune] or [linprobe]",
                ),
            };
            return Err(TrainError::Setting { problem, hint: hint.to_owned() });
        }
        // A fresh start removes what an earlier one left.
        let fresh = self.options.fresh;
        let pretrains = done_before
            .iter()
            .map(|same| &same.job)
            .chain(&jobs)
            .any(|job| job.stage == StageKind::Pretrain);
        for job in &jobs {
            let training = plan.training(job.stage).expect("a job's stage is part of the plan");
            training.steps(job.stage, data.facts.train_images)?;
            let own = job.is_after_pretraining();
            match source_file(run, job) {
                Some(file) if !(file.exists() && !(own && fresh) || own && pretrains) => {
                    return Err(TrainError::Setting {
                        problem: format!(
                            "{} needs {}, which is not there",
                            job.dir,
                            file.display()
                        ),
                        hint: "run the pre-training first: leave --stage out".to_owned(),
                    });
                }
                Some(file) if !own => {
                    self.refuse_removing(run, &file)?;
                    for note in train::check_source(job, plan, data.facts.num_classes)? {
                        (self.observer)(Event::Notice { job: &job.dir, text: &note });
                    }
                }
                _ => {}
            }
        }
        if let Some(Some(path)) = plan.pretrain.as_ref().map(|pretrain| &pretrain.resume)
            && pretrains
        {
            self.refuse_removing(run, path)?;
            train::check_resume(path, plan)?;
        }
        Ok(jobs)
    }

    /// Fails if `--fresh` would move the checkpoint that the recipe starts from.
    fn refuse_removing(&self, run: &Path, file: &Path) -> Result<(), TrainError> {
        let inside = |(run, file): (PathBuf, PathBuf)| file.starts_with(run);
        if self.options.fresh
            && run.canonicalize().ok().zip(file.canonicalize().ok()).is_some_and(inside)
        {
            return Err(TrainError::Setting {
                problem: format!(
                    "--fresh would move {} to the trash, but the recipe starts from it",
                    file.display()
                ),
                hint: "give this run another name (`--set name=...`)".to_owned(),
            });
        }
        Ok(())
    }

    fn provenance(&self, plan: &Plan, device: &ChosenDevice, data: &DataSet) -> Provenance {
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

/// Says where the files of an earlier run are now, and what stayed.
fn told(moved: &Moved) -> String {
    let mut text = format!("the files of the earlier run are in {}", moved.to.display());
    if !moved.stayed.is_empty() {
        let stayed: Vec<String> =
            moved.stayed.iter().map(|path| path.display().to_string()).collect();
        let _ = write!(text, "; left in place, not written by mae: {}", stayed.join(", "));
    }
    text
}

/// Pre-training alone needs no labels.
fn labels(plan: &Plan) -> Labels {
    if plan.finetune.is_none() && plan.linprobe.is_none() {
        Labels::Unneeded
    } else {
        Labels::Needed
    }
}

fn now_unix_s() -> u64 {
    // A clock before 1970 is a clock that is not set: 0 says so.
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
