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
    "$here/scripts/python_packages.sh" "$here/target/exports-venv" torch torchvision timm transformers safetensors numpy
    python=$here/target/exports-venv/bin/python
fi
if [ $# -eq 0 ]; then
    set -- "$here/tests/golden/checkpoints"
fi
BINARY=${BINARY:-$here/target/release/mae} exec "$python" "$here/scripts/check_exports.py" "$@"
