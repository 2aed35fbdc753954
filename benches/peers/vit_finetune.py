"""Measures a fine-tuning step of a ViT in plain PyTorch, on one batch of random images that stays in memory.

    python benches/peers/vit_finetune.py --size base --batch 128 --device cuda --precision bf16 --compile

The model pools all patches, as MAE's fine-tuning does. Has stochastic depth, soft targets, and a learning rate that decreases
from block to block. Prints one JSON object. Needs only torch.
"""

import torch
from torch import nn
from torch.nn import functional as F

import vit


class Classifier(nn.Module):
    def __init__(self, o):
        super().__init__()
        self.embedding = vit.Embedding(o.image, o.patch, o.width)
        rates = torch.linspace(0, o.drop_path, o.depth).tolist()
        self.blocks = nn.ModuleList(vit.Block(o.width, o.heads, rate) for rate in rates)
        self.norm, self.head = nn.LayerNorm(o.width, eps=1e-6), nn.Linear(o.width, o.classes)

    def forward(self, images):
        x = self.embedding.with_cls_token(self.embedding(images))
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x[:, 1:].mean(dim=1)))

    def groups(self, layer_decay):
        """Returns the parameters by layer, each with and without weight decay."""
        layers = [self.embedding, *self.blocks, nn.ModuleList([self.norm, self.head])]
        groups = []
        for depth, layer in enumerate(layers):
            rate = 1e-4 * layer_decay ** (len(layers) - 1 - depth)
            for decayed in (True, False):
                params = [p for p in layer.parameters() if (p.ndim > 1) == decayed]
                if params:
                    groups.append({"params": params, "lr": rate, "weight_decay": 0.05 if decayed else 0.0})
        return groups


def main():
    parser = vit.arguments(__doc__.splitlines()[0])
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--drop-path", type=float, default=0.1)
    parser.add_argument("--forward-only", action="store_true", help="measure evaluation")
    options = vit.parsed(parser)
    model = Classifier(options).to(options.device).train(not options.forward_only)
    images = torch.randn(options.batch, 3, options.image, options.image, device=options.device)
    targets = torch.softmax(torch.randn(options.batch, options.classes, device=options.device), dim=1)
    groups = [] if options.forward_only else model.groups(0.75)
    vit.measure(options, model, lambda run: F.cross_entropy(run(images), targets), groups, "plain PyTorch ViT",
                forward_only=options.forward_only)


if __name__ == "__main__":
    main()
