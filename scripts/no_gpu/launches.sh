#!/usr/bin/env bash
# Counts the kernel launches of a training step on the fake driver of run.sh, by kernel. No GPU is needed.
#
#   CUDA_PATH=/usr/local/cuda scripts/no_gpu/launches.sh target/release/mae pretrain
#
# STAGE is pretrain, finetune or linprobe. More arguments go to `mae bench train`, for example --set runtime.precision=fp32.
# The recipe is experiments/bench_vit_base.toml with batches of 8 images in bf16: the number of launches does not depend on the
# batch size.
#
# Two runs of different lengths are subtracted, so launches before the first step do not count. The kernel with the fewest launches
# is assumed to run once in each step.
set -euo pipefail

if [ $# -lt 2 ] || [ -z "${CUDA_PATH:-}" ]; then
    sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2
    exit 2
fi
repository=$(cd "$(dirname "$0")/../.." && pwd)
binary=$(realpath "$1")
stage=$2
shift 2
cd "$repository"
counts=$(mktemp -d)
trap 'rm -rf "$counts"' EXIT
export XDG_CACHE_HOME=${XDG_CACHE_HOME:-$counts}

for seconds in 1 6; do
    NO_GPU_LAUNCHES=$counts/$seconds.csv scripts/no_gpu/run.sh "$binary" bench train experiments/bench_vit_base.toml \
        --stage "$stage" --seconds "$seconds" --set runtime.device=cuda --set runtime.precision=bf16 \
        --set runtime.autotune=false --set runtime.verify_device=false --set "$stage.batch_size=8" --set data.train_images=1000000 "$@" \
        > /dev/null 2> "$counts/log" || { tail -n 5 "$counts/log" >&2; exit 1; }
done

python3 - "$counts" << 'EOF'
import csv
import sys
from collections import Counter

short, long = (
    {row["kernel"]: int(row["launches"]) for row in csv.DictReader(open(f"{sys.argv[1]}/{seconds}.csv"))} for seconds in (1, 6)
)
grown = Counter({name: count - short.get(name, 0) for name, count in long.items()})
steps = min(count for count in grown.values() if count > 0)
print(f"{sum(grown.values()) / steps:8.1f}  launches a step ({steps} steps)")
for name, count in grown.most_common():
    if count > 0:
        print(f"{count / steps:8.1f}  {name}")
EOF
