//! Checks whether the CUDA libraries are installed, and whether the driver starts.

#![expect(
    unsafe_code,
    reason = "opening a library runs its initialisers, as the CUDA backend does later"
)]

/// Returns whether the driver, `libcuda`, is installed.
pub(crate) fn driver() -> bool {
    // SAFETY: opens and closes a library that the CUDA backend opens next.
    unsafe { cudarc::driver::sys::is_culib_present() }
}

/// Returns whether `libnvrtc` is installed. This library compiles GPU kernels.
pub(crate) fn nvrtc() -> bool {
    // SAFETY: as above.
    unsafe { cudarc::nvrtc::sys::is_culib_present() }
}

/// Returns whether `libnccl` is installed. This library sums gradients over GPUs.
pub(crate) fn nccl() -> bool {
    // SAFETY: as above.
    unsafe { cudarc::nccl::sys::is_culib_present() }
}

/// Starts the driver. Returns the driver's message if it fails, as in a container without access to a GPU.
pub(crate) fn start() -> Result<(), String> {
    cudarc::driver::result::init().map_err(super::cuda_toolkit::text)
}
