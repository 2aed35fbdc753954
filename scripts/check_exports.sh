#!/usr/bin/env bash
# Checks that torch, timm and transformers load the files that `mae convert` writes, without missing or unused weights, and that
# their outputs equal the recorded ones. Converts every case of kind checkpoint_mae or checkpoint_vit in the given folders.
#
#   scripts/check_exports.sh [FOLDER]..            # tests/golden/checkpoints by default
#   PYTHON=venv/bin/python scripts/check_exports.sh
#
# PYTHON    a Python with torch, timm and transformers (default: installs them into target/exports-venv, 1 GB)
# BINARY    the program (default: target/release/mae)
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
