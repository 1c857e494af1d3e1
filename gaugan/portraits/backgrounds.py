"""Backgrounds of the procedural portraits: never flat, often in the colours of hair, skin or clothes."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from gaugan.portraits.canvas import Canvas, Colour, mix, shade
from gaugan.portraits.look import Look, any_colour, near


def paint_background(canvas: Canvas, look: Look, rng: np.random.Generator) -> None:
    """Fill the canvas: painted at reduced size, so that most backgrounds are a little out of focus as on film."""
    factor = int(rng.choice((1, 2, 4, 8), p=(0.3, 0.3, 0.22, 0.18)))
    width, height = (max(8, side // factor) for side in canvas.size)
    colours = _colours(look, rng)
    picture = _gradient(width, height, colours, rng)
    painters = (
        _room,
        _room,
        _room,
        _foliage,
        _foliage,
        _clouds,
        _clouds,
        _bokeh,
        _stripes,
        _dots,
        _writing,
        _person,
        _patches,
    )
    for k in rng.choice(len(painters), size=int(rng.integers(1, 3)), replace=False):
        painters[k](ImageDraw.Draw(picture), (width, height), colours, rng)
    if factor > 1 and rng.random() < 0.6:
        picture = picture.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 2.0)))
    canvas.picture.paste(picture.resize(canvas.size, Image.Resampling.BICUBIC))


def _colours(look: Look, rng: np.random.Generator) -> list[Colour]:
    """Four related colours; the theme is the hair's, skin's or clothes' own colour in a third of the pictures."""
    kind = rng.random()
    base = any_colour(rng)
    if rng.random() < 0.5:
        base = mix(base, (200, 200, 195), rng.uniform(0.2, 0.7))
    if kind < 0.14:
        base = near(rng, look.hair, 15)
    elif kind < 0.25:
        base = near(rng, look.skin, 12)
    elif kind < 0.33:
        base = near(rng, look.clothes[0], 12)
    other = any_colour(rng)
    return [
        base,
        mix(base, other, rng.uniform(0.1, 0.8)),
        shade(base, rng.uniform(0.35, 0.9)),
        mix(base, (255, 255, 255), rng.uniform(0.2, 0.8)),
    ]


def _pick(colours: list[Colour], rng: np.random.Generator) -> Colour:
    return near(rng, colours[int(rng.integers(len(colours)))], 8)


def _gradient(width: int, height: int, colours: list[Colour], rng: np.random.Generator) -> Image.Image:
    small = np.array([[colours[0], colours[1]], [colours[2], colours[int(rng.integers(4))]]], np.uint8)
    if rng.random() < 0.5:
        small[1] = small[0]
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def _room(draw: ImageDraw.ImageDraw, size: tuple[int, int], colours: list[Colour], rng: np.random.Generator) -> None:
    """Walls, frames, shelves: upright rectangles with edges."""
    w, h = size
    for _ in range(int(rng.integers(2, 9))):
        x, y = rng.uniform(-0.2, 1) * w, rng.uniform(-0.4, 0.8) * h
        box = (x, y, x + rng.uniform(0.03, 0.6) * w, y + rng.uniform(0.05, 1.2) * h)
        fill = _pick(colours, rng)
        draw.rectangle(box, fill=fill, outline=shade(fill, 0.6) if rng.random() < 0.5 else None)
    if rng.random() < 0.4:
        y, fill = rng.uniform(0, 0.9) * h, _pick(colours, rng)
        for x in np.arange(0, w, max(2.0, rng.uniform(0.03, 0.12) * w)):  # books or tiles
            draw.rectangle((x, y, x + 0.05 * w, y + 0.2 * h), fill=near(rng, fill, 25), outline=shade(fill, 0.6))


def _foliage(draw: ImageDraw.ImageDraw, size: tuple[int, int], colours: list[Colour], rng: np.random.Generator) -> None:
    w, h = size
    leaf = (90, 140, 70) if rng.random() < 0.6 else colours[1]
    low, high = sorted(rng.uniform(0, 1, 2))
    for _ in range(int(rng.integers(40, 120))):
        x, y, r = rng.uniform(0, w), rng.uniform(low, high + 0.1) * h, rng.uniform(0.01, 0.06) * w
        draw.ellipse((x - r, y - r, x + r, y + r), fill=near(rng, leaf, 22))


def _clouds(draw: ImageDraw.ImageDraw, size: tuple[int, int], colours: list[Colour], rng: np.random.Generator) -> None:
    w, h = size
    if rng.random() < 0.6:
        draw.rectangle((0, 0, w, h), fill=near(rng, (120, 175, 235), 20))
    for _ in range(int(rng.integers(2, 6))):
        x, y = rng.uniform(0, w), rng.uniform(0, h)
        for _ in range(8):
            cx, cy, r = x + rng.normal(0, 0.12) * w, y + rng.normal(0, 0.03) * h, rng.uniform(0.03, 0.1) * w
            draw.ellipse((cx - r, cy - r * 0.7, cx + r, cy + r * 0.7), fill=near(rng, (245, 248, 252), 5))


def _bokeh(draw: ImageDraw.ImageDraw, size: tuple[int, int], colours: list[Colour], rng: np.random.Generator) -> None:
    w, h = size
    for _ in range(int(rng.integers(5, 30))):
        x, y, r = rng.uniform(0, w), rng.uniform(0, h), rng.uniform(0.01, 0.12) * w
        draw.ellipse((x - r, y - r, x + r, y + r), fill=mix(_pick(colours, rng), (255, 255, 255), rng.uniform(0, 0.5)))


def _stripes(draw: ImageDraw.ImageDraw, size: tuple[int, int], colours: list[Colour], rng: np.random.Generator) -> None:
    w, h = size
    slope, step, fill = rng.uniform(-1.5, 1.5) * h, rng.uniform(0.06, 0.25) * w, _pick(colours, rng)
    for x in np.arange(-1.5 * w, 2.5 * w, step):
        half = step * 0.45
        draw.polygon([x, 0, x + half, 0, x + half + slope, h, x + slope, h], fill=fill)


def _dots(draw: ImageDraw.ImageDraw, size: tuple[int, int], colours: list[Colour], rng: np.random.Generator) -> None:
    w, h = size
    step, fill = rng.uniform(0.06, 0.2) * w, _pick(colours, rng)
    radius = step * rng.uniform(0.15, 0.35)
    for j, y in enumerate(np.arange(0, h + step, step)):
        for x in np.arange(0, w + step, step) + (step / 2) * (j % 2):
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=fill)


def _writing(draw: ImageDraw.ImageDraw, size: tuple[int, int], colours: list[Colour], rng: np.random.Generator) -> None:
    """Rows of short strokes like letters on a poster or a screen."""
    w, h = size
    ink, step = shade(_pick(colours, rng), 0.4), max(3.0, rng.uniform(0.03, 0.07) * h)
    x0, y0 = rng.uniform(0, 0.7) * w, rng.uniform(0, 0.6) * h
    for y in np.arange(y0, min(h, y0 + 7 * step), step * 1.4):
        for x in np.arange(x0, min(w, x0 + rng.uniform(3, 9) * step), step):
            for _ in range(3):
                a, b = rng.uniform(0, 0.8, 2) * step, rng.uniform(0, 0.9, 2) * step
                draw.line((x + a[0], y + b[0], x + a[1], y + b[1]), fill=ink, width=max(1, round(0.12 * step)))


def _person(draw: ImageDraw.ImageDraw, size: tuple[int, int], colours: list[Colour], rng: np.random.Generator) -> None:
    """Somebody behind: other people are background, whatever their colours."""
    w, h = size
    x, y, r = (
        rng.choice((rng.uniform(-0.05, 0.2), rng.uniform(0.8, 1.05))) * w,
        rng.uniform(0.2, 0.6) * h,
        rng.uniform(0.08, 0.2) * w,
    )
    skin, hair, clothes = near(rng, (250, 222, 200), 8), any_colour(rng), any_colour(rng)
    draw.ellipse((x - 2 * r, y + 1.3 * r, x + 2 * r, y + 6 * r), fill=clothes)
    draw.ellipse((x - 1.25 * r, y - 1.4 * r, x + 1.25 * r, y + 1.3 * r), fill=hair)
    draw.ellipse((x - 0.85 * r, y - 0.6 * r, x + 0.85 * r, y + 1.2 * r), fill=skin)
    if rng.random() < 0.6:
        for side in (-0.4, 0.4):
            draw.ellipse((x + side * r - 0.14 * r, y, x + side * r + 0.14 * r, y + 0.35 * r), fill=shade(hair, 0.4))


def _patches(draw: ImageDraw.ImageDraw, size: tuple[int, int], colours: list[Colour], rng: np.random.Generator) -> None:
    w, h = size
    for _ in range(int(rng.integers(3, 12))):
        corners = rng.uniform(-0.1, 1.1, (int(rng.integers(3, 6)), 2)) * (w, h)
        centre = corners.mean(0)
        draw.polygon((centre + (corners - centre) * rng.uniform(0.2, 0.9)).ravel().tolist(), fill=_pick(colours, rng))
