#!/usr/bin/env bash
# Measures the pre-training step of experiments/bench_digits.toml beside a PyTorch peer on the CPU: in turn, so that both
# meet the same machine. Ours loads its data as a run does; the peer is handed ready tensors.
#
#   scripts/bench_peer.sh PEER_DIR [BINARY]        # target/release/mae by default
#   PYTHON=venv/bin/python ROUNDS=5 THREADS=4 scripts/bench_peer.sh PEER_DIR
#
# PEER_DIR  a folder with torch_mae_pretrain.py, which prints one JSON object with `ms_per_step`
# PYTHON    a Python with torch and transformers (python3)
# ROUNDS    of each (3)
# THREADS   of both (2)
# SECONDS_A_ROUND  of ours (10)
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
    echo "error: there is no $peer" >&2
    exit 2
fi

# Reads the median step from the last line of JSON, as images/s.
images_per_s() { tail -n 1 | sed -nE 's/.*"ms_per_step": *([0-9.]+).*/\1/p' | awk '{ print 128000 / $1 }'; }

# Gives the middle one of the numbers that come a line each.
median() { sort -g | awk '{ v[NR] = $1 } END { m = int((NR + 1) / 2); print NR % 2 ? v[m] : (v[m] + v[m + 1]) / 2 }'; }

ours=()
theirs=()
for ((round = 1; round <= rounds; round++)); do
    a=$("$mae" bench train "$recipe" --seconds "$seconds" --set runtime.threads="$threads" --json | images_per_s)
    b=$("$python" "$peer" --size digits --batch 128 --threads "$threads" --steps 40 | images_per_s)
    : "${a:?mae gave no ms_per_step}" "${b:?the peer gave no ms_per_step}"
    ours+=("$a")
    theirs+=("$b")
    printf 'round %d: mae %.0f images/s, PyTorch %.0f images/s\n' "$round" "$a" "$b"
done
a=$(printf '%s\n' "${ours[@]}" | median)
b=$(printf '%s\n' "${theirs[@]}" | median)
awk -v a="$a" -v b="$b" -v t="$threads" 'BEGIN {
    printf "median: mae %.0f images/s, PyTorch %.0f images/s, %.2f times the peer (fp32, batch 128, %d threads)\n", a, b, a / b, t }'
