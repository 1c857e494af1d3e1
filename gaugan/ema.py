"""Exponential moving average of a network's weights, measured in images: batch size doesn't change its meaning."""

from __future__ import annotations

import copy

import torch
from torch import nn


class Ema:
    """Keeps `network`, a copy whose parameters trail those of the source.

    After `half_life_images` images an old value counts half: beta = 0.5 ^ (batch / half_life), as in Karras et al. 2020
    (arXiv:2006.06676). Early on the half-life is capped at `ramp_up` of the images seen, so that the random
    start is forgotten. Buffers (running statistics, u and v of spectral norm) are copied, unless `average_buffers`.
    """

    def __init__(
        self, source: nn.Module, half_life_images: float, ramp_up: float = 0.05, average_buffers: bool = False
    ) -> None:
        self.network = copy.deepcopy(source).eval().requires_grad_(False)
        self.half_life_images, self.ramp_up, self.average_buffers = half_life_images, ramp_up, average_buffers

    @torch.no_grad()
    def update(self, source: nn.Module, batch_images: int, images_seen: int) -> None:
        """Moves the average after a step on `batch_images` (all processes together); `images_seen` counts them in."""
        half_life = min(self.half_life_images, max(images_seen * self.ramp_up, 1e-8))
        beta = 0.5 ** (batch_images / half_life)
        torch._foreach_lerp_(list(self.network.parameters()), list(source.parameters()), 1.0 - beta)
        if not self.average_buffers:
            self.copy_buffers(source)
            return
        for mine, theirs in zip(self.network.buffers(), source.buffers(), strict=True):
            if mine.is_floating_point():
                mine.lerp_(theirs, 1.0 - beta)
            else:
                mine.copy_(theirs)

    @torch.no_grad()
    def copy_buffers(self, source: nn.Module) -> None:
        """Takes over running statistics and spectral-norm vectors."""
        for mine, theirs in zip(self.network.buffers(), source.buffers(), strict=True):
            mine.copy_(theirs)
