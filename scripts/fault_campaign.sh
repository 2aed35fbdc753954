#!/usr/bin/env bash
# Checks the promises of docs/reliability.md: kills, signals, full disks, damaged and mutated files, races. Compares every
# result with an undisturbed run, byte for byte. Takes up to 20 minutes on two cores.
#
#   scripts/fault_campaign.sh                             # all kinds of faults, target/release/mae
#   scripts/fault_campaign.sh --seconds 60                # the short version that CI runs
#   scripts/fault_campaign.sh --binary PATH --seed 7      # another program, a given seed
#   scripts/fault_campaign.sh --seed 7 --only shards --case 41 --keep    # repeats one case and keeps its folder
#
# --seconds N     scales the number of cases: 1200 is the full campaign (default)
# --jobs N        cases at a time (default: cores, at most 4)
# --only A,B      only these kinds; --list prints them
# --update PAGE   writes the figures into docs/reliability.md
# --install       installs strace and faketime with apt-get if they are missing (needs root)
#
# Without strace, faketime or root some cases cannot run. The campaign counts them and gives the reason.
# Exit codes: 0 all promises hold; 1 at least one case differs; 2 wrong usage, or the campaign cannot start.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

arguments=()
install=false
for argument in "$@"; do
    if [ "$argument" = --install ]; then install=true; else arguments+=("$argument"); fi
done

if ! command -v python3 >/dev/null; then
    echo "error: cannot start the campaign: python3 is not installed" >&2
    exit 2
fi
if $install; then
    missing=()
    command -v strace >/dev/null || missing+=(strace)
    command -v faketime >/dev/null || missing+=(faketime)
    if [ "${#missing[@]}" -gt 0 ]; then
        if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
            echo "warning: cannot install ${missing[*]}: this needs root and apt-get" >&2
        elif ! { apt-get update && apt-get install -y "${missing[@]}"; } >/dev/null 2>&1; then
            echo "warning: apt-get could not install ${missing[*]}" >&2
        fi
    fi
fi
exec python3 "$here/fault_campaign" ${arguments[@]+"${arguments[@]}"}
