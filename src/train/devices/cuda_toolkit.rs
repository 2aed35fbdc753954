//! Checks the CUDA toolkit before the first kernel, because a missing header would stop the run minutes later.

#![expect(unsafe_code, reason = "calls functions of the CUDA driver and of NVRTC")]

use super::device::NotFound;
use crate::recipe::RuntimePlan;
use crate::shape::Precision;
use cudarc::driver::sys::CUdevice_attribute as Attribute;
use cudarc::driver::{DriverError, result as driver};
use cudarc::nvrtc::result as nvrtc;
use std::ffi::{CStr, CString, c_char};
use std::path::Path;

/// Compiles one tiny kernel with the headers that this run's kernels include, and loads it.
///
/// This takes about 0.1 s.
///
/// # Errors
///
/// Fails if the toolkit's folder or a header is missing, if NVRTC is too old for the GPU, or if the driver is too old
/// for NVRTC. The hint names the packages to install.
pub(super) fn check(runtime: &RuntimePlan) -> Result<(), NotFound> {
    let Some(toolkit) = cubecl::cuda::install::cuda_path() else {
        return Err(NotFound::new(
            "mae finds no folder of the CUDA toolkit",
            "install the CUDA toolkit in /usr/local/cuda, or set the variable CUDA_PATH to its folder",
        ));
    };
    let gpu = Gpu::first().map_err(|error| {
        NotFound::new(
            format!("the NVIDIA driver cannot open the first GPU: {}", text(error)),
            "check that `nvidia-smi` lists the GPU",
        )
    })?;
    let source = source(runtime, gpu.architecture);
    let ptx = compile(&source, gpu.architecture, &toolkit.join("include"))
        .map_err(|log| refusal(&log, gpu, &toolkit))?;
    gpu.load(&ptx).map_err(|error| {
        let [nvrtc, driver] = [nvrtc_version(), driver_version()].map(name);
        NotFound::new(
            format!(
                "the NVIDIA driver cannot load a kernel from NVRTC {nvrtc}: {}. The driver supports CUDA {driver}",
                text(error)
            ),
            &format!(
                "install a driver for CUDA {nvrtc}, or set CUDA_PATH and LD_LIBRARY_PATH to a CUDA toolkit of version \
                 {driver} or older"
            ),
        )
    })
}

/// Returns the source of a kernel that needs the headers of this run.
fn source(runtime: &RuntimePlan, architecture: i32) -> String {
    let header = match runtime.precision {
        Precision::Fp32 => None,
        Precision::Bf16 => Some("cuda_bf16.h"),
        Precision::Fp16 => Some("cuda_fp16.h"),
    };
    let mut lines = Vec::new();
    if let Some(header) = header {
        lines.extend([format!("#include <{header}>"), "#include <mma.h>".to_owned()]);
        // Only tuned kernels use this header. Including it takes 2 s, so the kernel only asks for it.
        if runtime.precision == Precision::Bf16 && runtime.autotune && architecture >= 90 {
            lines.push(
                "#if !__has_include(<cuda/barrier>)\n#include <cuda/barrier>\n#endif".to_owned(),
            );
        }
    }
    lines.push(
        "extern \"C\" __global__ void probe(float *x) { x[threadIdx.x] += 1.0f; }".to_owned(),
    );
    lines.join("\n")
}

/// Compiles `source` with the options of Burn's kernels. Returns the PTX, or NVRTC's log.
fn compile(source: &str, architecture: i32, include: &Path) -> Result<Vec<c_char>, String> {
    let feature = if architecture >= 90 { "a" } else { "" };
    let options = [
        format!("--gpu-architecture=sm_{architecture}{feature}"),
        format!("--include-path={}", include.display()),
        format!("--include-path={}", include.join("cccl").display()),
    ];
    let source = CString::new(source).expect("no zero byte");
    let program = nvrtc::create_program(&source, None).map_err(|error| error.to_string())?;
    // SAFETY: `program` exists until the last line.
    unsafe {
        let compiled = match nvrtc::compile_program(program, &options) {
            Ok(()) => nvrtc::get_ptx(program).map_err(|error| error.to_string()),
            Err(error) => Err(nvrtc::get_program_log(program).map_or_else(
                |_| error.to_string(),
                |log| CStr::from_ptr(log.as_ptr()).to_string_lossy().into_owned(),
            )),
        };
        nvrtc::destroy_program(program).map_err(|error| error.to_string())?;
        compiled
    }
}

/// Returns the error for NVRTC's `log`.
fn refusal(log: &str, gpu: Gpu, toolkit: &Path) -> NotFound {
    let [major, minor] = nvrtc_version();
    if log.contains("--gpu-architecture") {
        return NotFound::new(
            format!(
                "NVRTC {major}.{minor} cannot compile for this GPU (compute capability {}.{})",
                gpu.architecture / 10,
                gpu.architecture % 10
            ),
            "install a newer CUDA toolkit",
        );
    }
    let toolkit = toolkit.display();
    let Some(header) = missing_header(log) else {
        let log: Vec<&str> = log.lines().filter(|line| !line.trim().is_empty()).take(3).collect();
        return NotFound::new(
            format!("NVRTC {major}.{minor} cannot compile a test kernel: {}", log.join(" ")),
            &format!("reinstall the CUDA toolkit in {toolkit}"),
        );
    };
    let (system, pip) = packages(header, [major, minor]);
    NotFound::new(
        format!("the CUDA toolkit in {toolkit} lacks the header {header}"),
        &format!("install NVIDIA's package {system} (apt, dnf) or {pip} (pip) for that toolkit"),
    )
}

/// Returns the header that NVRTC could not open.
fn missing_header(log: &str) -> Option<&str> {
    let (_, rest) = log.split_once("cannot open source file \"")?;
    Some(rest.split_once('"')?.0)
}

/// Returns the system package and the pip package that contain `header`.
fn packages(header: &str, [major, minor]: [i32; 2]) -> (String, String) {
    // NVIDIA's pip packages have the major version in their names up to CUDA 12, and crt/ was part of nvcc.
    let (system, pip) = match header {
        _ if header.starts_with("crt/") && major < 13 => ("cuda-nvcc", "nvidia-cuda-nvcc"),
        _ if header.starts_with("crt/") => ("cuda-crt", "nvidia-cuda-crt"),
        _ if header.starts_with("cuda/") || header.starts_with("nv/") => {
            ("cuda-cccl", "nvidia-cuda-cccl")
        }
        _ => ("cuda-cudart-dev", "nvidia-cuda-runtime"),
    };
    let pip_version = if major < 13 { format!("-cu{major}") } else { String::new() };
    (format!("{system}-{major}-{minor}"), format!("{pip}{pip_version}"))
}

/// The GPU that the test kernel is for.
#[derive(Clone, Copy)]
struct Gpu {
    device: cudarc::driver::sys::CUdevice,
    /// Compute capability, such as 90 for 9.0.
    architecture: i32,
}

impl Gpu {
    fn first() -> Result<Self, DriverError> {
        let device = driver::device::get(0)?;
        // SAFETY: the driver returned `device`.
        let of = |attribute| unsafe { driver::device::get_attribute(device, attribute) };
        let major = of(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?;
        let minor = of(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?;
        Ok(Self { device, architecture: 10 * major + minor })
    }

    fn load(self, ptx: &[c_char]) -> Result<(), DriverError> {
        // SAFETY: `ptx` ends with a zero byte. The context stays open, because Burn opens it next.
        unsafe {
            let context = driver::primary_ctx::retain(self.device)?;
            driver::ctx::set_current(context)?;
            driver::module::unload(driver::module::load_data(ptx.as_ptr().cast())?)
        }
    }
}

/// Returns the driver's words for an error.
pub(super) fn text(error: DriverError) -> String {
    let text = error.error_string().map(|text| text.to_string_lossy().into_owned());
    text.unwrap_or_else(|_| error.to_string())
}

fn name([major, minor]: [i32; 2]) -> String {
    format!("{major}.{minor}")
}

fn nvrtc_version() -> [i32; 2] {
    let [mut major, mut minor] = [0; 2];
    // SAFETY: both numbers outlive the call.
    let _ = unsafe { cudarc::nvrtc::sys::nvrtcVersion(&raw mut major, &raw mut minor) };
    [major, minor]
}

fn driver_version() -> [i32; 2] {
    let mut version = 0;
    // SAFETY: `version` outlives the call.
    let _ = unsafe { cudarc::driver::sys::cuDriverGetVersion(&raw mut version) };
    [version / 1000, version % 1000 / 10]
}

#[cfg(test)]
mod tests {
    use super::{missing_header, packages};

    #[test]
    fn the_hint_names_the_package_of_a_missing_header() {
        let log = "/cuda/include/mma.h(55): catastrophic error: cannot open source file \"crt/mma.h\"\n  #include";
        let header = missing_header(log).unwrap();
        let of = |version| packages(header, version);
        assert_eq!(of([13, 0]), ("cuda-crt-13-0".to_owned(), "nvidia-cuda-crt".to_owned()));
        assert_eq!(of([12, 4]), ("cuda-nvcc-12-4".to_owned(), "nvidia-cuda-nvcc-cu12".to_owned()));
        assert_eq!(packages("cuda/barrier", [13, 1]).1, "nvidia-cuda-cccl");
        assert_eq!(packages("cuda_bf16.h", [13, 1]).0, "cuda-cudart-dev-13-1");
        assert_eq!(missing_header("error: identifier \"x\" is undefined"), None);
    }
}
