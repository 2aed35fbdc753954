"""A Vision Transformer in plain PyTorch, and the timing of its steps. The peers of this folder share it.

Written from the papers on ViT (arXiv 2010.11929) and MAE (arXiv 2111.06377). Needs only torch.
"""

import argparse
import json
import statistics
import time

import torch
from torch import nn
from torch.nn import functional as F

# image, patch, width, depth, heads; decoder width, depth, heads
SIZES = {
    "digits": (32, 4, 64, 4, 4, 64, 2, 4),
    "cifar": (32, 4, 192, 12, 3, 128, 4, 4),
    "tiny": (224, 16, 192, 12, 3, 512, 8, 16),
    "small": (224, 16, 384, 12, 6, 512, 8, 16),
    "base": (224, 16, 768, 12, 12, 512, 8, 16),
    "large": (224, 16, 1024, 24, 16, 512, 8, 16),
    "huge": (224, 14, 1280, 32, 16, 512, 8, 16),
}
NAMES = ("image", "patch", "width", "depth", "heads", "decoder_width", "decoder_depth", "decoder_heads")


class DropPath(nn.Module):
    """Drops the residual branch of whole images with probability `rate`."""

    def __init__(self, rate):
        super().__init__()
        self.rate = rate

    def forward(self, x):
        if not self.training or self.rate == 0.0:
            return x
        kept = torch.rand(x.shape[0], 1, 1, device=x.device) >= self.rate
        return x * kept / (1.0 - self.rate)


class Block(nn.Module):
    """Self-attention and MLP, each after a LayerNorm and with a residual connection."""

    def __init__(self, width, heads, drop_path=0.0):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.drop_path = DropPath(drop_path)

    def attention(self, x):
        n, tokens, width = x.shape
        q, k, v = self.qkv(x).view(n, tokens, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v)
        return self.proj(mixed.transpose(1, 2).reshape(n, tokens, width))

    def forward(self, x):
        x = x + self.drop_path(self.attention(self.norm1(x)))
        return x + self.drop_path(self.fc2(F.gelu(self.fc1(self.norm2(x)))))


class Embedding(nn.Module):
    """Projects patches, and adds fixed positions. Holds the class token."""

    def __init__(self, image, patch, width):
        super().__init__()
        self.project = nn.Conv2d(3, width, patch, patch)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.register_buffer("positions", sine_positions(image // patch, width))

    def forward(self, images):
        return self.project(images).flatten(2).transpose(1, 2) + self.positions

    def with_cls_token(self, x):
        return torch.cat([self.cls_token.expand(x.shape[0], -1, -1), x], dim=1)


def sine_positions(side, width):
    """Returns sines and cosines of the row and the column of each patch, `[1, side², width]`."""
    rates = 1.0 / 10000 ** (torch.arange(width // 4) / (width / 4))
    angles = torch.arange(side)[:, None] * rates
    one = torch.cat([angles.sin(), angles.cos()], dim=1)
    rows, columns = one[:, None].expand(-1, side, -1), one[None].expand(side, -1, -1)
    return torch.cat([columns, rows], dim=2).reshape(1, side * side, width)


def arguments(description):
    """Parses the options that all peers have. Single dimensions override those of `--size`."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--size", default="base", choices=SIZES)
    for name in NAMES:
        parser.add_argument("--" + name.replace("_", "-"), type=int)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=20, help="measured steps")
    parser.add_argument("--seconds", type=float, help="time to measure instead of --steps; at least two steps")
    parser.add_argument("--warmup", type=int, default=5)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="fp32", choices=["fp32", "tf32", "bf16"])
    parser.add_argument("--compile", action="store_true")
    return parser


def parsed(parser):
    options = parser.parse_args()
    for name, value in zip(NAMES, SIZES[options.size]):
        if getattr(options, name) is None:
            setattr(options, name, value)
    if options.threads:
        torch.set_num_threads(options.threads)
    if options.precision == "tf32":
        torch.backends.cuda.matmul.allow_tf32 = True
    return options


def measure(options, model, loss_of, groups, peer, **facts):
    """Trains `model` on `loss_of(model)`, and prints the median time of a step as one JSON object.

    `groups` are the parameter groups of AdamW. An empty list measures evaluation.
    """
    cuda = options.device.startswith("cuda")
    optimizer = torch.optim.AdamW(groups, lr=1e-4, betas=(0.9, 0.95), weight_decay=0.05, fused=True) if groups else None
    run = torch.compile(model) if options.compile else model
    times, begun = [], time.perf_counter()
    for step in range(10**9):
        start = time.perf_counter()
        with torch.set_grad_enabled(optimizer is not None), torch.autocast(
                options.device.split(":")[0], dtype=torch.bfloat16, enabled=options.precision == "bf16"):
            loss = loss_of(run)
        if optimizer is not None:
            loss.backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        loss.item()  # waits for the device
        if cuda:
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
        if options.seconds is None:
            if step + 1 == options.warmup + options.steps:
                break
        elif len(times) > 1 and time.perf_counter() - begun > options.seconds:
            break
    measured = times[min(options.warmup, len(times) - 1):]
    step_s = statistics.median(measured)
    print(json.dumps({
        "peer": peer, "torch": torch.__version__, "size": options.size, "batch": options.batch,
        "device": torch.cuda.get_device_name() if cuda else "cpu", "precision": options.precision,
        "compile": options.compile, "params": sum(p.numel() for p in model.parameters()), "steps": len(measured),
        "ms_per_step": round(step_s * 1e3, 3), "images_per_s": round(options.batch / step_s, 2),
        "peak_memory_gb": round(torch.cuda.max_memory_allocated() / 1e9, 2) if cuda else None, **facts}))
