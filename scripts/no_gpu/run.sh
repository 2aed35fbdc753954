#!/usr/bin/env bash
# Runs a `mae` built with `--features cuda` on a machine without a GPU. The fake driver cuda.c runs no kernel, so all computed
# numbers are meaningless. But NVRTC compiles every kernel and the program caches it, as on a GPU.
#
#   NO_GPU_LOG=1 scripts/no_gpu/run.sh target/release/mae verify tests/golden/mae-1-r50-pixel --device cuda
#
# CUDA_PATH       required: the CUDA toolkit, a folder with include/ and lib/. The pip packages nvidia-cuda-nvrtc,
#                 nvidia-cuda-runtime, nvidia-cuda-cccl and nvidia-cuda-crt install one as nvidia/cu13
# XDG_CACHE_HOME  folder of the kernel cache (default: temporary, because tuning results from here must not be used on a GPU)
# NO_GPU_LOG      if set, logs each kernel when it is loaded, with the seconds since the start, and each all-reduce
# NO_GPU_LAUNCHES a CSV file to write: how often each kernel was launched
# NO_GPU_ERROR    makes one function of the driver fail, for example cuInit:100 (no device)
# NO_GPU_COUNT    number of simulated GPUs, at most 8 (default: 1)
set -euo pipefail

if [ $# -lt 1 ] || [ -z "${CUDA_PATH:-}" ]; then
    sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2
    exit 2
fi
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
# Only as libcuda.so: NVRTC would call functions of libcuda.so.1 that cuda.c lacks.
cc -shared -fPIC -O1 -w -pthread -o "$scratch/libcuda.so" "$(dirname "$0")/cuda.c"
ln -s libcuda.so "$scratch/libnccl.so"
for folder in lib lib64; do
    nvrtc=$(find "$CUDA_PATH/$folder/" -name 'libnvrtc.so.*' 2> /dev/null | head -n 1 || true)
    [ -z "$nvrtc" ] || ln -sf "$(realpath "$nvrtc")" "$scratch/libnvrtc.so"
done
export LD_LIBRARY_PATH=$scratch:$CUDA_PATH/lib:$CUDA_PATH/lib64${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
export XDG_CACHE_HOME=${XDG_CACHE_HOME:-$scratch}
"$@"
