#!/usr/bin/env bash
# Whether torch, timm and transformers load what `mae convert` writes, without a missing or unused weight, and give the recorded
# outputs. Converts every case of kind checkpoint_mae and checkpoint_vit below the folders given.
#
#   scripts/check_exports.sh [FOLDER]..            # tests/golden/checkpoints by default
#   PYTHON=venv/bin/python scripts/check_exports.sh
#
# PYTHON    a Python with torch, timm and transformers; without it they are installed into target/exports-venv (1 GB)
# BINARY    the program (target/release/mae)
set -euo pipefail

here=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-}
if [ -z "$python" ]; then
    venv=$here/target/exports-venv
    python=$venv/bin/python
    if [ ! -x "$python" ]; then
        python3 -m venv "$venv"
        "$python" -m pip install --quiet torch torchvision timm transformers safetensors numpy
    fi
fi
if [ $# -eq 0 ]; then
    set -- "$here/tests/golden/checkpoints"
fi
BINARY=${BINARY:-$here/target/release/mae} exec "$python" "$here/scripts/check_exports.py" "$@"
