//! The checks before a run: what the run would do, and what would make it fail.
//!
//! `mae run` uses the result, and `mae plan` prints the result. So both report the same problems. Two checks are too
//! slow for `mae plan`: the device check and reading all validation images. Only `mae run` makes these two checks.

use super::RunOptions;
use super::inspector::Inspector;
use crate::data::DataSet;
use crate::recipe::{Job, Plan, Resolved, ResolvedPoint};
use crate::results::{self, FailedJobNote, Provenance, StartFile, job_path};
use crate::shape::StageKind;
use crate::train::TrainError;
use crate::{checkpoint, recipe::DataFacts};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A reason why a run would fail.
///
/// Several runs of a sweep may have the same problem, for example missing data.
pub type Problem = Arc<TrainError>;

/// The command that needs the checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// `mae run`: the data must exist.
    Run,
    /// `mae plan`: the data may be missing if the recipe states the numbers of images and classes.
    Plan,
}

/// The result of all checks before `mae run` or `mae plan`.
pub struct Preflight {
    /// A problem with the folder of the sweep, such as a file of another program.
    pub sweep_problem: Option<Problem>,
    /// One result for each run of the sweep, in order.
    pub points: Vec<CheckedPoint>,
}

/// The result of the checks for one run.
pub struct CheckedPoint {
    /// Name of the run, such as `quickstart`. The folder has the same name.
    pub name: String,
    /// Path of the run folder.
    pub path: PathBuf,
    /// The jobs that `--stage` includes, in the order of training. The pre-training is always included.
    pub jobs: Vec<CheckedJob>,
    /// Problems that prevent the run. Empty if the run can start.
    pub problems: Vec<Problem>,
    /// Notes about checkpoints that jobs start from, as (job folder, sentence).
    pub notes: Vec<(String, String)>,
    /// Numbers of images and classes.
    pub counts: DataCounts,
    /// Checkpoint files that jobs start from, with length and hash.
    pub(super) start_files: Vec<StartFile>,
    /// `None` if the checks did not open the data.
    pub(super) data: Option<Arc<DataSet>>,
    /// Provenance of an earlier start of this run.
    pub(super) before: Option<Provenance>,
    /// Whether the run keeps the files in its folder. False if `--fresh` moves them to the trash.
    pub(super) continues: bool,
}

/// A job of a run, with its state.
#[derive(Debug, Clone)]
pub struct CheckedJob {
    pub job: Job,
    pub state: JobState,
    /// Whether the command trains this job. `--stage` leaves out other stages.
    pub(super) is_asked: bool,
}

/// The state of a job before `mae run`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// The job has not started. `mae run` trains all epochs.
    ToDo,
    /// The job is unfinished. `mae run` resumes the job after `epochs` epochs.
    Begun { epochs: usize },
    /// The pre-training continues the checkpoint `pretrain.resume`, which has finished `epochs` epochs.
    GoesOn { epochs: usize },
    /// The job is finished. `mae run` skips the job.
    Done,
    /// An earlier run of the sweep trains the same job. `mae run` copies the result.
    ///
    /// `with` is the name of the earlier run.
    Shared { with: String },
}

/// Numbers of images and classes, from the data or from the recipe.
#[derive(Debug, Clone, Copy)]
pub struct DataCounts {
    pub train_images: Option<usize>,
    pub val_images: Option<usize>,
    /// Number of classes. 1000 if neither the data nor the recipe states the number.
    pub num_classes: usize,
}

/// All problems that prevent a run. The list is never empty.
#[derive(Debug, Clone)]
pub struct Problems(Vec<Problem>);

/// Checks every run of a sweep. Does not create or change files.
pub fn preflight(resolved: &Resolved, options: &RunOptions, purpose: Purpose) -> Preflight {
    let sweep = || results::check_sweep(&options.runs, &resolved.name, &resolved.swept);
    let sweep_problem = if resolved.swept.is_empty() { None } else { sweep().err() };
    let mut inspector = Inspector::new(resolved, options, purpose);
    for index in 0..resolved.points.len() {
        inspector.check(index);
    }
    Preflight {
        sweep_problem: sweep_problem.map(|problem| Arc::new(problem.into())),
        points: inspector.points,
    }
}

impl Preflight {
    /// Returns problems if no run of the sweep can start; otherwise `None`.
    pub(super) fn refusal(&self) -> Option<Problems> {
        if let Some(problem) = &self.sweep_problem {
            return Some(Problems(vec![Arc::clone(problem)]));
        }
        let all_refused = self.points.iter().all(|point| !point.problems.is_empty());
        self.points.first().filter(|_| all_refused).and_then(CheckedPoint::refusal)
    }

    /// Returns the earlier runs of the sweep with the same job and settings.
    pub(super) fn with_same_job<'a>(
        points: &'a [CheckedPoint],
        resolved: &'a Resolved,
        index: usize,
        job: &'a Job,
    ) -> impl Iterator<Item = &'a CheckedPoint> {
        resolved
            .same_job_before(index, job)
            .filter_map(|other| points.iter().find(|checked| checked.name == other.plan.name))
    }
}

impl CheckedPoint {
    /// Returns the problems that prevent this run; `None` if the run can start.
    pub fn refusal(&self) -> Option<Problems> {
        (!self.problems.is_empty()).then(|| Problems(self.problems.clone()))
    }

    /// Returns whether the data could not be opened.
    pub fn has_data_problem(&self) -> bool {
        self.problems.iter().any(|problem| matches!(**problem, TrainError::Data(_)))
    }

    /// Returns the number of unfinished fine-tunings and linear probes.
    ///
    /// These jobs can run in parallel, one per device.
    pub fn independent_jobs_left(&self) -> usize {
        let is_left = |state: &JobState| !matches!(state, JobState::Done | JobState::Shared { .. });
        self.asked().filter(|job| job.job.is_independent() && is_left(&job.state)).count()
    }

    /// Returns the jobs that the command trains.
    pub(super) fn asked(&self) -> impl Iterator<Item = &CheckedJob> {
        self.jobs.iter().filter(|job| job.is_asked)
    }

    /// Returns whether the job in the folder `dir` will be finished after this run.
    pub(super) fn will_have(&self, dir: &str) -> bool {
        let Some(CheckedJob { state, is_asked, .. }) = self.job(dir) else { return false };
        match state {
            // Without provenance, the data of the finished job is unknown. Running writes the provenance.
            JobState::Done => self.problems.is_empty() || self.is_same_run(),
            JobState::Shared { .. } => self.problems.is_empty(),
            _ => self.problems.is_empty() && *is_asked,
        }
    }

    /// Returns whether the job in the folder `dir` was already finished before this command.
    pub(super) fn had(&self, dir: &str) -> bool {
        self.is_same_run() && self.job(dir).is_some_and(|job| job.state == JobState::Done)
    }

    fn is_same_run(&self) -> bool {
        self.continues && self.before.is_some()
    }

    /// Returns failed jobs of earlier starts that this command does not train again.
    pub(super) fn failed_before(&self) -> Vec<FailedJobNote> {
        let before = self.before.iter().flat_map(|before| &before.failed_jobs);
        before.filter(|note| self.asked().all(|job| job.job.dir != note.job)).cloned().collect()
    }

    pub(super) fn job(&self, dir: &str) -> Option<&CheckedJob> {
        self.jobs.iter().find(|job| job.job.dir == dir)
    }
}

impl Problems {
    /// Returns whether the user's input caused at least one problem.
    pub fn is_input(&self) -> bool {
        self.0.iter().any(|problem| problem.is_input())
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\nerror: " };
            write!(f, "{separator}{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

impl From<DataFacts> for DataCounts {
    fn from(DataFacts { num_classes, train_images, val_images }: DataFacts) -> Self {
        Self { train_images: Some(train_images), val_images: Some(val_images), num_classes }
    }
}

impl DataCounts {
    /// Returns the numbers of images and classes that the recipe states.
    pub(super) fn promised(plan: &Plan) -> Self {
        let promised = plan.data.promised;
        Self {
            train_images: promised.train_images,
            val_images: promised.val_images,
            num_classes: promised.num_classes.unwrap_or(1000),
        }
    }
}

pub(super) fn run_path(runs: &Path, point: &ResolvedPoint) -> PathBuf {
    job_path(runs, &point.plan.name)
}

/// Returns whether the last checkpoint of a job exists. `run` is the run folder.
pub(super) fn is_finished(run: &Path, plan: &Plan, job: &Job) -> bool {
    let epochs = epochs(plan, job.stage);
    checkpoint::is_whole(&checkpoint::epoch_folder(&job_path(run, &job.dir), epochs))
}

/// Returns the number of epochs of a stage. Panics if `plan` lacks the stage.
pub(super) fn epochs(plan: &Plan, stage: StageKind) -> usize {
    plan.training(stage).expect("a job's stage is part of the plan").epochs
}
