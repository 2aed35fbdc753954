"""Loads the files that `mae convert` writes with torch, timm and transformers. Started by check_exports.sh."""

import json
import logging
import os
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import torch
from safetensors.torch import load_file
from timm.models.vision_transformer import VisionTransformer
from transformers import ViTForImageClassification, ViTMAEForPreTraining
from transformers.utils import logging as transformers_logging

TOLERANCE = 1e-5  # of the largest entry; both sides compute in float64
said = []


class Listener(logging.Handler):
    """Collects the warnings of transformers."""

    def emit(self, record):
        if record.levelno >= logging.WARNING:
            said.append(record.getMessage())


def convert(source, out, to, case):
    m = case["model"]
    settings = {"model.num_heads": m["num_heads"], "model.decoder_num_heads": m["decoder_num_heads"]}
    if case["kind"] == "checkpoint_mae":
        settings |= {"pretrain.norm_pix_loss": str(case["norm_pix_loss"]).lower(), "pretrain.mask_ratio": case["mask_ratio"]}
    sets = [arg for key, value in settings.items() for arg in ("--set", f"{key}={value}")]
    return subprocess.run([os.environ["BINARY"], "convert", source, out, "--to", to, *sets], capture_output=True, text=True)


def distance(got, expected):
    return ((got.double() - expected.double()).abs().max() / expected.double().abs().max()).item()


def transformers_outputs(folder, case, tensors):
    """Returns the difference of each output. Fails if a weight is missing, unused or has the wrong shape."""
    mae = case["kind"] == "checkpoint_mae"
    model, info = (ViTMAEForPreTraining if mae else ViTForImageClassification).from_pretrained(
        folder, output_loading_info=True)
    wrong = {key: value for key, value in info.items() if value}
    assert not wrong, wrong
    imgs = tensors["imgs"].double()
    with torch.no_grad():
        if not mae:
            return {"logits": distance(model.double()(imgs).logits, tensors["logits"])}
        output = model.double()(imgs, noise=tensors["noise"].double())
    return {"loss": distance(output.loss, tensors["loss"])}


def timm_outputs(file, case, tensors):
    m, mae = case["model"], case["kind"] == "checkpoint_mae"
    model = VisionTransformer(
        img_size=m["input_size"], patch_size=m["patch_size"], embed_dim=m["embed_dim"], depth=m["depth"],
        num_heads=m["num_heads"], mlp_ratio=m["mlp_ratio"], num_classes=0 if mae else case["num_classes"],
        global_pool="avg" if case.get("global_pool") else "token")
    model.load_state_dict(load_file(file), strict=True)
    if mae:
        return {}  # timm has no decoder, so the check ends with loading the encoder
    eps = json.loads((file.parent / "config.json").read_text())["layer_norm_eps"] if (file.parent / "config.json").exists() else 1e-6
    for layer in model.modules():
        if isinstance(layer, torch.nn.LayerNorm):
            layer.eps = eps
    with torch.no_grad():
        return {"logits": distance(model.double().eval()(tensors["imgs"].double()), tensors["logits"])}


def torch_outputs(file, case, tensors):
    """Fails if `torch.load`, with or without mmap, reads different tensors than the safetensors file contains."""
    subprocess.run([os.environ["BINARY"], "convert", file, file.with_suffix(".safetensors"), "--to", "official"], check=True,
                   capture_output=True)
    expected = load_file(file.with_suffix(".safetensors"))
    for mapped in (False, True):
        found = torch.load(file, map_location="cpu", weights_only=True, mmap=mapped)["model"]
        assert list(found) == sorted(expected)
        assert all(torch.equal(found[key], expected[key]) for key in expected), "the values differ"
    return {}


OUTPUTS = {"huggingface": transformers_outputs, "timm": timm_outputs, "official": torch_outputs}
NAMES = {"huggingface": "out", "timm": "out.safetensors", "official": "out.pth"}


def check(folder, name, case, tensors, to):
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / NAMES[to]
        done = convert(folder / name, out, to, case)
        if done.returncode != 0:
            expected = to == "huggingface" and case.get("global_pool")
            reason = done.stderr.strip().splitlines()[0]
            return ("refused" if expected else "FAILED", reason)
        said.clear()
        config = folder / "config.json"
        if to == "timm" and config.exists():
            (out.parent / "config.json").write_bytes(config.read_bytes())
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            found = OUTPUTS[to](out, case, tensors)
        said.extend(str(w.message) for w in caught if "weight" in str(w.message))
        tolerance = case.get("half_tolerance", TOLERANCE) if "half" in name else TOLERANCE
        ok = not said and all(d <= tolerance for d in found.values())
        text = ", ".join(f"{key} {d:.1e}" for key, d in found.items()) or "loads"
        return ("ok" if ok else "FAILED", text + "".join(f"; warning: {line}" for line in said))


def main():
    transformers_logging.disable_progress_bar()
    transformers_logging.get_logger("transformers").addHandler(Listener())
    failed = checked = 0
    for root in sys.argv[1:]:
        for description in sorted(Path(root).rglob("case.json")):
            case = json.loads(description.read_text())
            if case["kind"] not in ("checkpoint_mae", "checkpoint_vit"):
                continue
            tensors = load_file(description.parent / "tensors.safetensors")
            for name in case["files"]:
                for to in OUTPUTS:
                    verdict, text = check(description.parent, name, case, tensors, to)
                    print(f"{verdict:8} {description.parent.name}/{name} -> {to}: {text}", flush=True)
                    checked += 1
                    failed += verdict == "FAILED"
    print(f"{checked - failed} of {checked} conversions are correct")
    sys.exit(1 if failed or not checked else 0)


main()
