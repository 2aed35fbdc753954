#!/usr/bin/env bash
# Compares the speed of training on the CPU with PyTorch. See scripts/bench_cpu.py for all options.
#
#   scripts/bench_cpu.sh                                   # all sizes and stages
#   scripts/bench_cpu.sh --sizes digits,base --rounds 7
#   scripts/bench_cpu.sh --scale                           # over batch, width, tokens and threads
#
# VENV    folder of the Python packages: torch, torchvision, timm, numpy, Pillow (default: target/bench_venv; made if missing)
# PYTHON  a Python that has the packages; VENV is not used then
set -euo pipefail
cd "$(dirname "$0")/.."

venv=${VENV:-target/bench_venv}
if [ -z "${PYTHON:-}" ]; then
    scripts/python_packages.sh "$venv" torch torchvision timm numpy pillow
fi
exec "${PYTHON:-$venv/bin/python}" scripts/bench_cpu.py "$@"
