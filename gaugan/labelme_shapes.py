"""One entry of `shapes` in a labelme file (versions 3 to 6) -> a Shape. Nothing in it is trusted."""

from __future__ import annotations

import base64
import io
import math
from typing import Any

import numpy as np

from gaugan.images import MAX_PIXELS
from gaugan.shapes import NUM_POINTS, Shape

MAX_POINTS = 100_000
"""Per shape."""


def read_shape(entry: Any) -> Shape:
    """One entry of `shapes`. Raises ValueError with what is wrong."""
    if not isinstance(entry, dict):
        raise ValueError("is no object with `label` and `points`")
    label, kind, points = entry.get("label"), entry.get("shape_type") or "polygon", entry.get("points")
    if not isinstance(label, str) or not label.strip():
        raise ValueError("has no label")
    if not isinstance(kind, str) or kind not in NUM_POINTS:
        raise ValueError(f"shape_type {kind!r} is unknown; known are {', '.join(NUM_POINTS)}")
    if not isinstance(points, list) or len(points) > MAX_POINTS:
        count = (
            f"{len(points)} points, at most {MAX_POINTS} are read" if isinstance(points, list) else "no list `points`"
        )
        raise ValueError(f"has {count}")
    fewest, most = NUM_POINTS[kind]
    if not fewest <= len(points) <= most:
        wanted = f"{fewest}" if fewest == most else f"at least {fewest}"
        raise ValueError(f"a {kind} needs {wanted} points, it has {len(points)}")
    corners = _corners(points)
    return Shape(label, kind, corners, _mask(entry.get("mask"), corners) if kind == "mask" else None)


def _corners(points: list[Any]) -> tuple[tuple[float, float], ...]:
    try:
        pairs = np.asarray(points, dtype=np.float64).reshape(-1, 2) if points else np.zeros((0, 2))
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"its points are no pairs of numbers ({error})") from error
    if len(pairs) != len(points) or not np.isfinite(pairs).all():
        raise ValueError("its points are no pairs of finite numbers")
    return tuple((x, y) for x, y in pairs.tolist())


def _mask(value: Any, corners: tuple[tuple[float, float], ...]) -> np.ndarray:
    """The base64 PNG of a mask shape as bool (h, w); it must be as large as the box of its corners, ends included."""
    from PIL import Image

    height, width = _box(corners)
    try:
        picture = Image.open(io.BytesIO(base64.b64decode(value)), formats=["PNG"])
        found = f"{picture.width}x{picture.height}"
        fits = max(abs(height - picture.height), abs(width - picture.width)) <= 1
        if picture.width * picture.height > MAX_PIXELS:
            raise ValueError(f"{found} pixels are too many")
        grey = picture if picture.mode in ("1", "L", "P") or not fits else picture.convert("L")
        pixels = np.array(grey) != 0 if fits else None  # another size is not decoded
    except Exception as error:
        raise ValueError(f"its mask is no base64 PNG: {error}") from error
    if pixels is None:
        raise ValueError(f"its mask has {found} pixels but its corners span {width}x{height}")
    return pixels


def _box(corners: tuple[tuple[float, float], ...]) -> tuple[int, int]:
    """(height, width) of a mask's corners, ends included."""
    (left, top), (right, bottom) = corners
    return math.floor(bottom) - math.floor(top) + 1, math.floor(right) - math.floor(left) + 1


def mask_area(entry: Any) -> int:
    """Pixels that the mask of an entry of `shapes` may have at most; 0 where `read_shape` will refuse it anyway."""
    if not isinstance(entry, dict) or entry.get("shape_type") != "mask":
        return 0
    try:
        height, width = _box(_corners(entry["points"]))
    except (KeyError, TypeError, ValueError):
        return 0
    return max(0, height + 1) * max(0, width + 1)
