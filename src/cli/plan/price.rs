//! The speed of a device: assumed, or measured on this machine.

use crate::cli::CliError;
use crate::cli::bench::Scratch;
use crate::cli::signals::stop_on_signals;
use crate::infer::StopFlag;
use crate::recipe::{Cost, DeviceKind, Format, Plan, ResolvedPoint};
use crate::shape::{Precision, StageKind};
use crate::train::Hosts;
use crate::{bench, train};
use std::collections::HashMap;
use std::fmt::Write as _;

/// GPU for time estimates. Peak speeds are dense FLOP/s from the SXM5 data sheet.
const DEVICE: &str = "H100";
const PEAK_BF16: f64 = 989e12;
const PEAK_FP32: f64 = 67e12;
/// Assumed model FLOPs utilization: the fraction of the peak speed that training reaches.
const MFU: f64 = 0.35;
/// Seconds that `mae plan --measure` trains each stage.
const SECONDS: f64 = 3.0;

/// Training speed for the time estimates of a plan.
pub(super) enum Price {
    /// Assumed FLOP/s of one device, and a text for the user.
    Assumed(f64, String),
    /// Measured FLOP/s of all devices together, by stage. `words` is the text for the user.
    Measured { flops: HashMap<StageKind, f64>, devices: usize, words: String },
    /// The device is a CPU. A plan estimates the speed of a CPU only with `--measure`.
    Unknown,
}

impl Price {
    /// Returns the assumed speed, for a plan without `--measure`.
    pub(super) fn assumed(plan: &Plan) -> Self {
        let runtime = &plan.runtime;
        // If the data is on this machine, the recipe will probably run here.
        let path = &plan.data.path;
        let data_is_here = matches!(plan.data.format, Format::Digits)
            || !path.as_os_str().is_empty() && path.exists();
        let no_gpu = || train::count_gpus(runtime.device) == 0;
        if runtime.device == DeviceKind::Cpu
            || runtime.device == DeviceKind::Auto && data_is_here && no_gpu()
        {
            return Self::Unknown;
        }
        let peak = match runtime.precision {
            Precision::Fp32 => PEAK_FP32,
            Precision::Bf16 | Precision::Fp16 => PEAK_BF16, // the same on an H100
        };
        let elsewhere = if no_gpu() { ", because mae finds no GPU" } else { "" };
        let words = format!(
            "assumes an {DEVICE} for each device, at {:.0} % of the peak of {:.0} TFLOP/s in {}{elsewhere}",
            100.0 * MFU,
            peak / 1e12,
            runtime.precision
        );
        Self::Assumed(peak * MFU, words)
    }

    /// Trains each stage for a few seconds, and returns the measured speed.
    pub(super) fn measure(point: &ResolvedPoint, num_classes: usize) -> Result<Self, CliError> {
        let stop = StopFlag::default();
        stop_on_signals(&stop, "stopping");
        let mut flops = HashMap::new();
        let mut words = String::from("measured:");
        for job in point.plan.jobs() {
            if flops.contains_key(&job.stage) {
                continue;
            }
            let scratch = Scratch::new()?;
            let measured = bench::bench_train(
                point,
                job.stage,
                SECONDS,
                scratch.path(),
                &stop,
                &Hosts::default(),
            );
            if stop.requested() {
                return Err(CliError::Stopped);
            }
            let measured = measured?.expect("the only host measures");
            let cost = point.plan.cost(job.stage, num_classes).expect("a job's stage");
            flops.insert(job.stage, measured.images_per_s * all(&cost));
            let _ = write!(words, " {} {:.1} images/s,", job.stage, measured.images_per_s);
            if flops.len() == 1 {
                words.insert_str("measured".len(), &format!(" on {}", measured.device));
            }
        }
        let devices = point.plan.runtime.devices;
        Ok(Self::Measured { flops, devices, words: words.trim_end_matches(',').to_owned() })
    }

    /// Estimates the time of a stage in seconds, from the numbers of trained and evaluated images.
    pub(super) fn wall_s(
        &self,
        stage: StageKind,
        cost: &Cost,
        (trained, evaluated): (usize, usize),
        devices: usize,
    ) -> Option<f64> {
        let work = trained as f64 * all(cost) + evaluated as f64 * cost.flops_per_image;
        let one = match self {
            Self::Assumed(flops, _) => *flops,
            Self::Measured { flops, devices, .. } => flops.get(&stage)? / *devices as f64,
            Self::Unknown => return None,
        };
        Some(work / (one * devices as f64))
    }

    /// Returns the text about the speed for the user.
    pub(super) fn words(&self) -> &str {
        match self {
            Self::Assumed(_, words) | Self::Measured { words, .. } => words,
            Self::Unknown => "unknown on a CPU; use `--measure` to measure the speed",
        }
    }
}

/// Returns the training FLOPs of one image, including recomputation by gradient checkpointing.
fn all(cost: &Cost) -> f64 {
    cost.train_flops_per_image + cost.recomputed_flops_per_image
}
