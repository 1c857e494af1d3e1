"""The distinct label windows of a batch: all that gamma and beta of a SPADE layer depend on.

A k x k convolution over the labels sees k x k windows of symbols, a second one on top of it k x k windows of those.
A symbol is a distinct column of the one-hot labels (a class, a class with an instance edge, nothing); positions outside
the picture are one more symbol, in both steps, since both convolutions pad with zeros. A 512 x 512 portrait has some
2,000 distinct windows in 262,144 pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from gaugan import native

LARGEST_CODE = 2**62


@dataclass(frozen=True)
class Windows:
    """The windows of one resolution."""

    index: Tensor
    """int32 (N, h, w): the number of each pixel's window."""
    parts: Tensor
    """int64 (K, k * k): the hidden windows that each window consists of; `len(hidden)` = outside."""
    hidden: Tensor
    """int64 (H, k * k): the symbols of each hidden window; the number of symbols = outside."""

    @property
    def share(self) -> float:
        """Distinct windows per pixel, in (0, 1]."""
        return len(self.parts) / self.index.numel()

    @cached_property
    def order(self) -> Tensor:
        """int32 (N * h * w): pixels sorted by window."""
        return sort_pixels(self.index, len(self.parts))

    def contents(self, num_symbols: int) -> Tensor:
        """int64 (K, k * k, k * k): all the symbols of each window, by hidden window; outside = num_symbols."""
        outside = self.hidden.new_full((1, self.hidden.shape[1]), num_symbols)
        return torch.cat([self.hidden, outside])[self.parts]


def find_windows(symbols: Tensor, num_symbols: int, size: int, largest_share: float = 1.0) -> Windows | None:
    """int64 (N, h, w) symbols below `num_symbols`, kernel size -> their windows.

    None as soon as there are more distinct hidden windows than `largest_share` of the pixels.
    """
    inner, hidden = number_windows(symbols, num_symbols, size)
    if len(hidden) > largest_share * symbols.numel():
        return None
    index, parts = number_windows(inner.long(), len(hidden), size)
    return Windows(index, parts, hidden)


def number_windows(values: Tensor, count: int, size: int) -> tuple[Tensor, Tensor]:
    """int64 (N, h, w) values below `count` -> index int32 (N, h, w), contents int64 (K, size * size).

    Rows of `size` values are numbered first, then columns of `size` rows. Outside values are `count`.
    """
    n, height, width = values.shape
    padded = F.pad(values, (size // 2,) * 4, value=count)  # (N, h + 2r, w + 2r)
    rows, _ = _number_runs([padded[:, :, i : i + width] for i in range(size)], count + 1)
    index, first = _number_runs([rows[:, i : i + height] for i in range(size)], int(rows.max()) + 1)
    image, place = first // (height * width), first % (height * width)
    corner = image * padded.shape[1] * padded.shape[2] + place // width * padded.shape[2] + place % width
    steps = torch.arange(size, device=values.device)
    window = (steps[:, None] * padded.shape[2] + steps).flatten()
    return index.int(), padded.flatten()[corner[:, None] + window]


def _number_runs(digits: list[Tensor], base: int) -> tuple[Tensor, Tensor]:
    """Numbers the distinct tuples of equally shaped int64 tensors with values below `base`: int64, first positions."""
    codes, largest = digits[0], base
    for digit in digits[1:]:
        if largest * base > LARGEST_CODE:
            codes, _ = number_codes(codes)
            largest = int(codes.max()) + 1
        codes = codes * base + digit
        largest *= base
    return number_codes(codes)


def number_codes(codes: Tensor) -> tuple[Tensor, Tensor]:
    """int64 codes -> (the number of each code, int64 of the same shape; flat position where each number is found)."""
    library = native.library() if codes.device.type == "cpu" else None
    if library is None:
        _, index = torch.unique(codes, return_inverse=True)
        positions = torch.arange(codes.numel(), device=codes.device)
        first = positions.new_full((int(index.max()) + 1,), codes.numel())
        return index, first.scatter_reduce_(0, index.flatten(), positions, "amin")
    codes = codes.contiguous()
    numbers = torch.empty(codes.shape, dtype=torch.int32)
    first = torch.empty(codes.numel(), dtype=torch.int64)
    found = library.number_codes(
        native.pointer(codes), native.INTEGER(codes.numel()), native.pointer(numbers), native.pointer(first)
    )
    return numbers.long(), first[:found].clone()


def sort_pixels(index: Tensor, count: int) -> Tensor:
    """int32 numbers below `count` -> int32 flat positions in ascending order of number, equal ones in place."""
    library = native.library() if index.device.type == "cpu" else None
    if library is None:
        return torch.sort(index.flatten(), stable=True).indices.int()
    order = torch.empty(index.numel(), dtype=torch.int32)
    library.sort_pixels(
        native.pointer(index), native.INTEGER(index.numel()), native.INTEGER(count), native.pointer(order)
    )
    return order
