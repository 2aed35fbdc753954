//! The checks before a run: what the run would do, and what would make it fail.
//!
//! `mae run` uses the result, and `mae plan` prints it. So both report the same problems. Two checks are too slow for a
//! plan: the device check and the pass over the validation images. The runner makes them.

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
/// Runs of a sweep with the same data, device or start checkpoint share one problem.
pub type Problem = Arc<TrainError>;

/// Whether the checks are for `mae run` or for `mae plan`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// For `mae run`: the data must exist.
    Run,
    /// For `mae plan`: without data, the recipe provides the numbers of images and classes.
    Plan,
}

/// The result of all checks before a run.
pub struct Preflight {
    /// A problem with the sweep's own folder.
    pub sweep_problem: Option<Problem>,
    /// The result for each run of the sweep, in order.
    pub points: Vec<CheckedPoint>,
}

/// The result of the checks for one run of a sweep.
pub struct CheckedPoint {
    /// The run's name, which is also its path below the folder of all runs.
    pub name: String,
    /// The run's folder.
    pub path: PathBuf,
    /// The jobs in the order in which they run.
    pub jobs: Vec<CheckedJob>,
    /// All problems that prevent this run; empty if the run can start.
    pub problems: Vec<Problem>,
    /// Notes for the user about start checkpoints: (job, sentence).
    pub notes: Vec<(String, String)>,
    /// Number of images and classes, from the data or from the recipe.
    pub counts: DataCounts,
    /// The checkpoint files that jobs start from, with length and hash.
    pub(super) start_files: Vec<StartFile>,
    /// The data set; `None` if the checks did not open the data.
    pub(super) data: Option<Arc<DataSet>>,
    /// Provenance from an earlier start of the same run.
    pub(super) before: Option<Provenance>,
    /// Whether the run continues an earlier start.
    pub(super) continues: bool,
}

/// A job, and what the run will do with it.
#[derive(Debug, Clone)]
pub struct CheckedJob {
    pub job: Job,
    pub state: JobState,
    /// Whether the command includes this job. `--stage` leaves out jobs of other stages.
    pub(super) is_asked: bool,
}

/// The state of a job, which decides what the run does with the job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// The job has not started. The run trains the job from the first epoch.
    ToDo,
    /// The job is unfinished. The run resumes the job after this number of epochs.
    Begun { epochs: usize },
    /// The pre-training is new and continues the checkpoint `pretrain.resume`, which has `epochs` finished epochs.
    GoesOn { epochs: usize },
    /// The job is finished. The run skips the job.
    Done,
    /// An earlier run of the sweep has the same job, so this run copies the result.
    ///
    /// `with` is the name of the earlier run.
    Shared { with: String },
}

/// Number of images and classes, from the data or from the recipe.
#[derive(Debug, Clone, Copy)]
pub struct DataCounts {
    pub train_images: Option<usize>,
    pub val_images: Option<usize>,
    /// Number of classes; 1000 if neither the data nor the recipe provides the number.
    pub num_classes: usize,
}

/// All problems of a run, at least one.
#[derive(Debug, Clone)]
pub struct Problems(Vec<Problem>);

/// Checks every run of a sweep. Does not create or change any files.
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
    /// Returns the problems that stop the whole command; `None` if a run can start.
    pub(super) fn refusal(&self) -> Option<Problems> {
        if let Some(problem) = &self.sweep_problem {
            return Some(Problems(vec![Arc::clone(problem)]));
        }
        let all_refused = self.points.iter().all(|point| !point.problems.is_empty());
        self.points.first().filter(|_| all_refused).and_then(CheckedPoint::refusal)
    }

    /// Returns the earlier runs of the sweep that have the same job and settings.
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
    /// Returns the problems of this run; `None` if the run can start.
    pub fn refusal(&self) -> Option<Problems> {
        (!self.problems.is_empty()).then(|| Problems(self.problems.clone()))
    }

    /// Returns whether opening the data failed.
    pub fn has_data_problem(&self) -> bool {
        self.problems.iter().any(|problem| matches!(**problem, TrainError::Data(_)))
    }

    /// Returns the number of unfinished fine-tunings and linear probes.
    ///
    /// Several devices can train these jobs at the same time.
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

    /// Returns whether an earlier start finished the job in the folder `dir`.
    pub(super) fn had(&self, dir: &str) -> bool {
        self.is_same_run() && self.job(dir).is_some_and(|job| job.state == JobState::Done)
    }

    fn is_same_run(&self) -> bool {
        self.continues && self.before.is_some()
    }

    /// Returns the jobs that failed in an earlier `mae run` and that this command does not run.
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
    /// Returns the numbers of images and classes in the recipe.
    pub(super) fn promised(plan: &Plan) -> Self {
        let promised = plan.data.promised;
        Self {
            train_images: promised.train_images,
            val_images: promised.val_images,
            num_classes: promised.num_classes.unwrap_or(1000),
        }
    }
}

/// Returns the folder of a run below `runs`, the folder of all runs.
pub(super) fn run_path(runs: &Path, point: &ResolvedPoint) -> PathBuf {
    job_path(runs, &point.plan.name)
}

/// Returns whether a job's last checkpoint exists in the folder `run`.
pub(super) fn is_finished(run: &Path, plan: &Plan, job: &Job) -> bool {
    let epochs = epochs(plan, job.stage);
    checkpoint::is_whole(&checkpoint::epoch_folder(&job_path(run, &job.dir), epochs))
}

/// Returns a stage's number of epochs. Panics if the plan lacks the stage.
pub(super) fn epochs(plan: &Plan, stage: StageKind) -> usize {
    plan.training(stage).expect("a job's stage is part of the plan").epochs
}
