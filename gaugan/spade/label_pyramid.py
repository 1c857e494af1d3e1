"""Label maps at every resolution of a generator: one-hot channels, symbols and distinct windows, each found once."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from gaugan.labels import IGNORE
from gaugan.spade.tables import cost_of_convolution, is_cheaper
from gaugan.spade.windows import Windows, find_windows, number_codes

BITS = 24
"""Channels that fit into one exact float32 sum of powers of two."""


class LabelPyramid:
    """Labels (N, C, H, W) resized once per resolution, shared by all the layers that ask for them.

    Resizing is torch "nearest": source row = floor(i * in / out). PIL's NEAREST and "nearest-exact" take other pixels;
    published weights expect this one. A *symbol* is a distinct column of C channel values: a class, a class with an
    instance edge, or nothing at all (ignored pixels).
    """

    def __init__(self, onehot: Tensor) -> None:
        """From any labels of zeros and ones, or from soft labels, for which there are no windows."""
        self.size = (onehot.shape[2], onehot.shape[3])
        self._resized: dict[tuple[int, int], Tensor] = {self.size: onehot}
        self._symbols: dict[tuple[int, int], Tensor] = {}
        self._windows: dict[tuple[tuple[int, int], int], Windows | None] = {}
        self._every_pixel: dict[tuple[int, int], Tensor] = {}
        self._columns: Tensor | None = None
        self._soft: bool | None = None
        self.from_class_ids = False
        """A symbol is then a class id (and an edge), the same in every label map."""

    @staticmethod
    def from_ids(
        label_map: Tensor, num_classes: int, *, dontcare: bool = False, edges: Tensor | None = None
    ) -> LabelPyramid:
        """int64 (N, H, W) class ids, 255 = ignored; edges: bool (N, H, W), one more channel of zeros and ones.

        The one-hot map of the full size is never built unless a layer asks for it. `dontcare`: ignored pixels are a
        class of their own, else they have no class.
        """
        channels = num_classes + dontcare
        columns = torch.eye(num_classes + 1, channels, device=label_map.device)
        symbols = label_map.where(label_map != IGNORE, num_classes)
        if edges is not None:
            doubled = F.pad(columns.repeat(2, 1), (0, 1))
            doubled[num_classes + 1 :, -1] = 1
            columns, symbols = doubled, symbols + (num_classes + 1) * edges.long()
        pyramid = LabelPyramid(torch.empty(len(label_map), 0, *label_map.shape[1:]))
        pyramid._resized.clear()
        pyramid._columns, pyramid._soft, pyramid.from_class_ids = columns, False, True
        pyramid._symbols[pyramid.size] = symbols
        return pyramid

    @property
    def columns(self) -> Tensor:
        """float (S, C): the channel values of each symbol."""
        self.symbols(self.size)
        assert self._columns is not None
        return self._columns

    def at(self, size: tuple[int, int]) -> Tensor:
        """(N, C, h, w) for size (h, w)."""
        if size not in self._resized:
            if self.size in self._resized:
                self._resized[size] = F.interpolate(self._resized[self.size], size=size, mode="nearest")
            else:
                self._resized[size] = self.columns[self.symbols(size)].permute(0, 3, 1, 2)
        return self._resized[size]

    def symbols(self, size: tuple[int, int]) -> Tensor:
        """int64 (N, h, w) for size (h, w)."""
        if size in self._symbols:
            return self._symbols[size]
        if size == self.size:
            self._symbols[size], self._columns = distinct_columns(self._resized[size])
        else:
            full = self.symbols(self.size)[:, None].float()  # exact: there are far fewer than 2^24 symbols
            self._symbols[size] = F.interpolate(full, size=size, mode="nearest")[:, 0].long()
        return self._symbols[size]

    def is_soft(self) -> bool:
        """True when a value is neither 0 nor 1: then a window may be anything, and each pixel is computed."""
        if self._soft is None:
            onehot = self._resized[self.size]
            self._soft = not bool(((onehot == 0) | (onehot == 1)).all())
        return self._soft

    def windows(self, size: tuple[int, int], kernel_size: int, hidden: int, *, training: bool) -> Windows | None:
        """The distinct windows at that size, or None when convolving every pixel is cheaper.

        `hidden`: width of the layer's hidden map, by which the two ways are compared.
        """
        if self.is_soft():
            return None
        key = (size, kernel_size)
        convolution = cost_of_convolution(training, self.symbols(size).device, size[0] * size[1])
        if key not in self._windows:
            found = find_windows(self.symbols(size), len(self.columns), kernel_size, convolution)
            self._windows[key] = found
        windows = self._windows[key]
        return windows if windows and is_cheaper(windows, hidden, kernel_size**2, convolution) else None

    def every_pixel(self, size: tuple[int, int]) -> Tensor:
        """int32 (N, h, w): each pixel's own number, for tables with a row per pixel."""
        if size not in self._every_pixel:
            symbols = self.symbols(size) if self._columns is not None else self.at(size)[:, 0]
            count = torch.arange(symbols.numel(), dtype=torch.int32, device=symbols.device)
            self._every_pixel[size] = count.view(symbols.shape)
        return self._every_pixel[size]


@torch.no_grad()
def distinct_columns(onehot: Tensor) -> tuple[Tensor, Tensor]:
    """(N, C, H, W) of zeros and ones -> symbols int64 (N, H, W), columns (S, C): each symbol's channels.

    Exact for any number of channels: BITS of them at a time are read as the digits of a number.
    """
    symbols: Tensor | None = None
    with torch.autocast(onehot.device.type, enabled=False):
        for part in onehot.float().split(BITS, dim=1):
            weights = 2.0 ** torch.arange(part.shape[1], device=onehot.device)
            codes = torch.einsum("nchw,c->nhw", part, weights).long()
            if symbols is not None:
                codes = codes + (symbols << BITS)
            symbols, first = number_codes(codes)
    assert symbols is not None
    pixels = onehot.permute(0, 2, 3, 1).flatten(0, 2)
    return symbols, pixels[first]
