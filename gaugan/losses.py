"""Losses shared by the generators: adversarial, feature matching, Kullback-Leibler.

Multi-scale outputs arrive as lists, one entry per discriminator. Numbers match the published SPADE code (Park et al.,
2019, arXiv:1903.07291) except where a docstring says otherwise. All are computed in float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

GanMode = Literal["hinge", "ls", "original", "w"]


def discriminator_loss(mode: GanMode, real: Sequence[Tensor], fake: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """(loss on real, loss on fake), each the mean over a scale's elements, then over scales; the total is their sum.

    hinge (Lim & Ye 2017), ls (Mao et al. 2017), original (Goodfellow et al. 2014, on logits), w (Arjovsky et al. 2017).
    """
    on_real = [_one_sided(mode, logits.float(), target=True) for logits in real]
    on_fake = [_one_sided(mode, logits.float(), target=False) for logits in fake]
    return torch.stack(on_real).mean(), torch.stack(on_fake).mean()


def generator_loss(mode: GanMode, fake: Sequence[Tensor]) -> Tensor:
    """What the generator minimises: hinge and w use -mean of the logits, the others the "real" side of the loss."""
    if mode in ("hinge", "w"):
        return -torch.stack([logits.float().mean() for logits in fake]).mean()
    return torch.stack([_one_sided(mode, logits.float(), target=True) for logits in fake]).mean()


def _one_sided(mode: GanMode, logits: Tensor, *, target: bool) -> Tensor:
    sign = 1.0 if target else -1.0
    if mode == "hinge":
        return F.relu(1.0 - sign * logits).mean()
    if mode == "ls":
        return F.mse_loss(logits, torch.full_like(logits, float(target)))
    if mode == "original":
        return F.softplus(-sign * logits).mean()  # = binary cross entropy with logits
    return -sign * logits.mean()


def feature_matching(fake: Sequence[Sequence[Tensor]], real: Sequence[Sequence[Tensor]]) -> Tensor:
    """Sum over scales and layers of mean |f(fake) - f(real)|, divided by the number of scales.

    `fake[i][j]`: (N, C, h, w) features of layer j of discriminator i, final logits left out. No weight per layer, so
    more layers mean a larger loss (unlike pix2pixHD). No gradient flows into `real`.
    """
    total = torch.stack(
        [_l1(f, r) for scale in zip(fake, real, strict=True) for f, r in zip(*scale, strict=True)]
    ).sum()
    return total / len(fake)


def perceptual(fake: Sequence[Tensor], real: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """Weighted sum over layers of mean |f(fake) - f(real)| (Johnson et al. 2016, arXiv:1603.08155).

    No gradient flows into `real`.
    """
    return torch.stack([weight * _l1(f, r) for weight, f, r in zip(weights, fake, real, strict=True)]).sum()


def _l1(fake: Tensor, real: Tensor) -> Tensor:
    return F.l1_loss(fake.float(), real.detach().float())


def kl_divergence(mu: Tensor, logvar: Tensor, reduction: Literal["mean", "sum"] = "mean") -> Tensor:
    """KL(N(mu, exp(logvar)) || N(0, 1)) of (N, Z) tensors: sum over Z, then over pictures (Kingma & Welling 2014).

    "mean" over pictures doesn't change with the batch size. "sum" is what the published SPADE code takes over the
    pictures of one GPU: its weight 0.05 at 4 pictures per GPU is a weight of 0.2 on the mean.
    """
    mu, logvar = mu.float(), logvar.float()
    per_picture = -0.5 * (1.0 + logvar - mu.square() - logvar.exp()).sum(dim=1)
    return per_picture.mean() if reduction == "mean" else per_picture.sum()


def sample_gaussian(mu: Tensor, logvar: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """mu + eps * exp(logvar / 2), float32; `generator` None = the global random state."""
    mu, logvar = mu.float(), logvar.float()
    noise = torch.randn(mu.shape, generator=generator, device=generator.device if generator else mu.device)
    return mu + noise.to(mu.device) * torch.exp(0.5 * logvar)
