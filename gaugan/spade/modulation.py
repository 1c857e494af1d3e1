"""Spatially-adaptive normalisation: y = normalised(x) * (1 + gamma(labels)) + beta(labels).

Park et al., "Semantic Image Synthesis with Spatially-Adaptive Normalization", 2019, arXiv:1903.07291, equations 1-3.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gaugan.errors import UserError
from gaugan.sync_norm import shared_batchnorm

NormKind = Literal["syncbatch", "batch", "instance"]
NORMS: dict[NormKind, Callable[..., nn.Module]] = {
    "syncbatch": shared_batchnorm,
    "batch": nn.BatchNorm2d,
    "instance": nn.InstanceNorm2d,
}


class LabelPyramid:
    """One-hot labels (N, C, H, W) resized once per resolution, shared by all the layers that ask for it.

    Resizing is torch "nearest": source row = floor(i * in / out). PIL's NEAREST and "nearest-exact" take other pixels;
    published weights expect this one. (A table of distinct label windows per resolution belongs here as well.)
    """

    def __init__(self, onehot: Tensor) -> None:
        self.onehot = onehot
        self._resized: dict[tuple[int, int], Tensor] = {(onehot.shape[2], onehot.shape[3]): onehot}

    def at(self, size: tuple[int, int]) -> Tensor:
        """(N, C, h, w) for size (h, w)."""
        if size not in self._resized:
            self._resized[size] = F.interpolate(self.onehot, size=size, mode="nearest")
        return self._resized[size]


@dataclass(frozen=True)
class SpadeNorm:
    """What the published `generator_norm` string says, such as "spectralspadesyncbatch3x3"."""

    spectral: bool
    kind: NormKind
    kernel_size: int

    @staticmethod
    def parse(text: str) -> SpadeNorm:
        """Raises UserError unless the text is [spectral]spade(syncbatch|batch|instance)KxK with odd K."""
        rest = text.removeprefix("spectral").removeprefix("spade")
        for word in NORMS:
            first, cross, second = rest.removeprefix(word).partition("x")
            if rest.startswith(word) and cross and first == second and first.isdigit() and int(first) % 2 == 1:
                return SpadeNorm(text.startswith("spectral"), word, int(first))
        raise UserError(
            f"generator_norm {text!r}: expected [spectral]spade(syncbatch|batch|instance)KxK with odd K, such as "
            "spectralspadesyncbatch3x3"
        )


class Spade(nn.Module):
    """One SPADE layer for `channels` feature maps; gamma and beta come from two convolutions over the labels.

    Keys as published: param_free_norm, mlp_shared.0, mlp_gamma, mlp_beta.
    """

    def __init__(self, channels: int, label_channels: int, *, norm: SpadeNorm, hidden: int = 128) -> None:
        super().__init__()
        self.param_free_norm = NORMS[norm.kind](channels, affine=False)
        size, padding = norm.kernel_size, norm.kernel_size // 2
        self.mlp_shared = nn.Sequential(nn.Conv2d(label_channels, hidden, size, padding=padding), nn.ReLU())
        self.mlp_gamma = nn.Conv2d(hidden, channels, size, padding=padding)
        self.mlp_beta = nn.Conv2d(hidden, channels, size, padding=padding)

    def forward(self, x: Tensor, labels: LabelPyramid) -> Tensor:
        """(N, channels, h, w) -> the same shape."""
        gamma, beta = self.modulation(labels.at((x.shape[2], x.shape[3])))
        normalised = self.param_free_norm(x)
        return torch.addcmul(normalised + beta, normalised, gamma)

    def modulation(self, onehot: Tensor) -> tuple[Tensor, Tensor]:
        """(N, label_channels, h, w) -> gamma, beta (N, channels, h, w), in one convolution over the hidden layer."""
        hidden = self.mlp_shared(onehot)
        weight = torch.cat([self.mlp_gamma.weight, self.mlp_beta.weight])
        bias = torch.cat([self.mlp_gamma.bias, self.mlp_beta.bias])  # type: ignore[list-item]
        both = F.conv2d(hidden, weight, bias, padding=self.mlp_gamma.padding)
        gamma, beta = both.chunk(2, dim=1)
        return gamma, beta
