#!/usr/bin/env python3
"""Compares the speed of a training step on the CPU with plain PyTorch. Started by bench_cpu.sh, which installs PyTorch.

The two run in turn, so that machine load affects both. `mae` loads its data as in a run; the scripts in benches/peers train on
one batch in memory. Prints the median of the ratios of the rounds, and their smallest and largest. With --scale, it changes one
dimension of a model at a time, and fits images/s ~ dimension^exponent.
"""

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
PEERS = REPOSITORY / "benches/peers"
PEER_SCRIPTS = {"pretrain": "mae_pretrain.py", "finetune": "vit_finetune.py"}
DIGITS, VIT = "experiments/bench_digits.toml", "experiments/bench_vit_base.toml"
# Recipe, its settings, images of a batch, and what the model is.
SIZES = {
    "digits": (DIGITS, {}, 128, "64 wide, 4 blocks, 65 tokens"),
    "cifar": (DIGITS, {"model.embed_dim": 192, "model.depth": 12, "model.num_heads": 3, "model.decoder_embed_dim": 128,
                       "model.decoder_depth": 4}, 64, "ViT-Tiny, 65 tokens"),
    "small": (VIT, {"model.size": '"vit_small_patch16"'}, 16, "ViT-S at 224"),
    "base": (VIT, {}, 16, "ViT-B at 224"),
}
CLASSES = {DIGITS: 10, VIT: 1000}
# The model of --scale and the values of each dimension. Heads are 32 wide.
SCALED = {"batch": 64, "width": 128, "patches": 64}
VALUES = {"batch": (16, 32, 64, 128), "width": (64, 128, 256, 512), "patches": (16, 64, 256)}


def last_json(command, environment=None):
    """Runs a program and returns the JSON object in its last line."""
    done = subprocess.run([str(part) for part in command], stdout=subprocess.PIPE, text=True, env=environment, check=False)
    try:
        return json.loads(done.stdout.strip().splitlines()[-1])
    except (IndexError, ValueError):
        sys.exit(f"error: cannot measure {command[0]}: it printed no JSON (exit code {done.returncode})")


def ours(options, recipe, settings, stage, batch, threads):
    settings = {**settings, f"{stage}.batch_size": batch, "runtime.threads": threads}
    sets = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
    found = last_json([options.binary, "bench", "train", REPOSITORY / recipe, "--stage", stage, "--device", "cpu",
                       "--seconds", options.seconds, "--json", *sets])
    return 1e3 * batch / found["ms_per_step"]


def peer(options, stage, batch, threads, *dimensions):
    # Without this, OpenMP would start a thread per core before the script can choose.
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    return last_json([sys.executable, PEERS / PEER_SCRIPTS[stage], "--batch", batch, "--threads", threads, "--seconds",
                      options.seconds, *dimensions], environment)["images_per_s"]


def in_turn(options, one, other):
    """Measures two programs in turn. Returns their images/s."""
    rounds = [(one(), other()) for _ in range(options.rounds)]
    return [first for first, _ in rounds], [second for _, second in rounds]


def spread(values, digits):
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def compare(options):
    print(f"images/s, fp32, {options.threads} threads, median of {options.rounds} rounds (smallest to largest)\n")
    print("| model | stage | batch | mae | PyTorch | ratio |\n| --- | --- | --- | --- | --- | --- |")
    for size in options.sizes.split(","):
        recipe, settings, batch, words = SIZES[size]
        for stage in options.stages.split(","):
            shape = ["--size", size, *(["--classes", CLASSES[recipe]] if stage == "finetune" else [])]
            one, other = in_turn(options, lambda: ours(options, recipe, settings, stage, batch, options.threads),
                                 lambda: peer(options, stage, batch, options.threads, *shape))
            ratios = [a / b for a, b in zip(one, other)]
            row = [f"{size}: {words}", stage, batch, spread(one, 1), spread(other, 1), spread(ratios, 2)]
            print("| " + " | ".join(map(str, row)) + " |", flush=True)


def exponent(points):
    """Fits log(y) = a + exponent log(x) by least squares."""
    x, y = [[math.log(pair[axis]) for pair in points] for axis in (0, 1)]
    mean_x, mean_y = statistics.mean(x), statistics.mean(y)
    return sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y)) / sum((a - mean_x) ** 2 for a in x)


def at_scale(options, batch, width, patches, threads):
    """Measures the pre-training of a model with 4 blocks, and a decoder of the same width with 2."""
    image, heads = 4 * math.isqrt(patches), width // 32
    settings = {"data.input_size": image, "model.embed_dim": width, "model.num_heads": heads, "model.decoder_embed_dim": width,
                "model.decoder_num_heads": heads}
    shape = ["--size", "digits", "--image", image, "--width", width, "--heads", heads, "--decoder-width", width,
             "--decoder-heads", heads]
    one, other = in_turn(options, lambda: ours(options, DIGITS, settings, "pretrain", batch, threads),
                         lambda: peer(options, "pretrain", batch, threads, *shape))
    return statistics.median(one), statistics.median(other), statistics.median(a / b for a, b in zip(one, other))


def scale(options):
    cores = os.cpu_count() or 1
    values = {**VALUES, "threads": tuple(sorted({1, *(2**k for k in range(1, 8) if 2**k <= cores), cores}))}
    print(f"pre-training, 4 blocks; otherwise batch {SCALED['batch']}, {SCALED['width']} wide, {SCALED['patches']} patches, "
          f"{options.threads} threads; medians of {options.rounds} rounds\n")
    print("| dimension | value | mae, images/s | PyTorch, images/s | ratio |\n| --- | --- | --- | --- | --- |")
    fits = []
    for name, points in values.items():
        measured = []
        for value in points:
            found = at_scale(options, **{**SCALED, "threads": options.threads, name: value})
            measured.append((value, *found))
            print(f"| {name} | {value} | {found[0]:.1f} | {found[1]:.1f} | {found[2]:.2f} |", flush=True)
        if len(points) > 1:
            pair = [exponent([(row[0], row[column]) for row in measured]) for column in (1, 2)]
            fits.append(f"images/s ~ {name}^{pair[0]:.2f} (PyTorch: ^{pair[1]:.2f})")
    print("\n" + "\n".join(fits))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default="target/release/mae")
    parser.add_argument("--sizes", default=",".join(SIZES), help="of " + ",".join(SIZES))
    parser.add_argument("--stages", default="pretrain,finetune")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement; at least two steps are made")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--scale", action="store_true")
    options = parser.parse_args()
    unknown = [size for size in options.sizes.split(",") if size not in SIZES]
    unknown += [stage for stage in options.stages.split(",") if stage not in PEER_SCRIPTS]
    if unknown:
        parser.error(f"{', '.join(unknown)}: unknown")
    if not Path(options.binary).is_file():
        parser.error(f"{options.binary} is missing; build it with `cargo build --release`, or set --binary")
    (scale if options.scale else compare)(options)


if __name__ == "__main__":
    main()
