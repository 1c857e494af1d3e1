"""Canvas, pens, curves and colours for the procedural portraits (gaugan/portraits.py).

One drawing call paints the picture and the label map with the same geometry, so labels are exact by construction.
Coordinates: a pen maps points in its own units (head units: half a face width = 1, y down, (0, 0) between the eyes)
through one affine map to canvas pixels. The canvas is 2-4 times larger than the portrait and is reduced at the end.
"""

from __future__ import annotations

import colorsys
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageDraw

BACKGROUND, SKIN, FACE, EYE, MOUTH, HAIR, CLOTHES = range(7)

Points = NDArray[np.float64]  # (n, 2): x, y
Colour = tuple[int, int, int]


def points(*pairs: tuple[float, float]) -> Points:
    """A point list (n, 2) from x, y pairs."""
    return np.array(pairs, np.float64)


@lru_cache
def _spread(count: int) -> NDArray[np.float64]:
    return np.linspace(0, 1, count)


@lru_cache
def _bezier(steps: int) -> NDArray[np.float64]:
    t = np.linspace(0, 1, steps + 1)
    return np.stack([(1 - t) ** 2, 2 * t * (1 - t), t**2], 1)  # (steps + 1, 3)


@lru_cache
def _catmull_rom(steps: int) -> NDArray[np.float64]:
    t = np.arange(steps) / steps
    weights = [-t + 2 * t**2 - t**3, 2 - 5 * t**2 + 3 * t**3, t + 4 * t**2 - 3 * t**3, t**3 - t**2]
    return 0.5 * np.stack(weights, 1)  # (steps, 4)


@lru_cache
def _circle(steps: int) -> Points:
    angle = np.linspace(0, 2 * np.pi, steps, endpoint=False)
    return np.stack([np.cos(angle), np.sin(angle)], 1)


def smooth(controls: Points, closed: bool = False, steps: int = 8) -> Points:
    """Catmull-Rom curve through the control points, `steps` samples per piece."""
    if closed:
        padded = np.concatenate([controls[-1:], controls, controls[:2]])
    else:
        padded = np.concatenate([2 * controls[:1] - controls[1:2], controls, 2 * controls[-1:] - controls[-2:-1]])
    corners = np.stack([padded[:-3], padded[1:-2], padded[2:-1], padded[3:]], 1)  # (pieces, 4, 2)
    curve = (_catmull_rom(steps) @ corners).reshape(-1, 2)  # (pieces * steps, 2)
    return curve if closed else np.concatenate([curve, controls[-1:]])


def bend(start: Points, end: Points, bulge: float, steps: int = 8) -> Points:
    """Quadratic curve from start to end (2,); the middle is pushed by `bulge` chord lengths to the left of the way."""
    chord = end - start
    control = (start + end) / 2 + bulge * np.array([chord[1], -chord[0]])
    return _bezier(steps) @ np.stack([start, control, end])


def ellipse(x: float, y: float, radius_x: float, radius_y: float, steps: int = 28) -> Points:
    """Closed ellipse outline."""
    return _circle(steps) * (radius_x, radius_y) + (x, y)


def ribbon(path: Points, widths: NDArray[np.float64] | list[float]) -> Points:
    """Closed outline of a band along `path` whose full width runs through `widths` (spread evenly over the path)."""
    ahead = np.empty_like(path)
    ahead[1:-1] = path[2:] - path[:-2]
    ahead[0], ahead[-1] = path[1] - path[0], path[-1] - path[-2]
    length = np.maximum(np.hypot(ahead[:, 0], ahead[:, 1]), 1e-9)
    half = np.interp(_spread(len(path)), _spread(len(widths)), widths) / (2 * length)
    normal = ahead[:, ::-1] * (-1.0, 1.0) * half[:, None]
    return np.concatenate([path + normal, (path - normal)[::-1]])


def mirrored(shape: Points) -> Points:
    """The same shape on the other side of x = 0."""
    return shape * (-1.0, 1.0)


def hsv(hue: float, saturation: float, value: float) -> Colour:
    """Colour from hue (wraps at 1), saturation and value (both clipped to [0, 1])."""
    r, g, b = colorsys.hsv_to_rgb(hue % 1.0, min(max(saturation, 0.0), 1.0), min(max(value, 0.0), 1.0))
    return round(255 * r), round(255 * g), round(255 * b)


def mix(first: Colour, second: Colour, amount: float) -> Colour:
    """Colour `amount` of the way from first to second."""
    r, g, b = (round(p + (q - p) * amount) for p, q in zip(first, second, strict=True))
    return r, g, b


def shade(colour: Colour, factor: float) -> Colour:
    """Darker colour as cel painters choose it: value times `factor`, a little more saturated and bluer."""
    r, g, b = (c / 255 for c in colour)
    hue, saturation, value = colorsys.rgb_to_hsv(r, g, b)
    darker = hsv(hue, saturation + (1 - factor) * 0.35 * (0.2 + saturation), value * factor)
    return mix(darker, (70, 60, 120), 0.25 * (1 - factor))


def luminance(colour: Colour) -> float:
    """Rec. 601 luminance in [0, 255]."""
    return 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]


class Canvas:
    """The enlarged picture (RGB) and its label map (L), drawn together."""

    def __init__(self, width: int, height: int) -> None:
        self.size = (width, height)
        self.picture = Image.new("RGB", self.size)
        self.labels = Image.new("L", self.size)
        self.draw = ImageDraw.Draw(self.picture)
        self.label_draw = ImageDraw.Draw(self.labels)

    def region(self, *class_ids: int) -> Image.Image:
        """Mask (L, 0 or 255) of the pixels that now carry one of the classes."""
        return self.labels.point([255 if i in class_ids else 0 for i in range(256)])

    def tint(self, mask: Image.Image, colour: Colour, alpha: float = 1.0) -> None:
        """Blend a colour over the masked pixels; labels stay."""
        self.picture.paste(colour, (0, 0), mask if alpha >= 1 else mask.point([round(i * alpha) for i in range(256)]))


@dataclass(frozen=True)
class Pen:
    """Draws shapes given in its own units: pixel = matrix @ point + offset."""

    canvas: Canvas
    matrix: NDArray[np.float64]  # (2, 2)
    offset: NDArray[np.float64]  # (2,)
    line_width: float  # units

    @property
    def scale(self) -> float:
        """Canvas pixels per unit."""
        return float(np.hypot(self.matrix[0, 0], self.matrix[1, 0]))

    def pixels(self, shape: Points) -> list[float]:
        """The shape as PIL's flat list x0, y0, x1, y1 .. in canvas pixels."""
        flat: list[float] = (shape @ self.matrix.T + self.offset).ravel().tolist()
        return flat

    def thickness(self, width: float) -> int:
        """A width in units as whole canvas pixels, at least 1."""
        return max(1, round(width * self.scale))

    def fill(self, shape: Points, colour: Colour, class_id: int | None = None, line: Colour | None = None) -> None:
        """Fill a closed shape and outline it with `line`; class_id None leaves the labels as they are."""
        flat = self.pixels(shape)
        self.canvas.draw.polygon(flat, fill=colour)
        if class_id is not None:
            self.canvas.label_draw.polygon(flat, fill=class_id)
        if line is not None:
            self._line(flat + flat[:4], line, self.line_width, class_id)

    def line(self, path: Points, colour: Colour, width: float, class_id: int | None = None) -> None:
        """An open line of constant width (units)."""
        self._line(self.pixels(path), colour, width, class_id)

    def stroke(self, path: Points, colour: Colour, widths: list[float], class_id: int | None = None) -> None:
        """A line whose width runs through `widths` (units), as a brush would draw it."""
        self.fill(ribbon(path, widths), colour, class_id)

    def mark(self, shape: Points, class_id: int) -> None:
        """Fill a shape in the label map only."""
        self.canvas.label_draw.polygon(self.pixels(shape), fill=class_id)

    def mask(self, *shapes: Points) -> Image.Image:
        """Mask (L, 0 or 255) of the union of closed shapes."""
        mask = Image.new("L", self.canvas.size)
        draw = ImageDraw.Draw(mask)
        for shape in shapes:
            draw.polygon(self.pixels(shape), fill=255)
        return mask

    def tint(self, shape: Points, within: Image.Image, colour: Colour, alpha: float = 1.0) -> None:
        """Blend a colour over the part of the shape that lies inside the mask `within`; labels stay."""
        xy = shape @ self.matrix.T + self.offset
        left, top = np.maximum(np.floor(xy.min(0)), 0).astype(int).tolist()
        right, bottom = np.minimum(np.ceil(xy.max(0)) + 1, self.canvas.size).astype(int).tolist()
        if right <= left or bottom <= top:
            return
        part = Image.new("L", (right - left, bottom - top))
        ImageDraw.Draw(part).polygon((xy - (left, top)).ravel().tolist(), fill=round(255 * min(alpha, 1.0)))
        box = (left, top, right, bottom)
        self.canvas.picture.paste(colour, box, ImageChops.multiply(part, within.crop(box)))

    def _line(self, flat: list[float], colour: Colour, width: float, class_id: int | None) -> None:
        pixels = self.thickness(width)
        self.canvas.draw.line(flat, fill=colour, width=pixels, joint="curve" if pixels > 4 else None)
        if class_id is not None:
            self.canvas.label_draw.line(flat, fill=class_id, width=pixels)
