//! The preflight: what a run would do, and everything that would make it fail, before anything is created.
//!
//! `mae run` executes the result and `mae plan` prints it, so both report the same problems in the same words. Two checks take
//! too long for a plan: the test of the device and the pass over the validation images. The runner makes them for each sweep point,
//! before it creates the sweep point's folder.

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

/// A reason why a run would fail. Sweep points with the same data, device or source file share one problem.
pub type Problem = Arc<TrainError>;

/// Whether the checks are for a run or only for a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// For `mae run`: the data must exist.
    Run,
    /// For `mae plan`: the data is not opened if the recipe states the numbers of images and classes.
    Plan,
}

/// The result of all checks before a run.
pub struct Preflight {
    /// A problem with the sweep's own folder, which contains the runs of all points.
    pub sweep_problem: Option<Problem>,
    /// The result for each point of the sweep, in order.
    pub points: Vec<CheckedPoint>,
}

/// The result of the checks for one point of a sweep.
pub struct CheckedPoint {
    /// The run's name, which is the path of its folder below the folder of all runs.
    pub name: String,
    /// The run's folder.
    pub path: PathBuf,
    /// The jobs in the order in which they run.
    pub jobs: Vec<CheckedJob>,
    /// All problems that prevent this sweep point from running; empty if it can run.
    pub problems: Vec<Problem>,
    /// Notes for the user about the checkpoint files that jobs start from: (job, sentence).
    pub notes: Vec<(String, String)>,
    /// Number of images and classes: from the data, or from the recipe if the data was not opened.
    pub counts: DataCounts,
    /// The checkpoint files that jobs start from, with the length and the hash of each file.
    pub(super) start_files: Vec<StartFile>,
    /// The data set; `None` if it was not opened.
    pub(super) data: Option<Arc<DataSet>>,
    /// Provenance that an earlier start of the same run wrote.
    pub(super) before: Option<Provenance>,
    /// Whether the run continues an earlier start, whose files are in the run's folder.
    pub(super) continues: bool,
}

/// A job, and what the run will do with it.
#[derive(Debug, Clone)]
pub struct CheckedJob {
    pub job: Job,
    pub state: JobState,
    /// Whether the command includes this job. `--stage` limits a command to the jobs of one stage.
    pub(super) is_asked: bool,
}

/// The state of a job, which decides what the run does with the job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// The job has not started. The run trains it from its first epoch.
    ToDo,
    /// The job is incomplete. The run resumes it after this number of complete epochs.
    Begun { epochs: usize },
    /// The job has not started. The run starts it from the checkpoint in `pretrain.resume`, which was trained for this number
    /// of epochs.
    GoesOn { epochs: usize },
    /// The job is finished. The run skips it.
    Done,
    /// Another sweep point, which runs earlier, has the same job. The run copies the result of that point, whose name is
    /// `with`.
    Shared { with: String },
}

/// Number of images and classes in the data set. If the data was not opened, the numbers are those in the recipe.
#[derive(Debug, Clone, Copy)]
pub struct DataCounts {
    pub train_images: Option<usize>,
    pub val_images: Option<usize>,
    /// Number of classes; 1000 if neither the data nor the recipe provides it.
    pub num_classes: usize,
}

/// All problems of a sweep point. There is at least one.
#[derive(Debug, Clone)]
pub struct Problems(Vec<Problem>);

/// Checks every point of a sweep. Does not create or change any files.
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
    /// Returns the problems that stop the whole command; `None` if at least one point can run.
    ///
    /// If the sweep's own folder has a problem, only that problem is returned. Otherwise, these are the problems of the first
    /// point.
    pub(super) fn refusal(&self) -> Option<Problems> {
        if let Some(problem) = &self.sweep_problem {
            return Some(Problems(vec![Arc::clone(problem)]));
        }
        let all_refused = self.points.iter().all(|point| !point.problems.is_empty());
        self.points.first().filter(|_| all_refused).and_then(CheckedPoint::refusal)
    }

    /// Returns the sweep points before point `index` that have the same job with the same settings, in sweep order.
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
    /// Returns the problems of this sweep point, if it has any.
    pub fn refusal(&self) -> Option<Problems> {
        (!self.problems.is_empty()).then(|| Problems(self.problems.clone()))
    }

    /// Returns whether the data could not be opened.
    pub fn has_data_problem(&self) -> bool {
        self.problems.iter().any(|problem| matches!(**problem, TrainError::Data(_)))
    }

    /// Returns the number of unfinished fine-tunings and linear probes. Several devices can train them at the same time.
    pub fn independent_jobs_left(&self) -> usize {
        let is_left = |state: &JobState| !matches!(state, JobState::Done | JobState::Shared { .. });
        self.asked().filter(|job| job.job.is_independent() && is_left(&job.state)).count()
    }

    /// Returns the jobs that the command includes.
    pub(super) fn asked(&self) -> impl Iterator<Item = &CheckedJob> {
        self.jobs.iter().filter(|job| job.is_asked)
    }

    /// Returns whether folder `dir` will hold a finished job after the run of this sweep point. Assumes that no training
    /// fails.
    pub(super) fn will_have(&self, dir: &str) -> bool {
        let Some(CheckedJob { state, is_asked, .. }) = self.job(dir) else { return false };
        match state {
            // A run without provenance does not say which data it used. Running it writes the provenance.
            JobState::Done => self.problems.is_empty() || self.is_same_run(),
            JobState::Shared { .. } => self.problems.is_empty(),
            _ => self.problems.is_empty() && *is_asked,
        }
    }

    /// Returns whether an earlier start with the same recipe and data has finished the job in folder `dir`.
    pub(super) fn had(&self, dir: &str) -> bool {
        self.is_same_run() && self.job(dir).is_some_and(|job| job.state == JobState::Done)
    }

    fn is_same_run(&self) -> bool {
        self.continues && self.before.is_some()
    }

    /// Returns the jobs that failed in an earlier start and that this start does not run again.
    pub(super) fn failed_before(&self) -> Vec<FailedJobNote> {
        let before = self.before.iter().flat_map(|before| &before.failed_jobs);
        before.filter(|note| self.asked().all(|job| job.job.dir != note.job)).cloned().collect()
    }

    pub(super) fn job(&self, dir: &str) -> Option<&CheckedJob> {
        self.jobs.iter().find(|job| job.job.dir == dir)
    }
}

impl Problems {
    /// Returns whether the user's input caused any of the problems.
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

/// Returns the folder of a sweep point's run. `runs` is the folder that contains all runs.
pub(super) fn run_path(runs: &Path, point: &ResolvedPoint) -> PathBuf {
    job_path(runs, &point.plan.name)
}

/// Returns whether a job is finished: whether its last checkpoint exists in the run folder `run`.
pub(super) fn is_finished(run: &Path, plan: &Plan, job: &Job) -> bool {
    let epochs = epochs(plan, job.stage);
    checkpoint::is_whole(&checkpoint::epoch_folder(&job_path(run, &job.dir), epochs))
}

/// Returns the number of epochs of a stage. Panics if the plan does not have this stage.
pub(super) fn epochs(plan: &Plan, stage: StageKind) -> usize {
    plan.training(stage).expect("a job's stage is part of the plan").epochs
}
