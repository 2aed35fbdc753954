//! What a device does in a second: assumed, or measured here.

use crate::cli::CliError;
use crate::cli::bench::Scratch;
use crate::cli::signals::stop_on_signals;
use crate::infer::StopFlag;
use crate::recipe::{Cost, DeviceKind, Format, Plan, ResolvedPoint};
use crate::shape::{Precision, StageKind};
use crate::{bench, train};
use std::collections::HashMap;
use std::fmt::Write as _;

/// The device that is assumed, its dense peaks (NVIDIA's data sheet, SXM5) in FLOP/s, and the share of them that is assumed.
const DEVICE: &str = "H100";
const PEAK_BF16: f64 = 989e12;
const PEAK_FP32: f64 = 67e12;
const MFU: f64 = 0.35;
/// How long each stage is measured.
const SECONDS: f64 = 3.0;

/// The speed of one device.
pub(super) enum Price {
    /// FLOP/s in training.
    Assumed(f64, String),
    /// FLOP/s of each stage in training, on all devices together, and their number.
    Measured { flops: HashMap<StageKind, f64>, devices: usize, words: String },
    /// Nothing is assumed of a CPU.
    Unknown,
}

impl Price {
    pub(super) fn assumed(plan: &Plan) -> Self {
        let runtime = &plan.runtime;
        if is_for_this_cpu(plan) {
            return Self::Unknown;
        }
        let peak = match runtime.precision {
            Precision::Fp32 => PEAK_FP32,
            Precision::Bf16 => PEAK_BF16,
        };
        let words = format!(
            "assumed: each device an {DEVICE} at {:.0} % of its {:.0} TFLOP/s in {}",
            100.0 * MFU,
            peak / 1e12,
            runtime.precision
        );
        Self::Assumed(peak * MFU, words)
    }

    /// Trains each stage of a point for some seconds.
    pub(super) fn measure(point: &ResolvedPoint, num_classes: usize) -> Result<Self, CliError> {
        let stop = StopFlag::default();
        stop_on_signals(&stop, "stopping");
        let mut flops = HashMap::new();
        let mut words = String::from("measured here:");
        for job in point.plan.jobs() {
            if flops.contains_key(&job.stage) {
                continue;
            }
            let scratch = Scratch::new()?;
            let measured = bench::bench_train(point, job.stage, SECONDS, scratch.path(), &stop);
            if stop.requested() {
                return Err(CliError::Stopped);
            }
            let measured = measured?;
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

    /// Gives the seconds that `devices` devices take for so many images trained and evaluated on.
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

    /// What the times rest on.
    pub(super) fn words(&self) -> &str {
        match self {
            Self::Assumed(_, words) | Self::Measured { words, .. } => words,
            Self::Unknown => "not known for a CPU: `--measure` times it",
        }
    }
}

/// Tells whether a plan is for the CPU of this machine.
pub(super) fn is_for_this_cpu(plan: &Plan) -> bool {
    // Who plans for data that is here plans for the machine at hand.
    let path = &plan.data.path;
    let data_is_here =
        matches!(plan.data.format, Format::Digits) || !path.as_os_str().is_empty() && path.exists();
    let device = plan.runtime.device;
    device == DeviceKind::Cpu
        || device == DeviceKind::Auto && data_is_here && train::count_gpus(device) == 0
}

/// FLOPs of training on an image, with what is recomputed.
fn all(cost: &Cost) -> f64 {
    cost.train_flops_per_image + cost.recomputed_flops_per_image
}
