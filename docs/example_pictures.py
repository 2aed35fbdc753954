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


def polygon(corners, x, y):
    """Whether a point is inside a polygon: an odd number of edges crosses the ray to its right."""
    inside = False
    for (x1, y1), (x2, y2) in zip(corners, corners[1:] + corners[:1]):
        if (y1 > y) != (y2 > y) and x < x1 + (y - y1) * (x2 - x1) / (y2 - y1):
            inside = not inside
    return inside


def corners(count, radius, angle, inner=None):
    """Corners of a regular polygon; with `inner`, every second corner lies on that smaller radius, as in a star."""
    steps = count * (2 if inner else 1)
    at = lambda i: inner if inner and i % 2 else radius
    turns = [angle + 2 * math.pi * i / steps for i in range(steps)]
    return [(at(i) * math.cos(turn), at(i) * math.sin(turn)) for i, turn in enumerate(turns)]


def inside_of(shape, radius, angle):
    if shape == "circle":
        return lambda x, y: x * x + y * y < radius * radius
    points = {
        "square": lambda: corners(4, radius, angle),
        "star": lambda: corners(5, radius, angle, inner=0.45 * radius),
        "triangle": lambda: corners(3, radius, angle),
    }[shape]()
    return lambda x, y: polygon(points, x, y)


def picture(shape, rng):
    """One shape on a background: position, size, angle and colours are random."""
    colour = [rng.randrange(256) for _ in range(3)]
    background = [(level + 128 + rng.randrange(-40, 40)) % 256 for level in colour]
    radius = rng.uniform(20, 40)
    centre = [rng.uniform(radius, SIDE - radius) for _ in range(2)]
    inside = inside_of(shape, radius, rng.uniform(0, 2 * math.pi))
    rows = []
    for y in range(SIDE):
        row = bytearray(1)  # the filter of a PNG row: none
        for x in range(SIDE):
            base = colour if inside(x - centre[0], y - centre[1]) else background
            noise = rng.randrange(-16, 17)
            row += bytes(max(0, min(255, level + noise)) for level in base)
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
    for shape in ["circle", "square", "star", "triangle"]:
        (folder / shape).mkdir(parents=True, exist_ok=True)
        for number in range(1, PICTURES + 1):
            (folder / shape / f"{shape}-{number:02}.png").write_bytes(png(picture(shape, rng)))
    print(f"{4 * PICTURES} pictures in {folder}/")


if __name__ == "__main__":
    main()
