//! Measurements of our own code: images per second of the real training loop, what a step is made of, and how near the
//! device's own peak it comes.

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
    self, ChosenDevice, DeviceBackend, Event, RunContext, StepPart, StepTimer, TrainError,
};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Updates before the clock counts: caches and allocators settle, kernels are compiled and tuned.
const WARM_UP: usize = 3;

/// What a bench measured.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct TrainBench {
    pub stage: String,
    pub device: String,
    pub precision: String,
    pub devices: usize,
    pub threads: usize,
    pub gradient_checkpointing: bool,
    /// As the recipe has it: whether bf16 products were tuned, if a GPU computed them.
    pub autotune: bool,
    pub effective_batch_size: usize,
    pub images_per_s: f64,
    /// Median over the updates that counted; on a GPU, which works behind the loop, their mean.
    pub ms_per_step: f64,
    pub steps: usize,
    /// What a step is made of, in a second measurement that waits for the device after each part.
    pub ms: StepMs,
    /// Of the network alone, a backward pass counted as two forward passes, what is recomputed not at all; on all devices
    /// together.
    pub tflops: f64,
    /// Of one large matrix product on each device in the same precision.
    pub peak_tflops: Option<f64>,
    /// `tflops` as a share of `peak_tflops`.
    pub mfu: Option<f64>,
    /// Of the first device; on the CPU of the whole process.
    pub peak_memory_bytes: Option<u64>,
}

/// Milliseconds of a step's parts. On the CPU forward and backward are those of all threads, divided by their number.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct StepMs {
    pub data: f64,
    pub forward: f64,
    pub backward: f64,
    pub optimizer: f64,
    pub communication: f64,
}

/// Trains `stage` of a recipe for `seconds`, epochs repeated, in `scratch`, and measures its steps.
///
/// It is the loop that `run` runs, data and augmentation included; a fine-tuning or a probe starts from scratch.
pub fn bench_train(
    point: &ResolvedPoint,
    stage: StageKind,
    seconds: f64,
    scratch: &Path,
    stop: &StopFlag,
) -> Result<TrainBench, TrainError> {
    let mut plan = point.plan.clone();
    repeat_epochs(&mut plan);
    let device = train::choose(&plan.runtime)?;
    for note in &device.notes {
        tracing::info!("{note}");
    }
    let (training, data) = measured(&plan, stage)?;
    let classes = data.facts.num_classes;
    train::check_memory(&device, &plan, &[stage], classes)?;
    let flops = plan.cost(stage, classes).map_or(0.0, |cost| cost.train_flops_per_image);
    let work = RunContext {
        plan: Arc::new(plan.clone()),
        data: Arc::new(data),
        device: device.clone(),
        run: scratch.to_owned(),
        recipe: recipe::recipe_toml(&point.recipe).into(),
        stop: stop.clone(),
        parallel_jobs: 0,
    };
    let per_epoch = training.steps(stage, work.data.facts.train_images)?.updates_per_epoch;
    refuse_short_epoch(per_epoch, training.effective_batch_size)?;
    let bench = BenchDevices::start(&device);
    let measure = |name: &str, seconds, timer| {
        let from = (stage != StageKind::Pretrain).then_some(recipe::Source::Scratch);
        let job = Job { stage, from, dir: name.to_owned() };
        steps(&bench, &work, job, seconds, timer)
    };
    let (whole, _) = measure("whole", seconds, StepTimer::default())?;
    let memory = memory::peak(&device);
    let timer = StepTimer::running();
    let (_, updates) = measure("parts", seconds / 4.0, timer.clone())?;
    let effective_batch_size = training.effective_batch_size;
    let images_per_s = (whole.len() * effective_batch_size) as f64 / whole.iter().sum::<f64>();
    let tflops = images_per_s * flops / 1e12;
    let peak_tflops = peak::tflops(&device, plan.runtime.precision, &bench)?;
    Ok(TrainBench {
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
        ms: split(&timer, updates, &device),
        tflops,
        peak_tflops: Some(peak_tflops),
        mfu: (peak_tflops > 0.0).then(|| tflops / peak_tflops),
        peak_memory_bytes: memory,
        device: device.name,
    })
}

fn refuse_short_epoch(updates: usize, images: usize) -> Result<(), TrainError> {
    if updates >= 2 {
        return Ok(());
    }
    Err(TrainError::Setting {
        problem: format!("an epoch has {updates} update of {images} images"),
        hint: "a bench measures between two updates of an epoch: lower batch_size, or raise data.train_images".to_owned(),
    })
}

fn ms_per_step(seconds: &[f64], device: &ChosenDevice) -> f64 {
    1e3 * match device.backend {
        DeviceBackend::Cpu => median(seconds),
        _ => seconds.iter().sum::<f64>() / seconds.len() as f64,
    }
}

/// What `stage` of a plan trains with. Fails where there is no such stage, or its data cannot be opened.
fn measured(plan: &Plan, stage: StageKind) -> Result<(TrainingPlan, DataSet), TrainError> {
    let training = plan.training(stage).cloned().ok_or_else(|| TrainError::Setting {
        problem: format!("--stage {stage}: the recipe has no [{stage}]"),
        hint: "choose a stage that the recipe has".to_owned(),
    })?;
    let labels = if stage == StageKind::Pretrain { Labels::Unneeded } else { Labels::Needed };
    Ok((training, data::open(&plan.data, labels)?))
}

/// When each update ended, by epoch: what lies between epochs (evaluation, saving) does not count.
#[derive(Default)]
struct Clock {
    ends: Vec<(usize, Instant)>,
}

impl Clock {
    fn steps_s(&self) -> Vec<f64> {
        let counted = self.ends.get(WARM_UP - 1..).unwrap_or_default();
        counted
            .windows(2)
            .filter(|pair| pair[0].0 == pair[1].0)
            .map(|pair| (pair[1].1 - pair[0].1).as_secs_f64())
            .collect()
    }
}

/// Trains `job` for `seconds`, and until at least as many steps count as do not; gives the seconds of those that count, and
/// how many updates were made in all.
fn steps(
    bench: &BenchDevices,
    work: &RunContext,
    job: Job,
    seconds: f64,
    timer: StepTimer,
) -> Result<(Vec<f64>, usize), TrainError> {
    let clock = Arc::new(Mutex::new(Clock::default()));
    let stop = StopFlag::default();
    let (asked, enough) = (work.stop.clone(), stop.clone());
    let seen = Arc::clone(&clock);
    let observer = move |event: Event<'_>| {
        if let Event::Updated { epoch, .. } = event {
            let mut clock = seen.lock().unwrap_or_else(PoisonError::into_inner);
            clock.ends.push((epoch, Instant::now()));
            // Compiling and tuning kernels is no part of the time.
            let started = clock.ends.get(WARM_UP - 1).map(|(_, end)| end.elapsed());
            let long = started.is_some_and(|time| time > Duration::from_secs_f64(seconds));
            if asked.requested() || long && clock.steps_s().len() >= WARM_UP {
                enough.request();
            }
        }
    };
    let work = RunContext { stop, ..work.clone() };
    bench.run(&work, job, Arc::new(observer), timer)?;
    let clock = clock.lock().unwrap_or_else(PoisonError::into_inner);
    let steps = clock.steps_s();
    if steps.is_empty() {
        return Err(TrainError::Setting {
            problem: "stopped before a step could be measured".to_owned(),
            hint: "let it run for longer".to_owned(),
        });
    }
    Ok((steps, clock.ends.len()))
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

/// Lets every stage go on until it is stopped, keeping no checkpoint.
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
