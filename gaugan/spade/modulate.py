"""The one pass over a feature map: y = leaky((x - mean) * rate * scale[window] + shift[window]), and its gradients.

A table (K, 2 C) has a row per distinct label window: C scales (1 + gamma), then C shifts (beta). `Pass` says which row
each pixel takes. x may have half the height and width of y: then each value is read four times, which is the
generator's nearest doubling without ever writing the larger map. Three implementations give the same numbers: C++
kernels on a CPU, Triton kernels on a CUDA device, plain torch operations everywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from gaugan import native
from gaugan.spade import triton_kernels


@dataclass(frozen=True)
class Pass:
    """How the pixels of a map take rows of a table."""

    index: Tensor
    """int32 (N, h, w): row of each pixel."""
    order: Callable[[], Tensor | None] = field(default=lambda: None)
    """int32 (N * h * w): pixels sorted by row, found when first needed; None = they are sorted already."""
    slope: float = 1.0
    """Of the leaky ReLU behind; 1 = none."""
    doubled: bool = False
    """x is half as high and wide as `index`."""


@dataclass(frozen=True)
class Statistics:
    """What normalises x, one value per channel, in the precision of the table."""

    mean: Tensor
    rate: Tensor
    """1 / standard deviation."""
    count: int | None = None
    """Values per channel that they were computed from, when gradients flow through them; None = they are constants."""


def modulate(x: Tensor, table: Tensor, how: Pass, statistics: Statistics | None = None) -> Tensor:
    """x (N, C, h, w) or half that size, table (K, 2 C) -> (N, C, h, w) of x's dtype, channels-last.

    Gradients flow to x and to the table, and through `statistics` when they have a count.
    """
    x = x.contiguous(memory_format=torch.channels_last)
    if statistics is None:
        zero = table.new_zeros(x.shape[1])
        statistics = Statistics(zero, zero + 1)
    return _Modulate.apply(x, table, how, statistics)


class _Modulate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, table: Tensor, how: Pass, statistics: Statistics) -> Tensor:
        y = run_pass(x, fold(table, statistics), how)
        ctx.save_for_backward(x, table, y, statistics.mean, statistics.rate)
        ctx.how, ctx.count = how, statistics.count
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, table, y, mean, rate = ctx.saved_tensors
        dy = dy.to(y.dtype).contiguous(memory_format=torch.channels_last)
        # (K, 2 C): the gradient of the table is the sum of g * x_hat and of g over the pixels of each row.
        sums = _window_sums(x, y, dy, ctx.how, mean, rate, len(table))
        dx = None
        if ctx.needs_input_grad[0]:
            offset, linear = _normalisation_gradient(table, sums, mean, rate, ctx.count, ctx.how.doubled)
            dx = _input_gradient(x, y, dy, ctx.how, fold(table, Statistics(mean, rate)), offset, linear)
        return dx, sums.to(table.dtype), None, None


def fold(table: Tensor, statistics: Statistics) -> Tensor:
    """The table whose rows do the normalisation as well: scale * rate, shift - mean * scale * rate."""
    scale, shift = table.chunk(2, dim=1)
    scale = scale * statistics.rate
    return torch.cat([scale, torch.addcmul(shift, scale, statistics.mean, value=-1)], dim=1)


def _normalisation_gradient(
    table: Tensor, sums: Tensor, mean: Tensor, rate: Tensor, count: int | None, doubled: bool
) -> tuple[Tensor, Tensor]:
    """(C), (C): what batch statistics subtract from dx, as offset + linear * x (Ioffe & Szegedy 2015, section 3).

    Both means over the pixels follow from the sums per window: no further pass over the map.
    """
    if count is None:
        return torch.zeros_like(mean), torch.zeros_like(mean)
    scale, _ = table.chunk(2, dim=1)
    by_value, plain = sums.chunk(2, dim=1)
    mean_g, mean_gx = (scale * plain).sum(0) / count, (scale * by_value).sum(0) / count
    children = 4 if doubled else 1
    linear = children * rate.square() * mean_gx
    return children * rate * mean_g - linear * mean, linear


def run_pass(x: Tensor, table: Tensor, how: Pass, out: Tensor | None = None) -> Tensor:
    """As `modulate` for a folded table, without gradients; `out`: where to write."""
    n, c, (height, width) = x.shape[0], x.shape[1], how.index.shape[1:]
    if _kernels(x):
        assert x.is_contiguous(memory_format=torch.channels_last)
        out = _new_map(x, n, c, height, width) if out is None else out
        _call("modulate", x, [x, how.index, table, out], (n, height, width, c), how)
        return out
    if triton_kernels.available(x):
        return triton_kernels.forward(x, how.index, table, how.slope, how.doubled)
    scale, shift = table[how.index.flatten()].chunk(2, dim=1)
    y = torch.addcmul(shift, _rows(_doubled(x) if how.doubled else x).to(table.dtype), scale)
    return _as_map(F.leaky_relu(y, how.slope).to(x.dtype), n, height, width)


def _window_sums(x: Tensor, y: Tensor, dy: Tensor, how: Pass, mean: Tensor, rate: Tensor, count: int) -> Tensor:
    n, c, height, width = y.shape
    sums = mean.new_zeros(count, 2 * c)
    if _kernels(x):
        _call("window_sums", x, [x, y, dy, how.index, how.order(), mean, rate, sums], (n, height, width, c), how)
        return sums
    if triton_kernels.available(x):
        return triton_kernels.window_sums(x, y, dy, how.index, how.order(), mean, rate, sums, how.slope, how.doubled)
    g = _behind_activation(y, dy, how.slope, mean.dtype)
    normalised = (_rows(_doubled(x) if how.doubled else x).to(mean.dtype) - mean) * rate
    return sums.index_add_(0, how.index.flatten(), torch.cat([g * normalised, g], dim=1))


def _input_gradient(
    x: Tensor, y: Tensor, dy: Tensor, how: Pass, table: Tensor, offset: Tensor, linear: Tensor
) -> Tensor:
    n, c, height, width = y.shape
    if _kernels(x):
        dx = torch.empty_like(x)
        _call("input_gradient", x, [x, y, dy, how.index, table, offset, linear, dx], (n, height, width, c), how)
        return dx
    if triton_kernels.available(x):
        return triton_kernels.input_gradient(x, y, dy, how.index, table, offset, linear, how.slope, how.doubled)
    g = _behind_activation(y, dy, how.slope, table.dtype) * table[how.index.flatten(), :c]
    total = _as_map(g, n, height, width)
    if how.doubled:
        total = 4 * F.avg_pool2d(total, 2)
    return (total - offset[:, None, None] - linear[:, None, None] * x).to(x.dtype)


def moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """(N, C, h, w) -> mean and variance (divided by the count) of each channel, in float32 (float64 for float64)."""
    wide = torch.float64 if x.dtype == torch.float64 else torch.float32
    if not _kernels(x):
        variance, mean = torch.var_mean(x.to(wide), dim=(0, 2, 3), correction=0)
        return mean, variance
    x = x.contiguous(memory_format=torch.channels_last)
    mean, variance = torch.empty(2, x.shape[1], dtype=wide)
    library = native.library()
    assert library is not None
    getattr(library, f"moments_{native.NAMES[x.dtype]}")(
        *(native.pointer(tensor) for tensor in (x, mean, variance)),
        native.INTEGER(x.numel() // x.shape[1]),
        native.INTEGER(x.shape[1]),
        torch.get_num_threads(),
    )
    return mean, variance


def _kernels(x: Tensor) -> bool:
    return x.device.type == "cpu" and x.dtype in native.NAMES and native.library() is not None


def _call(name: str, x: Tensor, tensors: list[Tensor | None], shape: tuple[int, ...], how: Pass) -> None:
    getattr(native.library(), f"{name}_{native.NAMES[x.dtype]}")(
        *(native.pointer(tensor) for tensor in tensors),
        *(native.INTEGER(side) for side in shape),
        int(how.doubled),
        native.REAL(how.slope),
        torch.get_num_threads(),
    )


def _behind_activation(y: Tensor, dy: Tensor, slope: float, dtype: torch.dtype) -> Tensor:
    """(P, C): the gradient in front of the leaky ReLU, whose output has the sign of its input."""
    g = _rows(dy).to(dtype)
    return torch.where(_rows(y) > 0, g, g * slope)


def _doubled(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="nearest")


def _rows(x: Tensor) -> Tensor:
    return x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])


def _as_map(rows: Tensor, n: int, height: int, width: int) -> Tensor:
    return rows.view(n, height, width, -1).permute(0, 3, 1, 2)


def _new_map(x: Tensor, n: int, c: int, height: int, width: int) -> Tensor:
    return torch.empty((n, c, height, width), dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
