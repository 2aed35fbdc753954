#!/usr/bin/env bash
# Makes a virtual environment with Python packages, if it is missing or incomplete. Other scripts call this one.
#
#   scripts/python_packages.sh FOLDER PACKAGE..
set -euo pipefail
folder=$1
shift
if [ ! -f "$folder/complete" ]; then
    python3 -m venv "$folder"
    "$folder/bin/pip" install --quiet "$@" >&2
    touch "$folder/complete"
fi
