//! Measurements of our own code: images per second of the real training loop.

use crate::data;
use crate::data::Labels;
use crate::recipe;
use crate::recipe::Job;
use crate::recipe::ResolvedPoint;
use crate::recipe::StageKind;
use crate::train;
use crate::train::Event;
use crate::train::Hands;
use crate::train::Stop;
use crate::train::TrainError;
use crate::train::Work;
use std::cell::RefCell;
use std::path::Path;
use std::time::Duration;
use std::time::Instant;

/// Updates before the clock counts: caches and allocators settle.
const WARM_UP: usize = 2;

/// What a bench measured.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct TrainBench {
    pub stage: String,
    pub device: String,
    pub threads: usize,
    pub effective_batch_size: usize,
    pub images_per_s: f64,
    /// Median over the updates that counted.
    pub ms_per_step: f64,
    pub steps: usize,
}

/// When each update ended, by epoch: what lies between epochs (evaluation, saving) does not count.
#[derive(Default)]
struct Clock {
    ends: Vec<(usize, Instant)>,
}

impl Clock {
    fn steps_s(&self) -> Vec<f64> {
        let counted = self.ends.get(WARM_UP..).unwrap_or_default();
        counted
            .windows(2)
            .filter(|pair| pair[0].0 == pair[1].0)
            .map(|pair| (pair[1].1 - pair[0].1).as_secs_f64())
            .collect()
    }
}

/// Trains `stage` of a recipe for `seconds`, epochs repeated, in `scratch`, and measures its steps.
///
/// It is the loop that `run` runs, data and augmentation included; a fine-tuning or a probe starts from scratch.
pub fn bench_train(
    point: &ResolvedPoint,
    stage: StageKind,
    seconds: f64,
    scratch: &Path,
    stop: &Stop,
) -> Result<TrainBench, TrainError> {
    let mut plan = point.plan.clone();
    repeat_epochs(&mut plan);
    let device = train::choose(&plan.runtime)?;
    let training = plan.training(stage).cloned().ok_or_else(|| TrainError::Setting {
        problem: format!("--stage {stage}: the recipe has no [{stage}]"),
        hint: "choose a stage that the recipe has".to_owned(),
    })?;
    let labels = if stage == StageKind::Pretrain { Labels::Unneeded } else { Labels::Needed };
    let data = data::open(&plan.data, labels)?;
    let replicas = device.replicas();
    let from = (stage != StageKind::Pretrain).then_some(recipe::Source::Scratch);
    let job = Job { stage, from, dir: "bench".to_owned() };
    let text = recipe::recipe_toml(&point.recipe);
    let work =
        Work { plan: &plan, data: &data, device: &device, run: scratch, recipe: &text, stop };
    let (clock, started) = (RefCell::new(Clock::default()), Instant::now());
    let observer = |event: Event<'_>| {
        if let Event::Updated { epoch, .. } = event {
            clock.borrow_mut().ends.push((epoch, Instant::now()));
            if started.elapsed() > Duration::from_secs_f64(seconds)
                && clock.borrow().steps_s().len() > WARM_UP
            {
                stop.request();
            }
        }
    };
    let hands = Hands { replicas: &replicas, stop, observer: &observer, row_written: &|| Ok(()) };
    work.run(&job, &hands)?;
    let mut steps = clock.borrow().steps_s();
    steps.sort_by(f64::total_cmp);
    let total: f64 = steps.iter().sum();
    let images = (steps.len() * training.effective_batch_size) as f64;
    Ok(TrainBench {
        stage: stage.to_string(),
        device: device.name,
        threads: device.threads,
        effective_batch_size: training.effective_batch_size,
        images_per_s: images / total,
        ms_per_step: steps.get(steps.len() / 2).copied().unwrap_or(f64::NAN) * 1e3,
        steps: steps.len(),
    })
}

/// Lets every stage go on until it is stopped, keeping no checkpoint.
fn repeat_epochs(plan: &mut recipe::Plan) {
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
