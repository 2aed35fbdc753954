#!/usr/bin/env bash
# Compares the outputs shown in README.md and docs/ with those of a built `mae`.
#
#   scripts/docs_outputs.sh [--update] [--list] [--work DIR] [MAE_BINARY]     # target/release/mae by default
#
# Exits with 1 if an output differs. --update rewrites the pages. --list prints the commands and runs nothing.
# --work DIR keeps the work folder and the outputs in it; a second call with the same DIR runs only new commands.
# A full check takes about 20 minutes on two cores.
set -euo pipefail
exec python3 "$(dirname "$0")/docs_outputs.py" "$@"
