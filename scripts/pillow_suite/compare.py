"""Compares the pixels of pictures as mae and Pillow decode them. Called by scripts/pillow_suite.sh.

    compare.py PROGRAM WORK SUITE [FOLDER]

PROGRAM is the example `picture_pixels`, WORK a folder for temporary files, SUITE the folder of Pillow's test pictures,
and FOLDER another folder with pictures.
"""

import csv
import shutil
import subprocess
import sys
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

# Picture files by their names, as torchvision's ImageFolder.
EXTENSIONS = {".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp"}
# Formats that mae decodes under any name. It refuses other formats, and its message names them.
FORMATS = {"JPEG", "MPO", "PNG", "WEBP", "BMP", "GIF", "ICO", "PPM", "TGA", "TIFF", "JPEG2000", "AVIF"}
MOST_KNOWN = 10


def by_pillow(path):
    """Returns the format and the pixels, [H, W, 3]. Returns None if Pillow cannot open the file."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path) as image:
                return image.format, np.asarray(image.convert("RGB"))
    except Exception:  # Pillow's decoders raise almost every kind of error.
        return None


def by_mae(program, paths, folder):
    """Returns the pixels of each path, or the text of the error."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    lines = "".join(f"{path}\n" for path in paths)
    done = subprocess.run([program, str(folder)], input=lines, capture_output=True, text=True)
    if done.returncode != 0 or done.stderr:
        sys.exit(f"{program} failed: exit code {done.returncode}, after {done.stdout[-200:]}\n{done.stderr}")
    found = []
    for number, line in enumerate(done.stdout.splitlines()):
        result = line.split(" ", 1)[1]
        if result == "ok":
            head, levels = (folder / f"{number}.ppm").read_bytes().split(b"\n", 1)
            _, width, height, _ = head.split()
            found.append(np.frombuffer(levels, np.uint8).reshape(int(height), int(width), 3))
            (folder / f"{number}.ppm").unlink()
        else:
            found.append(result)
    return found


def difference(pillow, mae):
    """Returns how two results differ, or None."""
    if isinstance(mae, str):
        return mae
    if pillow.shape != mae.shape:
        return f"size {mae.shape[1]}x{mae.shape[0]}, not {pillow.shape[1]}x{pillow.shape[0]}"
    levels = np.abs(pillow.astype(int) - mae)
    return f"{np.count_nonzero(levels)} levels differ, at most by {levels.max()}" if levels.any() else None


def main():
    program, work, suite, *others = sys.argv[1:]
    here = Path(__file__).parent
    known = {row["file"]: row["reason"] for row in csv.DictReader((here / "known.csv").open())}
    paths, names = [], []
    for folder in [Path(suite), *map(Path, others)]:
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        paths += files
        names += [str(path.relative_to(folder)) for path in files]
    pillow = [by_pillow(path) for path in paths]
    mae = by_mae(program, paths, Path(work) / "pixels")
    counts, problems, used = Counter(), [], set()
    for path, name, expected, found in zip(paths, names, pillow, mae, strict=True):
        if expected is None:
            counts["not opened by Pillow"] += 1
            if path.suffix.lower() in {".jpg", ".jpeg"} and not isinstance(found, str):
                problems.append(f"{name}: Pillow refuses this JPEG file, and mae opens it")
            continue
        kind, pixels = expected
        wrong = difference(pixels, found)
        if wrong is None:
            counts["equal"] += 1
        elif kind not in FORMATS and path.suffix.lower() not in EXTENSIONS and "mae does not support " in wrong:
            counts["refused, with the name of the format"] += 1
        elif name in known:
            counts["listed in known.csv"] += 1
            used.add(name)
        else:
            problems.append(f"{name} ({kind}): {wrong}")
    problems += [f"{name}: listed in known.csv, but equal or missing" for name in sorted(known.keys() - used)]
    if len(known) > MOST_KNOWN:
        problems.append(f"known.csv lists {len(known)} pictures, more than {MOST_KNOWN}")
    for problem in problems:
        print(problem)
    print(", ".join(f"{count} {what}" for what, count in counts.most_common()))
    sys.exit(1 if problems else 0)


main()
