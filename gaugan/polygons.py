"""Label map -> polygons that a person can edit, which paint back to (nearly) the same map.

Each 4-connected component becomes the polygon of its outer border, through the centres of its border pixels: what
PIL, and with it labelme, paints from it is the component with its holes filled. A hole is filled by other components;
they are smaller than what encloses them, so painting from large to small puts them on top.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gaugan.metrics import component_map

TOLERANCE_PX = 0.5
"""How far a simplified border may stray from the exact one."""
EXACT_BELOW_PX = 400
"""Smaller components keep every corner: half a pixel is much of a mouth, and their corners are few."""
# (row, column) steps to the eight neighbours, clockwise from the left.
AROUND = ((0, -1), (-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1))


@dataclass(frozen=True)
class Polygon:
    """The outline of one component."""

    id: int
    """Class id."""
    points: tuple[tuple[int, int], ...]
    """(x, y) of pixel centres, at least 3."""


def polygons(label_map: np.ndarray, tolerance_px: float = TOLERANCE_PX) -> list[Polygon]:
    """uint8 (H, W) -> polygons in painting order: painted one over the other on background (0) they give the map.

    tolerance_px 0 = exactly; else borders are simplified by up to so many pixels (Ramer 1972; Douglas, Peucker 1973).
    Background that touches the picture's border is not drawn.
    """
    number, sizes, ids = component_map(label_map)
    found = []
    for component in np.flatnonzero(sizes):
        rows, columns = np.nonzero(number == component)
        if ids[component] == 0 and _touches_border(rows, columns, label_map.shape):
            continue
        top, left = rows.min(), columns.min()
        mask = np.zeros((rows.max() - top + 3, columns.max() - left + 3), dtype=bool)  # one pixel of nothing around
        mask[rows - top + 1, columns - left + 1] = True
        border = _simplified(_border(mask), tolerance_px if len(rows) >= EXACT_BELOW_PX else 0.0)
        points = tuple((int(column + left - 1), int(row + top - 1)) for row, column in border)
        area = int((rows.max() - top + 1) * (columns.max() - left + 1))
        found.append((area, Polygon(int(ids[component]), points + points[:1] * max(0, 3 - len(points)))))
    return [polygon for _, polygon in sorted(found, key=lambda pair: -pair[0])]


def _touches_border(rows: np.ndarray, columns: np.ndarray, shape: tuple[int, ...]) -> bool:
    ends = (0, shape[0] - 1, 0, shape[1] - 1)
    return any(np.any(values == end) for values, end in zip((rows, rows, columns, columns), ends, strict=True))


def _border(mask: np.ndarray) -> list[tuple[int, int]]:
    """The outer border of one component, (row, column), clockwise (Moore neighbour tracing).

    It ends when the first pixel is left towards the second again (Jacob's criterion).
    """
    start = divmod(int(np.flatnonzero(mask)[0]), mask.shape[1])  # the topmost, of those the leftmost: its left is empty
    points, here, looked = [start], start, 0
    first_step: tuple[tuple[int, int], int] | None = None
    while True:
        for turn in range(1, 9):
            way = (looked + turn) % 8
            there = (here[0] + AROUND[way][0], here[1] + AROUND[way][1])
            if mask[there]:
                break
        else:
            return points  # a single pixel
        if here == start and first_step == (there, way):
            return points[:-1]
        first_step = first_step or (there, way)
        points.append(there)
        # The neighbour looked at just before is empty; from the new pixel it lies in this direction.
        here, looked = there, (way + 5) % 8 if way % 2 else (way + 6) % 8


def _simplified(points: list[tuple[int, int]], tolerance_px: float) -> list[tuple[int, int]]:
    """The closed line without points that lie within the tolerance of the line between their kept neighbours."""
    if len(points) < 4:
        return points
    line = np.array(points + points[:1], dtype=np.float64)
    far = int(np.argmax(((line - line[0]) ** 2).sum(1)))
    keep = {0, far}
    spans = [(0, far), (far, len(line) - 1)]
    while spans:
        first, last = spans.pop()
        if last - first < 2:
            continue
        away = _distance(line[first + 1 : last], line[first], line[last])
        worst = int(np.argmax(away))
        if away[worst] > tolerance_px:
            middle = first + 1 + worst
            keep.add(middle)
            spans += [(first, middle), (middle, last)]
    return [points[place] for place in sorted(keep)]


def _distance(points: np.ndarray, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """(N, 2) points -> their distances from the segment between start and end."""
    along = end - start
    length = max(float(along @ along), 1e-12)
    share = np.clip((points - start) @ along / length, 0, 1)
    return np.asarray(np.sqrt(((points - start - share[:, None] * along) ** 2).sum(1)))
