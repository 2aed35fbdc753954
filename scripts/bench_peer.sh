#!/usr/bin/env bash
# Compares the pre-training speed of experiments/bench_digits.toml with plain PyTorch on the CPU. A short form of
# scripts/bench_cpu.sh, for use after a change.
#
#   scripts/bench_peer.sh [BINARY]                 # target/release/mae by default
#   ROUNDS=9 THREADS=4 SECONDS_A_ROUND=10 scripts/bench_peer.sh
set -euo pipefail
exec "$(dirname "$0")/bench_cpu.sh" --binary "${1:-target/release/mae}" --sizes digits --stages pretrain \
    --rounds "${ROUNDS:-5}" --threads "${THREADS:-2}" --seconds "${SECONDS_A_ROUND:-5}"
