"""What the tools must draw, written a second time with numpy, slowly and plainly."""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

Point = tuple[int, int]


def draw(ids: np.ndarray, start: Point, end: Point, diameter: int, class_id: int) -> None:
    """The brush: every pixel whose centre is within diameter / 2 of the segment, in exact integers."""
    y, x = np.mgrid[: ids.shape[0], : ids.shape[1]].astype(np.int64)
    (x0, y0), (x1, y1) = start, end
    dx, dy = x1 - x0, y1 - y0
    along, length2 = (x - x0) * dx + (y - y0) * dy, dx * dx + dy * dy
    to_start, to_end = (x - x0) ** 2 + (y - y0) ** 2, (x - x1) ** 2 + (y - y1) ** 2
    cross = (x - x0) * dy - (y - y0) * dx
    beside = 4 * cross**2 <= diameter**2 * length2
    near = np.where(
        along <= 0, 4 * to_start <= diameter**2, np.where(along >= length2, 4 * to_end <= diameter**2, beside)
    )
    ids[near] = class_id


def stroke(ids: np.ndarray, points: list[Point], diameter: int, class_id: int) -> None:
    """The brush along several segments."""
    for start, end in zip(points, points[1:], strict=False):
        draw(ids, start, end, diameter, class_id)


def box(ids: np.ndarray, start: Point, end: Point, class_id: int, round_: bool = False) -> None:
    """The rectangle between two pixels, ends included, or the ellipse that touches its sides."""
    (left, right), (top, bottom) = sorted((start[0], end[0])), sorted((start[1], end[1]))
    y, x = np.mgrid[: ids.shape[0], : ids.shape[1]]
    inside = (x >= left) & (x <= right) & (y >= top) & (y <= bottom)
    if round_:
        across, down = right - left + 1, bottom - top + 1
        inside &= ((2 * x - left - right) * down) ** 2 + ((2 * y - top - bottom) * across) ** 2 <= (across * down) ** 2
    ids[inside] = class_id


def _grown(area: np.ndarray) -> np.ndarray:
    """The area and its 4 neighbours."""
    grown = area.copy()
    grown[1:] |= area[:-1]
    grown[:-1] |= area[1:]
    grown[:, 1:] |= area[:, :-1]
    grown[:, :-1] |= area[:, 1:]
    return grown


def _spread(seeds: np.ndarray, within: np.ndarray) -> np.ndarray:
    """Everything of `within` that is 4-connected to the seeds."""
    area = seeds & within
    while (grown := _grown(area) & within).sum() != area.sum():
        area = grown
    return area


def connected(ids: np.ndarray, x: int, y: int) -> np.ndarray:
    """The 4-connected area of equal ids around a pixel."""
    seed = np.zeros(ids.shape, dtype=bool)
    seed[y, x] = True
    return _spread(seed, ids == ids[y, x])


def _under(places: np.ndarray, side: int, shape: tuple[int, int]) -> np.ndarray:
    """The pixels under squares whose upper left pixels are `places`."""
    covered = np.zeros(shape, dtype=bool)
    for y, x in np.argwhere(places):
        covered[y : y + side, x : x + side] = True
    return covered


def flood(ids: np.ndarray, x: int, y: int, class_id: int, gap: int) -> None:
    """The fill: a square of side gap + 1 slides as far as it can; narrow rests go to the nearer of the squares."""
    area = connected(ids, x, y)
    for side in range(gap + 1, 1, -1):
        fits = sliding_window_view(area, (side, side)).all(axis=(2, 3))
        near = np.zeros(fits.shape, dtype=bool)
        near[max(0, y - side + 1) : y + 1, max(0, x - side + 1) : x + 1] = True
        reached = _spread(near, fits)
        if reached.any():
            area = _share(area, _under(reached, side, ids.shape), _under(fits & ~reached, side, ids.shape))
            break
    ids[area] = class_id


def _share(area: np.ndarray, ours: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Both grow one step at a time, ours first, until the area is full."""
    others &= ~ours
    while not (ours | others)[area].all():
        ours |= _grown(ours) & area & ~others
        others |= _grown(others) & area & ~ours
    return ours
