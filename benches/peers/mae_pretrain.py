"""Measures a pre-training step of a masked autoencoder in plain PyTorch, on one batch of random images that stays in memory.

    python benches/peers/mae_pretrain.py --size base --batch 256 --device cuda --precision bf16 --compile

Prints one JSON object. Written from the paper (arXiv 2111.06377). Needs only torch.
"""

import torch
from torch import nn

import vit


class MaskedAutoencoder(nn.Module):
    """The encoder sees the kept patches; the decoder predicts the normalized pixels of the others."""

    def __init__(self, o):
        super().__init__()
        self.patch, self.mask_ratio = o.patch, o.mask_ratio
        self.embedding = vit.Embedding(o.image, o.patch, o.width)
        self.encoder = nn.Sequential(*(vit.Block(o.width, o.heads) for _ in range(o.depth)))
        self.norm = nn.LayerNorm(o.width, eps=1e-6)
        self.to_decoder = nn.Linear(o.width, o.decoder_width)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, o.decoder_width))
        self.register_buffer("decoder_positions", vit.sine_positions(o.image // o.patch, o.decoder_width))
        self.decoder = nn.Sequential(*(vit.Block(o.decoder_width, o.decoder_heads) for _ in range(o.decoder_depth)))
        self.decoder_norm = nn.LayerNorm(o.decoder_width, eps=1e-6)
        self.predict = nn.Linear(o.decoder_width, 3 * o.patch**2)

    def targets(self, images):
        n, channels, side, _ = images.shape
        grid = side // self.patch
        patches = images.view(n, channels, grid, self.patch, grid, self.patch).permute(0, 2, 4, 3, 5, 1)
        patches = patches.reshape(n, grid * grid, -1)
        variance, mean = torch.var_mean(patches, dim=-1, keepdim=True)
        return (patches - mean) / (variance + 1e-6).sqrt()

    def forward(self, images):
        x = self.embedding(images)
        n, patches, width = x.shape
        kept = int(patches * (1 - self.mask_ratio))
        order = torch.rand(n, patches, device=x.device).argsort(dim=1)
        x = x.gather(1, order[:, :kept, None].expand(-1, -1, width))
        x = self.to_decoder(self.norm(self.encoder(self.embedding.with_cls_token(x))))
        cls, x = x[:, :1], x[:, 1:]
        x = torch.cat([x, self.mask_token.to(x.dtype).expand(n, patches - kept, -1)], dim=1)
        back = order.argsort(dim=1)
        x = x.gather(1, back[:, :, None].expand(-1, -1, x.shape[-1])) + self.decoder_positions
        x = self.decoder_norm(self.decoder(torch.cat([cls, x], dim=1)))
        loss = (self.predict(x[:, 1:]) - self.targets(images)).square().mean(dim=-1)
        return (loss * (back >= kept)).sum() / (n * (patches - kept))


def main():
    parser = vit.arguments(__doc__.splitlines()[0])
    parser.add_argument("--mask-ratio", type=float, default=0.75)
    options = vit.parsed(parser)
    model = MaskedAutoencoder(options).to(options.device)
    images = torch.randn(options.batch, 3, options.image, options.image, device=options.device)
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": decayed}, {"params": others, "weight_decay": 0.0}]
    vit.measure(options, model, lambda run: run(images), groups, "plain PyTorch MAE")


if __name__ == "__main__":
    main()
