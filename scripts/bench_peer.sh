#!/usr/bin/env bash
# Compares the pre-training speed of experiments/bench_digits.toml with a PyTorch script on the CPU. The two run in turn, so that
# machine load affects both. `mae` loads its data as in a run; the PyTorch script trains on ready tensors.
#
#   scripts/bench_peer.sh PEER_DIR [BINARY]        # target/release/mae by default
#   PYTHON=venv/bin/python ROUNDS=5 THREADS=4 scripts/bench_peer.sh PEER_DIR
#
# PEER_DIR  a folder with torch_mae_pretrain.py, which prints one JSON object with `ms_per_step`
# PYTHON    a Python with torch and transformers (default: python3)
# ROUNDS    measurements of each program (default: 3)
# THREADS   threads of each program (default: 2)
# SECONDS_A_ROUND  seconds of each `mae` measurement (default: 10)
set -euo pipefail

if [ $# -lt 1 ] || [ $# -gt 2 ]; then
    sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2
    exit 2
fi
peer=$1/torch_mae_pretrain.py
mae=${2:-target/release/mae}
python=${PYTHON:-python3}
rounds=${ROUNDS:-3}
threads=${THREADS:-2}
seconds=${SECONDS_A_ROUND:-10}
recipe=$(dirname "$0")/../experiments/bench_digits.toml
if [ ! -f "$peer" ]; then
    echo "error: cannot compare with PyTorch: $peer is missing" >&2
    exit 2
fi

# Reads the median step time from the last line (JSON), and prints images/s.
images_per_s() { tail -n 1 | sed -nE 's/.*"ms_per_step": *([0-9.]+).*/\1/p' | awk '{ print 128000 / $1 }'; }

# Prints the median of the numbers on stdin, one per line.
median() { sort -g | awk '{ v[NR] = $1 } END { m = int((NR + 1) / 2); print NR % 2 ? v[m] : (v[m] + v[m + 1]) / 2 }'; }

ours=()
theirs=()
for ((round = 1; round <= rounds; round++)); do
    a=$("$mae" bench train "$recipe" --seconds "$seconds" --set runtime.threads="$threads" --json | images_per_s)
    b=$("$python" "$peer" --size digits --batch 128 --threads "$threads" --steps 40 | images_per_s)
    : "${a:?mae printed no ms_per_step}" "${b:?the PyTorch script printed no ms_per_step}"
    ours+=("$a")
    theirs+=("$b")
    printf 'round %d: mae %.0f images/s, PyTorch %.0f images/s\n' "$round" "$a" "$b"
done
a=$(printf '%s\n' "${ours[@]}" | median)
b=$(printf '%s\n' "${theirs[@]}" | median)
awk -v a="$a" -v b="$b" -v t="$threads" 'BEGIN {
    printf "median: mae %.0f images/s, PyTorch %.0f images/s, ratio %.2f (fp32, batch 128, %d threads)\n", a, b, a / b, t }'
