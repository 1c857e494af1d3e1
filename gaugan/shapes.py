"""Shapes drawn by people -> label map: painted as labelme paints them (PIL outlines included), labels looked up."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gaugan.errors import UserError
from gaugan.labels import IGNORE, ClassTable

BACKGROUND_LABEL, IGNORE_LABEL = "_background_", "__ignore__"
NUM_POINTS: dict[str, tuple[int, float]] = {
    "polygon": (3, math.inf),
    "rectangle": (2, 2),
    "oriented_rectangle": (4, 4),
    "circle": (2, 2),
    "line": (2, 2),
    "linestrip": (2, math.inf),
    "point": (1, 1),
    "mask": (2, 2),
    "points": (0, math.inf),
}
"""Kind of shape -> fewest and most points. `points` (prompts for labelme's AI tools) cover no area: never painted."""
LINE_WIDTH_PX, POINT_RADIUS_PX = 10, 5


@dataclass(frozen=True)
class Shape:
    """One drawn shape."""

    label: str
    kind: str
    """A key of NUM_POINTS."""
    points: tuple[tuple[float, float], ...]
    """(x, y) in pixels of the upright picture."""
    mask: np.ndarray | None = None
    """bool (h, w), for kind "mask" only: its top left pixel lies at the first point."""


@dataclass(frozen=True)
class Painting:
    """A label map and what became of the shapes."""

    label_map: np.ndarray
    """uint8 (H, W) of class ids, 255 = ignore."""
    hidden: tuple[Shape, ...]
    """Shapes of which no pixel is left: painted over by later ones, or outside the picture."""


def class_ids(table: ClassTable, renames: Mapping[str, str] | None = None) -> dict[str, int]:
    """Label -> id: the table's names and labelme's two special ones, and `renames` (label -> class name) over them."""
    targets = {**table.ids, BACKGROUND_LABEL: 0, IGNORE_LABEL: IGNORE}
    for old, new in (renames or {}).items():
        if new not in targets:
            raise UserError(f"--map {old}={new}: {new!r} is no class; choose one of {', '.join(targets)}")
    renamed = {_normalised(old): targets[new] for old, new in (renames or {}).items()}
    return {name: number for name, number in targets.items() if _normalised(name) not in renamed} | renamed


def find_id(label: str, name_to_id: Mapping[str, int]) -> int | None:
    """The id of a label; case and stray spaces don't count, unless two names differ by them only. None = unknown."""
    if label in name_to_id:
        return name_to_id[label]
    found = {number for name, number in name_to_id.items() if _normalised(name) == _normalised(label)}
    return found.pop() if len(found) == 1 else None


def paint(
    shapes: Sequence[Shape], ids: Sequence[int], size: tuple[int, int], z_order: Sequence[int] | None = None
) -> Painting:
    """Paints shape k with class ids[k], in list order, later over earlier; pixels under no shape are background (0).

    Pixel for pixel what labelme's `shapes_to_label` paints. `z_order`: class ids, lowest first, for when the list order
    is not to be trusted; classes that it leaves out come before those that it names, ignored areas last.
    """
    from PIL import Image, ImageDraw

    canvas = Image.new("I", (size[1], size[0]), 0)  # the number of the shape on top, from 1; 0 = none
    pen = ImageDraw.Draw(canvas)
    for place in _paint_order(ids, z_order):
        _paint_shape(canvas, pen, shapes[place], place + 1)
    on_top = np.array(canvas)  # int32 (H, W)
    label_map = np.array([0, *ids], dtype=np.uint8)[on_top]
    seen = set(np.unique(on_top).tolist())
    hidden = [shape for n, shape in enumerate(shapes, start=1) if n not in seen and shape.kind != "points"]
    return Painting(label_map, tuple(hidden))


def _normalised(label: str) -> str:
    return " ".join(label.split()).casefold()


def _paint_order(ids: Sequence[int], z_order: Sequence[int] | None) -> list[int]:
    if z_order is None:
        return list(range(len(ids)))
    rank = {IGNORE: len(z_order)} | {number: place for place, number in enumerate(z_order)}
    return sorted(range(len(ids)), key=lambda place: rank.get(ids[place], -1))  # stable: ties keep the list order


def _paint_shape(canvas: Any, pen: Any, shape: Shape, value: int) -> None:
    """Draws one shape with ink `value`, by the calls that labelme makes (utils/shape.py, `shape_to_mask`)."""
    if shape.kind in ("polygon", "oriented_rectangle"):
        pen.polygon(shape.points, outline=value, fill=value)
    elif shape.kind == "rectangle":
        (x0, y0), (x1, y1) = shape.points
        pen.rectangle((min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)), outline=value, fill=value)
    elif shape.kind == "circle":
        _paint_disc(pen, shape.points[0], math.dist(*shape.points), value)
    elif shape.kind == "point":
        _paint_disc(pen, shape.points[0], POINT_RADIUS_PX, value)
    elif shape.kind in ("line", "linestrip"):
        pen.line(shape.points, fill=value, width=LINE_WIDTH_PX)
    elif shape.mask is not None:
        _paint_mask(canvas, shape.points[0], shape.mask, value)


def _paint_disc(pen: Any, centre: tuple[float, float], radius: float, value: int) -> None:
    x, y = centre
    pen.ellipse((x - radius, y - radius, x + radius, y + radius), outline=value, fill=value)


def _paint_mask(canvas: Any, corner: tuple[float, float], mask: np.ndarray, value: int) -> None:
    from PIL import Image

    left, top = math.floor(corner[0]), math.floor(corner[1])
    height, width = mask.shape
    canvas.paste(value, (left, top, left + width, top + height), Image.fromarray(mask))  # clipped at the borders
