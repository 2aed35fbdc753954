#!/usr/bin/env bash
# Runs a `mae` built with `--features cuda` on a machine without a GPU, on a driver that runs no kernel (cuda.c): the numbers are
# nothing, but every kernel is compiled, by the NVRTC that is there, and kept as on a GPU.
#
#   NO_GPU_LOG=1 scripts/no_gpu/run.sh target/release/mae verify tests/golden/mae-1-r50-pixel --device cuda
#
# CUDA_PATH       a toolkit, or what pip installs of one: the folder with include/ and lib/ (nvidia/cu13 of nvidia-cuda-nvrtc,
#                 nvidia-cuda-runtime, nvidia-cuda-cccl and nvidia-cuda-crt). Needed
# XDG_CACHE_HOME  where kernels are kept (a temporary folder: what a tuner chose here must not be used on a GPU)
# NO_GPU_LOG      names each kernel when it is loaded, with the seconds since the start, and each message from GPU to GPU
# NO_GPU_COUNT    how many GPUs there are, at most 8 (1)
set -euo pipefail

if [ $# -lt 1 ] || [ -z "${CUDA_PATH:-}" ]; then
    sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2
    exit 2
fi
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
# As libcuda.so alone: NVRTC asks libcuda.so.1 for more than there is here.
cc -shared -fPIC -O1 -w -pthread -o "$scratch/libcuda.so" "$(dirname "$0")/cuda.c"
ln -s libcuda.so "$scratch/libnccl.so"
for folder in lib lib64; do
    nvrtc=$(find "$CUDA_PATH/$folder/" -name 'libnvrtc.so.*' 2> /dev/null | head -n 1 || true)
    [ -z "$nvrtc" ] || ln -sf "$(realpath "$nvrtc")" "$scratch/libnvrtc.so"
done
export LD_LIBRARY_PATH=$scratch:$CUDA_PATH/lib:$CUDA_PATH/lib64${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
export XDG_CACHE_HOME=${XDG_CACHE_HOME:-$scratch}
"$@"
