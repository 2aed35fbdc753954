#!/usr/bin/env bash
# Fills a kernel cache on a machine without a GPU, so that scripts/gpu_check.sh does not wait for NVRTC on the GPU machine. The
# kernels are for compute capability 9.0 (H100) and for this BINARY only.
#
#   CUDA_PATH=/usr/local/cuda scripts/no_gpu/warm.sh target/release/mae warm
#   XDG_CACHE_HOME=$PWD/warm scripts/gpu_check.sh target/release/mae         # on the GPU machine
#
# CUDA_PATH  as for run.sh; its CUDA version must be supported by the driver of the GPU machine
#
# The cache holds no tuning results and no autotuned kernels, because no time was measured.
set -euo pipefail

if [ $# -ne 2 ] || [ -z "${CUDA_PATH:-}" ]; then
    sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2
    exit 2
fi
repository=$(cd "$(dirname "$0")/../.." && pwd)
binary=$(realpath "$1")
mkdir -p "$2"
XDG_CACHE_HOME=$(realpath "$2")
export XDG_CACHE_HOME
cd "$repository"

# A command may fail because its numbers are meaningless. By then its kernels are compiled.
compile() {
    echo "mae $*" >&2
    scripts/no_gpu/run.sh "$binary" "$@" > /dev/null 2> "$XDG_CACHE_HOME/log" || true
    tail -n 1 "$XDG_CACHE_HOME/log" >&2
}

untuned=(--set runtime.device=cuda --set runtime.autotune=false --set runtime.verify_device=false --seconds 1)
for precision in fp32 bf16; do
    compile verify tests/golden --device cuda --precision "$precision"
    set=(--set "runtime.precision=$precision" "${untuned[@]}")
    for stage in pretrain finetune; do
        compile bench train experiments/bench_vit_base.toml --stage "$stage" "${set[@]}"
    done
    for stage in pretrain finetune linprobe; do
        compile bench train experiments/quickstart.toml --stage "$stage" "${set[@]}"
    done
done
compile bench train experiments/bench_vit_base.toml --stage pretrain --set runtime.gradient_checkpointing=true "${set[@]}"

rm "$XDG_CACHE_HOME/log"
python3 - "$XDG_CACHE_HOME/cubecl/default.db" << 'EOF'
import sqlite3
import sys

kept = sqlite3.connect(sys.argv[1])
kept.execute("DELETE FROM entries WHERE namespace NOT LIKE 'cuda%'")
kept.commit()
print(kept.execute("SELECT count(*) FROM entries WHERE namespace LIKE 'cuda/%'").fetchone()[0], "kernels")
kept.execute("VACUUM")
kept.execute("PRAGMA wal_checkpoint(TRUNCATE)")
EOF
rm -f "$XDG_CACHE_HOME"/cubecl/default.db-*
