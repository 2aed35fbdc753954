#!/usr/bin/env python3
"""Trains experiments/digits_reproduction.toml for five seeds and compares the results with those of the official code.

    scripts/reproduce_digits.py [BINARY] [RUNS]      # default: target/release/mae runs/digits_reproduction

Takes about 6 minutes per seed on two cores. After an interruption, the same command resumes. The official numbers are in
experiments/published/digits-official.csv. Exits with 1 if a mean differs by more than 3 x max(spread, 0.5); the floor for the loss
is 0.005 instead of 0.5.
"""

import csv
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SEEDS, EPOCHS, COLUMNS = range(5), ["0", "20", "40", "80", "160"], ["finetune_top1", "linprobe_top1", "pretrain_loss"]


def train(binary, runs):
    rows = []
    for seed in SEEDS:
        sets = ["--set", f"seed={seed}", "--set", f"name=seed{seed}"]
        recipe = ROOT / "experiments/digits_reproduction.toml"
        subprocess.run([binary, "run", recipe, "--runs", runs, *sets], check=True, stdout=subprocess.DEVNULL)
        with open(runs / f"seed{seed}" / "accuracy.csv", newline="") as table:
            rows += list(csv.DictReader(table))
    return rows


def column(rows, epoch, name):
    return [float(row[name]) for row in rows if row["pretrain_epoch"] == epoch and row[name]]


def main():
    if {"-h", "--help"} & set(sys.argv):
        sys.exit(__doc__)
    binary = sys.argv[1] if len(sys.argv) > 1 else ROOT / "target/release/mae"
    if not Path(binary).is_file():
        sys.exit(f"error: cannot train: {binary} is missing\n  hint: run `cargo build --release`")
    runs = Path(sys.argv[2] if len(sys.argv) > 2 else ROOT / "runs/digits_reproduction")
    ours = train(binary, runs)
    with open(ROOT / "experiments/published/digits-official.csv", newline="") as table:
        official = list(csv.DictReader(table))
    print("| pretrain_epoch | column | official mean | spread | mae mean | spread | difference | allowed |")
    print("| ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    far = 0
    for name in COLUMNS:
        digits = 5 if name == "pretrain_loss" else 2
        for epoch in EPOCHS:
            theirs, own = column(official, epoch, name), column(ours, epoch, name)
            if not theirs:
                continue
            mean, spread = statistics.mean(theirs), statistics.stdev(theirs)
            floor = 0.005 if name == "pretrain_loss" else 0.5
            difference, allowed = statistics.mean(own) - mean, 3 * max(spread, floor)
            far += abs(difference) > allowed
            numbers = [mean, spread, statistics.mean(own), statistics.stdev(own)]
            cells = [f"{n:.{digits}f}" for n in numbers] + [f"{difference:+.{digits}f}", f"{allowed:.{digits}f}"]
            print(f"| {epoch} | {name} | " + " | ".join(cells) + " |")
    sys.exit(1 if far else 0)


main()
