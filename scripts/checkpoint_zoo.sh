#!/usr/bin/env bash
# Writes checkpoints as torch, timm, transformers, torchvision, Lightning, FSDP, DeepSpeed and others write them, and checks that
# `mae` computes the same outputs from them, or refuses them with the expected reason.
#
#   scripts/checkpoint_zoo.sh [WORD]..             # only the cases whose name contains one of the words
#   PYTHON=venv/bin/python scripts/checkpoint_zoo.sh
#
# PYTHON    a Python with torch, torchvision, timm and transformers (default: installs them into target/exports-venv, 5 GB)
# BINARY    the program (default: target/release/mae)
set -euo pipefail

here=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-}
if [ -z "$python" ]; then
    "$here/scripts/python_packages.sh" "$here/target/exports-venv" torch torchvision timm transformers safetensors numpy
    python=$here/target/exports-venv/bin/python
fi
BINARY=${BINARY:-$here/target/release/mae} exec "$python" "$here/scripts/checkpoint_zoo.py" "$@"
