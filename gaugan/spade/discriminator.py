"""Multi-scale patch discriminator and the normalised convolutions it shares with the encoder.

Wang et al., "High-Resolution Image Synthesis with Conditional GANs", 2018, arXiv:1711.11585, with the layers and key
names of the published SPADE code (Park et al. 2019, arXiv:1903.07291).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gaugan.errors import UserError
from gaugan.nn import SpectralConv2d
from gaugan.sync_norm import shared_batchnorm

NORMS = ("none", "batch", "sync_batch", "instance")


def normalised_conv(
    in_channels: int, out_channels: int, kernel_size: int, *, stride: int, padding: int, norm: str
) -> nn.Module:
    """A convolution as the published norm string says: [spectral](none|batch|sync_batch|instance).

    With a normalisation: Sequential(convolution without bias, normalisation); with "none": the convolution alone.
    """
    spectral, kind = parse_norm(norm)
    conv_class = SpectralConv2d if spectral else nn.Conv2d
    conv = conv_class(in_channels, out_channels, kernel_size, stride=stride, padding=padding, bias=kind == "none")
    return normalised(conv, out_channels, kind)


def parse_norm(norm: str) -> tuple[bool, str]:
    """(with spectral norm, one of NORMS). Raises UserError for other texts."""
    kind = norm.removeprefix("spectral") or "none"
    if kind not in NORMS:
        raise UserError(f"norm {norm!r}: expected [spectral] followed by one of {', '.join(NORMS)}")
    return norm.startswith("spectral"), kind


def normalised(conv: nn.Module, channels: int, kind: str) -> nn.Module:
    """The convolution followed by its normalisation; the convolution alone for "none"."""
    if kind == "none":
        return conv
    layers: dict[str, Callable[[int], nn.Module]] = {
        "batch": nn.BatchNorm2d,
        "sync_batch": shared_batchnorm,
        "instance": nn.InstanceNorm2d,
    }
    return nn.Sequential(conv, layers[kind](channels))


class PatchDiscriminator(nn.Module):
    """Judges overlapping patches: (N, C, H, W) -> list of feature maps, the last one the logits."""

    def __init__(self, in_channels: int, *, ndf: int = 64, num_layers: int = 4, norm: str = "spectralinstance") -> None:
        super().__init__()
        size, padding = 4, math.ceil((4 - 1) / 2)
        channels = ndf
        self.model0 = nn.Sequential(
            nn.Conv2d(in_channels, channels, size, stride=2, padding=padding), nn.LeakyReLU(0.2, inplace=False)
        )
        for number in range(1, num_layers):
            wider = min(channels * 2, 512)
            stride = 1 if number == num_layers - 1 else 2
            conv = normalised_conv(channels, wider, size, stride=stride, padding=padding, norm=norm)
            setattr(self, f"model{number}", nn.Sequential(conv, nn.LeakyReLU(0.2, inplace=False)))
            channels = wider
        setattr(self, f"model{num_layers}", nn.Sequential(nn.Conv2d(channels, 1, size, stride=1, padding=padding)))

    def forward(self, x: Tensor) -> list[Tensor]:
        """Features after each LeakyReLU, then the logits (N, 1, h, w)."""
        outputs = []
        for layer in self.children():
            x = layer(x)
            outputs.append(x)
        return outputs


class Discriminator(nn.Module):
    """`num_scales` patch discriminators; each next one sees the input at half the size."""

    def __init__(
        self,
        in_channels: int,
        *,
        ndf: int = 64,
        num_scales: int = 2,
        num_layers: int = 4,
        norm: str = "spectralinstance",
    ) -> None:
        super().__init__()
        for scale in range(num_scales):
            patch = PatchDiscriminator(in_channels, ndf=ndf, num_layers=num_layers, norm=norm)
            setattr(self, f"discriminator_{scale}", patch)

    def forward(self, onehot: Tensor, image: Tensor) -> list[list[Tensor]]:
        """onehot (N, C, H, W), image (N, 3, H, W) -> per scale the list of `PatchDiscriminator`."""
        x = torch.cat([onehot, image], dim=1)
        outputs = []
        for discriminator in self.children():
            outputs.append(discriminator(x))
            x = F.avg_pool2d(x, 3, stride=2, padding=1, count_include_pad=False)
        return outputs


def split_outputs(outputs: list[list[Tensor]]) -> tuple[list[list[Tensor]], list[Tensor]]:
    """Discriminator output -> (features per scale, logits per scale)."""
    return [scale[:-1] for scale in outputs], [scale[-1] for scale in outputs]
