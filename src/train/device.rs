//! Choosing the device of a run: the CPU, or a GPU that is there and computes right.

use super::Replicas;
use super::TrainError;
#[cfg(feature = "cuda")]
use super::cuda_libraries;
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
    pub backend: Backend,
    /// Compute threads; one on a GPU.
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
    /// Starts what runs the shards of a micro-batch: worker threads on the CPU, the calling thread on a GPU.
    pub fn replicas(&self) -> Replicas {
        match self.backend {
            Backend::Cpu => Replicas::start(self.threads),
            _ => Replicas::whole(),
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

    /// Finds its first device. The error says why there is none and what to do.
    fn find(self) -> Result<Found, String> {
        match self {
            Self::Cpu => {
                let name = "cpu".to_owned();
                Ok(Found { device: Device::flex(), name, hardware: true })
            }
            #[cfg(feature = "cuda")]
            Self::Cuda => cuda(),
            #[cfg(feature = "vulkan")]
            Self::Vulkan => adapter(burn::tensor::DeviceType::Vulkan, "Vulkan"),
            #[cfg(feature = "wgpu")]
            Self::Wgpu => adapter(burn::tensor::DeviceType::Wgpu, "Vulkan, Metal or DirectX"),
            #[cfg(not(all(feature = "cuda", feature = "vulkan", feature = "wgpu")))]
            other => {
                Err(format!("this build has no {0}; build it with `--features {0}`", other.word()))
            }
        }
    }
}

/// A device that is there.
struct Found {
    device: Device,
    name: String,
    /// Whether a card is behind it; otherwise software plays one.
    hardware: bool,
}

#[cfg(feature = "cuda")]
fn cuda() -> Result<Found, String> {
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
    let device = Device::enumerate(burn::tensor::DeviceType::Cuda).into_iter().next();
    let device = device.ok_or("the NVIDIA driver finds no GPU; see what `nvidia-smi` says")?;
    let name = device.identity().map_or_else(|| "CUDA GPU".to_owned(), |identity| identity.name);
    Ok(Found { device, name, hardware: true })
}

#[cfg(any(feature = "vulkan", feature = "wgpu"))]
fn adapter(kind: burn::tensor::DeviceType, apis: &str) -> Result<Found, String> {
    // Hardware first: a machine with a card has a software adapter beside it.
    let mut found: Vec<Found> = Device::enumerate(kind)
        .into_iter()
        .filter_map(|device| {
            let identity = device.identity()?;
            let hardware = identity.physical.is_some();
            Some(Found { device, name: identity.name, hardware })
        })
        .collect();
    found.sort_by_key(|found| !found.hardware);
    found
        .into_iter()
        .next()
        .ok_or_else(|| format!("no adapter speaks {apis}; install the graphics driver"))
}

/// Gives the device that a recipe's `[runtime]` asks for.
///
/// `auto` takes CUDA, then Vulkan, then wgpu, each only on real hardware, then the CPU. What is asked for by name and is
/// not there is refused, never silently replaced.
pub fn choose(runtime: &RuntimePlan) -> Result<ChosenDevice, TrainError> {
    let backend = match runtime.device {
        DeviceKind::Auto => None,
        DeviceKind::Cpu => Some(Backend::Cpu),
        DeviceKind::Cuda => Some(Backend::Cuda),
        DeviceKind::Vulkan => Some(Backend::Vulkan),
        DeviceKind::Wgpu => Some(Backend::Wgpu),
    };
    let mut notes = Vec::new();
    let (backend, found) = match backend {
        Some(backend) => {
            let found = backend.find().map_err(|why| TrainError::Setting {
                problem: format!("runtime.device = \"{}\": {why}", backend.word()),
                hint: "or use runtime.device = \"cpu\" (or \"auto\")".to_owned(),
            })?;
            if !found.hardware {
                notes.push(format!(
                    "{} is a software adapter, slower than the CPU itself",
                    found.name
                ));
            }
            (backend, found)
        }
        None => automatic(&mut notes)?,
    };
    refuse_the_rest(runtime, backend)?;
    let threads = match (backend, runtime.threads) {
        (Backend::Cpu, Threads::Count(threads)) => threads,
        (Backend::Cpu, Threads::Auto) => thread::available_parallelism().map_or(1, usize::from),
        _ => 1,
    };
    let name = match backend {
        Backend::Cpu => found.name,
        _ => format!("{}: {}", backend.word(), found.name),
    };
    Ok(ChosenDevice { device: found.device, name, backend, threads, notes })
}

/// The best that is there; `notes` get why not the better ones, where the build has them.
fn automatic(notes: &mut Vec<String>) -> Result<(Backend, Found), TrainError> {
    for backend in [Backend::Cuda, Backend::Vulkan, Backend::Wgpu] {
        if !backend.is_built() {
            continue;
        }
        match backend.find() {
            Ok(found) if found.hardware => return Ok((backend, found)),
            Ok(found) => {
                notes.push(format!("not {}: {} is a software adapter", backend.word(), found.name));
            }
            Err(why) => notes.push(format!("not {}: {why}", backend.word())),
        }
    }
    match Backend::Cpu.find() {
        Ok(found) => Ok((Backend::Cpu, found)),
        Err(why) => Err(TrainError::Crashed(why)),
    }
}

impl Backend {
    fn is_built(self) -> bool {
        match self {
            Self::Cpu => true,
            Self::Cuda => cfg!(feature = "cuda"),
            Self::Vulkan => cfg!(feature = "vulkan"),
            Self::Wgpu => cfg!(feature = "wgpu"),
        }
    }
}

/// Refuses what this version cannot do yet.
fn refuse_the_rest(runtime: &RuntimePlan, backend: Backend) -> Result<(), TrainError> {
    let refuse =
        |problem: String, hint: &str| Err(TrainError::Setting { problem, hint: hint.to_owned() });
    if runtime.devices != 1 {
        let problem = match backend {
            Backend::Cpu => format!("runtime.devices = {}: there is one CPU", runtime.devices),
            _ => format!("runtime.devices = {}: this version trains on one GPU", runtime.devices),
        };
        return refuse(
            problem,
            "use runtime.devices = 1 and a larger `accum_iter`: it keeps the effective batch size",
        );
    }
    if runtime.precision == Precision::Bf16 {
        return refuse(
            "runtime.precision = \"bf16\": this version trains in fp32 only".to_owned(),
            "use runtime.precision = \"fp32\"",
        );
    }
    Ok(())
}
