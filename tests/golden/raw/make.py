"""Makes the files of this folder: pictures that are not 8-bit grey or RGB, and their numbers.

python -m venv v && v/bin/pip install numpy==2.4.6 tifffile==2026.9.9 imagecodecs pillow && v/bin/python make.py

Every `NAME.tif` and `NAME.png` has an array `NAME.npy`, `[C, H, W]` or `[H, W]`, which tifffile or Pillow reads from it.
Seed 0. `versions.txt` has the versions that were used.
"""

import sys
from pathlib import Path

import numpy as np
import PIL
import tifffile
from PIL import Image

HERE = Path(__file__).parent
H, W = 10, 12


def bands(count, dtype, high):
    rng = np.random.default_rng(0)
    values = rng.integers(0, high, (H, W, count)).astype(dtype)
    return values if np.issubdtype(dtype, np.integer) else values + np.asarray(0.5, dtype)


def tiff(name, array, **options):
    path = HERE / f"{name}.tif"
    tifffile.imwrite(path, array, metadata=None, **options)
    back = tifffile.imread(path)
    if options.get("planarconfig") == "contig" and back.ndim == 3:
        back = np.moveaxis(back, 2, 0)
    np.save(HERE / f"{name}.npy", np.ascontiguousarray(back))


grey = bands(1, np.uint16, 65536)[:, :, 0]
tiff("grey16", grey, photometric="minisblack")
tiff("grey16-big-endian-lzw", grey, photometric="minisblack", byteorder=">", compression="lzw", predictor=True)
tiff("grey-float32-deflate", bands(1, np.float32, 60000)[:, :, 0], photometric="minisblack", compression="deflate", predictor=True)
five = bands(5, np.uint16, 65536)
extra = {"photometric": "minisblack", "extrasamples": ["unspecified"] * 4}
tiff("bands5", five, planarconfig="contig", **extra)
tiff("bands5-planes", np.moveaxis(five, 2, 0), planarconfig="separate", **extra)
tiff("bands5-tiles-zstd", five, planarconfig="contig", tile=(16, 16), compression="zstd", predictor=True, **extra)
tiff("bands12-uint8", bands(12, np.uint8, 256), planarconfig="contig", photometric="minisblack", extrasamples=["unspecified"] * 11)
tiff("rgb16", bands(3, np.uint16, 65536), planarconfig="contig", photometric="rgb")
Image.fromarray(grey).save(HERE / "grey16-png.png")
np.save(HERE / "grey16-png.npy", np.asarray(Image.open(HERE / "grey16-png.png")).astype(np.uint16))
versions = {"python": sys.version.split()[0], "numpy": np.__version__, "tifffile": tifffile.__version__, "pillow": PIL.__version__}
(HERE / "versions.txt").write_text("".join(f"{name} {version}\n" for name, version in versions.items()))
