"""Bows, hats, pins, flowers, ear-rings, chokers and hands of the procedural portraits. Head units."""

from __future__ import annotations

import numpy as np

from gaugan.portraits.canvas import CLOTHES, SKIN, Colour, Pen, bend, ellipse, points, ribbon, shade, smooth
from gaugan.portraits.hairstyle import Hairstyle
from gaugan.portraits.look import Look, any_colour


def paint_bow(pen: Pen, look: Look, at: tuple[float, float], size: float, colour: Colour, *, tails: bool) -> None:
    """A ribbon tied in a bow; clothes."""
    line = look.feature_line(colour)
    for side in (-1.0, 1.0):
        if tails:
            tail = points((0, 0), (0.35, 0.5), (0.55, 1.2), (0.15, 1.1)) * (side * size, size) + at
            pen.fill(tail, shade(colour, 0.85), CLOTHES, line)
        wing = points((0.05, 0.0), (0.6, -0.45), (1.0, -0.3), (0.95, 0.3), (0.55, 0.4)) * (side * size, size) + at
        pen.fill(smooth(wing, closed=True, steps=4), colour, CLOTHES, line)
        pen.line(points((0.15, 0.0), (0.65, -0.05)) * (side * size, size) + at, line, 0.02)
    pen.fill(ellipse(at[0], at[1], 0.18 * size, 0.22 * size, 14), colour, CLOTHES, line)


def paint_accessories(pen: Pen, look: Look, style: Hairstyle, rng: np.random.Generator) -> None:
    """Hats, bands, bows, pins, flowers in the hair and ear-rings; all clothes."""
    colour = look.clothes[1] if rng.random() < 0.4 else any_colour(rng)
    line, shift, kind = look.line(colour), -0.3 * look.yaw, rng.random()
    side = float(rng.choice((-1.0, 1.0)))
    if kind < 0.07:
        _paint_hat(pen, look, style, colour, rng)
    elif kind < 0.19:  # hair band
        path = ellipse(shift, -0.25, style.radius_x * 0.97, (-0.25 - style.top) * rng.uniform(0.75, 1.03), 40)[20:41]
        pen.fill(ribbon(path, [0.08, rng.uniform(0.12, 0.25), 0.08]), colour, CLOTHES, line)
        if rng.random() < 0.5:
            paint_bow(pen, look, (side * 0.8, style.top + 0.35), rng.uniform(0.25, 0.5), colour, tails=False)
    elif kind < 0.29:
        paint_bow(
            pen,
            look,
            (side * 0.95 + shift, style.top + rng.uniform(0.3, 0.7)),
            rng.uniform(0.3, 0.7),
            colour,
            tails=True,
        )
    elif kind < 0.4:  # pins
        for k in range(int(rng.integers(1, 4))):
            start = np.array((side * 0.7 + shift, -0.75 + 0.16 * k))
            pen.fill(ribbon(np.stack([start, start + (side * 0.3, 0.2)]), [0.08, 0.08]), colour, CLOTHES, line)
    elif kind < 0.47:  # flower
        x, y, size = side * 0.9 + shift, rng.uniform(-1.2, -0.5), rng.uniform(0.12, 0.22)
        for angle in np.linspace(0, 2 * np.pi, 5, endpoint=False):
            petal = ellipse(x + size * np.cos(angle), y + size * np.sin(angle), size * 0.75, size * 0.75, 14)
            pen.fill(petal, colour, CLOTHES, line)
        pen.fill(ellipse(x, y, size * 0.5, size * 0.5, 12), look.clothes[2], CLOTHES)
    if style.back in ("twin_tails", "drills") and rng.random() < 0.8:
        for x in (-1.0, 1.0):
            paint_bow(
                pen,
                look,
                (x * style.radius_x * 0.98 + shift, -0.9),
                rng.uniform(0.25, 0.55),
                colour,
                tails=rng.random() < 0.5,
            )
    if style.ears_shown and rng.random() < 0.2:
        for x in (-1.0, 1.0):
            pen.fill(
                ellipse(x * 1.12 - 0.25 * look.yaw, 0.55, 0.06, rng.uniform(0.06, 0.16), 14), colour, CLOTHES, line
            )


def _paint_hat(pen: Pen, look: Look, style: Hairstyle, colour: Colour, rng: np.random.Generator) -> None:
    line, wide, kind = look.feature_line(colour), style.radius_x + 0.08, rng.integers(3)
    low = rng.uniform(-1.15, -0.85)
    dome = {
        0: points((-wide, low), (-wide * 1.02, -1.6), (0, style.top - 0.35), (wide * 1.02, -1.6), (wide, low)),
        1: points(
            (-wide * 0.9, low), (-wide * 1.3, -1.5), (0.3, style.top - 0.3), (wide * 1.35, -1.4), (wide * 0.9, low)
        ),
        2: points((-wide * 0.8, low), (-wide * 0.8, -2.1), (0, -2.4), (wide * 0.8, -2.1), (wide * 0.8, low)),
    }[int(kind)]
    edge = bend(np.array((wide * 0.95, low)), np.array((-wide * 0.95, low)), 0.12)
    pen.fill(np.concatenate([smooth(dome, steps=5), edge]), colour, CLOTHES, line)
    band = bend(np.array((-wide, low)), np.array((wide, low)), 0.12)
    pen.fill(ribbon(band, [0.14, 0.2, 0.14]), look.clothes[2], CLOTHES, line)
    if kind == 2:
        pen.fill(
            ribbon(
                bend(np.array((-wide * 1.5, low + 0.1)), np.array((wide * 1.5, low + 0.1)), 0.1), [0.05, 0.25, 0.05]
            ),
            colour,
            CLOTHES,
            line,
        )


def paint_choker(pen: Pen, look: Look, neck: float, rng: np.random.Generator) -> None:
    """A band around the neck."""
    colour, y, n = any_colour(rng), rng.uniform(1.4, 1.55), neck + 0.01
    pen.fill(ribbon(bend(np.array((-n, y)), np.array((n, y)), -0.12), [0.09, 0.09]), colour, CLOTHES, look.line(colour))


def paint_hand(pen: Pen, look: Look, rng: np.random.Generator) -> None:
    """A hand raised to chin or cheek, with a sleeve half of the time."""
    side, line = float(rng.choice((-1.0, 1.0))), look.feature_line(look.skin)
    palm = np.array((side * rng.uniform(0.35, 1.2), rng.uniform(1.15, 1.7)))
    wrist = palm + (side * rng.uniform(0.0, 0.3), 0.65)
    arm = ribbon(np.stack([wrist + (side * 0.3, 1.8), palm + (0, 0.2)]), [0.55, 0.4])
    pen.fill(arm, look.skin, SKIN, line)
    aim = np.array((-side * rng.uniform(-0.2, 0.5), -0.45))
    across = np.array((-aim[1], aim[0]))
    for k in range(4):
        root = palm + across * (0.55 - 0.36 * k)
        finger = ribbon(np.stack([root, root + aim * 0.5, root + aim * rng.uniform(0.9, 1.15)]), [0.17, 0.16, 0.08])
        pen.fill(finger, look.skin, SKIN, line)
    pen.fill(smooth(ellipse(float(palm[0]), float(palm[1]) + 0.05, 0.3, 0.3, 10), True, 3), look.skin, SKIN)
    thumb = ribbon(np.stack([palm - across * 0.6 + (0, 0.15), palm - across * 1.0 + aim * 0.6]), [0.16, 0.09])
    pen.fill(thumb, look.skin, SKIN, line)
    if rng.random() < 0.6:
        cuff, first = np.stack([wrist + (0, 0.1), wrist + (side * 0.3, 1.8)]), look.clothes[0]
        pen.fill(ribbon(cuff, [0.6, 0.8]), first, CLOTHES, look.line(first))
