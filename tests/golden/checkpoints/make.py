"""Makes the checkpoints in this folder and their expected outputs. Tests do not run it; it documents where the numbers come from.

    python tests/golden/checkpoints/make.py      # torch 2.15, transformers 5.24, timm 1.0.31, safetensors, numpy
    python tests/golden/checkpoints/make.py pretrain_from      # only these cases, from the existing files

Weights are random. Outputs are those of transformers and timm in float64. The .pth and .pd files hold a transformers model's
weights under the official names, laid out as the official code and the Paddle port save them.
"""

import argparse
import json
import pickle
import sys
from pathlib import Path

import timm.models.vision_transformer as timm_vit
import torch
from safetensors.torch import save_file
from transformers import ViTConfig, ViTForImageClassification, ViTMAEConfig, ViTMAEForPreTraining

HERE = Path(__file__).parent
DIMS = dict(input_size=8, patch_size=4, embed_dim=16, depth=2, num_heads=2, mlp_ratio=2,
            decoder_embed_dim=8, decoder_depth=1, decoder_num_heads=2)
MASK_RATIO, WEIGHT_DECAY, BETAS, LR, NEXT_LR, STEPS = 0.5, 0.05, (0.9, 0.95), 1e-2, 7e-3, 3


def case(name, description, tensors):
    folder = HERE / name
    folder.mkdir(exist_ok=True)
    (folder / "case.json").write_text(json.dumps(description, indent=1))
    tensors = {k: (v if v.dtype == torch.int64 else v.float()).contiguous() for k, v in tensors.items()}
    save_file(tensors, folder / "tensors.safetensors")
    return folder


def randomize(model, seed):
    """Makes all weights nonzero, so that swapped tensors change the output."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.copy_((p + 0.3 * torch.randn(p.shape, generator=generator)).float())


def mae(seed, eps, image_size=8):
    config = ViTMAEConfig(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
                          image_size=image_size, patch_size=4, decoder_hidden_size=8, decoder_num_hidden_layers=1,
                          decoder_num_attention_heads=2, decoder_intermediate_size=16, mask_ratio=MASK_RATIO,
                          norm_pix_loss=True, layer_norm_eps=eps, attn_implementation="eager")
    model = ViTMAEForPreTraining(config)
    randomize(model, seed)
    return model.double()


def official(names):
    """Renames the tensors of transformers to their official names, and concatenates query, key and value."""
    blocks = {"layernorm_before": "norm1", "layernorm_after": "norm2", "attention.o_proj": "attn.proj",
              "mlp.fc1": "mlp.fc1", "mlp.fc2": "mlp.fc2"}
    outer = {"vit.embeddings.cls_token": "cls_token", "vit.embeddings.position_embeddings": "pos_embed",
             "decoder.mask_token": "mask_token", "decoder.decoder_pos_embed": "decoder_pos_embed"}
    layers = {"vit.embeddings.patch_embeddings.projection": "patch_embed.proj", "vit.layernorm": "norm",
              "decoder.decoder_embed": "decoder_embed", "decoder.decoder_norm": "decoder_norm",
              "decoder.decoder_pred": "decoder_pred"}
    lists = ["vit.layers.", "decoder.decoder_layers."]
    out = {}
    for name, value in names.items():
        if name in outer:
            out[outer[name]] = value
            continue
        layer, ending = name.rsplit(".", 1)
        if layer in layers:
            out[f"{layers[layer]}.{ending}"] = value
            continue
        start = next(s for s in lists if name.startswith(s))
        index, rest = layer[len(start):].split(".", 1)
        block = f"{'decoder_' if start.startswith('decoder') else ''}blocks.{index}"
        if rest in blocks:
            out[f"{block}.{blocks[rest]}.{ending}"] = value
        else:
            part = rest.rsplit(".", 1)[1]
            out.setdefault(f"{block}.attn.qkv.{ending}", {})[part] = value
    join = lambda v: torch.cat([v["q_proj"], v["k_proj"], v["v_proj"]]) if isinstance(v, dict) else v
    return {k: join(v) for k, v in out.items()}


def load_official(model, weights):
    """Copies weights with official names into a transformers model."""
    state, ids, first = model.state_dict(), {}, 0
    for name, value in state.items():
        ids[name] = torch.arange(first, first + value.numel()).reshape(value.shape)
        first += value.numel()
    flat = torch.zeros(first, dtype=torch.float64)
    for name, at in official(ids).items():
        assert at.shape == weights[name].shape, name
        flat[at.flatten()] = weights[name].flatten().double()
    model.load_state_dict({name: flat[at] for name, at in ids.items()})


def in_order(weights):
    """Sorts weights in the order of the official model's state dict."""
    def key(name):
        block = ["norm1", "attn.qkv", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2"]
        top = ["cls_token", "pos_embed", "mask_token", "decoder_pos_embed", "patch_embed", "blocks", "norm",
               "decoder_embed", "decoder_blocks", "decoder_norm", "decoder_pred"]
        parts = name.split(".")
        inner = (int(parts[1]), block.index(next(b for b in block if f".{b}." in name))) if "blocks" in parts[0] else (0, 0)
        return (top.index(parts[0]), *inner, name.endswith("bias"))
    return dict(sorted(weights.items(), key=lambda item: key(item[0])))


def trained_mae():
    """Trains a masked autoencoder for a few AdamW updates. Returns its weights, the moments, the outputs, and the next update."""
    model = mae(1, 1e-6)
    still = lambda n, p: p.ndim == 1 or n.endswith(".bias")
    params = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    groups = lambda: [{"params": [p for n, p in params if still(n, p)], "weight_decay": 0.0},
                      {"params": [p for n, p in params if not still(n, p)], "weight_decay": WEIGHT_DECAY}]
    optimizer = torch.optim.AdamW(groups(), lr=LR, betas=BETAS)
    generator = torch.Generator().manual_seed(2)
    draw = lambda: (torch.randn(4, 3, 8, 8, generator=generator), torch.rand(4, 4, generator=generator))

    def update():
        imgs, noise = draw()
        optimizer.zero_grad()
        model(imgs.double(), noise=noise.double()).loss.backward()
        optimizer.step()
        return imgs, noise

    for _ in range(STEPS):
        update()
    with torch.no_grad():  # files hold float32, so the next update must start from float32 values
        for _, p in params:
            p.copy_(p.float())
            for key in ("exp_avg", "exp_avg_sq"):
                optimizer.state[p][key].copy_(optimizer.state[p][key].float())
    copy = lambda names: {k: v.detach().clone() for k, v in names.items()}
    weights = in_order(official(copy(model.state_dict())))
    moments = {key: official({n: optimizer.state[p][key].clone() for n, p in params}) for key in ("exp_avg", "exp_avg_sq")}
    imgs, noise = draw()
    with torch.no_grad():
        output = model(imgs.double(), noise=noise.double())
    expected = {"imgs": imgs, "noise": noise, "mask": output.mask, "pred": output.logits, "loss": output.loss.reshape(1),
                **{f"weights.{k}": v for k, v in weights.items()}}
    for group in optimizer.param_groups:
        group["lr"] = NEXT_LR
    next_imgs, next_noise = update()
    after = {"imgs": next_imgs, "noise": next_noise,
             **{f"after.{k}": v for k, v in in_order(official(copy(model.state_dict()))).items()}}
    return {k: v.float() for k, v in weights.items()}, moments, expected, after


def torch_optimizer(weights, moments):
    trained = [n for n in weights if n not in ("pos_embed", "decoder_pos_embed")]
    still = [n for n in trained if weights[n].ndim == 1 or n.endswith(".bias")]
    order = still + [n for n in trained if n not in still]
    state = {i: {"step": torch.tensor(float(STEPS)), **{k: moments[k][n].float() for k in moments}} for i, n in enumerate(order)}
    shared = dict(lr=LR, betas=BETAS, eps=1e-8, amsgrad=False)
    return {"state": state, "param_groups": [
        {"weight_decay": 0.0, **shared, "params": list(range(len(still)))},
        {"weight_decay": WEIGHT_DECAY, **shared, "params": list(range(len(still), len(order)))}]}


def paddle(weights, moments):
    """Converts to Paddle's layout: `(internal name, array)`, linear weights `[in, out]`, powers of the betas instead of a step."""
    turned = lambda t: (t.t() if t.ndim == 2 else t).contiguous().float().numpy()
    internal = {n: f"layer_{i}.w_0" for i, n in enumerate(weights)}
    model = {n: (internal[n], turned(w)) for n, w in weights.items()}
    optimizer = {}
    for n in weights:
        if n in ("pos_embed", "decoder_pos_embed"):
            continue
        powers = [torch.tensor([beta ** (STEPS + 1)]) for beta in BETAS]
        for suffix, value in zip(("moment1_0", "moment2_0", "beta1_pow_acc_0", "beta2_pow_acc_0"),
                                 (moments["exp_avg"][n], moments["exp_avg_sq"][n], *powers)):
            key = f"{internal[n]}_{suffix}"
            optimizer[key] = (key, turned(value))
    return model, optimizer


def masked_autoencoders():
    weights, moments, expected, after = trained_mae()
    description = {"kind": "checkpoint_mae", "files": ["checkpoint-2.pth", "legacy.pth", "half.pth", "checkpoint-2.pd", "weights.pdparams"],
                   "encoder_only": "encoder-only.pth", "half_tolerance": 0.02, "model": DIMS, "mask_ratio": MASK_RATIO,
                   "norm_pix_loss": True, "source": "transformers 5.24.0 in float64; files written by torch 2.15 and pickle"}
    folder = case("torch-mae", description, expected)
    args = argparse.Namespace(model="mae_vit_nano", batch_size=4, blr=1e-3, mask_ratio=MASK_RATIO, norm_pix_loss=True, epochs=4)
    whole = {"model": weights, "optimizer": torch_optimizer(weights, moments), "epoch": 2, "scaler": {}, "args": args}
    torch.save(whole, folder / "checkpoint-2.pth")
    torch.save({"model": {f"module.{k}": v for k, v in weights.items()}}, folder / "legacy.pth", _use_new_zipfile_serialization=False)
    torch.save({"model": {k: v.half() for k, v in weights.items()}}, folder / "half.pth")
    decoder = ("decoder_", "mask_token")
    torch.save({k: v for k, v in weights.items() if not k.startswith(decoder)}, folder / "encoder-only.pth")
    model, optimizer = paddle(weights, moments)
    dump = lambda value, name: (folder / name).write_bytes(pickle.dumps(value, protocol=4))
    dump({"model": model, "optimizer": optimizer, "epoch": 2, "args": args}, "checkpoint-2.pd")
    dump({**{n: array for n, (_, array) in model.items()}, "StructuredToParameterName@@": {n: i for n, (i, _) in model.items()}}, "weights.pdparams")
    case("resume-step", {"kind": "resume_step", "files": ["../torch-mae/checkpoint-2.pth", "../torch-mae/checkpoint-2.pd"],
                         "epoch": 3, "updates": STEPS, "model": DIMS, "mask_ratio": MASK_RATIO, "norm_pix_loss": True, "lr": NEXT_LR,
                         "betas": BETAS, "weight_decay": WEIGHT_DECAY,
                         "source": "torch.optim.AdamW on transformers' model, both in float64"}, after)


def resized(table, grid):
    """Resizes position embeddings to `grid` x `grid` patches with bicubic interpolation. The class token's row stays."""
    old = int((table.shape[1] - 1) ** 0.5)
    patches = table[:, 1:].reshape(1, old, old, -1).permute(0, 3, 1, 2)
    patches = torch.nn.functional.interpolate(patches, size=(grid, grid), mode="bicubic", align_corners=False)
    return torch.cat([table[:, :1], patches.permute(0, 2, 3, 1).reshape(1, grid * grid, -1)], dim=1)


def adamw(params, lr):
    still = lambda n, p: p.ndim == 1 or n.endswith(".bias")
    return torch.optim.AdamW([{"params": [p for n, p in params if still(n, p)], "weight_decay": 0.0},
                              {"params": [p for n, p in params if not still(n, p)]}],
                             lr=lr, betas=BETAS, weight_decay=WEIGHT_DECAY)


def encoder_mask_token():
    """One update with mask tokens in the encoder (table 1c of the paper) and the loss over all patches.

    The layers are those of transformers. The encoder gets all positions; the decoder gets the encoder's tokens as they are.
    """
    model, lr = mae(11, 1e-6), 3e-3
    generator = torch.Generator().manual_seed(12)
    token = torch.nn.Parameter(torch.randn(1, 1, DIMS["embed_dim"], generator=generator).double())
    imgs, noise = torch.randn(4, 3, 8, 8, generator=generator), torch.rand(4, 4, generator=generator)
    vit, decoder = model.vit, model.decoder
    removed = (noise.argsort(1).argsort(1) >= 2).double()[:, :, None]
    params = [(n, p) for n, p in model.named_parameters() if p.requires_grad and n != "decoder.mask_token"]
    optimizer = adamw(params + [("encoder_mask_token", token)], lr)
    weights = lambda: {**in_order({k: v for k, v in official({k: v.detach().clone() for k, v in model.state_dict().items()}).items()
                                   if k != "mask_token"}), "encoder_mask_token": token.detach().clone()}
    before = weights()
    x = vit.embeddings.patch_embeddings(imgs.double())
    x = x * (1 - removed) + token * removed
    x = torch.cat([vit.embeddings.cls_token.expand(4, -1, -1), x], 1) + vit.embeddings.position_embeddings
    for layer in vit.layers:
        x = layer(x)
    x = decoder.decoder_embed(vit.layernorm(x)) + decoder.decoder_pos_embed
    for layer in decoder.decoder_layers:
        x = layer(x)
    pred = decoder.decoder_pred(decoder.decoder_norm(x))[:, 1:]
    target = model.patchify(imgs.double())
    loss = ((pred - target) ** 2).mean()
    loss.backward()
    optimizer.step()
    folder = case("encoder-mask-token", {"kind": "pretrain_from", "files": ["model.safetensors"],
                                         "model": {**DIMS, "encoder_mask_token": True}, "mask_ratio": MASK_RATIO,
                                         "norm_pix_loss": False, "loss_on": "all", "lr": lr, "betas": BETAS,
                                         "weight_decay": WEIGHT_DECAY, "source": "layers of transformers 5.24 in float64"},
                  {"imgs": imgs, "noise": noise, "loss": loss.detach().reshape(1), **{f"after.{k}": v for k, v in weights().items()}})
    save_file({k: v.float().contiguous() for k, v in before.items()}, folder / "model.safetensors")


def pos_embed_resize():
    """Position embeddings resized by torch in float32, which is what the official code does."""
    sizes, tensors = [[32, 14, 24], [8, 16, 14], [8, 24, 14], [8, 7, 5]], {}
    for width, old, new in sizes:
        generator = torch.Generator().manual_seed(old * 100 + new)
        table = torch.randn(1, 1 + old * old, width, generator=generator)
        tensors[f"in.{width}.{old}.{new}"], tensors[f"out.{width}.{old}.{new}"] = table, resized(table, new)
    case("pos-embed-resize", {"kind": "pos_embed_resize", "sizes": sizes, "source": "torch 2.15 in float32"}, tensors)


def pretrain_from():
    """The first update of a new pre-training from the weights of torch-mae, for the same image size and for a larger one."""
    weights = torch.load(HERE / "torch-mae" / "checkpoint-2.pth", weights_only=False)["model"]
    for name, size, lr in (("pretrain-from", 8, 3e-3), ("pretrain-from-larger", 12, 2e-3)):
        grid = size // DIMS["patch_size"]
        model = mae(9, 1e-6, size)
        tables = ("pos_embed", "decoder_pos_embed")
        load_official(model, {k: resized(v.double(), grid) if k in tables else v for k, v in weights.items()})
        optimizer = adamw([(n, p) for n, p in model.named_parameters() if p.requires_grad], lr)
        generator = torch.Generator().manual_seed(10)
        imgs = torch.randn(4, 3, size, size, generator=generator)
        noise = torch.rand(4, grid * grid, generator=generator)
        loss = model(imgs.double(), noise=noise.double()).loss
        loss.backward()
        optimizer.step()
        after = in_order(official({k: v.detach() for k, v in model.state_dict().items()}))
        case(name, {"kind": "pretrain_from", "files": ["../torch-mae/checkpoint-2.pth"], "model": {**DIMS, "input_size": size},
                    "mask_ratio": MASK_RATIO, "norm_pix_loss": True, "lr": lr, "betas": BETAS, "weight_decay": WEIGHT_DECAY,
                    "source": "torch.optim.AdamW on transformers' model, both in float64; tables resized by torch"},
             {"imgs": imgs, "noise": noise, "loss": loss.detach().reshape(1), **{f"after.{k}": v for k, v in after.items()}})


def huggingface():
    imgs = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(5))
    model, noise = mae(3, 1e-12), torch.rand(2, 4, generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        output = model(imgs.double(), noise=noise.double())
    shared = {"files": ["model.safetensors"], "model": DIMS, "source": "transformers 5.24.0 in float64; layer_norm_eps 1e-12"}
    folder = case("huggingface-vitmae", {"kind": "checkpoint_mae", **shared, "mask_ratio": MASK_RATIO, "norm_pix_loss": True},
                  {"imgs": imgs, "noise": noise, "mask": output.mask, "pred": output.logits, "loss": output.loss.reshape(1),
                   "ids_restore": output.ids_restore})
    model.float().save_pretrained(folder)
    config = ViTConfig(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, image_size=8,
                       patch_size=4, layer_norm_eps=1e-12, id2label=dict(enumerate(["ant", "bee", "cat", "dog", "elk"])),
                       attn_implementation="eager")
    model = ViTForImageClassification(config)
    randomize(model, 6)
    with torch.no_grad():
        logits = model.double()(imgs.double()).logits
    folder = case("huggingface-vit", {"kind": "checkpoint_vit", **shared, "num_classes": 5, "global_pool": False},
                  {"imgs": imgs, "logits": logits})
    model.float().save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps({"image_mean": [0.5, 0.4, 0.3], "image_std": [0.25, 0.2, 0.3]}))


def timm():
    imgs = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(7))
    for pool in ("avg", "token"):
        model = timm_vit.VisionTransformer(img_size=8, patch_size=4, embed_dim=16, depth=2, num_heads=2, mlp_ratio=2,
                                           num_classes=5, global_pool=pool)
        randomize(model, 8)
        with torch.no_grad():
            logits = model.double().eval()(imgs.double())
        files = ["model.safetensors", "pytorch_model.bin"] + (["checkpoint-9.pth"] if pool == "avg" else [])
        folder = case(f"timm-{pool}", {"kind": "checkpoint_vit", "files": files, "model": DIMS, "num_classes": 5,
                                       "global_pool": pool == "avg", "source": "timm 1.0.31 in float64"},
                      {"imgs": imgs, "logits": logits})
        state = {k: v.contiguous() for k, v in model.float().state_dict().items()}
        save_file(state, folder / "model.safetensors")
        torch.save(state, folder / "pytorch_model.bin")
        if pool == "avg":
            torch.save({"model": state, "epoch": 9, "args": argparse.Namespace(nb_classes=5)}, folder / "checkpoint-9.pth")


if __name__ == "__main__":
    for make in sys.argv[1:] or ["masked_autoencoders", "huggingface", "timm", "pretrain_from", "encoder_mask_token", "pos_embed_resize"]:
        globals()[make]()
