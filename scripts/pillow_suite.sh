#!/usr/bin/env bash
# Decodes the pictures of Pillow's own test suite with mae and with Pillow, and compares every pixel. Takes one minute after
# the build. Exits with 1 if a picture differs, or is refused, that pillow_suite/known.csv does not list.
#
#   scripts/pillow_suite.sh [FOLDER]     # also compares all files in FOLDER
set -euo pipefail
cd "$(dirname "$0")/.."
work=$PWD/target/pillow_suite
version=13.0.0
scripts/python_packages.sh "$work/venv" "pillow==$version" numpy
if [ ! -d "$work/pillow-$version/Tests/images" ]; then
    "$work/venv/bin/pip" download --quiet --no-deps --no-binary pillow --dest "$work" "pillow==$version" >&2
    tar -xzf "$work/pillow-$version.tar.gz" -C "$work"
fi
cargo build --release --quiet --example picture_pixels
target=$(cargo metadata --format-version 1 --no-deps | "$work/venv/bin/python" -c 'import json, sys; print(json.load(sys.stdin)["target_directory"])')
"$work/venv/bin/python" scripts/pillow_suite/compare.py "$target/release/examples/picture_pixels" "$work" \
    "$work/pillow-$version/Tests/images" "$@"
