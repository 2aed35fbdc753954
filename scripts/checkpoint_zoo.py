"""Writes checkpoints as other programs write them, and compares what `mae` computes. Started by checkpoint_zoo.sh.

A case returns (path, model, options). `mae` must compute the outputs of `model` from `path`: the probabilities of a classifier, or
the features of an encoder. Without a model, `mae` must refuse the file, and the message must contain the text in `model`'s place.
"""

import argparse
import copy
import itertools
import json
import os
import subprocess
import sys
import tempfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import timm
import torch
import torchvision
import transformers
from PIL import Image
from safetensors.torch import load_file, save_file
from timm.models.vision_transformer import VisionTransformer
from torch import nn

TOLERANCE = 1e-5
SIZE, PATCH, WIDTH, DEPTH, HEADS, CLASSES = 32, 8, 48, 2, 3, 5
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
CASES = {}
SEEDS = itertools.count()


def case(function):
    CASES[function.__name__] = function
    return function


def vit(**options):
    """Returns a small ViT of timm with random weights that differ in every tensor."""
    torch.manual_seed(next(SEEDS))
    settings = dict(img_size=SIZE, patch_size=PATCH, embed_dim=WIDTH, depth=DEPTH, num_heads=HEADS, num_classes=CLASSES)
    return randomized(VisionTransformer(**(settings | options)))


def randomized(model):
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.2 + (parameter.ndim == 1) * 0.5)
    return model.eval()


def state(model, prefix=""):
    return OrderedDict((prefix + name, tensor.clone()) for name, tensor in model.state_dict().items())


def save(folder, content, name="model.pth", **options):
    torch.save(content, folder / name, **options)
    return folder / name


def safe(folder, tensors, name="model.safetensors"):
    save_file({key: value.contiguous() for key, value in tensors.items()}, folder / name)
    return folder / name


def renamed(tensors, pairs, extra=None):
    """Renames by the first pair whose beginning fits, and adds `extra`."""
    out = OrderedDict()
    for name, tensor in tensors.items():
        for old, new in pairs:
            if name.startswith(old):
                name = new + name[len(old):]
                break
        out[name] = tensor
    return out | (extra or {})


def inside(name, wrapper):
    """Adds a wrapper after the index of a block and before the last part."""
    parts = name.split(".")
    return ".".join([*parts[:2], wrapper, *parts[2:]]) if parts[0] == "blocks" else name


# --- keys of dicts

def key_case(key):
    def run(folder):
        model = vit()
        content = state(model)
        for part in reversed(key.split(".")):
            content = {part: content, "epoch": 3}
        return save(folder, content), model, {}
    run.__name__ = "key_" + key.replace(".", "_")
    return case(run)


for key in ["model", "state_dict", "model_state_dict", "model_state", "net", "network", "weights", "params", "module", "ckpt.net",
            "state.model", "model.module", "encoder", "ema"]:
    key_case(key)


# --- prefixes of names, in pickles and in safetensors

def prefix_case(prefix):
    title = prefix.replace(".", "_").strip("_")

    def pickled(folder):
        model = vit()
        return save(folder, {"state_dict": state(model, prefix)}), model, {"said": f"`state_dict.{prefix}`"}

    def tensors(folder):
        model = vit()
        return safe(folder, state(model, prefix)), model, {"said": f"`{prefix}`"}

    pickled.__name__, tensors.__name__ = f"pickle_{title}", f"safetensors_{title}"
    case(pickled), case(tensors)


for prefix in ["model.", "backbone.", "encoder.", "student.", "_orig_mod.module.", "_fsdp_wrapped_module.", "model.net.vit."]:
    prefix_case(prefix)


def middle_case(wrapper):
    def run(folder):
        model = vit()
        names = {f"{wrapper}." + inside(name, wrapper): tensor for name, tensor in state(model).items()}
        return save(folder, names), model, {}
    run.__name__ = f"middle_{wrapper.strip('_')}"
    return case(run)


for wrapper in ["_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_orig_mod", "_fpw_module", "module"]:
    middle_case(wrapper)


# --- real wrappers of torch

@case
def torch_data_parallel(folder):
    model = vit()
    return save(folder, nn.DataParallel(model).state_dict()), model, {}


@case
def torch_compile(folder):
    model = vit()
    return save(folder, torch.compile(model).state_dict()), model, {}


@case
def torch_compile_each_block(folder):
    model = vit()
    whole = copy.deepcopy(model)
    for i, block in enumerate(whole.blocks):
        whole.blocks[i] = torch.compile(block)
    return save(folder, whole.state_dict()), model, {}


@case
def torch_averaged_model(folder):
    model = vit()
    averaged = torch.optim.swa_utils.AveragedModel(model)
    return save(folder, averaged.state_dict()), model, {}


@case
def torch_whole_module(folder):
    model = vit()
    return save(folder, model), model, {"heads": False}


@case
def torch_whole_data_parallel(folder):
    model = vit()
    return save(folder, nn.DataParallel(model)), model, {}


@case
def torch_module_in_dict(folder):
    model = vit()
    return save(folder, {"epoch": 1, "model": model}), model, {}


@case
def torch_whole_module_relu(folder):
    return save(folder, vit(act_layer=nn.ReLU)), "activation function is ReLU", {}


@case
def torch_whole_module_tanh_gelu(folder):
    return save(folder, vit(act_layer=lambda: nn.GELU(approximate="tanh"))), "the GELU is approximate", {}


@case
def torch_tuple(folder):
    model = vit()
    optimizer = torch.optim.AdamW(model.parameters())
    return save(folder, (state(model), optimizer.state_dict(), 7)), model, {}


@case
def torch_legacy_format(folder):
    model = vit()
    return save(folder, {"state_dict": state(model, "module.")}, _use_new_zipfile_serialization=False), model, {}


@case
def torch_with_optimizer_by_name(folder):
    model = vit()
    states = {name: {"exp_avg": tensor * 0, "step": 1} for name, tensor in state(model).items()}
    return save(folder, {"model": state(model), "optim_state": {"exp_avg": state(model)}, "optimizer": {"state": states}}), model, {}


@case
def torch_bfloat16(folder):
    model = vit().bfloat16()
    return save(folder, {"model": {f"net.{k}": v for k, v in model.state_dict().items()}}), model.float(), {}


@case
def torch_half(folder):
    model = vit().half()
    return save(folder, {"module": dict(model.state_dict())}), model.float(), {}


@case
def torch_integers_beside(folder):
    model = vit()
    more = {"position_ids": torch.arange(17), "num_batches_tracked": torch.tensor(3), "mask": torch.ones(4, dtype=torch.bool)}
    return save(folder, state(model) | more), model, {}


@case
def torch_int8_weights(folder):
    tensors = state(vit())
    tensors["blocks.0.mlp.fc1.weight"] = tensors["blocks.0.mlp.fc1.weight"].to(torch.int8)
    return save(folder, tensors), "Type in the file: int8 tensor", {}


@case
def torch_parametrized(folder):
    model = vit()
    nn.utils.parametrizations.weight_norm(model.blocks[0].attn.qkv)
    return save(folder, model.state_dict()), "parametrized weights", {}


@case
def torch_lora(folder):
    more = {"blocks.0.attn.qkv.lora_A.weight": torch.randn(2, WIDTH)}
    return save(folder, state(vit()) | more), "LoRA adapters", {}


@case
def torch_missing_tensor(folder):
    tensors = state(vit(), "model.")
    del tensors["model.blocks.1.norm2.bias"]
    return save(folder, tensors), "`blocks.1.norm2.bias` is missing", {}


@case
def torch_not_a_vit(folder):
    return save(folder, torchvision.models.resnet18().state_dict()), "`conv1.weight`, `bn1.weight`", {}


@case
def torch_no_projection(folder):
    tensors = state(vit(), "net.")
    del tensors["net.patch_embed.proj.weight"]
    return save(folder, tensors), "most similar names are those of the official code and timm under the prefix `net.`", {}


@case
def deepspeed_module_module(folder):
    model = vit()
    content = {"module": state(model, "module."), "optimizer": None, "ds_version": "0.14", "param_shapes": []}
    return save(folder, content, "mp_rank_00_model_states.pt"), model, {}


@case
def deepspeed_zero3(folder):
    tensors = {name: torch.zeros(0) for name in vit().state_dict()}
    return save(folder, {"module": tensors}), "zero_to_fp32.py", {}


@case
def distributed_checkpoint(folder):
    import torch.distributed.checkpoint as dcp
    dcp.save({"model": state(vit())}, checkpoint_id=folder / "dcp", no_dist=True)
    return folder / "dcp", "dcp_to_torch", {}


# --- Lightning

def lightning(tensors, **more):
    return {"epoch": 4, "global_step": 100, "pytorch-lightning_version": "2.4.0", "state_dict": tensors, "loops": {},
            "callbacks": {}, "optimizer_states": [{"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": []}],
            "lr_schedulers": [], "hparams_name": "kwargs", "hyper_parameters": {"lr": 1e-3}} | more


@case
def lightning_model(folder):
    model = vit()
    return save(folder, lightning(state(model, "model.")), "last.ckpt"), model, {}


@case
def lightning_compiled(folder):
    model = vit()
    return save(folder, lightning(state(model, "net.student._orig_mod."))), model, {}


@case
def lightning_stored_twice(folder):
    model = vit()
    return save(folder, lightning(state(model, "model.") | state(model, "compiled._orig_mod."))), model, {}


@case
def lightning_criterion_beside(folder):
    model = vit()
    more = {"criterion.weight": torch.ones(5), "val_acc.total": torch.tensor(3), "log_scale": torch.tensor(1.0)}
    return save(folder, lightning(state(model, "model.") | more)), model, {"said": "`state_dict.criterion.weight`"}


@case
def lightning_backbone_and_head(folder):
    model = vit(num_classes=0)
    more = {"model.head.weight": torch.randn(5, WIDTH), "model.head.bias": torch.randn(5)}
    content = lightning(state(model, "model.backbone.") | more)
    return save(folder, content), model, {"said": "`state_dict.model.head.weight`"}


@case
def lightning_ema_callback(folder):
    model, ema = vit(), vit()
    content = lightning(state(model, "model."), callbacks={"EMA": {"ema_state_dict": state(ema, "model.")}})
    return save(folder, content), model, {"said": "averaged weights"}


@case
def lightning_huggingface(folder):
    model = huggingface_classifier()
    return save(folder, lightning(state(model, "model."))), model, {}


# --- several networks, averaged weights

def two(first, second, wanted, prefix=None):
    def run(folder):
        models = [vit(), vit()]
        content = {first: state(models[0]), second: state(models[1])}
        path = save(folder, content)
        return path, wanted if isinstance(wanted, str) else models[wanted], {"prefix": prefix}
    run.__name__ = f"two_{first}_{second}" + (f"_choose_{prefix}" if prefix is not None else "")
    return case(run)


two("model", "model_ema", 0)
two("state_dict_ema", "state_dict", 1)
two("ema", "net", 1)
two("model", "model_ema", 1, "model_ema")
two("student", "teacher", "contains 2 networks")
two("student", "teacher", 1, "teacher")
two("student", "teacher", 0, "student.")
two("generator", "critic", "`generator`: a classifier with 5 classes, width 48, 2 blocks, patch size 8")


@case
def two_in_safetensors(folder):
    model = vit()
    return safe(folder, state(model, "student.") | state(vit(), "teacher.")), "--prefix", {}


@case
def two_wrong_prefix(folder):
    return save(folder, {"a": state(vit()), "b": state(vit())}), "`a`, `b`", {"prefix": "c"}


@case
def two_one_unsupported(folder):
    model = vit()
    content = {"net": state(model), "other": state(vit(init_values=1.0))}
    return save(folder, content), model, {"said": "LayerScale"}


@case
def timm_train_script(folder):
    model, ema = vit(), vit()
    args = argparse.Namespace(model="vit_tiny", gp="token", model_kwargs={})
    content = {"epoch": 9, "arch": "vit_tiny", "state_dict": state(model), "version": 2, "args": args, "metric": 71.0,
               "optimizer": torch.optim.AdamW(model.parameters()).state_dict(), "state_dict_ema": state(ema)}
    return save(folder, content, "checkpoint-9.pth.tar"), model, {"quiet": "global_pool"}


# --- self-supervised programs

@case
def dino_teacher_and_student(folder):
    teacher, student = vit(num_classes=0), vit(num_classes=0)
    head = {"head.mlp.0.weight": torch.randn(8, WIDTH), "head.last_layer.weight_g": torch.randn(8, 1)}
    content = {"student": state(student, "module.backbone.") | {f"module.{k}": v for k, v in head.items()},
               "teacher": state(teacher, "backbone.") | head, "epoch": 100,
               "dino_loss": {"center": torch.zeros(1, 8)}}
    return save(folder, content), teacher, {"prefix": "teacher.backbone", "said": None}


@case
def dino_ambiguous(folder):
    teacher, student = vit(num_classes=0), vit(num_classes=0)
    content = {"student": state(student, "module.backbone."), "teacher": state(teacher, "backbone.")}
    return save(folder, content), "`student.module.backbone`", {}


@case
def dinov2_registers(folder):
    model = vit(num_classes=0, init_values=1e-5)
    tensors = renamed(state(model), [("reg_token", "register_tokens")], {
        "register_tokens": torch.randn(1, 4, WIDTH), "mask_token": torch.randn(1, WIDTH)})
    return save(folder, tensors), "LayerScale (`blocks.0.ls1.gamma`)", {}


@case
def dinov2_swiglu(folder):
    tensors = renamed(state(vit(num_classes=0)), [(f"blocks.{i}.mlp.fc{j}", f"blocks.{i}.mlp.w{12 if j == 1 else 3}")
                                                  for i in range(DEPTH) for j in (1, 2)])
    return save(folder, tensors), "a gated MLP (SwiGLU)", {}


@case
def ibot_mask_token(folder):
    model = vit(num_classes=0)
    return save(folder, {"teacher": state(model, "backbone.") | {"backbone.masked_embed": torch.randn(1, WIDTH)}}), model, {}


def moco(model, prefix):
    head = {"head.0.weight": torch.randn(16, WIDTH), "head.1.weight": torch.randn(16), "head.1.bias": torch.randn(16),
            "head.1.running_mean": torch.randn(16), "head.3.weight": torch.randn(8, 16)}
    return {prefix + name: tensor for name, tensor in (state(model) | head).items()}


@case
def moco_v3(folder):
    base, momentum = vit(num_classes=0), vit(num_classes=0)
    tensors = moco(base, "module.base_encoder.") | moco(momentum, "module.momentum_encoder.")
    tensors["module.predictor.0.weight"] = torch.randn(8, 8)
    return save(folder, {"arch": "vit", "state_dict": tensors}), base, {"said": "does not support this head or decoder and ignores its tensors: `head.`"}


@case
def moco_v3_small_has_12_heads(folder):
    model = vit(num_classes=0, embed_dim=384, depth=12, num_heads=12)
    return save(folder, {"state_dict": moco(model, "module.base_encoder.")}), model, {"heads": False, "stated_heads": 12}


@case
def beit_style_biases(folder):
    model = vit()
    tensors = state(model)
    for i in range(DEPTH):
        bias = tensors.pop(f"blocks.{i}.attn.qkv.bias")
        tensors[f"blocks.{i}.attn.q_bias"], _, tensors[f"blocks.{i}.attn.v_bias"] = bias.chunk(3)
        model.blocks[i].attn.qkv.bias.data[WIDTH:2 * WIDTH] = 0
    return save(folder, {"model": tensors}), model, {"said": "keys have no bias"}


@case
def beit_relative_positions(folder):
    more = {"blocks.0.attn.relative_position_bias_table": torch.randn(9, HEADS)}
    return save(folder, state(vit()) | more), "relative position biases", {}


# --- timm

def timm_case(name, expected, options=None, **settings):
    def run(folder):
        model = vit(**settings)
        return save(folder, state(model)), expected or model, options or {}
    run.__name__ = "timm_" + name
    return case(run)


timm_case("token_warns", None, {"said": "global_pool"})
timm_case("token_by_setting", None, {"quiet": "global_pool", "set": ["finetune.global_pool=false"]})
timm_case("average", None, {"quiet": "global_pool"}, global_pool="avg")
timm_case("average_by_setting", "after the last norm", {"set": ["finetune.global_pool=true"]})
timm_case("no_qkv_bias", None, {"said": "no bias"}, qkv_bias=False)
timm_case("layer_scale", "LayerScale (`blocks.0.ls1.gamma`)", init_values=1e-4)
timm_case("registers", "register tokens (`reg_token`)", reg_tokens=4, no_embed_class=True)
timm_case("query_key_norm", "normalized queries and keys", qk_norm=True)
timm_case("norm_before", "a norm before the first block", pre_norm=True)
timm_case("no_class_token", "the class token (`cls_token`) is missing", class_token=False, global_pool="avg")
timm_case("no_class_embedding", "no entry for the class token", no_embed_class=True)
timm_case("attention_pooling", "attention pooling", global_pool="map", class_token=False)
timm_case("swiglu", "a gated MLP (SwiGLU)", mlp_layer=timm.layers.SwiGLU)
timm_case("gated_mlp", "a gated MLP (`blocks.0.mlp.fc1`", mlp_layer=timm.layers.GluMlp)


@case
def timm_average_without_fc_norm(folder):
    model = vit(global_pool="avg", fc_norm=False)
    args = argparse.Namespace(gp="avg")
    return save(folder, {"state_dict": state(model), "args": args}), "after the last norm", {}


@case
def timm_average_without_fc_norm_whole(folder):
    return save(folder, vit(global_pool="avg", fc_norm=False)), "after the last norm", {}


@case
def timm_distilled(folder):
    model = timm.create_model("deit_tiny_distilled_patch16_224", num_classes=5)
    return save(folder, model.state_dict()), "a distillation token (`dist_token`)", {"heads": False}


@case
def timm_swin(folder):
    model = timm.create_model("swin_tiny_patch4_window7_224", num_classes=5)
    return save(folder, model.state_dict()), "relative position biases", {"heads": False}


# --- safetensors

@case
def safetensors_step_int32(folder):
    model = vit()
    return safe(folder, state(model, "model.") | {"model.step": torch.tensor([3], dtype=torch.int32)}), model, {}


@case
def safetensors_position_ids(folder):
    model = vit()
    return safe(folder, state(model) | {"embeddings.position_ids": torch.arange(17)}), model, {}


@case
def safetensors_float8(folder):
    tensors = state(vit())
    tensors["head.weight"] = tensors["head.weight"].to(torch.float8_e4m3fn)
    return safe(folder, tensors), "Type in the file: F8_E4M3 tensor", {}


def sharded(folder, tensors, parts=3, ending="safetensors"):
    names = list(tensors)
    index = {}
    for part in range(parts):
        own = {name: tensors[name] for name in names[part::parts]}
        stem = "model" if ending == "safetensors" else "pytorch_model"
        file = f"{stem}-{part + 1:05}-of-{parts:05}.{ending}"
        safe(folder, own, file) if ending == "safetensors" else save(folder, own, file)
        index |= dict.fromkeys(own, file)
    path = folder / f"{stem}.{ending}.index.json"
    path.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": index}))
    return path


@case
def sharded_folder(folder):
    model = vit()
    sharded(folder, state(model))
    return folder, model, {}


@case
def sharded_index_with_prefix(folder):
    model = vit()
    return sharded(folder, state(model, "model.backbone.")), model, {"said": "`model.backbone.`"}


@case
def sharded_pickles(folder):
    model = vit()
    sharded(folder, state(model), ending="bin")
    return folder, model, {}


@case
def sharded_one_part(folder):
    sharded(folder, state(vit()))
    return folder / "model-00001-of-00003.safetensors", "index", {}


@case
def sharded_missing_part(folder):
    sharded(folder, state(vit()))
    (folder / "model-00002-of-00003.safetensors").unlink()
    return folder, "does not exist", {}


# --- transformers

def hf_config(kind=transformers.ViTConfig, **more):
    settings = dict(image_size=SIZE, patch_size=PATCH, hidden_size=WIDTH, num_hidden_layers=DEPTH, num_attention_heads=HEADS,
                    intermediate_size=4 * WIDTH, num_labels=CLASSES)
    return kind(**(settings | more))


def huggingface_classifier():
    torch.manual_seed(len(CASES))
    return randomized(transformers.ViTForImageClassification(hf_config()))


@case
def huggingface_folder(folder):
    model = huggingface_classifier()
    model.save_pretrained(folder)
    return folder, model, {"heads": False}


@case
def huggingface_sharded(folder):
    model = huggingface_classifier()
    model.save_pretrained(folder, max_shard_size="50KB")
    assert (folder / "model.safetensors.index.json").exists()
    return folder, model, {"heads": False}


@case
def huggingface_encoder(folder):
    torch.manual_seed(1)
    model = randomized(transformers.ViTModel(hf_config(), add_pooling_layer=False))
    model.save_pretrained(folder)
    return folder, model, {"heads": False}


@case
def huggingface_state_dict(folder):
    model = huggingface_classifier()
    return save(folder, {"model": state(model, "module.")}), model, {}


@case
def huggingface_msn(folder):
    torch.manual_seed(1)
    model = randomized(transformers.ViTMSNForImageClassification(hf_config(transformers.ViTMSNConfig)))
    model.save_pretrained(folder)
    return folder, model, {"heads": False}


def huggingface_refused(name, expected, make):
    def run(folder):
        make().save_pretrained(folder)
        return folder, expected, {"heads": False}
    run.__name__ = "huggingface_" + name
    return case(run)


huggingface_refused("deit", "a distillation token",
                    lambda: transformers.DeiTForImageClassificationWithTeacher(hf_config(transformers.DeiTConfig)))
huggingface_refused("dinov2", "LayerScale", lambda: transformers.Dinov2Model(hf_config(transformers.Dinov2Config)))
huggingface_refused("dinov2_registers", "register tokens",
                    lambda: transformers.Dinov2WithRegistersModel(hf_config(transformers.Dinov2WithRegistersConfig)))
huggingface_refused("beit", "LayerScale", lambda: transformers.BeitModel(hf_config(transformers.BeitConfig)))
huggingface_refused("clip", "mae does not support this network",
                    lambda: transformers.CLIPVisionModel(hf_config(transformers.CLIPVisionConfig)))
huggingface_refused("relu", "hidden_act", lambda: transformers.ViTForImageClassification(hf_config(hidden_act="relu")))


# --- torchvision

def tv(**more):
    torch.manual_seed(len(CASES))
    settings = dict(image_size=SIZE, patch_size=PATCH, num_layers=DEPTH, num_heads=HEADS, hidden_dim=WIDTH, mlp_dim=4 * WIDTH,
                    num_classes=CLASSES)
    return randomized(torchvision.models.VisionTransformer(**(settings | more)))


@case
def torchvision_plain(folder):
    model = tv()
    return save(folder, model.state_dict()), model, {"quiet": "global_pool"}


@case
def torchvision_wrapped(folder):
    model = tv()
    return save(folder, lightning(state(model, "model.module."))), model, {}


@case
def torchvision_whole_module(folder):
    model = tv()
    return save(folder, model), model, {"heads": False}


@case
def torchvision_old_names(folder):
    model = tv()
    names = {name.replace("mlp.0.", "mlp.linear_1.").replace("mlp.3.", "mlp.linear_2."): tensor
             for name, tensor in state(model).items()}
    return safe(folder, names), model, {}


@case
def torchvision_representation(folder):
    return save(folder, tv(representation_size=16).state_dict()), "pre_logits", {}


@case
def torchvision_conv_stem(folder):
    stem = [torchvision.models.vision_transformer.ConvStemConfig(8, 3, s) for s in (2, 2, 2)]
    return save(folder, tv(conv_stem_configs=stem).state_dict()), "a convolutional stem", {}


# --- mmpretrain: the names of its VisionTransformer and MAEPretrainDecoder

MM_BLOCK = [("norm1", "ln1"), ("norm2", "ln2"), ("mlp.fc1", "ffn.layers.0.0"), ("mlp.fc2", "ffn.layers.1")]


def mm(tensors, encoder="backbone."):
    pairs = [(f"blocks.{i}.{old}", f"{encoder}layers.{i}.{new}") for i in range(DEPTH) for old, new in MM_BLOCK]
    pairs += [(f"blocks.{i}.", f"{encoder}layers.{i}.") for i in range(DEPTH)]
    pairs += [(f"decoder_blocks.{i}.{old}", f"neck.decoder_blocks.{i}.{new}") for i in range(DEPTH) for old, new in MM_BLOCK]
    pairs += [("decoder_norm", "neck.ln1"), ("decoder_", "neck.decoder_"), ("mask_token", "neck.mask_token")]
    pairs += [("norm.", f"{encoder}ln1."), ("fc_norm.", f"{encoder}ln2."), ("patch_embed.proj", f"{encoder}patch_embed.projection")]
    pairs += [("cls_token", f"{encoder}cls_token"), ("pos_embed", f"{encoder}pos_embed")]
    return pairs


@case
def mmpretrain_vit(folder):
    model = vit()
    tensors = renamed(state(model), mm(None) + [("head.", "head.layers.head.")])
    return save(folder, {"meta": {"epoch": 3}, "state_dict": tensors}), model, {}


@case
def mmpretrain_average(folder):
    model = vit(global_pool="avg")
    tensors = renamed(state(model), mm(None) + [("head.", "head.fc.")])
    return save(folder, {"state_dict": tensors}), model, {}


@case
def mmpretrain_backbone_alone(folder):
    model = vit(num_classes=0)
    return save(folder, renamed(state(model), mm(None, ""))), model, {}


@case
def mmpretrain_segmentation(folder):
    model = vit(num_classes=0)
    more = {"decode_head.conv_seg.weight": torch.randn(3, 4, 1, 1), "neck.fpn.weight": torch.randn(3)}
    return save(folder, {"state_dict": renamed(state(model), mm(None), more)}), model, {"said": "does not support this head or decoder and ignores its tensors: `neck.`"}


@case
def mmpretrain_layer_scale(folder):
    more = {"backbone.layers.0.attn.gamma1.weight": torch.ones(WIDTH)}
    return save(folder, {"state_dict": renamed(state(vit()), mm(None), more)}), "LayerScale", {}


# --- masked autoencoders

def autoencoder():
    """Returns Hugging Face's masked autoencoder and its tensors under the official names."""
    torch.manual_seed(3)
    config = hf_config(transformers.ViTMAEConfig, decoder_hidden_size=24, decoder_num_hidden_layers=DEPTH,
                       decoder_num_attention_heads=2, decoder_intermediate_size=96, layer_norm_eps=1e-6, norm_pix_loss=True)
    return randomized(transformers.ViTMAEForPreTraining(config))


MAE_SET = ["model.decoder_num_heads=2", "pretrain.norm_pix_loss=true"]


def official(folder, model):
    """Returns a masked autoencoder's tensors under the official names, from `mae` itself: a case of its own checks them."""
    model.save_pretrained(folder / "hf")
    out = folder / "official.safetensors"
    convert(folder / "hf", out, {"heads": False, "set": MAE_SET})
    return load_file(out)


@case
def mae_huggingface(folder):
    model = autoencoder()
    model.save_pretrained(folder)
    return folder, model, {"heads": False}


def mae_case(name, wrap):
    def run(folder):
        model = autoencoder()
        return save(folder, wrap(official(folder, model))), model, {"set": MAE_SET}
    run.__name__ = "mae_" + name
    return case(run)


mae_case("official", lambda t: {"model": t, "epoch": 799, "args": argparse.Namespace(norm_pix_loss=True, mask_ratio=0.75)})
mae_case("fsdp", lambda t: {"model": {f"_fsdp_wrapped_module.{k}": v for k, v in t.items()}})
mae_case("lightning", lambda t: lightning({f"mae._orig_mod.{k}": v for k, v in t.items()}))
mae_case("mmpretrain", lambda t: {"state_dict": renamed(t, mm(None), {"data_preprocessor.mean": torch.zeros(3)})})
mae_case("mmselfsup_wrapped", lambda t: {"state_dict": {f"module.{k}": v for k, v in renamed(t, mm(None)).items()}})


# --- the check

def arguments(options):
    heads = [f"model.num_heads={HEADS}"] if options.get("heads", True) else []
    sets = heads + options.get("set", [])
    prefix = ["--prefix", options["prefix"]] if options.get("prefix") is not None else []
    return prefix + [arg for setting in sets for arg in ("--set", setting)]


def mae(*args):
    return subprocess.run([os.environ["BINARY"], *map(str, args)], capture_output=True, text=True)


def convert(path, out, options, to="official"):
    done = mae("convert", path, out, "--to", to, *arguments(options))
    assert done.returncode == 0, done.stderr
    return done.stderr


def picture(folder):
    """Writes an image that evaluation only crops. Returns the normalized crop."""
    side = int(SIZE / 0.875)
    pixels = np.random.RandomState(5).randint(0, 256, (side, side, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "picture.png")
    start = (side - SIZE) // 2
    crop = pixels[start:start + SIZE, start:start + SIZE].astype(np.float32) / 255
    normalized = (crop - np.float32(MEAN)) / np.float32(STD)
    return torch.from_numpy(normalized).permute(2, 0, 1)[None].double()


def distance(got, expected):
    got, expected = got.double(), expected.double()
    return ((got - expected).abs().max() / expected.abs().max()).item()


def logits_or_features(model, images):
    """Returns logits `[1, C]`, the encoder's tokens `[1, 1 + L, D]`, or the loss of a masked autoencoder."""
    model = copy.deepcopy(model).double().eval()
    with torch.no_grad():
        if isinstance(model, VisionTransformer):
            return model(images) if model.num_classes else model.forward_features(images)
        if isinstance(model, transformers.ViTMAEForPreTraining):
            noise = torch.rand(1, (SIZE // PATCH) ** 2, generator=torch.Generator().manual_seed(2)).double()
            return model(images, noise=noise).loss[None]
        output = model(images)
        return getattr(output, "logits", getattr(output, "last_hidden_state", output))


def check_read(folder, path, model, options):
    """Compares the outputs of the converted weights, and the probabilities of `mae predict`."""
    images = picture(folder)
    expected = logits_or_features(model, images)
    stderr = ""
    if isinstance(model, transformers.ViTMAEForPreTraining):
        out = folder / "back"
        stderr = convert(path, out, options, "huggingface")
        found = transformers.ViTMAEForPreTraining.from_pretrained(out)
    else:
        out = folder / "back.safetensors"
        stderr = convert(path, out, options)
        tensors = load_file(out)
        heads = options.get("stated_heads", HEADS)
        is_encoder = expected.ndim == 3
        found = VisionTransformer(
            img_size=SIZE, patch_size=PATCH, embed_dim=tensors["cls_token"].shape[2], num_heads=heads,
            depth=1 + max(int(name.split(".")[1]) for name in tensors if name.startswith("blocks.")),
            num_classes=0 if is_encoder else CLASSES, global_pool="avg" if "fc_norm.weight" in tensors else "token")
        found.load_state_dict(tensors, strict=True)
        set_eps(found, own_eps(model))
    worst = distance(logits_or_features(found, images), expected)
    if expected.ndim == 2:
        done = mae("predict", path, folder / "picture.png", "--json", "--top", CLASSES, *arguments(options))
        assert done.returncode == 0, done.stderr
        stderr += done.stderr
        classes = json.loads(done.stdout)["images"][0]["classes"]
        got = torch.tensor([c["probability"] for c in sorted(classes, key=lambda c: c["class"])])
        worst = max(worst, (got.double() - expected.softmax(1)[0]).abs().max().item())
    elif "stated_heads" in options:
        done = mae("convert", path, folder / "own", *arguments(options))
        assert done.returncode == 0, done.stderr
        assert f"num_heads = {options['stated_heads']}" in json.loads((folder / "own/meta.json").read_text())["recipe"]
    if options.get("said"):
        assert options["said"] in stderr, stderr
    if options.get("quiet"):
        assert options["quiet"] not in stderr, stderr
    assert worst <= TOLERANCE, f"the outputs differ by {worst:.1e}"
    note = next((line for line in stderr.splitlines() if "reads the weights from the tensors" in line), "")
    return f"{worst:.0e}" + (" " + note[note.index("reads the weights from the tensors"):] if note else "")


def own_eps(model):
    return next(layer.eps for layer in model.modules() if isinstance(layer, nn.LayerNorm))


def set_eps(model, eps):
    for layer in model.modules():
        if isinstance(layer, nn.LayerNorm):
            layer.eps = eps


def check_refused(folder, path, expected, options):
    done = mae("convert", path, folder / "out", *arguments(options))
    assert done.returncode == 2, f"exit code {done.returncode}: {done.stderr}"
    assert "panicked" not in done.stderr and "hint: " in done.stderr, done.stderr
    assert expected in done.stderr, f"expected {expected!r}: {done.stderr}"
    return done.stderr.splitlines()[0].split(": ", 2)[-1][:110]


def main():
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    wanted = [name for name in CASES if not sys.argv[1:] or any(word in name for word in sys.argv[1:])]
    counts = {"read": 0, "refused": 0, "FAILED": 0}
    for name in wanted:
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch) / "file"
            folder.mkdir()
            try:
                path, model, options = CASES[name](folder)
                refused = isinstance(model, str)
                text = (check_refused if refused else check_read)(Path(scratch), path, model, options)
                verdict = "refused" if refused else "read"
            except AssertionError as error:
                verdict, text = "FAILED", str(error).replace(scratch, "")
        counts[verdict] += 1
        print(f"{verdict:8} {name}: {text.replace(scratch + '/', '')}", flush=True)
    print(", ".join(f"{count} {verdict}" for verdict, count in counts.items()))
    sys.exit(1 if counts["FAILED"] or not wanted else 0)


main()
