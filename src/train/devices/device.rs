//! Chooses the device of a run: the CPU or a GPU.

use super::ranks::Link;
#[cfg(feature = "cuda")]
use super::{cuda_libraries, cuda_toolkit};
use crate::infer::{DeviceError, Replicas};
use crate::ops;
use crate::recipe::{DeviceKind, RuntimePlan, Threads};
use crate::shape::Precision;
use crate::train::error::TrainError;
use burn::tensor::{Device, FloatDType};
use std::thread;

/// The device or devices that a run uses.
#[derive(Debug, Clone)]
pub struct ChosenDevice {
    /// Device for computations: the first entry of `devices`. On a rank, the device of this rank.
    pub device: Device,
    /// All devices that train together, one per rank.
    ///
    /// If the CPU simulates several devices, all entries are equal.
    pub devices: Vec<Device>,
    /// Name for messages and `provenance.json`, such as `cuda: 2 x NVIDIA H200`.
    pub name: String,
    pub backend: Backend,
    /// Number of compute threads on the CPU. On GPUs, the number of devices.
    pub threads: usize,
    /// Log messages that explain the choice of the devices.
    pub notes: Vec<String>,
}

/// A backend of Burn that computes on one kind of device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    Cpu,
    Cuda,
    Vulkan,
    Wgpu,
}

impl ChosenDevice {
    /// Starts the worker threads that compute the shards of a micro-batch.
    ///
    /// On a GPU, starts no threads: the calling thread computes the whole micro-batch.
    pub fn replicas(&self) -> Replicas {
        match self.backend {
            Backend::Cpu => Replicas::start(self.threads.div_ceil(self.devices.len())),
            _ => Replicas::whole(),
        }
    }

    /// Returns a copy for rank `index`, with the device of this rank in `device`.
    pub(crate) fn of(&self, index: usize) -> Self {
        Self { device: self.devices[index].clone(), ..self.clone() }
    }

    /// Returns how the devices exchange gradients.
    pub(crate) fn link(&self) -> Link {
        match self.backend {
            Backend::Cuda => Link::Nccl(self.devices.clone()),
            Backend::Cpu => Link::Simulated(1),
            Backend::Vulkan | Backend::Wgpu => Link::Host,
        }
    }
}

impl Backend {
    /// Returns the backend's name in recipes, such as `cuda`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
            Self::Vulkan => "vulkan",
            Self::Wgpu => "wgpu",
        }
    }

    /// Returns this backend's devices, GPUs first. Fails if no device is found.
    ///
    /// With `runtime`, this also fails if the CUDA toolkit cannot compile the kernels of the run.
    fn find(self, runtime: Option<&RuntimePlan>) -> Result<Vec<FoundDevice>, NotFound> {
        #[cfg(not(feature = "cuda"))]
        let _ = runtime;
        #[cfg(feature = "gpu")]
        if self != Self::Cpu {
            super::kernel_cache::keep();
        }
        match self {
            Self::Cpu => {
                let name = "cpu".to_owned();
                Ok(vec![FoundDevice { device: Device::flex(), name, hardware: true }])
            }
            #[cfg(feature = "cuda")]
            Self::Cuda => cuda(runtime),
            #[cfg(feature = "vulkan")]
            Self::Vulkan => adapters(burn::tensor::DeviceType::Vulkan, "Vulkan"),
            #[cfg(feature = "wgpu")]
            Self::Wgpu => adapters(burn::tensor::DeviceType::Wgpu, "Vulkan, Metal or DirectX"),
            #[cfg(not(all(feature = "cuda", feature = "vulkan", feature = "wgpu")))]
            other => Err(NotFound {
                reason: format!("this build does not include {}", other.word()),
                hint: format!("build mae with `--features {}`", other.word()),
            }),
        }
    }
}

struct FoundDevice {
    device: Device,
    name: String,
    /// Whether the device is a real GPU and not a software adapter, such as llvmpipe.
    hardware: bool,
}

/// The reason why a backend is unusable, and a hint for the user.
pub(super) struct NotFound {
    reason: String,
    hint: String,
}

#[cfg(any(feature = "cuda", feature = "vulkan", feature = "wgpu"))]
impl NotFound {
    pub(super) fn new(reason: impl Into<String>, hint: &str) -> Self {
        Self { reason: reason.into(), hint: hint.to_owned() }
    }
}

#[cfg(feature = "cuda")]
fn cuda(runtime: Option<&RuntimePlan>) -> Result<Vec<FoundDevice>, NotFound> {
    // The first call into a missing library would end the process.
    if !cuda_libraries::driver() {
        let reason = "the NVIDIA driver (libcuda) is not installed";
        return Err(NotFound::new(reason, "install the NVIDIA driver"));
    }
    if !cuda_libraries::nvrtc() {
        let reason = "NVRTC (libnvrtc) is not installed, but mae needs it to compile kernels";
        return Err(NotFound::new(reason, "install the CUDA toolkit"));
    }
    cuda_libraries::start().map_err(|problem| {
        let hint = "check that `nvidia-smi` lists a GPU. In a container, pass the GPUs to it, for example with `--gpus all`";
        NotFound::new(format!("the NVIDIA driver does not start: {problem}"), hint)
    })?;
    let found: Vec<FoundDevice> = Device::enumerate(burn::tensor::DeviceType::Cuda)
        .into_iter()
        .enumerate()
        .map(|(index, device)| {
            // Reading the name of a GPU opens this GPU. So only the first GPU is asked for its name.
            let identity = if index == 0 { device.identity() } else { None };
            let name = identity.map_or_else(|| "CUDA GPU".to_owned(), |identity| identity.name);
            FoundDevice { device, name, hardware: true }
        })
        .collect();
    if found.is_empty() {
        return Err(NotFound::new(
            "the NVIDIA driver finds no GPU",
            "check that `nvidia-smi` lists a GPU",
        ));
    }
    if let Some(runtime) = runtime {
        cuda_toolkit::check(runtime)?;
    }
    Ok(found)
}

#[cfg(any(feature = "vulkan", feature = "wgpu"))]
fn adapters(kind: burn::tensor::DeviceType, apis: &str) -> Result<Vec<FoundDevice>, NotFound> {
    // A machine with a GPU often has a software adapter as well.
    let mut found: Vec<FoundDevice> = Device::enumerate(kind)
        .into_iter()
        .filter_map(|device| {
            let identity = device.identity()?;
            let hardware = identity.physical.is_some();
            Some(FoundDevice { device, name: identity.name, hardware })
        })
        .collect();
    found.sort_by_key(|found| !found.hardware);
    let Some(first) = found.first() else {
        let reason = format!("this machine has no graphics adapter for {apis}");
        return Err(NotFound::new(reason, "install the graphics driver"));
    };
    // Observed with Mesa 22.3: the process ends, so no check can report the failure. SwiftShader returns zeros for
    // matrix products.
    if cfg!(feature = "vulkan") && !first.hardware {
        let reason = format!(
            "{} is a software adapter, where SPIR-V kernels crash or return wrong results",
            first.name
        );
        let hint = "build mae with `--features wgpu`, without `vulkan`, and set `runtime.device = \"wgpu\"`";
        return Err(NotFound::new(reason, hint));
    }
    found.retain(|found| found.hardware || !cfg!(feature = "vulkan"));
    Ok(found)
}

/// Returns the devices that the recipe's `[runtime]` selects.
///
/// `auto` selects CUDA, Vulkan, wgpu or the CPU: the first that works, in this order. `auto` ignores software adapters.
/// Fails if the recipe names a device that is missing.
///
/// Also turns the autotuning of bf16 matrix products on or off for the whole process.
pub fn choose(runtime: &RuntimePlan) -> Result<ChosenDevice, TrainError> {
    ops::autotune(runtime.autotune);
    let mut notes = Vec::new();
    let (backend, found) = match named(runtime.device) {
        Some(backend) => {
            let found = backend.find(Some(runtime)).map_err(|NotFound { reason, hint }| {
                TrainError::Setting {
                    problem: format!(
                        "cannot use `runtime.device = \"{}\"`: {reason}",
                        backend.word()
                    ),
                    hint: format!("{hint}, or set `runtime.device` to \"cpu\" or \"auto\""),
                }
            })?;
            (backend, found)
        }
        None => automatic(Some(runtime), &mut notes)?,
    };
    let first = &found[0];
    if !first.hardware {
        notes.push(format!(
            "{} is a software adapter, so training is slower than with `runtime.device = \"cpu\"`",
            first.name
        ));
    }
    let name = match (backend, runtime.devices) {
        (Backend::Cpu, _) => first.name.clone(),
        (_, 1) => format!("{}: {}", backend.word(), first.name),
        (_, n) => format!("{}: {n} x {}", backend.word(), first.name),
    };
    refuse_precision(runtime, &first.device, &name)?;
    if backend != Backend::Cpu && runtime.precision == Precision::Bf16 && runtime.autotune {
        notes.push(
            "mae tunes bf16 matrix products for this GPU. The first start takes minutes longer, and later starts reuse \
             the result. Set `runtime.autotune = false` to skip the tuning"
                .to_owned(),
        );
    }
    let threads = match (backend, runtime.threads) {
        (Backend::Cpu, Threads::Count(threads)) => threads,
        (Backend::Cpu, Threads::Auto) => thread::available_parallelism().map_or(1, usize::from),
        _ => runtime.devices,
    };
    let device = first.device.clone();
    let devices = together(runtime, backend, found, &mut notes)?;
    Ok(ChosenDevice { device, devices, name, backend, threads, notes })
}

/// Returns the number of GPUs of this `kind` on this machine. Software adapters do not count.
///
/// For `auto`, counts the GPUs of the first backend that works.
pub fn count_gpus(kind: DeviceKind) -> usize {
    let found = match named(kind) {
        Some(backend) => backend.find(None).ok().map(|found| (backend, found)),
        None => automatic(None, &mut Vec::new()).ok(),
    };
    match found {
        Some((Backend::Cpu, _)) | None => 0,
        Some((_, found)) => found.iter().filter(|found| found.hardware).count(),
    }
}

/// Returns the backend named in a recipe; `None` for `auto`.
fn named(kind: DeviceKind) -> Option<Backend> {
    match kind {
        DeviceKind::Auto => None,
        DeviceKind::Cpu => Some(Backend::Cpu),
        DeviceKind::Cuda => Some(Backend::Cuda),
        DeviceKind::Vulkan => Some(Backend::Vulkan),
        DeviceKind::Wgpu => Some(Backend::Wgpu),
    }
}

/// Returns the first `runtime.devices` devices. Fails if `found` has fewer GPUs.
///
/// A CPU that the recipe names simulates several devices: all entries are this CPU.
fn together(
    runtime: &RuntimePlan,
    backend: Backend,
    found: Vec<FoundDevice>,
    notes: &mut Vec<String>,
) -> Result<Vec<Device>, TrainError> {
    let asked = runtime.devices;
    let refuse = |problem: String| {
        Err(TrainError::Setting {
            problem: format!("cannot use `runtime.devices = {asked}`: {problem}"),
            hint: format!(
                "set `runtime.devices = 1`, and multiply `accum_iter` of every stage by {asked} to keep the effective batch sizes"
            ),
        })
    };
    if asked == 1 {
        return Ok(found.into_iter().take(1).map(|found| found.device).collect());
    }
    if backend == Backend::Cpu {
        if runtime.device == DeviceKind::Auto {
            return refuse(format!("this machine has no usable GPU{}", because(notes)));
        }
        notes.push(format!(
            "the CPU simulates {asked} devices: the results are the same as on {asked} devices, but training is not faster"
        ));
        return Ok(vec![found[0].device.clone(); asked]);
    }
    let found: Vec<FoundDevice> = found.into_iter().filter(|found| found.hardware).collect();
    let count = found.len();
    if count < asked {
        return refuse(format!("{} finds {count} GPUs on this machine", backend.word()));
    }
    #[cfg(feature = "cuda")]
    if backend == Backend::Cuda && !cuda_libraries::nccl() {
        return refuse(
            "NCCL (libnccl) is not installed, but several GPUs need NCCL to train together"
                .to_owned(),
        );
    }
    Ok(found.into_iter().take(asked).map(|found| found.device).collect())
}

fn because(notes: &[String]) -> String {
    if notes.is_empty() { String::new() } else { format!(" ({})", notes.join("; ")) }
}

/// Fails if `device` does not support the precision of the recipe.
fn refuse_precision(runtime: &RuntimePlan, device: &Device, name: &str) -> Result<(), TrainError> {
    let precision = runtime.precision;
    let (dtype, other) = match precision {
        Precision::Fp32 => return Ok(()),
        Precision::Bf16 => (FloatDType::BF16, Precision::Fp16),
        Precision::Fp16 => (FloatDType::F16, Precision::Bf16),
    };
    if device.supports_dtype(dtype) {
        return Ok(());
    }
    Err(TrainError::Setting {
        problem: format!(
            "cannot use `runtime.precision = \"{precision}\"`: {name} does not support {precision}"
        ),
        hint: format!("set `runtime.precision = \"fp32\"`, or try \"{other}\""),
    })
}

/// Tries CUDA, Vulkan, wgpu and the CPU, in this order. Returns the first backend that works, and its devices.
///
/// Adds a note for each backend that does not work.
fn automatic(
    runtime: Option<&RuntimePlan>,
    notes: &mut Vec<String>,
) -> Result<(Backend, Vec<FoundDevice>), TrainError> {
    for backend in [Backend::Cuda, Backend::Vulkan, Backend::Wgpu] {
        if !backend.is_built() {
            continue;
        }
        match backend.find(runtime) {
            Ok(found) if found[0].hardware => return Ok((backend, found)),
            Ok(found) => {
                let name = &found[0].name;
                notes.push(format!(
                    "mae does not use {}, because {name} is a software adapter",
                    backend.word()
                ));
            }
            Err(NotFound { reason, hint }) => {
                notes.push(format!(
                    "mae does not use {}: {reason}. To use it, {hint}",
                    backend.word()
                ));
            }
        }
    }
    match Backend::Cpu.find(runtime) {
        Ok(found) => Ok((Backend::Cpu, found)),
        Err(NotFound { reason, .. }) => Err(DeviceError::Crashed(reason).into()),
    }
}

impl Backend {
    /// Returns the backends that this build of mae includes.
    pub fn built() -> impl Iterator<Item = Self> {
        [Self::Cpu, Self::Cuda, Self::Vulkan, Self::Wgpu].into_iter().filter(|of| of.is_built())
    }

    fn is_built(self) -> bool {
        match self {
            Self::Cpu => true,
            Self::Cuda => cfg!(feature = "cuda"),
            Self::Vulkan => cfg!(feature = "vulkan"),
            Self::Wgpu => cfg!(feature = "wgpu"),
        }
    }
}
