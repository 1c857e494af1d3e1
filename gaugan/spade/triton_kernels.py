"""The pass of modulate.py on a CUDA device, in Triton. NOT MEASURED: written without a GPU at hand.

A program takes one block of pixels times one block of channels of channels-last maps: x, index and table rows are read
once and y is written once. In the sums per window, pixels come sorted by window, and each program adds up runs of equal
windows before one atomic addition per run and channel; their order varies, so the last bits of a gradient may differ
between runs on a GPU.
"""

# mypy: allow-untyped-defs
# (Triton has no types.)

from __future__ import annotations

import functools
from types import SimpleNamespace

import torch
from torch import Tensor

BLOCK_PIXELS = 32
BLOCK_CHANNELS = 64
RUN_PIXELS = 128


def available(x: Tensor) -> bool:
    """True for float32 and bfloat16 CUDA tensors where Triton is installed."""
    return x.is_cuda and x.dtype in (torch.float32, torch.bfloat16) and _kernels() is not None


def forward(x: Tensor, index: Tensor, table: Tensor, slope: float, doubled: bool) -> Tensor:
    """As `modulate.run_pass`."""
    n, c, (height, width) = x.shape[0], x.shape[1], index.shape[1:]
    y = torch.empty((n, c, height, width), dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
    pixels = index.numel()
    _launch("forward", pixels, c)(x, index, table, y, pixels, c, width, slope, doubled, BLOCK_PIXELS, BLOCK_CHANNELS)
    return y


def window_sums(
    x: Tensor,
    y: Tensor,
    dy: Tensor,
    index: Tensor,
    order: Tensor | None,
    mean: Tensor,
    rate: Tensor,
    sums: Tensor,
    slope: float,
    doubled: bool,
) -> Tensor:
    """As `modulate._window_sums`, into `sums`."""
    pixels, c = index.numel(), x.shape[1]
    order = torch.arange(pixels, dtype=torch.int32, device=x.device) if order is None else order
    grid = (-(-pixels // RUN_PIXELS), -(-c // BLOCK_CHANNELS))
    _kernel("window_sums")[grid](
        x, y, dy, index, order, mean, rate, sums, pixels, c, index.shape[2], slope, doubled, RUN_PIXELS, BLOCK_CHANNELS
    )
    return sums


def input_gradient(
    x: Tensor,
    y: Tensor,
    dy: Tensor,
    index: Tensor,
    table: Tensor,
    offset: Tensor,
    linear: Tensor,
    slope: float,
    doubled: bool,
) -> Tensor:
    """As `modulate._input_gradient`."""
    dx = torch.empty_like(x, memory_format=torch.channels_last)
    pixels, c = x.shape[0] * x.shape[2] * x.shape[3], x.shape[1]
    _launch("input_gradient", pixels, c)(
        x, y, dy, index, table, offset, linear, dx, pixels, c, x.shape[3], slope, doubled, BLOCK_PIXELS, BLOCK_CHANNELS
    )
    return dx


def _kernel(name: str):
    return getattr(_kernels(), name)


def _launch(name: str, pixels: int, channels: int):
    return _kernel(name)[(-(-pixels // BLOCK_PIXELS), -(-channels // BLOCK_CHANNELS))]


@functools.lru_cache(maxsize=1)
def _kernels() -> SimpleNamespace | None:
    try:
        import triton
        import triton.language as tl
    except ImportError:
        return None

    @triton.jit
    def forward(
        x, index, table, y, pixels, c, width, slope, DOUBLED: tl.constexpr, PIXELS: tl.constexpr, CHANNELS: tl.constexpr
    ):
        p = tl.program_id(0).to(tl.int64) * PIXELS + tl.arange(0, PIXELS)
        i = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
        source = p
        if DOUBLED:  # rows count through the whole batch, all heights are even
            source = (p // width // 2) * (width // 2) + (p % width) // 2
        inside = (p < pixels)[:, None] & (i < c)[None, :]
        row = tl.load(index + p, mask=p < pixels, other=0).to(tl.int64)[:, None] * 2 * c + i[None, :]
        value = tl.load(x + source[:, None] * c + i[None, :], mask=inside, other=0.0).to(tl.float32)
        scale = tl.load(table + row, mask=inside, other=0.0)
        value = value * scale + tl.load(table + row + c, mask=inside, other=0.0)
        value = tl.where(value > 0, value, value * slope)
        tl.store(y + p[:, None] * c + i[None, :], value.to(y.dtype.element_ty), mask=inside)

    @triton.jit
    def window_sums(
        x,
        y,
        dy,
        index,
        order,
        mean,
        rate,
        sums,
        pixels,
        c,
        width,
        slope,
        DOUBLED: tl.constexpr,
        PIXELS: tl.constexpr,
        CHANNELS: tl.constexpr,
    ):
        begin = tl.program_id(0).to(tl.int64) * PIXELS
        i = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
        here = i < c
        centre = tl.load(mean + i, mask=here, other=0.0)
        factor = tl.load(rate + i, mask=here, other=0.0)
        by_value = tl.zeros([CHANNELS], dtype=tl.float32)
        plain = tl.zeros([CHANNELS], dtype=tl.float32)
        last = tl.load(index + tl.load(order + begin)).to(tl.int64)
        for q in range(begin, tl.minimum(begin + PIXELS, pixels)):
            p = tl.load(order + q).to(tl.int64)
            k = tl.load(index + p).to(tl.int64)
            if k != last:
                tl.atomic_add(sums + last * 2 * c + i, by_value, mask=here)
                tl.atomic_add(sums + last * 2 * c + c + i, plain, mask=here)
                by_value = tl.zeros([CHANNELS], dtype=tl.float32)
                plain = tl.zeros([CHANNELS], dtype=tl.float32)
                last = k
            source = p
            if DOUBLED:
                source = (p // width // 2) * (width // 2) + (p % width) // 2
            g = tl.load(dy + p * c + i, mask=here, other=0.0).to(tl.float32)
            g = tl.where(tl.load(y + p * c + i, mask=here, other=0.0) > 0, g, g * slope)
            value = tl.load(x + source * c + i, mask=here, other=0.0).to(tl.float32)
            by_value += g * ((value - centre) * factor)
            plain += g
        tl.atomic_add(sums + last * 2 * c + i, by_value, mask=here)
        tl.atomic_add(sums + last * 2 * c + c + i, plain, mask=here)

    @triton.jit
    def input_gradient(
        x,
        y,
        dy,
        index,
        table,
        offset,
        linear,
        dx,
        pixels,
        c,
        width,
        slope,
        DOUBLED: tl.constexpr,
        PIXELS: tl.constexpr,
        CHANNELS: tl.constexpr,
    ):
        s = tl.program_id(0).to(tl.int64) * PIXELS + tl.arange(0, PIXELS)
        i = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
        inside = (s < pixels)[:, None] & (i < c)[None, :]
        at = s[:, None] * c + i[None, :]
        value = tl.load(x + at, mask=inside, other=0.0).to(tl.float32)
        total = tl.load(offset + i, mask=i < c, other=0.0)[None, :] + value * tl.load(linear + i, mask=i < c, other=0.0)
        total = -total
        SIDE: tl.constexpr = 2 if DOUBLED else 1
        for child in tl.static_range(SIDE * SIDE):
            p = (s // width * SIDE + child // SIDE) * width * SIDE + s % width * SIDE + child % SIDE
            here = p[:, None] * c + i[None, :]
            row = tl.load(index + p, mask=s < pixels, other=0).to(tl.int64)[:, None] * 2 * c + i[None, :]
            g = tl.load(dy + here, mask=inside, other=0.0).to(tl.float32)
            g = tl.where(tl.load(y + here, mask=inside, other=0.0) > 0, g, g * slope)
            total += g * tl.load(table + row, mask=inside, other=0.0)
        tl.store(dx + at, total.to(dx.dtype.element_ty), mask=inside)

    return SimpleNamespace(forward=forward, window_sums=window_sums, input_gradient=input_gradient)
