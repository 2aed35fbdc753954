//! `mae bench`: the speed of training, or of the data pipeline alone.

use super::recipe_args::{RecipeArgs, StageArg};
use super::signals::stop_on_signals;
use super::{CliError, launcher, output};
use crate::bench::{self, DataBench, TrainBench};
use crate::infer::StopFlag;
use crate::recipe::{Missing, ResolvedPoint};
use crate::shape::StageKind;
use crate::train::{Hosts, TrainError};
use std::fmt::Write as _;
use std::path::Path;

/// Measure the speed of training or of the data pipeline
#[derive(clap::Subcommand)]
pub(super) enum Bench {
    /// Measure how fast a stage trains on the recipe's data: images/s, ms per step, TFLOP/s
    Train(Args),
    /// Measure the data pipeline of one stage: images/s, and the time to read, decode, resize and augment
    Data(Args),
}

#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    recipe: RecipeArgs,
    /// Stage to measure; by default the first stage of the recipe
    #[arg(long)]
    stage: Option<StageArg>,
    /// Device to measure; short for `--set runtime.device="D"`
    #[arg(long, value_name = "D")]
    device: Option<String>,
    /// Duration of the measurement, in seconds. `bench train` can take up to two steps longer. On a GPU, the
    /// measurement starts after three warm-up steps that compile kernels
    #[arg(long, default_value_t = 10.0, value_name = "N", value_parser = seconds)]
    seconds: f64,
    /// Print one JSON object on one line
    #[arg(long)]
    json: bool,
}

pub(super) fn run(bench: &Bench) -> Result<(), CliError> {
    match bench {
        Bench::Train(args) => {
            let hosts = launcher::connect()?;
            output::start_log_of(&hosts);
            let measured = measure(args, &hosts, |point, stage, seconds, scratch, stop| {
                bench::bench_train(point, stage, seconds, scratch, stop, &hosts)
            });
            if !hosts.is_first() {
                return Ok(());
            }
            print(args, &measured?.expect("host 0 measures"), text)
        }
        Bench::Data(args) => {
            output::start_log();
            print(args, &measure(args, &Hosts::default(), bench::bench_data)?, data_text)
        }
    }
}

fn print<T: serde::Serialize>(
    args: &Args,
    measured: &T,
    text: fn(&T) -> String,
) -> Result<(), CliError> {
    if args.json {
        return Ok(output::json(measured)?);
    }
    Ok(output::result(&text(measured))?)
}

/// Runs `bench` on one stage for `args.seconds`.
fn measure<T>(
    args: &Args,
    hosts: &Hosts,
    bench: impl Fn(&ResolvedPoint, StageKind, f64, &Path, &StopFlag) -> Result<T, TrainError>,
) -> Result<T, CliError> {
    let mut set = args.recipe.set.clone();
    set.extend(args.device.as_ref().map(|device| format!("runtime.device={device:?}")));
    let recipe = RecipeArgs { recipe: args.recipe.recipe.clone(), set };
    let resolved = launcher::resolve(&recipe, Missing::Refuse, hosts)?;
    let point = resolved.points.first().expect("a resolved recipe has at least one point");
    let first = point.plan.jobs().first().map(|job| job.stage);
    let stage: Option<StageKind> = args.stage.map(Into::into).or(first);
    let Some(stage) = stage else {
        return Err(CliError::Usage(
            "cannot measure the training speed: the recipe has no stage\n\
                                    hint: add `[pretrain]`, `[finetune]` or `[linprobe]`"
                .to_owned(),
        ));
    };
    let stop = StopFlag::default();
    stop_on_signals(&stop, "stopping");
    let scratch = Scratch::new()?;
    let measured = bench(point, stage, args.seconds, scratch.path(), &stop);
    if stop.requested() {
        return Err(CliError::Stopped);
    }
    Ok(measured?)
}

fn text(measured: &TrainBench) -> String {
    let TrainBench { stage, device, precision, devices, threads, ms, .. } = measured;
    let many = if *devices > 1 { format!(", {devices} devices") } else { String::new() };
    let steps = if measured.steps == 1 { "step" } else { "steps" };
    let mut text = format!(
        "{stage}: {:.1} images/s, {:.1} ms per step of {} images ({} {steps} measured, {} not measured; {device}, {precision}, \
         {threads} threads{many})\n\
         time per step: data {:.1} ms, forward {:.1} ms, backward {:.1} ms, optimizer {:.1} ms, communication {:.1} ms\n\
         {:.3} TFLOP/s",
        measured.images_per_s,
        measured.ms_per_step,
        measured.effective_batch_size,
        measured.steps,
        measured.uncounted_steps,
        ms.data,
        ms.forward,
        ms.backward,
        ms.optimizer,
        ms.communication,
        measured.tflops,
    );
    if let (Some(peak), Some(mfu)) = (measured.peak_tflops, measured.mfu) {
        let _ = write!(
            text,
            ", which is {:.1} % of the {peak:.3} TFLOP/s that a large matrix product reaches on this device",
            100.0 * mfu
        );
    }
    if let Some(bytes) = measured.reduced_bytes_per_step {
        let parts = [ms.data, ms.forward, ms.backward, ms.optimizer, ms.communication];
        let _ = write!(
            text,
            "\n{} hosts: in each step, the hosts sum {:.2} MB of gradients; communication takes {:.0} % of the step time",
            measured.hosts,
            bytes as f64 / 1e6,
            100.0 * ms.communication / parts.iter().sum::<f64>()
        );
    }
    if let Some(bytes) = measured.peak_memory_bytes {
        let _ = write!(text, "\npeak memory {:.2} GiB", bytes as f64 / (1u64 << 30) as f64);
    }
    text
}

fn data_text(measured: &DataBench) -> String {
    let DataBench { stage, workers, batch_size, ms_per_image: ms, .. } = measured;
    let decode = serde_json::to_string(&measured.decode).unwrap_or_default();
    let mut text = format!(
        "{stage}: {:.1} images/s, {:.1} images/s per worker ({workers} workers, batches of {batch_size} images, {} \
         images in total, `data.decode = {decode}`)\n\
         time per image in one worker: read {:.3} ms, decode {:.3} ms, resize {:.3} ms, augment {:.3} ms",
        measured.images_per_s,
        measured.images_per_s_per_worker,
        measured.images,
        ms.read,
        ms.decode,
        ms.resize,
        ms.augment,
    );
    if let [Some(before), Some(after)] = measured.memory_bytes {
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        let _ = write!(
            text,
            "\nmemory: {:.0} MiB before the measurement, {:.0} MiB after the measurement",
            mib(before),
            mib(after)
        );
    }
    text
}

/// Parses a duration in seconds: more than 0, at most one day.
fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if seconds > 0.0 && seconds <= 86_400.0 => Ok(seconds),
        _ => Err("expected a duration above 0 and at most 86400 seconds".to_owned()),
    }
}

/// A temporary folder, removed when dropped.
pub(super) struct Scratch(std::path::PathBuf);

impl Scratch {
    pub(super) fn new() -> std::io::Result<Self> {
        let path = std::env::temp_dir().join(format!("mae-bench-{}", std::process::id()));
        std::fs::create_dir_all(&path)?;
        Ok(Self(path))
    }

    pub(super) fn path(&self) -> &std::path::Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // If this fails, the operating system removes the folder later.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
