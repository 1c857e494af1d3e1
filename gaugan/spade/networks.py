"""The SPADE generator, identical in mathematics and key names to the published one.

Park et al., "Semantic Image Synthesis with Spatially-Adaptive Normalization", 2019, arXiv:1903.07291, appendix A.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gaugan.convolution import convolve
from gaugan.errors import UserError
from gaugan.nn import SpectralConv2d
from gaugan.spade.label_pyramid import LabelPyramid
from gaugan.spade.modulation import Spade, SpadeNorm

Upsampling = Literal["normal", "more", "most"]
DOUBLINGS: dict[str, int] = {"normal": 5, "more": 6, "most": 7}
SLOPE = 0.2
"""Of every leaky ReLU of the generator."""


class SpadeBlock(nn.Module):
    """Residual block with SPADE before each convolution; the shortcut is learned when the channel count changes."""

    def __init__(
        self, in_channels: int, out_channels: int, label_channels: int, *, norm: SpadeNorm, hidden: int
    ) -> None:
        super().__init__()
        middle = min(in_channels, out_channels)
        conv = SpectralConv2d if norm.spectral else nn.Conv2d
        self.conv_0 = conv(in_channels, middle, 3, padding=1)
        self.conv_1 = conv(middle, out_channels, 3, padding=1)
        self.norm_0 = Spade(in_channels, label_channels, norm=norm, hidden=hidden)
        self.norm_1 = Spade(middle, label_channels, norm=norm, hidden=hidden)
        self.learned_shortcut = in_channels != out_channels
        if self.learned_shortcut:
            self.conv_s = conv(in_channels, out_channels, 1, bias=False)
            self.norm_s = Spade(in_channels, label_channels, norm=norm, hidden=hidden)

    def forward(self, x: Tensor, labels: LabelPyramid, *, doubled: bool = False) -> Tensor:
        """(N, in_channels, h, w) -> (N, out_channels, h, w); `doubled`: x is enlarged to twice the size first."""
        if self.learned_shortcut:
            shortcut = convolve(self.conv_s, self.norm_s(x, labels, doubled=doubled))  # no activation, as published
        else:
            shortcut = _double(x) if doubled else x
        x = convolve(self.conv_0, self.norm_0(x, labels, slope=SLOPE, doubled=doubled))
        return shortcut + convolve(self.conv_1, self.norm_1(x, labels, slope=SLOPE))


class Generator(nn.Module):
    """Label map (+ style vector) -> picture.

    `z_dim` None: the first feature map is a convolution over the label map instead of a linear layer over z.
    `upsampling`: 5, 6 or 7 doublings (`normal`, `more`, `most`) from the first feature map to the picture.
    """

    def __init__(
        self,
        label_channels: int,
        image_size: tuple[int, int] = (256, 256),
        *,
        ngf: int = 64,
        z_dim: int | None = 256,
        upsampling: Upsampling = "normal",
        norm: str = "spectralspadesyncbatch3x3",
        hidden: int = 128,
    ) -> None:
        super().__init__()
        self.start_size = start_size(image_size, upsampling)
        self.z_dim, self.upsampling, self.start_channels = z_dim, upsampling, 16 * ngf
        if z_dim is None:
            self.fc: nn.Module = nn.Conv2d(label_channels, 16 * ngf, 3, padding=1)
        else:
            self.fc = nn.Linear(z_dim, 16 * ngf * self.start_size[0] * self.start_size[1])
        spade_norm = SpadeNorm.parse(norm)

        def block(in_units: int, out_units: int) -> SpadeBlock:
            return SpadeBlock(in_units * ngf, out_units * ngf, label_channels, norm=spade_norm, hidden=hidden)

        self.head_0 = block(16, 16)
        self.G_middle_0 = block(16, 16)
        self.G_middle_1 = block(16, 16)
        self.up_0 = block(16, 8)
        self.up_1 = block(8, 4)
        self.up_2 = block(4, 2)
        self.up_3 = block(2, 1)
        last = ngf
        if upsampling == "most":
            last = ngf // 2
            self.up_4 = SpadeBlock(ngf, last, label_channels, norm=spade_norm, hidden=hidden)
        self.conv_img = nn.Conv2d(last, 3, 3, padding=1)

    def forward(self, labels: Tensor | LabelPyramid, z: Tensor | None = None) -> Tensor:
        """labels (N, label_channels, H, W) float, z (N, z_dim) -> float32 (N, 3, H, W) in [-1, 1]."""
        if isinstance(labels, Tensor):
            labels = LabelPyramid(labels)
        x = self._start(labels, z)
        for block, doubled in self.blocks():
            x = block(x, labels, doubled=doubled)
        x = self.conv_img(F.leaky_relu(x, SLOPE))  # (N, 3, H, W)
        return torch.tanh(x.float())

    def blocks(self) -> list[tuple[SpadeBlock, bool]]:
        """The residual blocks in order, each with whether its input is doubled in size first."""
        middle = [(self.head_0, False), (self.G_middle_0, True), (self.G_middle_1, self.upsampling != "normal")]
        up = [self.up_0, self.up_1, self.up_2, self.up_3, *([self.up_4] if self.upsampling == "most" else [])]
        return middle + [(block, True) for block in up]

    def _start(self, labels: LabelPyramid, z: Tensor | None) -> Tensor:
        """(N, 16 ngf, h, w): the first, smallest feature map."""
        if self.z_dim is None:
            return self.fc(labels.at(self.start_size))
        if z is None:
            raise ValueError(f"this generator starts from a style vector: pass z of shape (N, {self.z_dim})")
        x = self.fc(z).view(-1, self.start_channels, *self.start_size)
        return x.contiguous(memory_format=torch.channels_last) if _is_channels_last(self.conv_img.weight) else x


def start_size(image_size: tuple[int, int], upsampling: Upsampling) -> tuple[int, int]:
    """(height, width) of the first feature map. Raises UserError when the picture's sides can't be halved so often."""
    factor = 2 ** DOUBLINGS[upsampling]
    if any(side % factor or side < factor for side in image_size):
        raise UserError(
            f"--image-size {image_size[0]} {image_size[1]}: --upsampling {upsampling} needs sides that are multiples "
            f"of {factor}"
        )
    return image_size[0] // factor, image_size[1] // factor


def _double(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="nearest")


def _is_channels_last(weight: Tensor) -> bool:
    return weight.is_contiguous(memory_format=torch.channels_last) and not weight.is_contiguous()
