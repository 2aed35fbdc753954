//! `mae bench`: images per second of training, time of each part of a step, and FLOPs utilization.

mod data_pipeline;
mod memory;
mod peak;

pub use data_pipeline::{DataBench, LoadSplit, bench_data};

use crate::data::{self, DataSet, Labels};
use crate::infer::StopFlag;
use crate::recipe::{self, Job, Plan, ResolvedPoint, TrainingPlan};
use crate::run::BenchDevices;
use crate::shape::StageKind;
use crate::train::{
    self, ChosenDevice, DeviceBackend, Event, Hosts, RunContext, StepPart, StepTimer, TrainError,
};
use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Number of updates before the measurement. Meanwhile, kernels compile and caches fill.
const WARM_UP: usize = 3;
/// On a GPU, fraction of the time that measures whole steps instead of their parts.
const WHOLE: f64 = 0.8;
const POLL: Duration = Duration::from_millis(5);

/// Result of `mae bench train`.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct TrainBench {
    pub stage: String,
    pub device: String,
    pub precision: String,
    pub devices: usize,
    pub threads: usize,
    pub gradient_checkpointing: bool,
    /// Whether Burn autotunes bf16 matrix products on the GPU (`runtime.autotune`).
    pub autotune: bool,
    pub effective_batch_size: usize,
    pub images_per_s: f64,
    /// Milliseconds per update: the median on the CPU, the mean on a GPU.
    ///
    /// A GPU works asynchronously, so the time of a single update is unknown.
    pub ms_per_step: f64,
    /// Number of measured updates.
    pub steps: usize,
    /// Number of updates that do not count: the warm-up, and the first update of each epoch.
    pub uncounted_steps: usize,
    /// Time of each part of an update.
    ///
    /// On a GPU, a second measurement gives these times. It waits for the GPU after each part.
    pub ms: StepMs,
    /// Computing speed of all devices together, in TFLOP/s.
    ///
    /// The backward pass counts as twice the FLOPs of the forward pass. The recomputation of gradient checkpointing
    /// does not count. In pre-training on the CPU, neither does what the loss does not need, because training skips it.
    pub tflops: f64,
    /// Speed of large matrix products on all devices together, in TFLOP/s.
    pub peak_tflops: Option<f64>,
    /// Model FLOPs utilization: `tflops` divided by `peak_tflops`.
    pub mfu: Option<f64>,
    /// Peak memory of the first GPU in bytes. On the CPU, peak memory of this process.
    pub peak_memory_bytes: Option<u64>,
    /// Number of hosts that train together.
    pub hosts: usize,
    /// Size of the gradients that all hosts sum in one update, in bytes; `None` on one host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reduced_bytes_per_step: Option<u64>,
}

/// Time of each part of an update, in milliseconds.
///
/// On the CPU, `forward` and `backward` are averages over the threads.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct StepMs {
    pub data: f64,
    pub forward: f64,
    pub backward: f64,
    pub optimizer: f64,
    pub communication: f64,
}

/// Trains a stage for `seconds` in the folder `scratch`, and measures its updates.
///
/// Fine-tuning and linear probing start from random weights. On a GPU, `seconds` starts after the warm-up. The
/// benchmark makes at least two updates, even if this takes longer than `seconds`.
///
/// All hosts of a run must call this function. Only host 0 returns a result; all others return `None`.
///
/// Fails if an epoch has only one update, or if the user stops the benchmark before the first measured update.
pub fn bench_train(
    point: &ResolvedPoint,
    stage: StageKind,
    seconds: f64,
    scratch: &Path,
    stop: &StopFlag,
    hosts: &Hosts,
) -> Result<Option<TrainBench>, TrainError> {
    let work = hosts.end_job(prepare(point, stage, scratch, stop, hosts))?;
    let (plan, device) = (Arc::clone(&work.plan), work.device.clone());
    let training = plan.training(stage).expect("`prepare` has checked the stage");
    let flops = plan.cost(stage, work.data.facts.num_classes);
    let flops = flops.map_or(0.0, |cost| {
        // Only the CPU skips what the loss does not need.
        let skips = device.backend == DeviceBackend::Cpu;
        cost.train_flops_per_image - if skips { cost.skipped_flops_per_image } else { 0.0 }
    });
    let bench = BenchDevices::start(&device);
    let measure = |name: &str, seconds, timer| {
        let from = (stage != StageKind::Pretrain).then_some(recipe::Source::Scratch);
        let job = Job { stage, from, dir: name.to_owned() };
        steps(&bench, &work, job, seconds, timer)
    };
    let timer = StepTimer::running();
    let (whole, parts) = whole_and_parts(&device, seconds, &timer, measure)?;
    hosts.disconnect();
    if !hosts.is_first() {
        return Ok(None);
    }
    let memory = memory::peak(&device);
    let reduced_bytes = hosts.reduced_bytes();
    // On a GPU, the parts of a step are measured separately, after the whole steps.
    let is_one = device.backend == DeviceBackend::Cpu;
    let all_updates = if is_one { whole.updates } else { whole.updates + parts.updates };
    let MeasuredSteps { seconds: whole, updates } = whole;
    let effective_batch_size = training.effective_batch_size;
    let images_per_s = (whole.len() * effective_batch_size) as f64 / whole.iter().sum::<f64>();
    let tflops = images_per_s * flops / 1e12;
    let peak_tflops = peak::tflops(&device, plan.runtime.precision, &bench)? * hosts.count() as f64;
    Ok(Some(TrainBench {
        stage: stage.to_string(),
        precision: plan.runtime.precision.to_string(),
        devices: device.devices.len(),
        threads: device.threads,
        gradient_checkpointing: plan.runtime.gradient_checkpointing,
        autotune: plan.runtime.autotune,
        effective_batch_size,
        images_per_s,
        ms_per_step: ms_per_step(&whole, &device),
        steps: whole.len(),
        uncounted_steps: updates - whole.len(),
        ms: split(&timer, parts.updates, &device),
        tflops,
        peak_tflops: Some(peak_tflops),
        mfu: (peak_tflops > 0.0).then(|| tflops / peak_tflops),
        peak_memory_bytes: memory,
        hosts: hosts.count(),
        reduced_bytes_per_step: (hosts.count() > 1).then(|| reduced_bytes / all_updates as u64),
        device: device.name,
    }))
}

/// Returns what a training job needs. Fails if the stage cannot be measured.
fn prepare(
    point: &ResolvedPoint,
    stage: StageKind,
    scratch: &Path,
    stop: &StopFlag,
    hosts: &Hosts,
) -> Result<RunContext, TrainError> {
    let mut plan = point.plan.clone();
    repeat_epochs(&mut plan);
    let device = train::choose(&plan.runtime)?;
    for note in &device.notes {
        tracing::info!("{note}");
    }
    let (training, data) = measured(&plan, stage)?;
    train::check_memory(&device, &plan, &[stage], data.facts.num_classes)?;
    let per_epoch = training.steps(stage, data.facts.train_images)?.updates_per_epoch;
    refuse_short_epoch(per_epoch, training.effective_batch_size)?;
    Ok(RunContext {
        plan: Arc::new(plan),
        data: Arc::new(data),
        device,
        run: scratch.to_owned(),
        recipe_of: {
            let text = recipe::recipe_toml(&point.recipe);
            Arc::new(move |_| text.clone())
        },
        stop: stop.clone(),
        parallel_jobs: 0,
        start_files: Arc::default(),
        layouts: Arc::default(),
        hosts: hosts.clone(),
    })
}

/// First measures whole steps, and then the parts of steps with `timer`.
fn whole_and_parts(
    device: &ChosenDevice,
    seconds: f64,
    timer: &StepTimer,
    measure: impl Fn(&str, f64, StepTimer) -> Result<MeasuredSteps, TrainError>,
) -> Result<(MeasuredSteps, MeasuredSteps), TrainError> {
    if device.backend == DeviceBackend::Cpu {
        // On the CPU, every part is finished when its call returns, so the timer costs nothing.
        let whole = measure("whole", seconds, timer.clone())?;
        return Ok((whole.clone(), whole));
    }
    let whole = measure("whole", seconds * WHOLE, StepTimer::default())?;
    Ok((whole, measure("parts", seconds * (1.0 - WHOLE), timer.clone())?))
}

fn refuse_short_epoch(updates: usize, images: usize) -> Result<(), TrainError> {
    if updates >= 2 {
        return Ok(());
    }
    Err(TrainError::Setting {
        problem: format!(
            "cannot measure a step: one epoch has {updates} updates of {images} images each, but the measurement needs at least 2 updates"
        ),
        hint: "lower `batch_size`, or raise `data.train_images`".to_owned(),
    })
}

/// Returns the milliseconds per update: the median on the CPU, the mean on a GPU.
fn ms_per_step(seconds: &[f64], device: &ChosenDevice) -> f64 {
    1e3 * match device.backend {
        DeviceBackend::Cpu => median(seconds),
        _ => seconds.iter().sum::<f64>() / seconds.len() as f64,
    }
}

/// Returns the settings and the data of a stage.
///
/// Fails if the recipe lacks this stage, or if mae cannot open the data.
fn measured(plan: &Plan, stage: StageKind) -> Result<(TrainingPlan, DataSet), TrainError> {
    let training = plan.training(stage).cloned().ok_or_else(|| TrainError::Setting {
        problem: format!("cannot measure `--stage {stage}`: the recipe has no `[{stage}]`"),
        hint: "set `--stage` to a stage that the recipe has".to_owned(),
    })?;
    let labels = if stage == StageKind::Pretrain { Labels::Unneeded } else { Labels::Needed };
    Ok((training, data::open(&plan.data, labels)?))
}

#[derive(Clone)]
struct MeasuredSteps {
    /// Seconds of each measured update.
    seconds: Vec<f64>,
    /// Number of all updates, measured or not.
    updates: usize,
}

/// End time and epoch of each update.
struct Clock {
    /// Start of the measurement on the CPU; `None` on a GPU, which starts after the warm-up.
    start: Option<Instant>,
    ends: Vec<(usize, Instant)>,
}

impl Clock {
    /// Returns the seconds of each update after the warm-up.
    fn steps_s(&self) -> Vec<f64> {
        let pairs = self.ends.windows(2).filter(|pair| pair[0].0 == pair[1].0);
        let all: Vec<_> = pairs.map(|pair| (pair[1].1 - pair[0].1).as_secs_f64()).collect();
        let skipped = (WARM_UP - 1).min(all.len().saturating_sub(1));
        all[skipped..].to_vec()
    }

    /// Returns whether `seconds` have passed since the start, with at least one update.
    fn is_over(&self, seconds: f64) -> bool {
        let start = self.start.or_else(|| self.ends.get(WARM_UP - 1).map(|(_, end)| *end));
        !self.ends.is_empty() && start.is_some_and(|start| start.elapsed().as_secs_f64() >= seconds)
    }
}

/// Trains `job` for `seconds`, but for at least two updates.
fn steps(
    bench: &BenchDevices,
    work: &RunContext,
    job: Job,
    seconds: f64,
    timer: StepTimer,
) -> Result<MeasuredSteps, TrainError> {
    // In its first updates, a GPU compiles and tunes kernels. This would use up the time.
    let start = (work.device.backend == DeviceBackend::Cpu).then(Instant::now);
    let clock = Arc::new(Mutex::new(Clock { start, ends: Vec::new() }));
    let seen = Arc::clone(&clock);
    let observer = move |event: Event<'_>| {
        if let Event::Updated { epoch, .. } = event {
            locked(&seen).ends.push((epoch, Instant::now()));
        }
    };
    let stop = StopFlag::default();
    let (asked, watched, enough) = (work.stop.clone(), Arc::clone(&clock), stop.clone());
    let (running, ended) = mpsc::channel::<()>();
    let watch = thread::spawn(move || {
        while ended.recv_timeout(POLL) == Err(RecvTimeoutError::Timeout) {
            if asked.requested() || locked(&watched).is_over(seconds) {
                enough.request();
            }
        }
    });
    let trained = bench.run(&RunContext { stop, ..work.clone() }, job, Arc::new(observer), timer);
    drop(running);
    watch.join().expect("the watch does not panic");
    trained?;
    let clock = locked(&clock);
    let measured = MeasuredSteps { seconds: clock.steps_s(), updates: clock.ends.len() };
    // Only rank 0 reports updates.
    if measured.seconds.is_empty() && work.hosts.is_first() {
        return Err(TrainError::Setting {
            problem: "cannot measure a step: the measurement ended before the first complete step"
                .to_owned(),
            hint: "set a larger `--seconds`".to_owned(),
        });
    }
    Ok(measured)
}

fn locked(clock: &Mutex<Clock>) -> MutexGuard<'_, Clock> {
    clock.lock().unwrap_or_else(PoisonError::into_inner)
}

fn split(timer: &StepTimer, steps: usize, device: &ChosenDevice) -> StepMs {
    let ranks = device.devices.len() as f64;
    let threads = (device.threads as f64 / ranks).max(1.0);
    let ms = |part, workers: f64| {
        timer.take(part).as_secs_f64() * 1e3 / (steps as f64 * ranks * workers)
    };
    StepMs {
        data: ms(StepPart::Data, 1.0),
        forward: ms(StepPart::Forward, threads),
        backward: ms(StepPart::Backward, threads),
        optimizer: ms(StepPart::Optimizer, 1.0),
        communication: ms(StepPart::Communication, 1.0),
    }
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Makes each stage train until the benchmark stops it.
fn repeat_epochs(plan: &mut Plan) {
    const MANY: usize = 1_000_000;
    if let Some(pretrain) = &mut plan.pretrain {
        pretrain.training.epochs = MANY;
        pretrain.checkpoint_epochs.clear();
    }
    if let Some(finetune) = &mut plan.finetune {
        finetune.training.epochs = MANY;
    }
    if let Some(linprobe) = &mut plan.linprobe {
        linprobe.training.epochs = MANY;
    }
}
