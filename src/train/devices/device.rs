//! Choosing the device of a run: the CPU, or a GPU that is there and computes right.

#[cfg(feature = "cuda")]
use super::cuda_libraries;
use super::ranks::Link;
use crate::infer::{DeviceError, Replicas};
use crate::ops;
use crate::recipe::{DeviceKind, RuntimePlan, Threads};
use crate::shape::Precision;
use crate::train::error::TrainError;
use burn::tensor::{Device, FloatDType};
use std::thread;

/// What a run computes on.
#[derive(Debug, Clone)]
pub struct ChosenDevice {
    /// The first; what works on one device uses this.
    pub device: Device,
    /// Those that train together, one a rank. On the CPU they are the same one.
    pub devices: Vec<Device>,
    /// In words, for people and `provenance.json`.
    pub name: String,
    pub backend: Backend,
    /// Compute threads of all devices together; one for each GPU.
    pub threads: usize,
    /// What a person should know of the choice.
    pub notes: Vec<String>,
}

/// What computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    Cpu,
    Cuda,
    Vulkan,
    Wgpu,
}

impl ChosenDevice {
    /// Starts what runs the shards of a micro-batch: worker threads on the CPU, the calling thread on a GPU, which takes it whole.
    pub fn replicas(&self) -> Replicas {
        match self.backend {
            Backend::Cpu => Replicas::start(self.threads.div_ceil(self.devices.len())),
            _ => Replicas::whole(),
        }
    }

    /// Gives the device of rank `index`, as the others of its run have it.
    pub(crate) fn of(&self, index: usize) -> Self {
        Self { device: self.devices[index].clone(), ..self.clone() }
    }

    /// How the devices are joined.
    pub(crate) fn link(&self) -> Link {
        match self.backend {
            Backend::Cuda => Link::Nccl(self.devices.clone()),
            Backend::Cpu => Link::Simulated(1),
            Backend::Vulkan | Backend::Wgpu => Link::Host,
        }
    }
}

impl Backend {
    /// The word of a recipe, and the cargo feature that builds it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
            Self::Vulkan => "vulkan",
            Self::Wgpu => "wgpu",
        }
    }

    /// Finds its devices, at least one, hardware first. The error says why there is none and what to do.
    fn find(self) -> Result<Vec<FoundDevice>, String> {
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
            Self::Cuda => cuda(),
            #[cfg(feature = "vulkan")]
            Self::Vulkan => adapters(burn::tensor::DeviceType::Vulkan, "Vulkan"),
            #[cfg(feature = "wgpu")]
            Self::Wgpu => adapters(burn::tensor::DeviceType::Wgpu, "Vulkan, Metal or DirectX"),
            #[cfg(not(all(feature = "cuda", feature = "vulkan", feature = "wgpu")))]
            other => {
                Err(format!("this build has no {0}; build it with `--features {0}`", other.word()))
            }
        }
    }
}

/// A device that is there.
struct FoundDevice {
    device: Device,
    name: String,
    /// Whether a card is behind it; otherwise software plays one.
    hardware: bool,
}

#[cfg(feature = "cuda")]
fn cuda() -> Result<Vec<FoundDevice>, String> {
    // Each library by itself: a missing one would end the process at its first use.
    if !cuda_libraries::driver() {
        return Err(
            "the NVIDIA driver (libcuda) is not there; install it, or choose another device"
                .to_owned(),
        );
    }
    if !cuda_libraries::nvrtc() {
        return Err(
            "NVRTC (libnvrtc), which compiles kernels, is not there; install the CUDA toolkit"
                .to_owned(),
        );
    }
    let found: Vec<FoundDevice> = Device::enumerate(burn::tensor::DeviceType::Cuda)
        .into_iter()
        .enumerate()
        .map(|(index, device)| {
            // Asking a GPU's name opens it; those that are not used stay as they are.
            let identity = if index == 0 { device.identity() } else { None };
            let name = identity.map_or_else(|| "CUDA GPU".to_owned(), |identity| identity.name);
            FoundDevice { device, name, hardware: true }
        })
        .collect();
    if found.is_empty() {
        return Err("the NVIDIA driver finds no GPU; see what `nvidia-smi` says".to_owned());
    }
    Ok(found)
}

#[cfg(any(feature = "vulkan", feature = "wgpu"))]
fn adapters(kind: burn::tensor::DeviceType, apis: &str) -> Result<Vec<FoundDevice>, String> {
    // Hardware first: a machine with a card has a software adapter beside it.
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
        return Err(format!("no adapter speaks {apis}; install the graphics driver"));
    };
    // Seen: Mesa 22.3's ends the process, SwiftShader's gives zeros for products. No check of ours outlives the first.
    if cfg!(feature = "vulkan") && !first.hardware {
        return Err(format!(
            "{} is a software adapter, on which SPIR-V kernels crash or compute wrong; with a build of `--features wgpu` \
             without `vulkan`, runtime.device = \"wgpu\" is right there",
            first.name
        ));
    }
    // One that is not hardware comes after those that are.
    found.retain(|found| found.hardware || !cfg!(feature = "vulkan"));
    Ok(found)
}

/// Gives the devices that a recipe's `[runtime]` asks for.
///
/// `auto` takes CUDA, then Vulkan, then wgpu, each only on real hardware, then the CPU. What is asked for by name and is
/// not there is refused, never silently replaced. From here on products are tuned, or not, as `runtime` says.
pub fn choose(runtime: &RuntimePlan) -> Result<ChosenDevice, TrainError> {
    ops::autotune(runtime.autotune);
    let mut notes = Vec::new();
    let (backend, found) = match named(runtime.device) {
        Some(backend) => {
            let found = backend.find().map_err(|why| TrainError::Setting {
                problem: format!("runtime.device = \"{}\": {why}", backend.word()),
                hint: "or use runtime.device = \"cpu\" (or \"auto\")".to_owned(),
            })?;
            (backend, found)
        }
        None => automatic(&mut notes)?,
    };
    let first = &found[0];
    if !first.hardware {
        notes.push(format!("{} is a software adapter, slower than the CPU itself", first.name));
    }
    let name = match (backend, runtime.devices) {
        (Backend::Cpu, _) => first.name.clone(),
        (_, 1) => format!("{}: {}", backend.word(), first.name),
        (_, n) => format!("{}: {n} x {}", backend.word(), first.name),
    };
    refuse_precision(runtime, &first.device, &name)?;
    if backend != Backend::Cpu && runtime.precision == Precision::Bf16 && runtime.autotune {
        notes.push(
            "bf16 products are tuned, which takes minutes before the first step where no earlier start on such a card did \
             it; runtime.autotune = false starts without"
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

/// Counts the GPUs of a kind, software left out: what `devices = "all"` takes.
pub fn count_gpus(kind: DeviceKind) -> usize {
    let found = match named(kind) {
        Some(backend) => backend.find().ok().map(|found| (backend, found)),
        None => automatic(&mut Vec::new()).ok(),
    };
    match found {
        Some((Backend::Cpu, _)) | None => 0,
        Some((_, found)) => found.iter().filter(|found| found.hardware).count(),
    }
}

/// Gives the backend that a recipe names; `None` where it leaves the choice.
fn named(kind: DeviceKind) -> Option<Backend> {
    match kind {
        DeviceKind::Auto => None,
        DeviceKind::Cpu => Some(Backend::Cpu),
        DeviceKind::Cuda => Some(Backend::Cuda),
        DeviceKind::Vulkan => Some(Backend::Vulkan),
        DeviceKind::Wgpu => Some(Backend::Wgpu),
    }
}

/// Takes as many devices as the recipe asks for.
///
/// The CPU can play any number: a recipe for 8 GPUs gives the same numbers there. It must be asked for by name, as it is
/// seldom meant.
fn together(
    runtime: &RuntimePlan,
    backend: Backend,
    found: Vec<FoundDevice>,
    notes: &mut Vec<String>,
) -> Result<Vec<Device>, TrainError> {
    let asked = runtime.devices;
    let refuse = |problem: String| {
        Err(TrainError::Setting {
            problem: format!("runtime.devices = {asked}: {problem}"),
            hint: format!(
                "use runtime.devices = 1 and an `accum_iter` {asked} times as large in every stage: the same effective \
                 batches"
            ),
        })
    };
    if asked == 1 {
        return Ok(found.into_iter().take(1).map(|found| found.device).collect());
    }
    if backend == Backend::Cpu {
        if runtime.device == DeviceKind::Auto {
            return refuse(format!("there is no GPU here{}", because(notes)));
        }
        notes.push(format!("the CPU plays {asked} devices: the same numbers, no faster than one"));
        return Ok(vec![found[0].device.clone(); asked]);
    }
    let found: Vec<FoundDevice> = found.into_iter().filter(|found| found.hardware).collect();
    let there = found.len();
    if there < asked {
        return refuse(format!("{} finds {there} cards here", backend.word()));
    }
    #[cfg(feature = "cuda")]
    if backend == Backend::Cuda && !cuda_libraries::nccl() {
        return refuse("NCCL (libnccl), which joins GPUs, is not there; install it".to_owned());
    }
    Ok(found.into_iter().take(asked).map(|found| found.device).collect())
}

fn because(notes: &[String]) -> String {
    if notes.is_empty() { String::new() } else { format!(" ({})", notes.join("; ")) }
}

/// Fails where a device has no bf16.
fn refuse_precision(runtime: &RuntimePlan, device: &Device, name: &str) -> Result<(), TrainError> {
    if runtime.precision == Precision::Fp32 || device.supports_dtype(FloatDType::BF16) {
        return Ok(());
    }
    Err(TrainError::Setting {
        problem: format!("runtime.precision = \"bf16\": {name} has no bf16"),
        hint: "use runtime.precision = \"fp32\"".to_owned(),
    })
}

/// The best that is there; `notes` get why not the better ones, where the build has them.
fn automatic(notes: &mut Vec<String>) -> Result<(Backend, Vec<FoundDevice>), TrainError> {
    for backend in [Backend::Cuda, Backend::Vulkan, Backend::Wgpu] {
        if !backend.is_built() {
            continue;
        }
        match backend.find() {
            Ok(found) if found[0].hardware => return Ok((backend, found)),
            Ok(found) => {
                let name = &found[0].name;
                notes.push(format!("not {}: {name} is a software adapter", backend.word()));
            }
            Err(why) => notes.push(format!("not {}: {why}", backend.word())),
        }
    }
    match Backend::Cpu.find() {
        Ok(found) => Ok((Backend::Cpu, found)),
        Err(why) => Err(DeviceError::Crashed(why).into()),
    }
}

impl Backend {
    /// Those that this build has.
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
