#!/usr/bin/env bash
# Checks a `mae` built with `--features cuda` on a machine with one NVIDIA GPU, and measures its speed: reference cases in fp32
# and bf16, ViT-B training compared with PyTorch, interrupted runs, the digits. It needs no Rust and no network. Progress goes to
# stderr, a Markdown report to stdout.
#
# It stops at its deadline, by default after less than nine minutes. Autotuned kernels are measured last, because with an empty
# kernel cache tuning takes many minutes. If there is not enough time for them, raise DEADLINE or run the script again.
#
#   scripts/gpu_check.sh BINARY                    # BINARY.xz is unpacked into a temporary folder
#   PYTHON=venv/bin/python OUT=/tmp/checked scripts/gpu_check.sh target/release/mae
#   DEVICE=cpu scripts/gpu_check.sh target/release/mae    # dry run: small shapes, only fp32
#
# PEERS      folder of the PyTorch scripts mae_pretrain.py, vit_finetune.py and vit.py (default: $INPUTS/peers, benches/peers of
#            the repository, or peers next to BINARY; the first that has the scripts)
# REFERENCE  cases for `mae verify` (default: tests/golden)
# OUT        output folder (default: ./gpu_check_out). gpu_check.json and gpu_check.md are rewritten after every step;
#            failures.log has the stderr of failed programs
# PYTHON     a Python with torch (default: python3)
# DEVICE     cuda, or cpu for a dry run (default: cuda)
# DEADLINE   seconds for all steps (default: 520); the report lists the steps that were not reached
# ROUNDS     rounds of each bf16 speed measurement, `mae` and PyTorch in turn (default: 2; dry run: 1, in fp32)
# XDG_CACHE_HOME  folder of the kernel cache (default: ~/.cache)
# STEPS      run only the steps whose names start with one of these: STEPS='digits,speed pretrain fp32'
#
# Exit codes: 0 if all steps that ran passed, and the fp32 cases ran or STEPS excludes them; 2 for wrong usage; 1 otherwise.
set -euo pipefail

if [ $# -ne 1 ] || [ "$1" = --help ] || [ "$1" = -h ]; then
    sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2
    exit 2
fi
python=${PYTHON:-python3}
if ! command -v "$python" >/dev/null; then
    echo "error: cannot run the check: $python is missing" >&2
    echo "  hint: set PYTHON to a Python with torch" >&2
    exit 2
fi
exec "$python" "$(dirname "$0")/gpu_check.py" "$1"
