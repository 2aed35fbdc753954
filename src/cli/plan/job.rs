//! A run's jobs in numbers.

use super::DataSummary;
use super::price::Price;
use crate::checkpoint;
use crate::cli::CliError;
use crate::recipe::{Job, Memory, Plan, Resolved, ResolvedPoint, Source};
use crate::results::{self, EpochsCsv};
use crate::shape::StageKind;
use crate::train::TrainError;
use serde::Serialize;
use std::path::Path;

/// One run: a sweep has one for each point.
pub(super) struct PlannedRun {
    pub jobs: Vec<PlannedJob>,
    /// Of all that is not done; `None` where a job's is not known.
    pub wall_s: Option<f64>,
}

/// One job, in numbers.
#[derive(Debug, Serialize)]
pub(super) struct PlannedJob {
    /// The run's folder; the points of a sweep have one each.
    pub run: String,
    pub stage: String,
    /// `null` for a pre-training.
    pub from: Option<String>,
    pub dir: String,
    /// The job that must be done before it.
    pub after: Option<String>,
    pub state: PlannedState,
    pub epochs: usize,
    pub effective_batch_size: usize,
    pub lr: f64,
    /// Updates in all; `null` where the size of the data is not known.
    pub steps: Option<usize>,
    pub params: u64,
    /// Forward, multiply-adds counted as 2.
    pub flops_per_image: f64,
    /// Forward and backward.
    pub train_flops_per_image: f64,
    pub memory_bytes: f64,
    /// The parts of `memory_bytes`.
    pub memory: Memory,
    /// `data-parallel` or `job-parallel`; `null` with one device.
    pub schedule: Option<&'static str>,
    /// Seconds of the whole job on its devices; `null` where they cannot be told.
    pub wall_s: Option<f64>,
}

/// How far a job is.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum PlannedState {
    ToDo,
    /// Whole epochs that are done.
    Begun {
        epochs: usize,
    },
    /// Nothing is done, but somebody has done these epochs.
    GoesOn {
        epochs: usize,
    },
    Done,
    /// The same job is an earlier point's, too; its run.
    Shared {
        with: String,
    },
}

impl PlannedRun {
    /// Plans a point of a recipe, whose folder is in `folder` and whose pre-training goes on after the epochs in `seen`, if any.
    pub(super) fn of(
        resolved: &Resolved,
        point: usize,
        facts: DataSummary,
        price: &Price,
        (folder, seen): (&Path, Option<usize>),
    ) -> Result<Self, CliError> {
        let plan = &resolved.points[point].plan;
        let planned = |job: Job| {
            // Another recipe's run may lie in a point's folder.
            let own = |other: &&ResolvedPoint| {
                results::refuse_other(&folder.join(&other.plan.name), &other.recipe).is_ok()
            };
            let same = resolved.same_job_before(point, &job).find(own);
            let same = same.map(|other| other.plan.name.as_str());
            let seen = seen.filter(|_| job.stage == StageKind::Pretrain);
            planned(plan, &job, facts, price, (folder, same, seen))
        };
        let jobs = plan.jobs().into_iter().map(planned).collect::<Result<Vec<_>, _>>()?;
        let wall_s = wall_s(plan, &jobs);
        Ok(Self { jobs, wall_s })
    }
}

fn planned(
    plan: &Plan,
    job: &Job,
    facts: DataSummary,
    price: &Price,
    (runs, same, seen): (&Path, Option<&str>, Option<usize>),
) -> Result<PlannedJob, CliError> {
    let training = plan.training(job.stage).expect("a job's stage is part of the plan");
    let cost = plan.cost(job.stage, facts.num_classes).expect("a job's stage is part of the plan");
    let steps = match facts.train_images {
        Some(images) => Some(training.steps(job.stage, images).map_err(TrainError::from)?.total),
        None => None,
    };
    let alone = job.is_independent() && plan.is_job_parallel(apart(plan));
    let devices = if alone { 1 } else { plan.runtime.devices };
    let evaluated = match job.stage {
        StageKind::Pretrain => Some(0),
        _ => facts.val_images.map(|images| images * training.epochs),
    };
    let wall_s = steps.zip(evaluated).and_then(|(steps, evaluated)| {
        let trained = steps * training.effective_batch_size;
        price.wall_s(job.stage, &cost, (trained, evaluated), devices)
    });
    Ok(PlannedJob {
        run: plan.name.clone(),
        stage: job.stage.to_string(),
        from: job.from.as_ref().map(Source::to_string),
        dir: job.dir.clone(),
        after: job.is_after_pretraining().then(|| StageKind::Pretrain.to_string()),
        state: match (state(&runs.join(&plan.name).join(&job.dir), training.epochs)?, same, seen) {
            (PlannedState::ToDo, Some(with), _) => PlannedState::Shared { with: with.to_owned() },
            (PlannedState::ToDo, None, Some(epochs)) => PlannedState::GoesOn { epochs },
            (state, ..) => state,
        },
        epochs: training.epochs,
        effective_batch_size: training.effective_batch_size,
        lr: training.lr,
        steps,
        params: cost.params,
        flops_per_image: cost.flops_per_image,
        train_flops_per_image: cost.train_flops_per_image,
        memory_bytes: cost.memory.total(),
        memory: cost.memory,
        schedule: (plan.runtime.devices > 1).then_some(if alone {
            "job-parallel"
        } else {
            "data-parallel"
        }),
        wall_s,
    })
}

fn state(job: &Path, epochs: usize) -> Result<PlannedState, CliError> {
    if checkpoint::is_whole(&checkpoint::epoch_folder(job, epochs)) {
        return Ok(PlannedState::Done);
    }
    let rows = EpochsCsv::in_job(job).read().map_err(TrainError::from)?;
    Ok(rows.last().map_or(PlannedState::ToDo, |row| PlannedState::Begun { epochs: row.epoch }))
}

/// Jobs that can run side by side.
pub(super) fn apart(plan: &Plan) -> usize {
    plan.jobs().iter().filter(|job| job.is_independent()).count()
}

/// Seconds of what is left of a run, its jobs one after the other or side by side.
fn wall_s(plan: &Plan, jobs: &[PlannedJob]) -> Option<f64> {
    let left = |job: &PlannedJob| match &job.state {
        PlannedState::Done | PlannedState::Shared { .. } => Some(0.0),
        PlannedState::ToDo => job.wall_s,
        PlannedState::Begun { epochs } | PlannedState::GoesOn { epochs } => {
            job.wall_s.map(|wall_s| wall_s * (1.0 - *epochs as f64 / job.epochs as f64))
        }
    };
    let (alone, together): (Vec<_>, Vec<_>) =
        jobs.iter().partition(|job| job.schedule == Some("job-parallel"));
    let together = sum(together.into_iter().map(left))?;
    let longest = alone.iter().filter_map(|job| left(job)).fold(0.0, f64::max);
    let alone = sum(alone.into_iter().map(left))?;
    Some(together + longest.max(alone / plan.runtime.devices as f64))
}

/// The sum, where all are known.
pub(super) fn sum(seconds: impl Iterator<Item = Option<f64>>) -> Option<f64> {
    seconds.sum()
}
