"""Tables that outlive their label map: a window that an earlier label map had is not computed again.

While somebody draws, a stroke brings a few new windows and keeps thousands; windows inside a region (all of one class)
are in every label map. Rows are only ever added, and each is the same sum whatever it is computed beside, so the bits
of a picture don't depend on what was painted before. Holds on a CPU with compiled kernels (a library's matrix product
may round by its size).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from gaugan.spade.label_pyramid import LabelPyramid
from gaugan.spade.modulation import Mlp
from gaugan.spade.tables import hidden_rows, packed_table
from gaugan.spade.windows import Windows

ROOM = 2
"""Tables hold so many times the rows of the label map that they began with; then they begin anew."""


class KnownTables:
    """The windows of one resolution and, for each of its layers, their rows."""

    def __init__(self, layers: list[Mlp]) -> None:
        """Every layer with `packed` weights."""
        self.layers = layers
        self._columns = torch.empty(0)
        self._tables: list[Tensor] = []
        self._hidden: dict[bytes, int] = {}
        self._windows: dict[bytes, int] = {}

    @staticmethod
    def possible(layers: list[Mlp], labels: LabelPyramid) -> bool:
        """Whether rows may be kept: kernels compute them, and a symbol means the same in every label map."""
        return labels.from_class_ids and all(layer.packed is not None for layer in layers)

    def look_up(self, labels: LabelPyramid, windows: Windows) -> tuple[list[Tensor], Tensor]:
        """Rows of each layer (capacity, 2 C) and which pixel takes which, int32 (N, h, w). Not thread-safe."""
        if not torch.equal(labels.columns, self._columns):
            self._begin_anew(labels, windows)
        before = len(self._windows)
        numbers = self._number(windows)
        if len(self._windows) > len(self._tables[0]):
            self._begin_anew(labels, windows)
            before, numbers = 0, self._number(windows)
        new = torch.from_numpy(np.flatnonzero(numbers >= before))
        if len(new):
            self._compute(labels, _part_of(windows, new), before)
        if before == 0:
            return list(self._tables), windows.index  # numbered in this very order
        return list(self._tables), torch.from_numpy(numbers.astype(np.int32))[windows.index]

    def _begin_anew(self, labels: LabelPyramid, windows: Windows) -> None:
        # Memory that is never written to is never taken: the room to grow costs nothing until it is used.
        rows = ROOM * len(windows.parts)
        self._tables = [torch.empty(rows, len(layer.bias)) for layer in self.layers]
        self._columns, self._hidden, self._windows = labels.columns, {}, {}

    def _number(self, windows: Windows) -> np.ndarray:
        """int64 (K,): the lasting number of each window; new ones get the next."""
        hidden = _numbers(windows.hidden.numpy(), self._hidden)
        outside = np.append(hidden, -1)
        return _numbers(outside[windows.parts.numpy()], self._windows)

    def _compute(self, labels: LabelPyramid, windows: Windows, first: int) -> None:
        for layer, table in zip(self.layers, self._tables, strict=True):
            assert layer.packed is not None
            hidden = hidden_rows(windows, labels.columns, layer.shared_weight, layer.shared_bias)
            table[first : first + len(windows.parts)] = packed_table(windows, hidden, layer.packed)


def _numbers(rows: np.ndarray, known: dict[bytes, int]) -> np.ndarray:
    """int64 (R, k) -> int64 (R,): the number of each row in `known`, which grows."""
    keys = np.ascontiguousarray(rows).view(f"V{rows.shape[1] * rows.itemsize}").ravel().tolist()
    return np.array([known.setdefault(key, len(known)) for key in keys], dtype=np.int64)


def _part_of(windows: Windows, chosen: Tensor) -> Windows:
    """Only the chosen windows, with the hidden windows that they need; without an index."""
    parts = windows.parts[chosen]
    needed = torch.unique(parts)
    needed = needed[needed < len(windows.hidden)]
    places = torch.full((len(windows.hidden) + 1,), len(needed))
    places[needed] = torch.arange(len(needed))
    return Windows(windows.index[:0], places[parts], windows.hidden[needed])
