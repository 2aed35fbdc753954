#!/usr/bin/env bash
# Counts the kernel launches of a training step on the fake driver of run.sh, by kernel. No GPU is needed.
#
#   CUDA_PATH=/usr/local/cuda scripts/no_gpu/launches.sh target/release/mae pretrain
#
# STAGE is pretrain or finetune. More arguments go to `mae run`, for example --set runtime.precision=fp32.
# The recipe is experiments/bench_vit_base.toml with batches of 8 images in bf16: the number of launches does not depend on the
# batch size.
#
# Two runs of one epoch, of 4 and of 12 updates, are subtracted, so only launches of a training step count.
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

for updates in 4 12; do
    NO_GPU_LAUNCHES=$counts/$updates.csv scripts/no_gpu/run.sh "$binary" run experiments/bench_vit_base.toml \
        --runs "$counts/$updates" --stage "$stage" --set runtime.device=cuda --set runtime.precision=bf16 \
        --set runtime.autotune=false --set runtime.verify_device=false --set pretrain.batch_size=8 --set finetune.batch_size=8 \
        --set "$stage.epochs=1" --set "$stage.warmup_epochs=0" --set data.train_images=$((8 * updates)) \
        --set data.val_images=8 "$@" > /dev/null 2> "$counts/log" || { tail -n 5 "$counts/log" >&2; exit 1; }
done

python3 - "$counts" << 'EOF'
import csv
import sys
from collections import Counter

short, long = (
    Counter({row["kernel"]: int(row["launches"]) for row in csv.DictReader(open(f"{sys.argv[1]}/{updates}.csv"))})
    for updates in (4, 12)
)
grown = long - short
print(f"{sum(grown.values()) / 8:8.1f}  launches a step")
for name, count in grown.most_common():
    print(f"{count / 8:8.1f}  {name}")
EOF
