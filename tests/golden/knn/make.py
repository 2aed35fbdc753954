"""Makes features.safetensors: random features, and the votes of torch for them. Tests do not run it.

    python tests/golden/knn/make.py      # torch 2.15, safetensors

The computation is the one of DINO's eval_knn.py: normalized features, the k most similar training images, votes of
exp(similarity / 0.07). It is written here in float64.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file

K, TEMPERATURE, CLASSES, WIDTH = 20, 0.07, 12, 16
generator = torch.Generator().manual_seed(0)
centres = torch.randn(CLASSES, WIDTH, generator=generator)


def features(count):
    labels = torch.randint(CLASSES, (count,), generator=generator)
    values = centres[labels] + 1.5 * torch.randn(count, WIDTH, generator=generator)
    return values * (0.1 + 5 * torch.rand(count, 1, generator=generator)), labels


train, train_labels = features(500)
val, val_labels = features(200)
similarity = F.normalize(val.double(), dim=1) @ F.normalize(train.double(), dim=1).T
nearest, index = similarity.topk(K, dim=1)
weights = (nearest / TEMPERATURE).exp()
votes = torch.zeros(len(val), CLASSES, dtype=torch.float64)
votes.scatter_add_(1, train_labels[index], weights)
ranked = votes.argsort(dim=1, descending=True)
top1 = (ranked[:, 0] == val_labels).sum().item()
voted = votes.gather(1, val_labels[:, None])[:, 0] > 0  # a class without votes is never correct
top5 = ((ranked[:, :5] == val_labels[:, None]).any(1) & voted).sum().item()
print(f"top-1 {top1} of {len(val)}, top-5 {top5}")
save_file({
    "train": train, "train_labels": train_labels, "val": val, "val_labels": val_labels,
    "correct": torch.tensor([top1, top5]), "predictions": ranked[:, 0].contiguous(),
}, Path(__file__).parent / "features.safetensors")
