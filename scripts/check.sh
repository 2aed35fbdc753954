#!/usr/bin/env bash
# Checks a change, cheapest step first, and stops at the first failure. CI runs the same script.
#
#   scripts/check.sh           # everything; about 40 minutes from nothing on two cores
#   scripts/check.sh --fast    # leaves out the GPU steps; minutes once the dependencies are built
#
# `typos` and `cargo deny` run if they are installed: cargo install --locked typos-cli cargo-deny
# Prints the time of each step.
set -euo pipefail
cd "$(dirname "$0")/.."

fast=false
case "$#:${1:-}" in
    0:) ;;
    1:--fast) fast=true ;;
    *)
        sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2
        exit 2
        ;;
esac

times=()

# Prints the time of each finished step, and the step that failed.
summary() {
    local code=$?
    printf '\n%8s  %s\n' seconds step
    if [ "${#times[@]}" -gt 0 ]; then printf '%s\n' "${times[@]}"; fi
    if [ "$code" -ne 0 ]; then
        printf '%8s  %s\n' FAILED "$name"
    fi
}
trap summary EXIT

# step NAME COMMAND..: runs one check.
step() {
    name=$1
    shift
    printf '\n== %s: %s\n' "$name" "$*"
    local start=$SECONDS
    "$@"
    times+=("$(printf '%8d  %s' $((SECONDS - start)) "$name")")
}

# left_out NAME REASON: prints that a check did not run, and why.
left_out() {
    printf '\n== %s: left out, %s\n' "$1" "$2"
    times+=("$(printf '%8s  %s (%s)' - "$1" "$2")")
}

# has PROGRAM: whether a program is installed.
has() { command -v "$1" > /dev/null; }

step format cargo fmt --check
if has typos; then step typos typos; else left_out typos "typos is not installed"; fi
if has cargo-deny; then
    step dependencies cargo deny --config .cargo/deny.toml check
else
    left_out dependencies "cargo-deny is not installed"
fi
# One profile for all steps, so that the dependencies are built once. The tests include the links of the documentation.
# With an MPI library, the one test build includes MPI, and the tests start runs on several hosts with `mpirun`.
mpi=()
if has mpicc && has mpirun; then
    mpi=(--features mpi)
else
    left_out "MPI" "mpicc or mpirun is not installed (apt-get install libopenmpi-dev openmpi-bin libclang-dev)"
fi
step clippy cargo clippy --release --all-targets "${mpi[@]}" -- -D warnings
step docs env RUSTDOCFLAGS="-D warnings" cargo doc --release --no-deps
step tests cargo test --release "${mpi[@]}"
if $fast; then
    left_out "clippy for GPUs" --fast
    left_out "tests on a software GPU" --fast
else
    step "clippy for GPUs" cargo clippy --release --all-targets --features cuda,vulkan,wgpu -- -D warnings
    step "tests on a software GPU" scripts/check_gpu.sh
fi
