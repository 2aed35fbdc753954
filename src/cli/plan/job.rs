//! Steps, FLOPs, memory and time of the jobs of a run.

use super::price::Price;
use crate::cli::CliError;
use crate::recipe::{Memory, Plan, Source};
use crate::run::{CheckedJob, CheckedPoint, JobState};
use crate::shape::StageKind;
use crate::train::TrainError;
use serde::Serialize;

/// One run of the recipe. A recipe with a sweep has several runs.
pub(super) struct PlannedRun {
    pub jobs: Vec<PlannedJob>,
    /// Seconds until all jobs are finished; `None` if unknown.
    pub wall_s: Option<f64>,
}

/// One entry of `jobs` in the JSON output.
#[derive(Debug, Serialize)]
pub(super) struct PlannedJob {
    /// Name of the run, such as `quickstart`.
    pub run: String,
    pub stage: String,
    /// Checkpoint that the job starts from; `null` for pre-training.
    pub from: Option<String>,
    pub dir: String,
    /// Job that must finish before this job starts, such as `pretrain`.
    pub after: Option<String>,
    pub state: JobState,
    pub epochs: usize,
    pub effective_batch_size: usize,
    pub lr: f64,
    /// Number of updates in the whole job; `null` if the number of training images is unknown.
    pub steps: Option<usize>,
    pub params: u64,
    /// FLOPs of the forward pass of one image; a multiply-add counts as 2.
    pub flops_per_image: f64,
    /// FLOPs of forward and backward pass of one image.
    pub train_flops_per_image: f64,
    pub memory_bytes: f64,
    /// The parts of `memory_bytes`: weights, gradients, optimizer and activations.
    pub memory: Memory,
    /// Disk space of all checkpoints that the job keeps, in bytes.
    pub disk_bytes: f64,
    /// Part of `disk_bytes` that stores optimizer states.
    pub disk_optimizer_bytes: f64,
    /// Number of hosts that train the job together.
    pub hosts: usize,
    /// Size of the gradients that all hosts sum in one update, in bytes.
    pub reduced_bytes: f64,
    /// Bytes that one host sends to other hosts in one update.
    pub wire_bytes: f64,
    /// Estimated fraction of the job's time for the exchange of gradients; `null` if unknown.
    pub communication: Option<f64>,
    /// `data-parallel` or `job-parallel`; `null` with one device.
    pub schedule: Option<&'static str>,
    /// Seconds for the whole job; `null` if unknown.
    pub wall_s: Option<f64>,
}

impl PlannedRun {
    /// Computes the jobs of one run.
    pub(super) fn of(plan: &Plan, checked: &CheckedPoint, price: &Price) -> Result<Self, CliError> {
        let jobs = checked.jobs.iter().map(|job| planned(plan, checked, job, price));
        let jobs = jobs.collect::<Result<Vec<_>, _>>()?;
        let wall_s = wall_s(plan, &jobs);
        Ok(Self { jobs, wall_s })
    }
}

fn planned(
    plan: &Plan,
    checked: &CheckedPoint,
    CheckedJob { job, state, .. }: &CheckedJob,
    price: &Price,
) -> Result<PlannedJob, CliError> {
    let counts = checked.counts;
    let training = plan.training(job.stage).expect("a job's stage is part of the plan");
    let cost = plan.cost(job.stage, counts.num_classes).expect("a job's stage is part of the plan");
    let steps = match counts.train_images {
        Some(images) => Some(training.steps(job.stage, images).map_err(TrainError::from)?.total),
        None => None,
    };
    let alone = job.is_independent() && is_job_parallel(plan, checked);
    let devices = if alone { 1 } else { plan.runtime.world_size() };
    let network = plan.runtime.network(if alone { 1 } else { plan.runtime.hosts });
    let evaluated = match job.stage {
        StageKind::Pretrain => Some(0),
        _ => counts.val_images.map(|images| images * training.epochs),
    };
    let wall_s = steps.zip(evaluated).and_then(|(steps, evaluated)| {
        let trained = steps * training.effective_batch_size;
        let computing_s = price.wall_s(job.stage, &cost, (trained, evaluated), devices)?;
        Some(computing_s + steps as f64 * network.update_s(cost.memory.gradients))
    });
    let communication = wall_s
        .zip(steps)
        .map(|(wall_s, steps)| steps as f64 * network.update_s(cost.memory.gradients) / wall_s);
    let (weights, optimizer) = disk(plan, job.stage, cost.memory);
    Ok(PlannedJob {
        run: plan.name.clone(),
        stage: job.stage.to_string(),
        from: job.from.as_ref().map(Source::to_string),
        dir: job.dir.clone(),
        after: job.is_after_pretraining().then(|| StageKind::Pretrain.to_string()),
        state: state.clone(),
        epochs: training.epochs,
        effective_batch_size: training.effective_batch_size,
        lr: training.lr,
        steps,
        params: cost.params,
        flops_per_image: cost.flops_per_image,
        train_flops_per_image: cost.train_flops_per_image,
        memory_bytes: cost.memory.total(),
        memory: cost.memory,
        disk_bytes: weights + optimizer,
        disk_optimizer_bytes: optimizer,
        hosts: plan.runtime.hosts,
        reduced_bytes: cost.memory.gradients,
        wire_bytes: network.wire_bytes(cost.memory.gradients),
        communication,
        schedule: (plan.runtime.world_size() > 1).then_some(if alone {
            "job-parallel"
        } else {
            "data-parallel"
        }),
        wall_s,
    })
}

/// Returns the disk space of the kept weights and of the kept optimizer states, in bytes.
fn disk(plan: &Plan, stage: StageKind, memory: Memory) -> (f64, f64) {
    match (stage, &plan.pretrain) {
        (StageKind::Pretrain, Some(pretrain)) => {
            let kept = pretrain.checkpoint_epochs.len() as f64;
            let optimizer = if pretrain.keep_optimizer { memory.optimizer } else { 0.0 };
            (kept * memory.params, kept * optimizer)
        }
        _ => (memory.params, 0.0),
    }
}

/// Returns whether each device trains its own job.
///
/// The result depends on the number of unfinished jobs, or on the number of all jobs if all are finished.
pub(super) fn is_job_parallel(plan: &Plan, checked: &CheckedPoint) -> bool {
    let all = || plan.jobs().iter().filter(|job| job.is_independent()).count();
    match checked.independent_jobs_left() {
        0 => plan.is_job_parallel(all()),
        left => plan.is_job_parallel(left),
    }
}

/// Returns the seconds until all jobs are finished.
fn wall_s(plan: &Plan, jobs: &[PlannedJob]) -> Option<f64> {
    let left = |job: &PlannedJob| match &job.state {
        JobState::Done | JobState::Shared { .. } => Some(0.0),
        JobState::ToDo => job.wall_s,
        JobState::Begun { epochs } | JobState::GoesOn { epochs } => {
            job.wall_s.map(|wall_s| wall_s * (1.0 - *epochs as f64 / job.epochs as f64))
        }
    };
    let (alone, together): (Vec<_>, Vec<_>) =
        jobs.iter().partition(|job| job.schedule == Some("job-parallel"));
    let together = sum(together.into_iter().map(left))?;
    let longest = alone.iter().filter_map(|job| left(job)).fold(0.0, f64::max);
    let alone = sum(alone.into_iter().map(left))?;
    Some(together + longest.max(alone / plan.runtime.world_size() as f64))
}

/// Returns the sum; `None` if any entry is `None`.
pub(super) fn sum(seconds: impl Iterator<Item = Option<f64>>) -> Option<f64> {
    seconds.sum()
}
