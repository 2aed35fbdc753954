//! Whether CUDA's libraries are on this machine, asked before anything would call into them.

#![expect(
    unsafe_code,
    reason = "looking for a library runs its initialisers, which is what calling CUDA does anyway"
)]

/// Whether the driver (`libcuda`) is there.
pub(crate) fn driver() -> bool {
    // SAFETY: opens and closes the library that the CUDA backend is about to open.
    unsafe { cudarc::driver::sys::is_culib_present() }
}

/// Whether NVRTC (`libnvrtc`), which compiles kernels, is there.
pub(crate) fn nvrtc() -> bool {
    // SAFETY: as above.
    unsafe { cudarc::nvrtc::sys::is_culib_present() }
}

/// Whether NCCL (`libnccl`), which adds up gradients over GPUs, is there.
pub(crate) fn nccl() -> bool {
    // SAFETY: as above.
    unsafe { cudarc::nccl::sys::is_culib_present() }
}
