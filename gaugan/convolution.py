"""3x3 and 1x1 convolutions of float32 on a CPU with fewer multiplications, alone or behind a modulation in one pass.

F(4x4, 3x3) takes 36 multiplications for 16 outputs where the plain sum takes 144, F(2x2, 3x3) 16 for 4 instead of 36
(Lavin & Gray, "Fast Algorithms for Convolutional Neural Networks", 2015, arXiv:1509.09308). The result is the same up
to rounding: relative errors of about 1e-6 and 5e-6 where the plain sum has 1e-6. They win on large maps only: their
weights take 16/9 and 36/9 of the memory.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gaugan import native
from gaugan.nn import SpectralConv2d

CHANNEL_STEP = 16
"""Kernels take channel counts that are multiples of it; output channels are filled up with zeros."""


class Pass(Protocol):
    """How the pixels of a map take rows of a table on the way into a convolution (gaugan.spade.modulate)."""

    @property
    def index(self) -> Tensor:
        """int32 (N, h, w): row of each pixel."""

    @property
    def slope(self) -> float:
        """Of the leaky ReLU behind; 1 = none."""

    @property
    def doubled(self) -> bool:
        """x is half as high and wide as `index`."""


class Method(IntEnum):
    """How a convolution is computed; the numbers are those of kernels/convolve.cpp."""

    POINTWISE = 0
    DIRECT = 1
    F2 = 2
    F4 = 4


SMALLEST_F4 = 2048
"""Pixels of a map (one picture) from which on F4 beats F2: it reads 36 instead of 16 weights per channel pair."""
SMALLEST_F2 = 512
"""Pixels from which on F2 is worth 16/9 of the memory for weights."""


def choose_method(pixels: int, kernel_size: int) -> Method:
    """By the pixels of one map; docs/fast_spade.md has the measurements behind the two bounds."""
    if kernel_size == 1:
        return Method.POINTWISE
    return Method.F4 if pixels >= SMALLEST_F4 else Method.F2 if pixels >= SMALLEST_F2 else Method.DIRECT


def can_convolve(x: Tensor, weight: Tensor) -> bool:
    """True when the kernels can compute this convolution with stride 1 and padding k // 2."""
    float32 = x.dtype == weight.dtype == torch.float32 and not torch.is_autocast_enabled(x.device.type)
    shapes = weight.shape[1] % CHANNEL_STEP == 0 and weight.shape[2] == weight.shape[3] and weight.shape[2] in (1, 3)
    return x.device.type == "cpu" and float32 and shapes and native.library() is not None


class PackedConv:
    """A convolution (out, in, k, k) with its weights laid out for one method."""

    def __init__(self, weight: Tensor, bias: Tensor | None, method: Method) -> None:
        self.out_channels, self.in_channels = weight.shape[:2]
        self.method = method
        padded = -(-self.out_channels // CHANNEL_STEP) * CHANNEL_STEP
        self.weight = pack(weight.detach(), padded, method)
        self.bias = None if bias is None else F.pad(bias.detach(), (0, padded - self.out_channels)).contiguous()
        self.padded = padded

    def __call__(
        self,
        x: Tensor,
        how: Pass | None = None,
        table: Tensor | None = None,
        *,
        slope: float = 1.0,
        residual: Tensor | None = None,
        out: Tensor | None = None,
    ) -> Tensor:
        """x (N, in, h, w) -> (N, out, h, w), both channels-last: residual + bias + convolution of the modulated x.

        `how` and the folded table (K, 2 in) as in `modulate`; without a table only how's activation and doubling count.
        Without `how`, `slope` is that of a leaky ReLU on x: 1 = none, 0 = ReLU. `out` may be `residual`.
        """
        height, width = x.shape[2:] if how is None else how.index.shape[1:]
        assert x.is_contiguous(memory_format=torch.channels_last)
        assert residual is None or residual.is_contiguous(memory_format=torch.channels_last)
        n = len(x)
        if out is None:
            size = (n, self.out_channels, height, width)
            out = torch.empty(size, dtype=x.dtype, memory_format=torch.channels_last)
        library = native.library()
        assert library is not None
        index = None if how is None or table is None else how.index
        tensors = (x, index, table, self.weight, self.bias, residual, out)
        shape = (n, height, width, self.in_channels, self.padded, self.out_channels)
        failed = library.convolve(
            *(native.pointer(tensor) for tensor in tensors),
            *(native.INTEGER(number) for number in shape),
            int(how is not None and how.doubled),
            native.REAL(slope if how is None else how.slope),
            int(self.method),
            torch.get_num_threads(),
        )
        if failed:
            raise MemoryError(f"no memory to convolve {tuple(x.shape)} with {tuple(self.weight.shape)} weights")
        return out


def pack(weight: Tensor, padded: int, method: Method) -> Tensor:
    """(out, in, k, k) -> the layout of the kernels for `method`, with out filled up to `padded` by zeros."""
    out_channels, in_channels = weight.shape[:2]
    taps = weight.shape[2] * weight.shape[3]
    by_tap = weight.permute(2, 3, 1, 0).reshape(taps, in_channels, out_channels)
    by_tap = F.pad(by_tap, (0, padded - out_channels)).contiguous()
    products = {Method.POINTWISE: 1, Method.DIRECT: 9, Method.F2: 16, Method.F4: 36}[method]
    packed = torch.empty(products * in_channels * padded)
    library = native.library()
    assert library is not None
    library.pack_weights(
        native.pointer(by_tap),
        native.pointer(packed),
        native.INTEGER(in_channels),
        native.INTEGER(padded),
        int(method),
        torch.get_num_threads(),
    )
    return packed


def convolve(conv: nn.Module, x: Tensor) -> Tensor:
    """The same as `conv(x)` for a stride 1 convolution with padding k // 2, by the faster way where there is one."""
    assert isinstance(conv, (nn.Conv2d, SpectralConv2d))
    weight = conv.weight() if isinstance(conv, SpectralConv2d) else conv.weight
    return convolve_weight(x, weight, conv.bias)


def convolve_weight(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """F.conv2d(x, weight, bias, padding="same"), by the faster way where there is one. Differentiable."""
    pixels = x.shape[2] * x.shape[3]
    if can_convolve(x, weight) and weight.shape[2] == 3 and pixels >= _smallest_worth_packing(weight, len(x)):
        return _Convolve.apply(x.contiguous(memory_format=torch.channels_last), weight, bias)
    return F.conv2d(x, weight, bias, padding=weight.shape[2] // 2)


def _smallest_worth_packing(weight: Tensor, pictures: int) -> float:
    """Pixels of a map above which laying out the weights anew for one pass pays."""
    return 2 * SMALLEST_F4 / pictures if weight.shape[0] >= CHANNEL_STEP else float("inf")


class _Convolve(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.has_bias = bias is not None
        return PackedConv(weight, bias, Method.F4)(x)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        dx = None
        if ctx.needs_input_grad[0]:
            turned = weight.flip(2, 3).transpose(0, 1)
            dx = PackedConv(turned, None, Method.F4)(dy.contiguous(memory_format=torch.channels_last))
        padding = [weight.shape[2] // 2] * 2
        needed = [False, ctx.needs_input_grad[1], ctx.has_bias and ctx.needs_input_grad[2]]
        _, dw, db = torch.ops.aten.convolution_backward(
            dy, x, weight, [weight.shape[0]], [1, 1], padding, [1, 1], False, [0, 0], 1, needed
        )
        return dx, dw, db
