//! Choosing the device of a run.

use super::TrainError;
use crate::recipe::DeviceKind;
use crate::recipe::Precision;
use crate::recipe::RuntimePlan;
use crate::recipe::Threads;
use burn::tensor::Device;
use std::thread;

/// What a run computes on.
#[derive(Debug, Clone)]
pub struct ChosenDevice {
    pub device: Device,
    /// In words, for people and `provenance.json`.
    pub name: String,
    /// Compute threads.
    pub threads: usize,
}

/// Gives the device that a recipe's `[runtime]` asks for.
///
/// Only the CPU trains so far: `auto` takes it; a GPU, several devices or bf16 are refused, never silently replaced.
pub fn choose(runtime: &RuntimePlan) -> Result<ChosenDevice, TrainError> {
    let refuse =
        |problem: String, hint: &str| Err(TrainError::Setting { problem, hint: hint.to_owned() });
    let gpu = match runtime.device {
        DeviceKind::Auto | DeviceKind::Cpu => None,
        DeviceKind::Cuda => Some("cuda"),
        DeviceKind::Vulkan => Some("vulkan"),
        DeviceKind::Wgpu => Some("wgpu"),
    };
    if let Some(name) = gpu {
        return refuse(
            format!("runtime.device = \"{name}\": this version trains on the CPU only"),
            "use runtime.device = \"cpu\" (or \"auto\")",
        );
    }
    if runtime.devices != 1 {
        return refuse(
            format!("runtime.devices = {}: there is one CPU", runtime.devices),
            "use runtime.devices = 1 and a larger `accum_iter`: it keeps the effective batch size",
        );
    }
    if runtime.precision == Precision::Bf16 {
        return refuse(
            "runtime.precision = \"bf16\": this version trains in fp32 only".to_owned(),
            "use runtime.precision = \"fp32\"",
        );
    }
    let threads = match runtime.threads {
        Threads::Count(threads) => threads,
        Threads::Auto => thread::available_parallelism().map_or(1, usize::from),
    };
    Ok(ChosenDevice { device: Device::flex(), name: "cpu".to_owned(), threads })
}
