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


PATTERNS = {
    "checks": lambda x, y, size: (x // size + y // size) % 2 < 1,
    "dots": lambda x, y, size: math.hypot(x % (2 * size) - size, y % (2 * size) - size) < 0.6 * size,
    "rings": lambda x, y, size: math.hypot(x - SIDE / 2, y - SIDE / 2) % (2 * size) < size,
    "stripes": lambda x, y, size: (x + y) % (2 * size) < size,
}


def picture(pattern, rng):
    """Two colours in a pattern; its size and place, the colours and some noise are random."""
    colours = [[rng.randrange(256) for _ in range(3)]]
    colours.append([(level + 128 + rng.randrange(-40, 40)) % 256 for level in colours[0]])
    size = rng.uniform(6, 14)
    shift = [rng.uniform(-20, 20) for _ in range(2)]
    inside = PATTERNS[pattern]
    rows = []
    for y in range(SIDE):
        row = bytearray(1)  # the filter of a PNG row: none
        for x in range(SIDE):
            colour = colours[inside(x + shift[0], y + shift[1], size)]
            noise = rng.randrange(-16, 17)
            row += bytes(max(0, min(255, level + noise)) for level in colour)
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
    for pattern in PATTERNS:
        (folder / pattern).mkdir(parents=True, exist_ok=True)
        for number in range(1, PICTURES + 1):
            (folder / pattern / f"{pattern}-{number:02}.png").write_bytes(png(picture(pattern, rng)))
    print(f"{4 * PICTURES} pictures in {folder}/")


if __name__ == "__main__":
    main()
