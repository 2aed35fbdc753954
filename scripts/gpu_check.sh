#!/usr/bin/env bash
# Checks and measures a `mae` built with `--features cuda` on a machine with one NVIDIA GPU: the reference cases in fp32 and
# bf16, ViT-B's training speed beside PyTorch, interrupted runs, the digits. It needs no Rust and no network. Progress goes
# to stderr, a Markdown table to stdout. It ends at its deadline, under nine minutes. Untuned kernels come first; tuned ones last,
# for they take many minutes where none are kept from an earlier start: raise DEADLINE, or start it again.
#
#   scripts/gpu_check.sh BINARY                    # or BINARY.xz, which is unpacked into a temporary folder
#   PYTHON=venv/bin/python OUT=/tmp/checked scripts/gpu_check.sh target/release/mae
#   DEVICE=cpu scripts/gpu_check.sh target/release/mae    # a dry run: small shapes, fp32 alone
#
# PEERS      the folder of torch_mae_pretrain.py and torch_vit_finetune.py (peers in the folder INPUTS, if that is set;
#            else ../shared/peers beside the repository; else peers beside BINARY)
# REFERENCE  cases for `mae verify` (tests/golden)
# OUT        where gpu_check.json and gpu_check.md go, rewritten after every step, and failures.log, all that failed programs
#            said (./gpu_check_out)
# PYTHON     a Python with torch, timm and transformers (python3)
# DEVICE     cuda, or cpu for a dry run (cuda)
# DEADLINE   seconds for everything (520); what was not reached is named
# ROUNDS     of each speed measurement in bf16, ours and the peer's in turn (2; in a dry run 1, in fp32)
# XDG_CACHE_HOME  where kernels are kept from one start to the next (~/.cache)
# STEPS      do these steps alone, by the beginnings of their names: STEPS='digits,speed pretrain fp32'
#
# Exits with 0 if everything that ran passed and the cases in fp32 did run (or STEPS left them out), with 1 otherwise,
# with 2 on wrong usage.
set -euo pipefail

if [ $# -ne 1 ] || [ "$1" = --help ] || [ "$1" = -h ]; then
    sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2
    exit 2
fi
python=${PYTHON:-python3}
if ! command -v "$python" >/dev/null; then
    echo "error: there is no $python; PYTHON names one with torch, timm and transformers" >&2
    exit 2
fi
exec "$python" "$(dirname "$0")/gpu_check.py" "$1"
