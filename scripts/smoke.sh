#!/usr/bin/env bash
# Tries a built `mae` in a minute: prints the version, plans the quickstart, trains a shortened quickstart, and compares it
# with published figures.
#
#   scripts/smoke.sh [BINARY]                      # target/release/mae by default
set -euo pipefail
cd "$(dirname "$0")/.."

mae=${1:-target/release/mae}
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

"$mae" --version
"$mae" plan experiments/quickstart.toml --json > "$out/plan.json"
"$mae" run experiments/quickstart.toml --runs "$out" --set name=smoke --set runtime.device=cpu \
    --set pretrain.epochs=2 --set pretrain.warmup_epochs=1 --set 'pretrain.checkpoint_epochs=[2]' \
    --set finetune.epochs=1 --set finetune.warmup_epochs=0 --set linprobe.epochs=1 --set linprobe.warmup_epochs=0
test -s "$out/smoke/accuracy.csv"
test -s "$out/smoke/report.html"
"$mae" compare "$out/smoke" --published mae-paper > "$out/compare.txt"
echo "smoke test: passed"
