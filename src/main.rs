//! The `mae` program: parses arguments, calls one command, prints one error.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    mae::cli::main()
}
