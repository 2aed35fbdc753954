#!/usr/bin/env python3
"""Compares `mae bench data` with torchvision's loader on the same JPEG files. They run in turn, so that machine load affects both.

    scripts/bench_data_peer.py [--binary target/release/mae] [--images DIR] [--rounds 5] [--seconds 10] [--workers 2]

The peer is benches/peers/image_loader.py. Run this script with a Python that has torch, torchvision, timm, numpy and Pillow; the
virtual environment of scripts/bench_cpu.sh has them. DIR is an image folder with train/ and val/. Without it, the script makes
1,000 photograph-like images of 500x375 px and about 72 KB (ImageNet's mean) in a temporary folder. With several binaries,
separated by commas, it measures each of them.

Prints the median images/s of each program over the rounds, the ratio to the peer, and the speed-up over one worker.
"""

import argparse
import io
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

RECIPE = """name = "bench"
[data]
format = "imagefolder"
path = "{path}"
workers = {workers}
decode = "{decode}"
[model]
size = "vit_base_patch16"
[pretrain]
epochs = 1
warmup_epochs = 0
[finetune]
epochs = 1
warmup_epochs = 0
from = "scratch"
"""
PEER = Path(__file__).resolve().parent.parent / "benches/peers/image_loader.py"
ALONE = "pretrain exact, 1 worker"
WIDTH, HEIGHT, BYTES = 500, 375, 72_000
COUNT, CLASSES = 1000, 10


def photo(rng, quality):
    """Returns a JPEG with the spectrum of a photograph: noise that decreases with frequency, in correlated colors."""
    import numpy as np
    from PIL import Image

    fy, fx = np.fft.fftfreq(HEIGHT)[:, None], np.fft.rfftfreq(WIDTH)[None, :]
    fall = 1.0 / np.maximum(np.hypot(fy, fx), 1.0 / WIDTH) ** 1.2

    def layer():
        plane = np.fft.irfft2(np.fft.rfft2(rng.standard_normal((HEIGHT, WIDTH))) * fall, (HEIGHT, WIDTH))
        return plane / plane.std()

    grey = layer()
    planes = np.stack([grey + 0.3 * layer() for _ in range(3)], axis=-1)
    levels = np.clip(planes * 45 + rng.uniform(90, 150), 0, 255).astype(np.uint8)
    out = io.BytesIO()
    Image.fromarray(levels).save(out, "JPEG", quality=quality)
    return out.getvalue()


def make(folder):
    """Fills `folder` with synthetic photographs, at the JPEG quality that gives the file size closest to `BYTES`."""
    import numpy as np

    sizes = {q: statistics.mean(len(photo(np.random.default_rng(i), q)) for i in range(8)) for q in range(70, 98, 3)}
    quality = min(sizes, key=lambda q: abs(sizes[q] - BYTES))
    for index in range(COUNT):
        name = f"n{index % CLASSES:02}/{index:05}.jpg"
        for part in ("train", "val") if index < CLASSES else ("train",):
            path = folder / part / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(photo(np.random.default_rng(index), quality))


def call(arguments):
    done = subprocess.run([str(a) for a in arguments], stdout=subprocess.PIPE, text=True, check=False)
    try:
        return json.loads(done.stdout.strip().splitlines()[-1])["images_per_s"]
    except (IndexError, ValueError, KeyError):
        sys.exit(f"error: cannot measure {arguments[0]}: it printed no images_per_s (exit code {done.returncode})")


def ours(options, images, scratch, binary, stage, decode, workers):
    recipe = scratch / "recipe.toml"
    recipe.write_text(RECIPE.format(path=images, workers=workers, decode=decode))
    return call([binary, "bench", "data", recipe, "--stage", stage, "--seconds", options.seconds, "--json"])


def peer(options, images, stage, workers):
    return call([sys.executable, PEER, "--images", images / "train", "--workers", workers, "--seconds", options.seconds,
                 "--stage", stage])


def measure(options, images, scratch):
    all_, found, racers = options.workers, {}, {}
    for binary in options.binary.split(","):
        def add(name, *settings, binary=binary):
            racers[f"{binary} {name}"] = lambda: ours(options, images, scratch, binary, *settings)
        add("pretrain exact", "pretrain", "exact", all_)
        add("pretrain fast", "pretrain", "fast", all_)
        add(ALONE, "pretrain", "exact", 1)
        add("finetune exact", "finetune", "exact", all_)
    racers["peer pretrain"] = lambda: peer(options, images, "pretrain", all_)
    racers["peer finetune"] = lambda: peer(options, images, "finetune", all_)
    for round_ in range(1, options.rounds + 1):
        for name, run in racers.items():
            found.setdefault(name, []).append(run())
        print(f"round {round_}: " + ", ".join(f"{name} {rates[-1]:.0f}" for name, rates in found.items()), file=sys.stderr)
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default="target/release/mae")
    parser.add_argument("--images", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        images = options.images or scratch / "images"
        if options.images is None:
            make(images)
        files = list((images / "train").rglob("*.jpg"))
        print(f"{len(files)} files of {sum(f.stat().st_size for f in files) / len(files) / 1000:.0f} KB, "
              f"{options.workers} workers, median of {options.rounds} rounds")
        found = measure(options, images, scratch)
    middle = {name: statistics.median(rates) for name, rates in found.items()}
    for name, rate in middle.items():
        stage = name.split()[1]
        over = f", {rate / middle[f'peer {stage}']:.2f} times the peer" if not name.startswith("peer") and ALONE not in name else ""
        print(f"{name}: {rate:.0f} images/s ({min(found[name]):.0f} to {max(found[name]):.0f}){over}")
    for binary in options.binary.split(","):
        speed_up = middle[f"{binary} pretrain exact"] / middle[f"{binary} {ALONE}"]
        print(f"{binary}: {options.workers} workers are {speed_up:.2f} times as fast as 1")


if __name__ == "__main__":
    main()
