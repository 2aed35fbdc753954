"""Makes the pictures of this folder, and expected.csv with the pixels of Pillow's convert("RGB").

Made with Pillow 13.0.0, tifffile 2026.3.3 and imagecodecs 2026.3.6, without random numbers:

    pip install pillow==13.0.0 tifffile imagecodecs && python make.py
"""

import csv
import struct
import zlib
from pathlib import Path

import imagecodecs
import numpy as np
import tifffile
from PIL import Image

HERE = Path(__file__).parent
WIDTH, HEIGHT = 19, 13
Y, X = np.mgrid[:HEIGHT, :WIDTH]
WAVES = [127 + 100 * np.sin(X / 5), 127 + 100 * np.cos(Y / 4), 127 + 100 * np.sin((X + Y) / 6)]
RGB = np.stack(WAVES, -1).astype(np.uint8)
ALPHA = (X * 12 % 256).astype(np.uint8)
NUMBERS = (X * 30 - Y * 20).astype(np.int32)
COLOUR, GREY = Image.fromarray(RGB), Image.fromarray(RGB[..., 0])
CLEAR = Image.fromarray(np.dstack([RGB, ALPHA]), "RGBA")
PALETTE, BITS = COLOUR.quantize(16), GREY.convert("1")


def save(name, image, format=None, **options):
    image.save(HERE / name, format=format, **options)


def tiff(name, array, **options):
    tifffile.imwrite(HERE / name, np.ascontiguousarray(array), metadata=None, software=False, **options)


def chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def grey16_png():
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in NUMBERS.clip(0, 65535))
    header = struct.pack(">IIBBBBB", WIDTH, HEIGHT, 16, 0, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"tRNS", b"\0\x1e"), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    data = b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in chunks)
    (HERE / "grey16-trns.png").write_bytes(data)


def jpeg_overflows():
    """Writes JPEG files whose coefficients are too large for 16 bits, as in damaged files: the quantization steps are replaced."""
    y, x = np.mgrid[:32, :40]
    noise = np.stack([(x * x * 7 + y * y * k + x * y * 5) % 256 for k in (11, 13, 19)], -1).astype(np.uint8)
    # The first level, 160, becomes the coefficient 8192, which does not fit 16 bits with 2 fraction bits.
    noise, flat = Image.fromarray(noise), Image.fromarray(160 - 2 * (x // 8 + y // 8 * 5).astype(np.uint8))
    for name, image, options in [
        ("grey", noise.convert("L"), {}),
        ("flat", flat, {}),
        ("420", noise, {"subsampling": 2}),
        ("422", noise, {"subsampling": 1, "progressive": True}),
        ("cmyk", noise.convert("CMYK"), {}),
    ]:
        path = HERE / f"overflow-{name}.jpg"
        save(path.name, image, quality=100, **options)
        data = bytearray(path.read_bytes())
        at = data.find(b"\xff\xdb")
        while at >= 0:
            data[at + 5 : at + 69] = bytes(32 - k // 4 for k in range(64))
            at = data.find(b"\xff\xdb", at + 69)
        path.write_bytes(data)


def bmp565():
    values = (RGB[..., 0].astype(np.uint16) >> 3 << 11) | (RGB[..., 1].astype(np.uint16) >> 2 << 5) | RGB[..., 2] >> 3
    rows = b"".join(row.astype("<u2").tobytes().ljust((WIDTH * 2 + 3) // 4 * 4, b"\0") for row in values[::-1])
    masks = struct.pack("<III", 0xF800, 0x07E0, 0x001F)
    info = struct.pack("<IiiHHIIiiII", 40, WIDTH, HEIGHT, 1, 16, 3, len(rows), 0, 0, 0, 0) + masks
    head = b"BM" + struct.pack("<IHHI", 14 + len(info) + len(rows), 0, 0, 14 + len(info))
    (HERE / "rgb565.bmp").write_bytes(head + info + rows)


def bmp_rle8():
    index = np.asarray(PALETTE)[::-1]
    runs = b"".join(b"".join(bytes([1, v]) for v in row) + b"\0\0" for row in index) + b"\0\1"
    colours = np.asarray(PALETTE.getpalette()[:48]).reshape(-1, 3)
    table = b"".join(bytes([b, g, r, 0]) for r, g, b in colours)
    info = struct.pack("<IiiHHIIiiII", 40, WIDTH, HEIGHT, 1, 8, 1, len(runs), 0, 0, 16, 0)
    head = b"BM" + struct.pack("<IHHI", 54 + len(table) + len(runs), 0, 0, 54 + len(table))
    (HERE / "rle8.bmp").write_bytes(head + info + table + runs)


def gif_with_offset():
    """A frame that is smaller than the canvas and sticks out on the right."""
    save("offset.gif", PALETTE)
    data = bytearray((HERE / "offset.gif").read_bytes())
    data[6:10] = struct.pack("<HH", 25, 20)
    frame = data.index(b",\0\0\0\0")
    data[frame + 1 : frame + 5] = struct.pack("<HH", 8, 4)
    (HERE / "offset.gif").write_bytes(data)


def main():
    for old in HERE.iterdir():
        if old.suffix not in {".py", ".md"}:
            old.unlink()
    # Files of a format under the name of another.
    save("gif-as.jpg", PALETTE, "GIF", transparency=3)
    save("icon-as.png", CLEAR.resize((16, 16)), "ICO", bitmap_format="bmp")
    save("targa-as.png", CLEAR, "TGA", compression="tga_rle", orientation=1)
    save("jpeg2000-as.jpg", COLOUR, "JPEG2000", irreversible=True, quality_mode="rates", quality_layers=[4])
    save("avif-as.jpeg", COLOUR, "AVIF", quality=60, subsampling="4:2:0")
    save("bmp-as.jpg", PALETTE, "BMP")
    gif_with_offset()
    save("animation.gif", PALETTE, save_all=True, append_images=[COLOUR.rotate(90).quantize(16)])
    save("png.ico", COLOUR.resize((16, 16)))
    save("grey.tga", GREY)
    save("palette.tga", PALETTE)
    jpeg_overflows()
    bmp565()
    bmp_rle8()
    grey16_png()
    for kind, size in [(b"P5", 1), (b"P6", 3)]:
        values = (RGB[..., :size].astype(">u2") * 257).tobytes()
        (HERE / f"{kind.decode()}-65535.ppm").write_bytes(b"%s %d %d 65535\n" % (kind, WIDTH, HEIGHT) + values)
    (HERE / "P5-1000.pgm").write_bytes(b"P5 %d %d 1000\n" % (WIDTH, HEIGHT) + (X * 50).astype(">u2").tobytes())
    (HERE / "float.ppm").write_bytes(b"Pf\n%d %d\n-1.0\n" % (WIDTH, HEIGHT) + (NUMBERS / 2).astype("<f4").tobytes())
    save("lossless.jp2", COLOUR)
    save("grey16.j2k", Image.fromarray((X * 900).astype(np.uint16)))
    for name, options in {
        "422-limited": {"subsampling": "4:2:2", "range": "limited"},
        "444": {"subsampling": "4:4:4"},
        "grey": {"subsampling": "4:0:0"},
    }.items():
        save(f"{name}.avif", COLOUR, quality=70, **options)
    save("alpha.avif", CLEAR, quality=70)
    save("sequence.avif", COLOUR, save_all=True, append_images=[COLOUR.rotate(180)], quality=50)
    deep = imagecodecs.avif_encode(RGB.astype(np.uint16) << 2, level=80, bitspersample=10, pixelformat="420")
    (HERE / "ten-bits.avif").write_bytes(deep)
    make_tiffs()
    with (HERE / "expected.csv").open("w", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["file", "width", "height", "crc32"])
        for path in sorted(HERE.iterdir()):
            if path.suffix not in {".py", ".md", ".csv"}:
                pixels = Image.open(path).convert("RGB")
                rows.writerow([path.name, *pixels.size, f"{zlib.crc32(pixels.tobytes()):08x}"])


def make_tiffs():
    for name in ["group3", "group4", "tiff_ccitt"]:
        save(f"{name}.tif", BITS, compression=name)
    save("group3-2d.tif", BITS, compression="group3", tiffinfo={292: 1})
    save("orientation6.tif", COLOUR, tiffinfo={274: 6}, compression="tiff_lzw")
    save("lzma.tif", COLOUR, compression="lzma")
    save("packbits.tif", PALETTE, compression="packbits")
    tiff("bigtiff.tif", RGB, bigtiff=True, photometric="rgb")
    tiff("zstd-predictor.tif", RGB.astype(np.uint16) * 250, photometric="rgb", compression="zstd", predictor=True)
    tiff("float.tif", (NUMBERS / 3).astype(np.float32), compression="zlib", predictor=True)
    tiff("signed.tif", NUMBERS.astype(np.int16), byteorder=">")
    tiff("white-is-zero.tif", RGB[..., 1], photometric="miniswhite")
    tiff("twelve-bits.tif", (X * 150 % 4096).astype(np.uint16), bitspersample=12)
    tiff("four-bits.tif", (X % 16).astype(np.uint8), bitspersample=4)
    tiff("grey-alpha.tif", np.dstack([RGB[..., 0], ALPHA]), photometric="minisblack", planarconfig="contig", extrasamples=["unassalpha"])
    scaled = (RGB * (ALPHA[..., None] / 255.0)).astype(np.uint16) * 257
    scaled = np.dstack([scaled, ALPHA.astype(np.uint16) * 257])
    tiff("premultiplied16.tif", scaled, photometric="rgb", extrasamples=["assocalpha"])
    tiff("tiled-planes.tif", np.moveaxis(RGB, -1, 0), photometric="rgb", planarconfig="separate", tile=(16, 16), compression="zlib")
    tiff("cmyk.tif", np.dstack([RGB, ALPHA]), photometric="separated", compression="lzw")
    tiff("jpeg-420.tif", RGB, photometric="ycbcr", compression="jpeg", subsampling=(2, 2), rowsperstrip=16)
    tiff("jpeg-grey.tif", RGB[..., 0], photometric="minisblack", compression="jpeg")
    ycbcr = np.asarray(COLOUR.convert("YCbCr"))
    tiff("ycbcr-lzw.tif", ycbcr, photometric="ycbcr", compression="lzw", subsampling=(1, 1))


main()
