"""From label windows and a layer's weights to its table: a row (1 + gamma, beta) for every distinct window.

Both convolutions are linear in what lies below one tap, so they become looked-up rows that are added: 9 rows of weights
for a hidden window, 9 rows of hidden @ weights for a window. The second product is computed per hidden window, of which
there are about five times fewer than windows. Nothing is approximated: the same sums in another order.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from gaugan import native
from gaugan.convolution import Method, PackedConv
from gaugan.spade.windows import Windows


def hidden_rows(windows: Windows, columns: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """columns (S, label_channels), weight (hidden, label_channels, k, k) -> (H + 1, hidden); the last row is outside.

    The hidden layer behind its ReLU for each hidden window; zero outside the picture, as the zero padding has it.
    """
    taps = weight.flatten(2).permute(2, 1, 0)  # (k * k, label_channels, hidden)
    rows = F.pad(columns.to(weight.dtype) @ taps, (0, 0, 0, 1)).transpose(0, 1)  # (S + 1, k * k, hidden)
    return F.pad(F.relu(_add_rows(rows, windows.hidden) + bias), (0, 0, 0, 1))


def table_rows(windows: Windows, hidden: Tensor, weights: list[Tensor], bias: Tensor) -> Tensor:
    """hidden (H + 1, hidden), weights: each (C, hidden, k, k), bias (2 C) -> (K, 2 C), the weights' values in a row."""
    by_tap = [weight.flatten(2).permute(1, 2, 0) for weight in weights]  # (hidden, k * k, C)
    side_by_side = torch.cat(by_tap, dim=2).flatten(1)  # (hidden, k * k * 2 C)
    products = (hidden @ side_by_side).view(len(hidden), -1, len(bias))  # (H + 1, k * k, 2 C)
    return _add_rows(products, windows.parts) + bias


ROW_STEP = 6
"""Rows that the kernel multiplies at once."""


def packed_table(windows: Windows, hidden: Tensor, packed: PackedConv) -> Tensor:
    """`table_rows` with weights packed for DIRECT: (K, out), a panel of columns at a time. No gradients."""
    rows = F.pad(hidden, (0, 0, 0, -len(hidden) % ROW_STEP)).contiguous()
    table = torch.empty(len(windows.parts), packed.padded)
    library = native.library()
    assert library is not None and packed.method == Method.DIRECT and packed.bias is not None
    assert packed.padded == packed.out_channels
    shape = (len(hidden), len(table), packed.in_channels, windows.parts.shape[1], packed.padded)
    tensors = (rows, windows.parts, packed.weight, packed.bias, table)
    failed = library.make_table(
        *(native.pointer(tensor) for tensor in tensors),
        *(native.INTEGER(number) for number in shape),
        torch.get_num_threads(),
    )
    if failed:
        raise MemoryError(f"no memory for a table of {tuple(table.shape)}")
    return table


def _add_rows(rows: Tensor, places: Tensor) -> Tensor:
    """rows (R, T, D), places int64 (M, T) -> (M, D): the sum over t of rows[places[:, t], t]."""
    count, taps, width = rows.shape
    steps = torch.arange(taps, device=rows.device)
    return F.embedding_bag(places * taps + steps, rows.reshape(count * taps, width), mode="sum")


GATHER = 12.0
"""Multiplications of a matrix product that take as long as adding one looked-up value."""
CONVOLUTION = {"plain": 0.9, "training": 0.48, "rendering": 0.5, "rendering small maps": 1.0, "autocast": 0.1}
"""Time of a convolution per multiplication, against a float32 matrix product's: by the library; by minimal filtering in
two of training's three products; by minimal filtering, for large maps and for small ones; in bfloat16. Where the two
ways took the same time in benchmarks/table_or_convolution.py; not measured anew at every start, since the choice
decides the last bits of a picture."""
SMALL_MAP = 8192
"""Pixels below which minimal filtering saves little."""


def cost_of_convolution(training: bool, device: torch.device, pixels: int) -> float:
    """The entry of CONVOLUTION that holds here, for maps of that many pixels."""
    if torch.is_autocast_enabled(device.type):
        return CONVOLUTION["autocast"]
    if device.type != "cpu" or native.library() is None:
        return CONVOLUTION["plain"]
    if training:
        return CONVOLUTION["training"]
    return CONVOLUTION["rendering" if pixels >= SMALL_MAP else "rendering small maps"]


def is_cheaper(windows: Windows, hidden_width: int, taps: int, convolution: float) -> bool:
    """Whether a table costs less than the convolution over all pixels.

    Per output channel: the table takes `hidden_width * taps` multiplications for each hidden window and `taps`
    additions for each window; the convolution `hidden_width * taps` for each pixel, times `convolution`.
    """
    table = hidden_width * taps * len(windows.hidden) + GATHER * taps * len(windows.parts)
    return table < convolution * hidden_width * taps * windows.index.numel()
