#!/usr/bin/env python3
"""Draws 200 example pictures in 4 class folders, for docs/tutorial.md. Needs Python 3 alone.

    python3 docs/example_pictures.py [FOLDER]      # pictures by default; the same pictures every time
"""

import math
import random
import struct
import sys
import zlib
from pathlib import Path

SIDE, PICTURES = 96, 50


def mix(a, b, share):
    return [x + (y - x) * share for x, y in zip(a, b)]


def beach(rng):
    """Sky, sea and sand."""
    sky, sea, sand = [150, 190, 235], [40, 110, 170], [220, 195, 140]
    horizon, shore = rng.uniform(0.25, 0.5), rng.uniform(0.55, 0.8)
    waves = rng.uniform(0.3, 1.2)

    def colour(x, y):
        if y < horizon:
            return mix(sky, [235, 240, 250], y / horizon)
        edge = shore + 0.03 * math.sin(12 * x * waves)
        return mix(sea, [90, 170, 190], (y - horizon) / (edge - horizon)) if y < edge else sand

    return colour


def city(rng):
    """Buildings with windows before a grey sky."""
    sky = [170, 180, 195]
    count = rng.randrange(4, 8)
    heights = [rng.uniform(0.2, 0.75) for _ in range(count)]
    greys = [rng.uniform(60, 150) for _ in range(count)]
    window = rng.uniform(0.05, 0.09)

    def colour(x, y):
        building = min(int(x * count), count - 1)
        if y < heights[building]:
            return sky
        lit = (x % window) > window / 2 and (y % window) > window / 2
        return [230, 215, 150] if lit else [greys[building]] * 3

    return colour


def forest(rng):
    """Trunks before leaves."""
    trunks = [(rng.random(), rng.uniform(0.015, 0.05)) for _ in range(rng.randrange(4, 10))]
    ground = rng.uniform(0.75, 0.95)

    def colour(x, y):
        if any(abs(x - place) < width for place, width in trunks):
            return [75, 55, 35]
        return [60, 75, 35] if y > ground else mix([130, 170, 90], [35, 85, 40], y + 0.2 * math.sin(40 * x * y))

    return colour


def sunset(rng):
    """A low sun above dark ground."""
    horizon = rng.uniform(0.6, 0.85)
    sun = (rng.uniform(0.2, 0.8), horizon - rng.uniform(0.0, 0.25), rng.uniform(0.06, 0.14))

    def colour(x, y):
        if y > horizon:
            return [50, 35, 40]
        if math.hypot(x - sun[0], y - sun[1]) < sun[2]:
            return [255, 235, 170]
        return mix([90, 60, 120], [245, 140, 70], y / horizon)

    return colour


SCENES = {"beach": beach, "city": city, "forest": forest, "sunset": sunset}


def picture(scene, rng):
    """The rows of a PNG file. The colours are shuffled and tinted at random, so that they do not give the class away."""
    colour = SCENES[scene](rng)
    channels = rng.sample(range(3), 3)
    light = rng.uniform(0.4, 1.3)
    tint = [light * rng.uniform(0.5, 1.5) for _ in range(3)]
    angle, zoom = rng.uniform(-0.7, 0.7), rng.uniform(0.5, 1.6)
    turn = [zoom * math.cos(angle), zoom * math.sin(angle)]
    rows = []
    for y in range(SIDE):
        row = bytearray(1)  # the filter of a PNG row: none
        for x in range(SIDE):
            u, v = x / SIDE - 0.5, y / SIDE - 0.5
            levels = colour(turn[0] * u - turn[1] * v + 0.5, turn[1] * u + turn[0] * v + 0.5)
            noise = rng.randrange(-6, 7)
            levels = [levels[channel] * t + noise for channel, t in zip(channels, tint)]
            row += bytes(max(0, min(255, round(level))) for level in levels)
        rows.append(bytes(row))
    return b"".join(rows)


def png(rows):
    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", SIDE, SIDE, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")


def main():
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "pictures")
    rng = random.Random(0)
    for scene in SCENES:
        (folder / scene).mkdir(parents=True, exist_ok=True)
        for number in range(1, PICTURES + 1):
            (folder / scene / f"{scene}-{number:02}.png").write_bytes(png(picture(scene, rng)))
    print(f"{4 * PICTURES} pictures in {folder}/")


if __name__ == "__main__":
    main()
