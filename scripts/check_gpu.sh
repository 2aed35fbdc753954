#!/usr/bin/env bash
# Runs the GPU tests on Mesa's lavapipe, a Vulkan driver that computes on the CPU. No GPU is needed.
#
#   scripts/check_gpu.sh       # about 20 minutes from nothing on two cores
#
# Without lavapipe, root installs Debian's package mesa-vulkan-drivers. Another user gets a hint and exit code 1 in CI
# (if the variable CI is set), else exit code 0.
set -euo pipefail
cd "$(dirname "$0")/.."

# Lists the descriptions of lavapipe, separated by colons.
lavapipe() { compgen -G '/usr/share/vulkan/icd.d/lvp_icd*.json' | paste -sd :; }

if [ -z "$(lavapipe)" ] && [ "$(id -u)" = 0 ] && command -v apt-get > /dev/null; then
    apt-get update
    apt-get install -y mesa-vulkan-drivers
fi
driver=$(lavapipe || true)
if [ -z "$driver" ]; then
    echo "GPU tests left out: lavapipe is missing" >&2
    echo "hint: install it: sudo apt-get install mesa-vulkan-drivers" >&2
    if [ -n "${CI:-}" ]; then exit 1; else exit 0; fi
fi

# Only lavapipe, even on a machine with a GPU: the tolerances are the same everywhere.
export VK_DRIVER_FILES=$driver VK_ICD_FILENAMES=$driver
# Not optimised: an optimised build takes longer than these tests.
export CARGO_PROFILE_RELEASE_OPT_LEVEL=0
exec cargo test --release --no-default-features --features cpu,wgpu --test it gpu
