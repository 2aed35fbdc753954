"""Compares `mae features`, `mae eval --knn` and `mae eval --test` with torch, on made-up weights and pictures.

    python scripts/check_measures.py [MAE_BINARY]      # target/release/mae by default

Needs torch, timm, torchvision, safetensors, numpy and pyarrow. Exits with 1 if a number differs.
"""

import csv
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import timm.models.vision_transformer as timm_vit
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file
from torchvision import transforms
from torchvision.transforms import InterpolationMode

ROOT = Path(__file__).parent.parent
BINARY = str(Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "target/release/mae").resolve())
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SIDE = 32
ALEXNET = {
    "gaussian_noise": 0.886428, "shot_noise": 0.894468, "impulse_noise": 0.922640, "defocus_blur": 0.819880,
    "glass_blur": 0.826268, "motion_blur": 0.785948, "zoom_blur": 0.798360, "snow": 0.866816, "frost": 0.826572,
    "fog": 0.819324, "brightness": 0.564592, "contrast": 0.853204, "elastic_transform": 0.646056,
    "pixelate": 0.717840, "jpeg_compression": 0.606500,
}
failed = []


def mae(*args, folder):
    done = subprocess.run([BINARY, *map(str, args)], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, f"{args}: {done.stderr}"
    return done.stdout


def compare(what, got, expected, tolerance=0.0):
    good = abs(got - expected) <= tolerance
    print(f"{'ok ' if good else 'BAD'} {what}: mae {got:.6f}, torch {expected:.6f}")
    if not good:
        failed.append(what)


def make_vit(folder):
    """Writes a random classifier of 1000 classes with a class token, as timm saves it."""
    torch.manual_seed(0)
    model = timm_vit.VisionTransformer(img_size=SIDE, patch_size=8, embed_dim=48, depth=3, num_heads=3, num_classes=1000,
                                       global_pool="token")
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.2 * torch.randn_like(p))
    torch.save(model.state_dict(), folder / "vit.pth")
    return model.eval()


def pictures(folder, names, count, rng):
    for name in names:
        (folder / name).mkdir(parents=True)
        for index in range(count):
            small = rng.integers(0, 256, (6, 7, 3), dtype=np.uint8)
            Image.fromarray(small).resize((45, 40), Image.BICUBIC).save(folder / name / f"{index}.png")


def tensors(folder, short_side):
    """Returns the pictures of each class folder, in sorted order, as evaluation prepares them."""
    prepare = transforms.Compose([
        transforms.Resize(short_side, interpolation=InterpolationMode.BICUBIC), transforms.CenterCrop(SIDE),
        transforms.ToTensor(), transforms.Normalize(MEAN, STD)])
    files = sorted(folder.glob("*/*.png"), key=lambda path: (path.parent.name, path.name))
    return torch.stack([prepare(Image.open(file)) for file in files]), [file.parent.name for file in files]


def metrics(logits, labels, top=5):
    top = logits.topk(top, dim=1).indices
    return {"top1": 100 * (top[:, 0] == labels).double().mean().item(),
            "top5": 100 * (top == labels[:, None]).any(1).double().mean().item(),
            "loss": F.cross_entropy(logits.double(), labels).item()}


def check_test_sets(folder, model, rng):
    wnids = [row["wnid"] for row in csv.DictReader((ROOT / "src/data/formats/imagenet1k_classes.csv").open())]
    sets = {"imagenet-a": rng.permutation(1000)[:200], "sketch": np.arange(1000)[::5][:150], "v2": np.array([3, 500, 77])}
    for name, classes in sets.items():
        pictures(folder / name, [str(c) if name == "v2" else wnids[c] for c in classes], 2, rng)
    common = ["eval", "vit.pth", "--set", "model.num_heads=3", "--json"]
    args = [arg for name in sets for arg in ("--test", name)]
    found = {one["set"]: one for one in json.loads(mae(*common, *args, folder=folder))["sets"]}
    for name, classes in sets.items():
        imgs, names = tensors(folder / name, int(SIDE / 0.875))
        labels = torch.tensor([int(n) if name == "v2" else wnids.index(n) for n in names])
        with torch.no_grad():
            logits = model(imgs)
        if len(classes) == 200:
            kept = torch.tensor(sorted(classes))
            logits, labels = logits[:, kept], torch.searchsorted(kept, labels)
        for key, value in metrics(logits, labels).items():
            compare(f"{name} {key}", found[name][key], value, 1e-4 if key == "loss" else 1e-9)
    kept, relative = torch.tensor([5, 17, 900]), []
    for corruption, alexnet in ALEXNET.items():
        wrong = []
        for severity in range(1, 6):
            part = folder / "c" / "group" / corruption / str(severity)
            pictures(part, [wnids[c] for c in kept], 4, rng)
            imgs, names = tensors(part, SIDE)
            labels = torch.tensor([kept.tolist().index(wnids.index(n)) for n in names])
            with torch.no_grad():
                wrong.append(100 - metrics(model(imgs)[:, kept], labels, top=3)["top1"])
        relative.append(np.mean(wrong) / alexnet)
    found = json.loads(mae(*common, "--test", "in_c=c", "--classes", "present", folder=folder))["sets"][0]
    compare("ImageNet-C mCE", found["mce"], float(np.mean(relative)), 1e-9)


def check_features(folder, model, rng):
    pictures(folder / "set", ["b", "a", "c"], 3, rng)
    imgs, names = tensors(folder / "set", int(SIDE / 0.875))

    def block(index):
        with torch.no_grad():
            [(patches, prefix)] = model.forward_intermediates(
                imgs, indices=[index], return_prefix_tokens=True, output_fmt="NLC", intermediates_only=True)
        return torch.cat([prefix, patches], 1)

    tokens = {1: block(0), 2: block(1), None: model.norm(block(2)).detach()}
    for layer, expected in tokens.items():
        pools = {"tokens": expected, "cls": expected[:, 0], "mean": expected[:, 1:].mean(1)}
        for pool, value in pools.items():
            args = ["features", "vit.pth", "set", "--set", "model.num_heads=3", "--pool", pool, "-o"]
            args = args + ["f.npy"] + (["--layer", layer] if layer else [])
            mae(*args, folder=folder)
            got = torch.from_numpy(np.load(folder / "f.npy"))
            assert got.shape == value.shape, (got.shape, value.shape)
            distance = ((got - value).abs().max() / value.abs().max()).item()
            compare(f"features of layer {layer or 'last'}, {pool}: distance", distance, 0.0, 2e-6)
    mae("features", "vit.pth", "set", "--set", "model.num_heads=3", "-o", "f.parquet", folder=folder)
    table = pq.read_table(folder / "f.parquet").to_pydict()
    assert [Path(name).parent.name for name in table["image"]] == names and table["class"] == names
    distance = np.abs(np.array(table["features"]) - tokens[None][:, 0].numpy()).max()
    compare("parquet: largest difference", float(distance), 0.0, 1e-5)
    mae("features", "vit.pth", "set", "--set", "model.num_heads=3", "-o", "f.safetensors", folder=folder)
    loaded = load_file(folder / "f.safetensors")
    assert loaded["labels"].tolist() == table["label"]
    compare("safetensors: largest difference", float((loaded["features"] - torch.tensor(table["features"])).abs().max()), 0.0)


def check_knn(folder):
    run = ["run", ROOT / "experiments/quickstart.toml", "--set", "name=knn", "--stage", "pretrain"]
    small = {"pretrain.epochs": 4, "pretrain.warmup_epochs": 1, "pretrain.checkpoint_epochs": "[4]"}
    mae(*run, *[arg for key, value in small.items() for arg in ("--set", f"{key}={value}")], folder=folder)
    checkpoint = "runs/knn/pretrain/checkpoints/epoch-0004"
    for k, pool in [(1, "cls"), (20, "cls"), (200, "mean")]:
        split = {}
        for name in ("train", "val"):
            mae("features", checkpoint, "--split", name, "--pool", pool, "-o", f"{name}.safetensors", folder=folder)
            split[name] = load_file(folder / f"{name}.safetensors")
        train, val = (F.normalize(split[name]["features"], dim=1) for name in ("train", "val"))
        nearest, index = (val @ train.T).topk(k, dim=1)
        votes = torch.zeros(len(val), 10).scatter_add_(1, split["train"]["labels"][index], (nearest / 0.07).exp())
        top1 = 100 * (votes.argmax(1) == split["val"]["labels"]).double().mean().item()
        got = json.loads(mae("eval", checkpoint, "--knn", k, "--pool", pool, "--json", folder=folder))
        compare(f"kNN, k = {k}, {pool}: top-1", got["knn_top1"], top1, 1e-9)


with tempfile.TemporaryDirectory() as name:
    folder, rng = Path(name), np.random.default_rng(0)
    model = make_vit(folder)
    check_test_sets(folder, model, rng)
    check_features(folder, model, rng)
    check_knn(folder)
sys.exit(f"{len(failed)} differences: {', '.join(failed)}" if failed else 0)
