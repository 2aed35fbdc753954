#!/usr/bin/env bash
# Checks that a killed run loses nothing. Kills `mae run` at random moments, restarts it each time, and compares the result with
# an uninterrupted run. Takes about two minutes on two cores.
#
#   scripts/kill_test.sh [BINARY]                  # target/release/mae by default
#   KILLS=30 SEED=7 SIGNAL=INT scripts/kill_test.sh
#
# KILLS   how many kills must hit a run that is still working (default: 10)
# SIGNAL  KILL, INT or TERM (default: KILL); on INT and TERM a run saves its state and exits with 130
# SEED    seed of the random moments (default: random); printed, so that a failure can be repeated
set -euo pipefail
cd "$(dirname "$0")/.."

mae=${1:-target/release/mae}
kills=${KILLS:-10}
signal=${SIGNAL:-KILL}
seed=${SEED:-$RANDOM}
if ! command -v "$mae" >/dev/null; then
    echo "error: cannot start the test: $mae is not a program" >&2
    echo "  hint: run: cargo build --release" >&2
    exit 2
fi

work=$(mktemp -d)
pid=
cleanup() {
    if [ -n "$pid" ]; then kill -KILL "$pid" 2>/dev/null || true; fi
    rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

recipe=(
    experiments/quickstart.toml
    --set name=kill --set checkpoint.every_minutes=0
    --set pretrain.epochs=6 --set 'pretrain.checkpoint_epochs=[2,4,6]' --set pretrain.warmup_epochs=1
    --set finetune.epochs=2 --set finetune.warmup_epochs=1
    --set linprobe.epochs=2 --set linprobe.warmup_epochs=1
)

fail() {
    echo "FAIL: $1 (seed $seed)"
    exit 1
}

# Prints a CSV table without the columns that hold measured times.
without_times() {
    tr -d '\r' <"$1" | awk -F, -v OFS=, '
        NR == 1 { for (i = 1; i <= NF; i++) timed[i] = $i ~ /^(images_per_s|seconds|data_wait_s)$/ }
        { line = ""; for (i = 1; i <= NF; i++) if (!timed[i]) line = line OFS $i; print line }'
}

# Lists the files of a run without the lock, and replaces the time in names of event files.
files_of() { (cd "$1" && find . -type f ! -name .lock | sed -E 's/(tfevents)\.[0-9]+/\1.TIME/' | LC_ALL=C sort); }

# Compares a run with the uninterrupted run: list of files, tables, weights.
compare() {
    local run=$1 file
    files_of "$whole" >"$work/expected.txt"
    files_of "$run" >"$work/found.txt"
    diff "$work/expected.txt" "$work/found.txt" || fail "the list of files differs from the uninterrupted run"
    while read -r file; do
        case $file in
            */epochs.csv)
                diff <(without_times "$whole/$file") <(without_times "$run/$file") || fail "$file differs" ;;
            */provenance.json | */report.html) ;; # times and the command line
            */mae-manifest.jsonl) ;; # names of event files, which have a time
            */events.out.tfevents.*) ;; # times
            *) cmp "$whole/$file" "$run/$file" || fail "$file differs" ;;
        esac
    done <"$work/expected.txt"
}

whole=$work/whole/kill
TIMEFORMAT=%R
if ! whole_s=$({ time "$mae" run "${recipe[@]}" --runs "$work/whole" >"$work/log" 2>&1; } 2>&1); then
    cat "$work/log"
    fail "the uninterrupted run failed"
fi
# Kill within a third of the full time, so that a run gets several kills, early and late.
most_ms=$(awk -v s="$whole_s" 'BEGIN { printf "%d", s * 1000 / 3 + 1 }')
echo "uninterrupted run: $whole_s s, $(files_of "$whole" | wc -l | tr -d ' ') files"
echo "killing with SIG$signal within ${most_ms} ms of each start, seed $seed"

RANDOM=$seed
landed=0
runs=0
while [ "$landed" -lt "$kills" ]; do
    runs=$((runs + 1))
    while :; do
        "$mae" run "${recipe[@]}" --runs "$work/killed" >"$work/log" 2>&1 &
        pid=$!
        if [ "$landed" -lt "$kills" ]; then
            after_ms=$(((RANDOM * 32768 + RANDOM) % most_ms))
            sleep "$(awk -v ms="$after_ms" 'BEGIN { print ms / 1000 }')"
            kill -s "$signal" "$pid" 2>/dev/null || true
        fi
        code=0
        { wait "$pid" || code=$?; } 2>/dev/null
        pid=
        case $code in
            0) break ;;
            # 137 is SIGKILL. Before the program installs its handler, a signal ends it with 128 + its number.
            130 | 137 | 143)
                landed=$((landed + 1))
                echo "kill $landed: after $after_ms ms, in $(tail -n 1 "$work/log" | sed -E 's/^[^ ]+ +//; s/  .*//' | grep . || echo 'the start')" ;;
            *)
                cat "$work/log"
                fail "the run exited with $code" ;;
        esac
    done
    compare "$work/killed/kill"
    echo "run $runs: done, same result as the uninterrupted run"
    rm -rf "$work/killed"
done
echo "PASS: $landed kills (SIG$signal) over $runs run(s); tables and weights equal the uninterrupted run, byte for byte"
