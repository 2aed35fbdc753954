"""Measures how fast PyTorch's DataLoader reads, decodes and augments an image folder.

    python benches/peers/image_loader.py --images DIR --workers 2 --seconds 20 --stage pretrain

Pre-training and evaluation use torchvision's transforms. Fine-tuning uses timm's: RandAugment and random erasing. DIR holds a
folder for each class. The first second does not count. Prints one JSON object. Needs torch, torchvision, timm and Pillow.
"""

import argparse
import itertools
import json
import time

import torch
import torchvision
from torchvision import datasets, transforms

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
WARM_UP_S = 1.0


def fixed_posterize():
    """timm asks Pillow for 0 bits at the highest magnitude. Pillow refuses that since version 12; the result is black."""
    from PIL import Image, ImageOps

    original = ImageOps.posterize
    ImageOps.posterize = lambda image, bits: original(image, bits) if bits > 0 else Image.new(image.mode, image.size)


def transform(stage, side):
    bicubic = transforms.InterpolationMode.BICUBIC
    if stage == "finetune":
        from timm.data import create_transform

        fixed_posterize()
        return create_transform(side, is_training=True, auto_augment="rand-m9-mstd0.5-inc1", color_jitter=None, re_prob=0.25,
                                re_mode="pixel", interpolation="bicubic", mean=MEAN, std=STD)
    if stage == "pretrain":
        crop = [transforms.RandomResizedCrop(side, scale=(0.2, 1.0), interpolation=bicubic), transforms.RandomHorizontalFlip()]
    else:
        crop = [transforms.Resize(side * 256 // 224, interpolation=bicubic), transforms.CenterCrop(side)]
    return transforms.Compose([*crop, transforms.ToTensor(), transforms.Normalize(MEAN, STD)])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", required=True)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--input-size", type=int, default=224)
    parser.add_argument("--stage", default="pretrain", choices=["pretrain", "finetune", "eval"])
    options = parser.parse_args()
    torch.set_num_threads(1)
    folder = datasets.ImageFolder(options.images, transform(options.stage, options.input_size))
    # One long epoch, so that no worker has to start again.
    endless = torch.utils.data.ConcatDataset([folder] * (1 + 100_000 // len(folder)))
    loader = torch.utils.data.DataLoader(endless, options.batch, shuffle=True, num_workers=options.workers, drop_last=True)
    begun = time.perf_counter()
    batches = itertools.dropwhile(lambda _: time.perf_counter() - begun < WARM_UP_S, loader)
    next(batches)
    start, images = time.perf_counter(), 0
    for batch, _ in batches:
        images += len(batch)
        if time.perf_counter() - start > options.seconds:
            break
    rate = images / (time.perf_counter() - start)
    print(json.dumps({"peer": f"torchvision {torchvision.__version__}", "stage": options.stage, "workers": options.workers,
                      "images": images, "images_per_s": round(rate, 1)}))


if __name__ == "__main__":
    main()
