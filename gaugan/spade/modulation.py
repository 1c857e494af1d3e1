"""Spatially-adaptive normalisation: y = normalised(x) * (1 + gamma(labels)) + beta(labels).

Park et al., "Semantic Image Synthesis with Spatially-Adaptive Normalization", 2019, arXiv:1903.07291, equations 1-3.
gamma and beta are computed once per distinct label window where that is cheaper (docs/fast_spade.md); `Spade.reference`
is the convolutional definition that this is tested against.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gaugan.convolution import SMALLEST_F4, PackedConv, convolve_weight
from gaugan.errors import UserError
from gaugan.spade.label_pyramid import LabelPyramid
from gaugan.spade.modulate import Pass, Statistics, modulate, moments
from gaugan.spade.tables import hidden_rows, packed_table, table_rows
from gaugan.spade.windows import Windows
from gaugan.sync_norm import shared_batchnorm

NormKind = Literal["syncbatch", "batch", "instance"]
NORMS: dict[NormKind, Callable[..., nn.Module]] = {
    "syncbatch": shared_batchnorm,
    "batch": nn.BatchNorm2d,
    "instance": nn.InstanceNorm2d,
}


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
            f"--generator-norm {text}: expected [spectral]spade(syncbatch|batch|instance)KxK with odd K, such as "
            "spectralspadesyncbatch3x3"
        )


@dataclass(frozen=True)
class Mlp:
    """The two convolutions behind gamma and beta: labels -> hidden (ReLU) -> two values per channel."""

    shared_weight: Tensor
    """(hidden, label_channels, k, k)"""
    shared_bias: Tensor
    weights: list[Tensor]
    """Of gamma and of beta, (C, hidden, k, k) each; may be empty where `packed` does all the work."""
    bias: Tensor
    """(2 C): of gamma, then of beta."""
    packed: PackedConv | None = None
    """Both laid out for the kernels, where no gradients are needed."""

    def windows(self, labels: LabelPyramid, size: tuple[int, int]) -> Windows | None:
        """The windows to make a table of, or None when convolving every pixel is cheaper."""
        hidden, kernel_size = self.shared_weight.shape[0], self.shared_weight.shape[2]
        return labels.windows(size, kernel_size, hidden, training=torch.is_grad_enabled())

    def table(self, labels: LabelPyramid, size: tuple[int, int]) -> tuple[Tensor, Pass]:
        """(K, 2 C) rows of values, and which pixel of a map of that size takes which.

        A row per distinct window where that is cheaper than the convolution, otherwise a row per pixel.
        """
        windows = self.windows(labels, size)
        if windows is None:
            return self._row_per_pixel(labels.at(size)), Pass(labels.every_pixel(size))
        how = Pass(windows.index, lambda: windows.order)
        with torch.autocast(self.bias.device.type, enabled=False):
            hidden = hidden_rows(windows, labels.columns, self.shared_weight, self.shared_bias)
            if self.packed is not None:
                return packed_table(windows, hidden, self.packed), how
            return table_rows(windows, hidden, self.weights, self.bias), how

    def _row_per_pixel(self, onehot: Tensor) -> Tensor:
        padding = self.shared_weight.shape[2] // 2
        hidden = F.relu(F.conv2d(onehot, self.shared_weight, self.shared_bias, padding=padding))
        if self.packed is not None and hidden.shape[2] * hidden.shape[3] < SMALLEST_F4:
            values = self.packed(hidden.contiguous(memory_format=torch.channels_last))
        else:
            values = convolve_weight(hidden, torch.cat(self.weights), self.bias)
        return values.permute(0, 2, 3, 1).reshape(-1, len(self.bias)).to(self.bias.dtype)


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

    def forward(self, x: Tensor, labels: LabelPyramid, *, slope: float = 1.0, doubled: bool = False) -> Tensor:
        """(N, channels, h, w) -> the same shape, through a leaky ReLU of that slope (1 = none).

        `doubled`: x is enlarged by nearest doubling first, to (N, channels, 2 h, 2 w), without being written.
        """
        size = (x.shape[2] << doubled, x.shape[3] << doubled)
        if torch.is_autocast_enabled(x.device.type) and self.mlp().windows(labels, size) is None:
            return self._convolved(F.interpolate(x, scale_factor=2, mode="nearest") if doubled else x, labels, slope)
        table, how = self.mlp().table(labels, size)
        how = Pass(how.index, how.order, slope, doubled)
        if type(self.param_free_norm) is nn.BatchNorm2d:
            statistics = batch_statistics(self.param_free_norm, x, repeats=4 if doubled else 1)
            return modulate(x, table, how, statistics)
        x = F.interpolate(x, scale_factor=2, mode="nearest") if doubled else x
        return modulate(self.param_free_norm(x), table, Pass(how.index, how.order, slope))

    def _convolved(self, x: Tensor, labels: LabelPyramid, slope: float) -> Tensor:
        """The definition with gamma and beta in one convolution: under autocast it beats a table row per pixel."""
        hidden = self.mlp_shared(labels.at((x.shape[2], x.shape[3])))
        weight = torch.cat([self.mlp_gamma.weight, self.mlp_beta.weight])
        bias = torch.cat([self.mlp_gamma.bias, self.mlp_beta.bias])  # type: ignore[list-item]
        gamma, beta = F.conv2d(hidden, weight, bias, padding=self.mlp_gamma.padding).chunk(2, dim=1)
        normalised = self.param_free_norm(x)
        return F.leaky_relu(torch.addcmul(normalised + beta, normalised, gamma), slope)

    def mlp(self) -> Mlp:
        """The layers behind gamma and beta, with 1 + gamma in place of gamma."""
        gamma, beta, shared = self.mlp_gamma.bias, self.mlp_beta.bias, self.mlp_shared[0]
        assert gamma is not None and beta is not None
        assert isinstance(shared, nn.Conv2d) and shared.bias is not None
        bias = torch.cat([gamma + 1, beta])
        return Mlp(shared.weight, shared.bias, [self.mlp_gamma.weight, self.mlp_beta.weight], bias)

    def reference(self, x: Tensor, labels: LabelPyramid) -> Tensor:
        """The definition: two convolutions over the one-hot labels. (N, channels, h, w) -> the same shape."""
        hidden = self.mlp_shared(labels.at((x.shape[2], x.shape[3])))
        normalised = self.param_free_norm(x)
        return normalised * (1 + self.mlp_gamma(hidden)) + self.mlp_beta(hidden)


def batch_statistics(norm: nn.BatchNorm2d, x: Tensor, repeats: int = 1) -> Statistics:
    """What `norm` (without weights of its own) would normalise x with; in training it updates its running statistics.

    `repeats`: every value of x stands for that many equal ones, as after doubling. They count in the unbiased running
    variance only.
    """
    if not norm.training and norm.running_mean is not None:
        assert norm.running_var is not None
        return Statistics(norm.running_mean, (norm.running_var + norm.eps).rsqrt())
    count = x.numel() // x.shape[1] * repeats
    if count == 1:
        raise ValueError(f"batch statistics need more than 1 value per channel, got an input of {tuple(x.shape)}")
    with torch.no_grad():
        mean, variance = moments(x)
        if norm.training and norm.running_mean is not None:
            _update_running(norm, mean, variance * (count / (count - 1)))
        return Statistics(mean, (variance + norm.eps).rsqrt(), count)


def _update_running(norm: nn.BatchNorm2d, mean: Tensor, variance: Tensor) -> None:
    assert norm.running_mean is not None and norm.running_var is not None and norm.num_batches_tracked is not None
    norm.num_batches_tracked.add_(1)
    momentum = 1.0 / float(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
    norm.running_mean.lerp_(mean.to(norm.running_mean.dtype), momentum)
    norm.running_var.lerp_(variance.to(norm.running_var.dtype), momentum)
