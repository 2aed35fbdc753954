//! The checks before a run, for each run of a sweep.

use super::RunOptions;
use super::checked_source::CheckedSource;
use super::preflight::{
    CheckedJob, CheckedPoint, DataCounts, JobState, Preflight, Problem, Purpose, epochs,
    is_finished, run_path,
};
use super::start_files::FileHashes;
use super::test_sets::open_set;
use crate::data::{self, DataSet, Labels};
use crate::recipe::{DataPlan, Job, Plan, Resolved, RuntimePlan, TestSet};
use crate::results::{self, EpochsCsv, Provenance, RunError, job_path};
use crate::shape::StageKind;
use crate::train::{self, TrainError, source_file};
use std::path::Path;
use std::sync::Arc;

/// Checks the runs of a sweep, one after another.
///
/// Checks data, devices, test sets and checkpoints only once, even if several runs use them.
pub(super) struct Inspector<'a> {
    pub(super) resolved: &'a Resolved,
    pub(super) options: &'a RunOptions,
    purpose: Purpose,
    devices: Vec<(&'a RuntimePlan, Option<Problem>)>,
    data: Vec<(&'a DataPlan, OpenedData)>,
    test_sets: Vec<((&'a Path, &'a DataPlan), Option<Problem>)>,
    /// Results for checkpoints that jobs start from: (run name, job folder, result).
    pub(super) sources: Vec<(String, String, CheckedSource)>,
    hashes: FileHashes,
    /// Results of the runs that have been checked.
    pub(super) points: Vec<CheckedPoint>,
}

#[derive(Clone)]
struct OpenedData {
    counts: DataCounts,
    data: Option<Arc<DataSet>>,
    problem: Option<Problem>,
}

struct FoundFolder {
    continues: bool,
    before: Option<Provenance>,
    problem: Option<Problem>,
}

impl<'a> Inspector<'a> {
    pub(super) fn new(resolved: &'a Resolved, options: &'a RunOptions, purpose: Purpose) -> Self {
        let (devices, data, test_sets) = (Vec::new(), Vec::new(), Vec::new());
        let (sources, hashes, points) = (Vec::new(), FileHashes::default(), Vec::new());
        Self { resolved, options, purpose, devices, data, test_sets, sources, hashes, points }
    }

    /// Checks run `index` of the sweep. Call this for all earlier runs first.
    pub(super) fn check(&mut self, index: usize) {
        let point = &self.resolved.points[index];
        let plan = &point.plan;
        let path = run_path(&self.options.runs, point);
        let mut problems = Vec::new();
        problems.extend(self.no_stage(plan));
        problems.extend(self.device(&plan.runtime));
        let OpenedData { counts, data, problem } = self.data(plan);
        problems.extend(problem);
        problems.extend(self.too_few_images(plan, counts));
        problems.extend(self.test_sets(plan, &path, data.as_deref()));
        if data.is_some() {
            problems.extend(self.too_little_memory(plan, counts));
        }
        let mut folder = self.folder(index, &path, data.as_deref());
        problems.extend(folder.problem.take());
        let started_from = folder.before.as_ref().map_or(&[][..], |before| &before.start_files);
        if let Err(error) = self.hashes.check_unchanged(&path, started_from) {
            // The checkpoint has changed, so later runs of the sweep must not copy jobs of this run.
            folder.before = None;
            problems.push(Arc::new(error.into()));
        }
        let mut jobs = self.jobs(index, &path, folder.continues, &mut problems);
        let (mut notes, mut seen) = (Vec::new(), None);
        self.check_own_epochs(&path, &jobs, &mut problems);
        for job in &mut jobs {
            let Some(source) = self.source(index, &path, job, counts.num_classes) else { continue };
            // Several jobs may start from the same file.
            let known: Vec<String> = problems.iter().map(ToString::to_string).collect();
            problems.extend(source.problem.filter(|new| !known.contains(&new.to_string())));
            notes.extend(source.notes.into_iter().map(|note| (job.job.dir.clone(), note)));
            seen = seen.or(source.seen);
            if let (JobState::ToDo, Some(epochs)) = (&job.state, source.seen) {
                job.state = JobState::GoesOn { epochs };
            }
        }
        let started_from = folder.before.as_ref().map_or(&[][..], |before| &before.start_files);
        let start_files = self.hashes.of_jobs(plan, (&jobs, seen), started_from, &self.points);
        let start_files = start_files.unwrap_or_else(|error| {
            // Checking the checkpoint has found the same problem, unless the job is finished.
            if problems.is_empty() {
                problems.push(Arc::new(error));
            }
            Vec::new()
        });
        self.points.push(CheckedPoint {
            name: plan.name.clone(),
            path,
            jobs,
            problems,
            notes,
            counts,
            start_files,
            data,
            before: folder.before,
            continues: folder.continues,
        });
    }

    fn is_asked(&self, stage: StageKind) -> bool {
        self.options.only.is_none_or(|only| only == stage)
    }

    fn no_stage(&self, plan: &Plan) -> Option<Problem> {
        if plan.jobs().iter().any(|job| self.is_asked(job.stage)) {
            return None;
        }
        Some(match self.options.only {
            Some(stage) => setting(
                format!("cannot run `--stage {stage}`: the recipe has no `[{stage}]`"),
                "remove `--stage`, or add the table of this stage to the recipe",
            ),
            None => setting(
                "cannot run the recipe: the recipe has no stage".to_owned(),
                "add `[pretrain]`, `[finetune]` or `[linprobe]`",
            ),
        })
    }

    fn device(&mut self, runtime: &'a RuntimePlan) -> Option<Problem> {
        if let Some((_, problem)) = self.devices.iter().find(|(known, _)| *known == runtime) {
            return problem.clone();
        }
        let problem = train::choose(runtime).err().map(Arc::new);
        self.devices.push((runtime, problem.clone()));
        problem
    }

    fn data(&mut self, plan: &'a Plan) -> OpenedData {
        if let Some((_, opened)) = self.data.iter().find(|(known, _)| **known == plan.data) {
            return opened.clone();
        }
        let counts = DataCounts::promised(plan);
        let are_promised = counts.train_images.is_some()
            && counts.val_images.is_some()
            && plan.data.promised.num_classes.is_some();
        let opened = if are_promised && self.purpose == Purpose::Plan {
            OpenedData { counts, data: None, problem: None }
        } else {
            let labels = if plan.measures_accuracy() { Labels::Needed } else { Labels::Unneeded };
            match data::open(&plan.data, labels) {
                Ok(data) => OpenedData {
                    counts: data.facts.into(),
                    data: Some(Arc::new(data)),
                    problem: None,
                },
                Err(error) => {
                    OpenedData { counts, data: None, problem: Some(Arc::new(error.into())) }
                }
            }
        };
        self.data.push((&plan.data, opened.clone()));
        opened
    }

    /// Opens each test set of `[robustness]` that lacks the results of a fine-tuning. Returns the problems.
    fn test_sets(&mut self, plan: &'a Plan, run: &Path, data: Option<&DataSet>) -> Vec<Problem> {
        let Some(data) = data.filter(|_| self.is_asked(StageKind::Finetune)) else {
            return Vec::new();
        };
        let classes = plan.robustness_classes;
        // The run itself reports a damaged table.
        let tables = results::MeasureTables::read(run).unwrap_or_default();
        let mut jobs = plan.jobs();
        jobs.retain(|job| job.stage == StageKind::Finetune);
        let is_left = |set: &&TestSet| {
            jobs.iter().any(|job| tables.robustness(set, classes, &job.dir).is_none())
        };
        let left = plan.robustness.iter().filter(is_left);
        left.filter_map(|set| self.test_set(set, plan, data)).collect()
    }

    fn test_set(&mut self, set: &'a TestSet, plan: &'a Plan, data: &DataSet) -> Option<Problem> {
        let place = (set.path.as_path(), &plan.data);
        if let Some((_, problem)) = self.test_sets.iter().find(|(known, _)| *known == place) {
            return problem.clone();
        }
        let opened = open_set(set, plan, &data.class_names, plan.robustness_classes);
        let problem = opened.err().map(Arc::new);
        self.test_sets.push((place, problem.clone()));
        problem
    }

    fn too_few_images(&self, plan: &Plan, counts: DataCounts) -> Vec<Problem> {
        let Some(images) = counts.train_images else { return Vec::new() };
        StageKind::ALL
            .into_iter()
            .filter(|stage| self.is_asked(*stage))
            .filter_map(|stage| plan.training(stage)?.steps(stage, images).err())
            .map(|error| Arc::new(error.into()))
            .collect()
    }

    fn too_little_memory(&self, plan: &Plan, counts: DataCounts) -> Option<Problem> {
        let device = train::choose(&plan.runtime).ok()?;
        let stages: Vec<StageKind> =
            StageKind::ALL.into_iter().filter(|stage| self.is_asked(*stage)).collect();
        train::check_memory(&device, plan, &stages, counts.num_classes).err().map(Arc::new)
    }

    fn folder(&self, index: usize, path: &Path, data: Option<&DataSet>) -> FoundFolder {
        let recipe = &self.resolved.points[index].recipe;
        let refused = |continues: bool, error: RunError| FoundFolder {
            continues,
            before: None,
            problem: Some(Arc::new(error.into())),
        };
        if let Some(error) = below_a_file(path) {
            return refused(false, error);
        }
        let continues = match results::check_folder(path, recipe, self.options.fresh) {
            Ok(continues) => continues,
            Err(error) => return refused(false, error),
        };
        if !continues {
            return FoundFolder { continues, before: None, problem: None };
        }
        let before = match data {
            Some(data) => {
                let former = data.former_fingerprint.as_deref();
                results::refuse_other_data(path, &data.fingerprint, former)
            }
            None => results::read_provenance(path),
        };
        match before {
            Ok(before) => FoundFolder { continues, before, problem: None },
            Err(error) => refused(continues, error),
        }
    }

    /// Returns the jobs that `--stage` includes. The pre-training is always included.
    fn jobs(
        &self,
        index: usize,
        run: &Path,
        continues: bool,
        problems: &mut Vec<Problem>,
    ) -> Vec<CheckedJob> {
        let plan = &self.resolved.points[index].plan;
        let mut jobs = Vec::new();
        for job in plan.jobs() {
            let is_asked = self.is_asked(job.stage);
            if !is_asked && job.stage != StageKind::Pretrain {
                continue;
            }
            let own = if continues { own_state(run, plan, &job) } else { Ok(None) };
            let state = match own {
                Ok(Some(state)) => state,
                Ok(None) => self.shared(index, &job).unwrap_or(JobState::ToDo),
                Err(error) => {
                    problems.push(Arc::new(error.into()));
                    JobState::ToDo
                }
            };
            jobs.push(CheckedJob { job, state, is_asked });
        }
        jobs
    }

    /// Returns [`JobState::Shared`] if an earlier run of the sweep has finished or will finish the same job.
    fn shared(&self, index: usize, job: &Job) -> Option<JobState> {
        Preflight::with_same_job(&self.points, self.resolved, index, job)
            .find(|other| other.will_have(&job.dir))
            .map(|other| JobState::Shared { with: other.name.clone() })
    }

    /// Adds a problem for each job whose pre-training checkpoint is missing.
    ///
    /// With `--fresh`, checkpoints in this run folder count as missing. Does nothing if this command pre-trains,
    /// or copies a finished pre-training.
    fn check_own_epochs(&self, run: &Path, jobs: &[CheckedJob], problems: &mut Vec<Problem>) {
        if will_pretrain(jobs) {
            return;
        }
        for CheckedJob { job, is_asked, .. } in jobs {
            let source = source_file(run, job).filter(|_| *is_asked && job.is_after_pretraining());
            let Some(file) = source.filter(|file| self.options.fresh || !file.exists()) else {
                continue;
            };
            let problem = if file.exists() {
                format!(
                    "cannot start {}: `--fresh` would move {} to the trash, but this job starts from that checkpoint",
                    job.dir,
                    file.display()
                )
            } else {
                format!(
                    "cannot start {}: the checkpoint {} does not exist",
                    job.dir,
                    file.display()
                )
            };
            problems.push(setting(problem, "remove `--stage`, so that the run pre-trains first"));
        }
    }
}

/// Returns whether this command will pre-train, or copy a finished pre-training.
fn will_pretrain(jobs: &[CheckedJob]) -> bool {
    jobs.iter().filter(|job| job.job.stage == StageKind::Pretrain).any(
        |CheckedJob { state, is_asked, .. }| *is_asked || matches!(state, JobState::Shared { .. }),
    )
}

/// Returns the state of a job from its folder; `None` if there is no folder.
fn own_state(run: &Path, plan: &Plan, job: &Job) -> Result<Option<JobState>, RunError> {
    let folder = job_path(run, &job.dir);
    let table = EpochsCsv::in_job(&folder);
    if is_finished(run, plan, job) {
        table.check_reaches(epochs(plan, job.stage))?;
        return Ok(Some(JobState::Done));
    }
    if !folder.exists() {
        return Ok(None);
    }
    let rows = table.read()?;
    if !folder.join("resume.safetensors").exists() {
        // Without the saved state, the job starts over.
        return Ok(Some(JobState::ToDo));
    }
    let epochs = rows.last().map_or(0, |row| row.epoch);
    Ok(Some(JobState::Begun { epochs }))
}

/// Returns an error if a parent folder of `path` is a file.
fn below_a_file(path: &Path) -> Option<RunError> {
    let there = path.ancestors().find(|part| part.exists()).filter(|part| !part.is_dir())?;
    let kind = std::io::ErrorKind::NotADirectory;
    let source = std::io::Error::new(kind, format!("{} is a file", there.display()));
    Some(RunError::NoFolder { path: path.to_owned(), source })
}

pub(super) fn setting(problem: String, hint: &str) -> Problem {
    Arc::new(TrainError::Setting { problem, hint: hint.to_owned() })
}
