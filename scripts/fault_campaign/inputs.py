"""Recipes, pictures and shards of the campaign. All are so small that a run takes a second."""

import io
import json
import os
import re
import signal
import struct
import tarfile
import time
import zlib
from pathlib import Path

from bench import Failure, numbers, results, warnings

NAME = "micro"

# Every stage, two kept checkpoints, several updates in every epoch.
RECIPE = """
name = "micro"
[data]
format = "digits"
input_size = 8
[model]
patch_size = 4
embed_dim = 16
depth = 1
num_heads = 2
decoder_embed_dim = 8
decoder_depth = 1
decoder_num_heads = 2
[pretrain]
epochs = 6
warmup_epochs = 1
batch_size = 96
accum_iter = 2
blr = 3e-3
norm_pix_loss = true
checkpoint_epochs = [2]
augment = { crop_scale = [1.0, 1.0], hflip = false }
[finetune]
from = ["scratch", "last"]
epochs = 3
warmup_epochs = 1
batch_size = 96
blr = 2e-3
clip_grad = 1.0
mixup = 0.2
aa = ""
augment = { crop_scale = [0.5, 1.0], hflip = false }
[linprobe]
from = ["checkpoints"]
epochs = 3
warmup_epochs = 1
batch_size = 96
augment = { crop_scale = [1.0, 1.0], hflip = false }
"""

# Only the pre-training, for cases that need a run but not its results.
PRETRAINING = RECIPE.split("[finetune]", maxsplit=1)[0].replace("epochs = 6", "epochs = 1") \
    .replace("checkpoint_epochs = [2]\n", "").replace("warmup_epochs = 1", "warmup_epochs = 0")


def probe_recipe(name, source, path, side=8, batch_size=32):
    """Returns a recipe that probes a random encoder on a data set. Every picture and label changes the weights of the probe."""
    return f"""
name = "{name}"
[data]
format = "{source}"
path = "{path}"
input_size = {side}
[model]
patch_size = 4
embed_dim = 8
depth = 1
num_heads = 1
[linprobe]
from = ["scratch"]
epochs = 1
warmup_epochs = 0
batch_size = {batch_size}
augment = {{ crop_scale = [1.0, 1.0], hflip = false }}
"""


def png(side, pixels):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    rows = b"".join(b"\0" + pixels[y * side * 3:(y + 1) * side * 3] for y in range(side))
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows, 1))
            + chunk(b"IEND", b""))


def bmp(side, pixels):
    stride = (side * 3 + 3) // 4 * 4
    rows = b"".join(pixels[y * side * 3:(y + 1) * side * 3].ljust(stride, b"\0") for y in range(side))
    info = struct.pack("<IiiHHIIiiII", 40, side, side, 1, 24, 0, len(rows), 2835, 2835, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54 + len(rows), 0, 0, 54) + info + rows


def ppm(side, pixels):
    return b"P6\n%d %d\n255\n" % (side, side) + pixels


def picture(random, side):
    """Returns the pixels of a noisy gradient, so that the compressed file is much longer than its header."""
    base = [random.randrange(200) for _ in range(3)]
    return bytes(min(255, base[i % 3] + (i // 3) % side * 3 + random.randrange(20)) for i in range(side * side * 3))


def tar_of(members):
    """Returns a tar archive of (name, bytes)."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return data.getvalue()


def age(folder):
    """Sets the times of a data set back, so that the program trusts them."""
    for path in [folder, *folder.rglob("*")]:
        os.utime(path, (1e9, 1e9))


# --- fixtures -------------------------------------------------------------------------------------------------------


class Undisturbed:
    """Returns the undisturbed run. All other runs must have the same results."""

    def __init__(self, bench, folder, recipe, name):
        (folder / "r.toml").write_text(recipe)
        begun = time.monotonic()
        done = bench.must(["run", "r.toml"], folder)
        self.seconds = time.monotonic() - begun
        self.folder, self.run = folder, folder / "runs" / name
        self.is_sweep = "[sweep]" in recipe
        self.results, self.numbers = results(self.run), numbers(self.run)
        self.warnings = warnings(done.err)
        self.kib = sum(path.stat().st_size for path in self.run.rglob("*") if path.is_file()) // 1024
        again = bench.must(["run", "r.toml", "--runs", "again"], folder)
        if results(folder / "again" / name) != self.results:
            raise Failure("two undisturbed runs differ: nothing can be compared", again.last())


def undisturbed(bench):
    return bench.fixture("undisturbed", lambda folder: Undisturbed(bench, folder, RECIPE, NAME))


def undisturbed_sweep(bench):
    recipe = RECIPE.replace("epochs = 6", "epochs = 3") + "[sweep]\nfinetune.blr = [1e-3, 2e-3]\n"
    return bench.fixture("sweep", lambda folder: Undisturbed(bench, folder, recipe, NAME))


def interrupted(bench, stage):
    """Returns the folder of a run that was killed in this stage. It has two saved states if the stage keeps two."""
    def make(folder):
        (folder / "r.toml").write_text(RECIPE)
        for attempt in range(60):
            runs = folder / f"runs{attempt}"
            running = bench.start(["run", "r.toml", "--runs", runs.name], folder)
            pattern = re.compile(rf"{stage}\S*: epoch 2 of")
            while running.alive() and not pattern.search(running.log()):
                time.sleep(0.001)
            running.send(signal.SIGKILL)
            running.wait(60)
            jobs = [path.parent for path in (runs / NAME / stage).rglob("resume.safetensors")]
            if jobs and (jobs[0] / "previous-resume.safetensors").exists():
                return runs / NAME
        raise Failure(f"cannot interrupt a run in {stage}: it is too short on this machine")
    return bench.fixture(f"interrupted-{stage}", make)


def pictures_folder(bench):
    """An image folder with 80 training and 20 validation pictures in four classes."""
    def make(folder):
        import random
        rng = random.Random("pictures")
        for split, count in (("train", 80), ("val", 20)):
            for i in range(count):
                path = folder / "data" / split / "abcd"[i % 4] / f"{i:03}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(png(24, picture(rng, 24)))
        age(folder / "data")
        return folder / "data"
    return bench.fixture("pictures", make)


def packed(bench, jpeg):
    """Shards of `mae data pack` with the same pictures, unchanged or re-encoded as JPEG."""
    def make(folder):
        more = ["--short-side", "16"] if jpeg else []
        bench.must(["data", "pack", pictures_folder(bench), "shards", "--samples", "20", *more], folder)
        age(folder / "shards")
        return folder / "shards"
    return bench.fixture("packed-jpeg" if jpeg else "packed-png", make)


def trained_on(bench, name, make):
    """The undisturbed run on a data set: `make(folder)` puts the data there and returns the recipe."""
    def whole(folder):
        recipe = make(folder)
        return Undisturbed(bench, folder, recipe, "probe")
    return bench.fixture(name, whole)


def large_set(folder, source):
    """Writes a data set that is large enough for a cached listing: 10,000 pictures of 4 x 4 pixels."""
    import random
    rng = random.Random("large")
    data = folder / "data"
    for split, count, shard in (("train", 10_000, 2_500), ("val", 100, 100)):
        samples = [(f"{i:08}", png(4, rng.randbytes(48)), str(i % 4)) for i in range(count)]
        (data / split).mkdir(parents=True)
        if source == "webdataset":
            for first in range(0, count, shard):
                members = []
                for key, image, label in samples[first:first + shard]:
                    members += [(f"{key}.png", image), (f"{key}.cls", label.encode())]
                (data / split / f"{split}-{first:06}.tar").write_bytes(tar_of(members))
        else:
            for key, image, label in samples:
                path = data / split / label / f"{key}.png"
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(image)
    age(data)
    return data


def schema_keys(bench):
    """Returns every key of a recipe, as `pretrain.blr`."""
    def make(folder):
        schema = json.loads(bench.must(["schema"], folder).out)
        keys = []

        def walk(node, prefix, depth=0):
            while "$ref" in node:
                node = schema["$defs"][node["$ref"].split("/")[-1]]
            for part in node.get("anyOf", []) + node.get("oneOf", []) + node.get("allOf", []):
                walk(part, prefix, depth + 1)
            for key, child in node.get("properties", {}).items():
                keys.append(f"{prefix}{key}")
                if depth < 8:
                    walk(child, f"{prefix}{key}.", depth + 1)
        walk(schema, "")
        return sorted(set(keys))
    return bench.fixture("schema", make)


def repository():
    return Path(__file__).resolve().parents[2]
