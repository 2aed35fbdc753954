//! The `mae` program.

use std::ffi::c_long;
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    keep_freed_memory();
    mae::cli::main()
}

/// Keeps freed memory in the process, whereas mimalloc by default returns it to the system after 10 ms.
///
/// Training steps free their activations and need the same amount of memory again in the next step. For large models,
/// the operating system would otherwise clear gigabytes of pages in every step.
fn keep_freed_memory() {
    /// `mi_option_purge_delay` in `mimalloc.h`. The crate `libmimalloc_sys` does not define this constant.
    const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;
    const MILLISECONDS: c_long = 10_000;
    #[expect(unsafe_code, reason = "the allocator is a C library")]
    // SAFETY: the function sets an entry of a table of numbers. It accepts every option and value.
    unsafe {
        libmimalloc_sys::mi_option_set(PURGE_DELAY, MILLISECONDS);
    }
}
