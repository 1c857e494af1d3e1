"""The up path of v3 for float32 on a CPU: convolutions with fewer multiplications, no concatenation, no pass over
memory for a ReLU.

A convolution of two maps laid side by side is the sum of two convolutions, and a ReLU is applied where its result is
read. The same sums in another order: differences are those of rounding (gaugan.convolution).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gaugan.convolution import CHANNEL_STEP, Method, PackedConv, can_convolve
from gaugan.unet.networks import UNet, UpsampledUp

NO_RELU, RELU = 1.0, 0.0


def pack_up_path(unet: UNet) -> None:
    """Replaces the up path and the head of a v3 whose batch norms are folded, in place, where the kernels can be used.

    Afterwards `unet` is for one thread at a time, and only for inference.
    """
    ups = [up for up in unet.up if isinstance(up, UpsampledUp)]
    reduced = [_conv(up.reduce).weight for up in ups]
    even = all(weight.shape[0] % CHANNEL_STEP == 0 and can_convolve(weight, weight) for weight in reduced)
    if len(ups) < len(unet.up) or not even:
        return
    for place, up in enumerate(ups):
        unet.up[place] = PackedUp(up, NO_RELU if place == 0 else RELU)
    unet.head = PackedHead(unet.head)  # type: ignore[assignment]


class PackedUp(nn.Module):
    """UpsampledUp, whose last ReLU is left to whoever reads its answer."""

    def __init__(self, up: UpsampledUp, slope: float) -> None:
        super().__init__()
        self.slope = slope
        first, last = (_conv(layers) for layers in up.mix)
        split = first.in_channels - _conv(up.reduce).out_channels
        above, beside = first.weight.split([first.in_channels - split, split], 1)
        self.reduce = PackedConv(_conv(up.reduce).weight, _conv(up.reduce).bias, Method.POINTWISE)
        self.above = PackedConv(above, first.bias, Method.F4)
        self.fill = -split % CHANNEL_STEP
        self.beside = PackedConv(F.pad(beside, (0, 0, 0, 0, 0, self.fill)), None, Method.F4)
        self.last = PackedConv(last.weight, last.bias, Method.F4)
        self.spaces: dict[tuple[str, int, int, int], Tensor] = {}

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """x (N, channels_in, h, w), skip (N, channels_skip, 2h, 2w) -> (N, channels_out, 2h, 2w) before its ReLU."""
        x = F.interpolate(F.relu_(self.reduce(x, slope=self.slope)), scale_factor=2.0, mode="bilinear")
        if self.fill:
            skip = F.pad(skip, (0, 0, 0, 0, 0, self.fill)).contiguous(memory_format=torch.channels_last)
        mixed = self.above(x, out=self._space("mixed", x))
        mixed = self.beside(skip, residual=mixed, out=mixed)
        return self.last(mixed, slope=RELU, out=self._space("last", x))

    def _space(self, name: str, like: Tensor) -> Tensor:
        """Memory that is kept: touching fresh memory takes as long as some of the convolutions."""
        key = (name, len(like), like.shape[2], like.shape[3])
        if key not in self.spaces:
            self.spaces = {other: space for other, space in self.spaces.items() if other[1:] == key[1:]}
            size = (len(like), self.last.out_channels, *like.shape[2:])
            self.spaces[key] = torch.empty(size, memory_format=torch.channels_last)
        return self.spaces[key]


class PackedHead(nn.Module):
    """The 1x1 convolution to the classes, of what a PackedUp leaves: one product of matrices, class by class.

    So few classes waste most of a kernel that computes many channels at once, and planes are what softmax is fast on.
    """

    def __init__(self, head: nn.Conv2d) -> None:
        super().__init__()
        assert head.bias is not None
        self.weight, self.bias = head.weight.detach().flatten(1), head.bias.detach()[:, None]

    def forward(self, x: Tensor) -> Tensor:
        """Channels-last (N, channels, H, W) before its ReLU -> contiguous logits (N, num_classes, H, W)."""
        pixels = F.relu_(x).permute(0, 2, 3, 1).flatten(1, 2).mT  # (N, channels, H * W)
        return torch.stack([torch.addmm(self.bias, self.weight, one) for one in pixels]).unflatten(2, x.shape[2:])


def _conv(layers: nn.Module) -> nn.Conv2d:
    assert isinstance(layers, nn.Sequential) and isinstance(layers[0], nn.Conv2d)
    return layers[0]
