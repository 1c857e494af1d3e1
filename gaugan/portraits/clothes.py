"""Neck, body and clothes of the procedural portraits. Head units; the body pen tilts less."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from gaugan.portraits.accessories import paint_bow
from gaugan.portraits.canvas import (
    CLOTHES,
    SKIN,
    Colour,
    Pen,
    Points,
    bend,
    ellipse,
    mirrored,
    points,
    ribbon,
    shade,
    smooth,
)
from gaugan.portraits.look import Look

GARMENTS = (
    "crew",
    "v_neck",
    "turtleneck",
    "shirt",
    "sailor",
    "hoodie",
    "straps",
    "jacket",
    "kimono",
    "scarf",
    "off_shoulder",
)
_GARMENT_ODDS = (0.1, 0.08, 0.08, 0.2, 0.12, 0.06, 0.06, 0.15, 0.06, 0.05, 0.04)


@dataclass(frozen=True)
class Body:
    """Measures of the body below the head."""

    garment: str
    neck: float  # half width
    shoulder: float  # half width
    shoulder_y: float
    base_y: float  # where the neck meets the body


def draw_body(rng: np.random.Generator) -> Body:
    """A random body."""
    base_y = rng.uniform(1.45, 1.68)
    garment = str(rng.choice(GARMENTS, p=np.array(_GARMENT_ODDS) / sum(_GARMENT_ODDS)))
    return Body(garment, rng.uniform(0.29, 0.42), rng.uniform(1.35, 1.95), base_y + rng.uniform(0.22, 0.48), base_y)


def _torso(body: Body, half: float, grow: float) -> Points:
    """Outline of neck, shoulders and arms, open below the picture."""
    s, y, top = body.shoulder + grow, body.shoulder_y - grow, max(half, body.neck + 0.12)
    right = points((top, body.base_y - 0.02), (s * 0.62, y - 0.2), (s * 0.92, y), (s * 1.06, y + 0.45))
    right = np.concatenate([right, points((s * 1.15, y + 1.3), (s * 1.2, 5.0))])
    return np.concatenate([smooth(right, steps=5), smooth(mirrored(right), steps=5)[::-1]])


def paint_neck(pen: Pen, look: Look, body: Body, rng: np.random.Generator) -> None:
    """Neck and bare shoulders with the head's shadow."""
    n, line = body.neck, look.line(look.skin)
    s, y = body.shoulder, body.shoulder_y
    neck = points((n, 0.5), (n * 0.95, 1.2), (n * 1.02, body.base_y - 0.1), (n + 0.2, body.base_y + 0.06))
    arm = points((s * 0.62, y - 0.16), (s * 0.9, y + 0.04), (s * 1.03, y + 0.48), (s * 1.1, y + 1.3), (s * 1.15, 5.0))
    half = np.concatenate([neck, arm])
    shape = np.concatenate([smooth(half, steps=5), smooth(mirrored(half), steps=5)[::-1]])
    pen.fill(shape, look.skin, SKIN, line)
    inside = pen.mask(shape)
    if rng.random() < 0.9:
        deep = rng.uniform(1.35, 1.75)
        shadow = points((-1, 0.4), (1, 0.4), (0.55, deep - 0.25), (0.12 * look.light, deep), (-0.55, deep - 0.3))
        pen.tint(shadow, inside, look.skin_shadow, rng.uniform(0.6, 1))
    for side in (-1.0, 1.0):  # collar bones
        bone = bend(np.array((side * 0.1, body.base_y + 0.22)), np.array((side * 0.6, body.base_y + 0.12)), side * 0.1)
        pen.stroke(bone, look.skin_shadow, [0.03, 0.02, 0.004])
    if rng.random() < 0.4:
        cord = points((side * n * 0.7, 1.2), (side * 0.12, body.base_y + 0.2))
        pen.stroke(cord, look.feature_line(look.skin), [0.004, 0.02])


def paint_clothes(pen: Pen, look: Look, body: Body, rng: np.random.Generator) -> None:
    """The garment over the body."""
    first, second, third = look.clothes
    opening = _neckline(body, rng)
    torso = _torso(body, float(opening[-1, 0]) if len(opening) else 0.0, rng.uniform(0.0, 0.1))
    shape = np.concatenate([torso, opening])
    if body.garment == "straps":
        low = body.base_y + rng.uniform(0.6, 0.95)
        for side in (-1.0, 1.0):
            strap = points((side * 0.55, body.base_y + 0.0), (side * 0.6, low + 0.1))
            pen.fill(ribbon(strap, [0.1, 0.12]), first, CLOTHES, look.line(first))
        shape = np.concatenate(
            [bend(np.array((-0.95, low)), np.array((0.95, low)), -0.1), points((1.3, 5.0), (-1.3, 5.0))]
        )
    if body.garment == "off_shoulder":
        low = body.base_y + rng.uniform(0.45, 0.7)
        edge = bend(np.array((-body.shoulder * 1.1, low)), np.array((body.shoulder * 1.1, low)), -0.12)
        shape = np.concatenate([edge, points((body.shoulder * 1.3, 5.0), (-body.shoulder * 1.3, 5.0))])
    pen.fill(shape, first, CLOTHES, look.line(first))
    inside = pen.mask(shape)
    _paint_pattern(pen, look, inside, rng)
    _paint_folds(pen, look, body, inside, rng)
    _COLLARS.get(body.garment, _plain_collar)(pen, look, body, rng)
    if body.garment in ("shirt", "sailor", "jacket") and rng.random() < 0.75:
        _paint_tie(pen, look, body, second if body.garment == "jacket" else third, rng)
    if rng.random() < 0.3:
        for k in range(4):
            pen.fill(ellipse(0.0, body.base_y + 0.55 + 0.35 * k, 0.055, 0.055, 12), second, CLOTHES, look.line(second))


def _neckline(body: Body, rng: np.random.Generator) -> Points:
    """The opening's edge from the left of the neck to its right (empty: none)."""
    half = body.neck + rng.uniform(0.08, 0.3)
    shallow = rng.uniform(0.12, 0.4)
    deep = {"v_neck": rng.uniform(0.5, 1.0), "sailor": rng.uniform(0.5, 0.8), "jacket": 0.9, "kimono": 0.6}.get(
        body.garment, shallow
    )
    if body.garment in ("v_neck", "sailor", "jacket", "kimono", "shirt"):
        return points((-half, body.base_y - 0.02), (0.0, body.base_y + deep), (half, body.base_y - 0.02))
    if body.garment in ("crew", "hoodie"):
        return bend(np.array((-half, body.base_y - 0.02)), np.array((half, body.base_y - 0.02)), -deep / half)
    return np.zeros((0, 2))


def _paint_pattern(pen: Pen, look: Look, inside: Image.Image, rng: np.random.Generator) -> None:
    """Stripes, plaid or dots over about a fifth of the garments."""
    kind, colour = rng.random(), look.clothes[2]
    step = rng.uniform(0.15, 0.4)
    if kind < 0.16:
        for y in np.arange(1.2, 4.0, step):
            pen.tint(points((-3, y), (3, y), (3, y + step * 0.4), (-3, y + step * 0.4)), inside, colour, 0.8)
    if kind < 0.06 or 0.16 < kind < 0.22:
        for x in np.arange(-2.0, 2.0, step):
            pen.tint(points((x, 0), (x + step * 0.35, 0), (x + step * 0.35, 5), (x, 5)), inside, colour, 0.6)
    if 0.22 < kind < 0.29:
        for x in np.arange(-2.0, 2.0, step):
            for y in np.arange(1.4, 3.4, step):
                pen.tint(ellipse(x, y + 0.5 * step * (round(x / step) % 2), step * 0.2, step * 0.2, 10), inside, colour)


def _paint_folds(pen: Pen, look: Look, body: Body, inside: Image.Image, rng: np.random.Generator) -> None:
    first = look.clothes[0]
    dark, line = shade(first, rng.uniform(0.6, 0.85)), look.feature_line(first)
    if rng.random() < 0.7:
        s = body.shoulder * look.light
        away = points((-s * 0.75, body.base_y), (-s * 0.55, 2.4), (-s * 0.9, 5.0), (-s * 2, 5.0), (-s * 2, body.base_y))
        pen.tint(smooth(away, closed=True, steps=4), inside, dark, rng.uniform(0.5, 1))
    for side in (-1.0, 1.0):  # sleeve seams
        seam = bend(
            np.array((side * body.shoulder * 0.78, body.shoulder_y + 0.35)),
            np.array((side * body.shoulder * 0.74, 3.6)),
            0.04,
        )
        pen.stroke(seam, line, [0.004, 0.028, 0.03])
    for _ in range(int(rng.integers(1, 6))):
        start = np.array((rng.uniform(-1.3, 1.3), rng.uniform(body.base_y + 0.1, 3.0)))
        end = start + (rng.uniform(-0.3, 0.3), rng.uniform(0.2, 0.7))
        fold = ribbon(bend(start, end, rng.uniform(-0.25, 0.25)), [0.005, rng.uniform(0.03, 0.14), 0.005])
        pen.tint(fold, inside, dark if rng.random() < 0.6 else line)


def _plain_collar(pen: Pen, look: Look, body: Body, rng: np.random.Generator) -> None:
    """Crew and v-necks get a seam or nothing."""
    if body.garment in ("crew", "v_neck") and rng.random() < 0.5:
        edge = _neckline(body, np.random.default_rng(1))
        pen.line(edge, look.clothes[1], 0.09, CLOTHES)


def _turtleneck(pen: Pen, look: Look, body: Body, rng: np.random.Generator) -> None:
    high, n = rng.uniform(1.22, 1.4), body.neck + 0.07
    colour = look.clothes[0] if rng.random() < 0.7 else look.clothes[1]
    shape = np.concatenate(
        [bend(np.array((-n, high)), np.array((n, high)), -0.15), points((n + 0.12, 1.85), (-n - 0.12, 1.85))]
    )
    pen.fill(shape, colour, CLOTHES, look.line(colour))
    pen.line(points((-n, high + 0.2), (0, high + 0.27), (n, high + 0.2)), look.feature_line(colour), 0.012)


def _shirt(pen: Pen, look: Look, body: Body, rng: np.random.Generator) -> None:
    """Two collar flaps; with `jacket` they lie inside the lapels."""
    colour = look.clothes[1]
    n, high, low = body.neck + 0.05, rng.uniform(1.28, 1.5), body.base_y + rng.uniform(0.25, 0.5)
    wide = rng.uniform(0.3, 0.6)
    for side in (-1.0, 1.0):
        flap = points(
            (n, high), (n + 0.14, high + 0.12), (wide + 0.12, low), (0.2, low + 0.05), (0.02, body.base_y + 0.12)
        )
        flap = np.concatenate([flap, points((n * 0.75, high + 0.2))])
        pen.fill(flap * (side, 1), colour, CLOTHES, look.line(colour))
        pen.tint(
            points((n, high), (wide, low), (wide + 0.15, low)) * (side, 1),
            pen.mask(flap * (side, 1)),
            shade(colour, 0.8),
        )


def _sailor(pen: Pen, look: Look, body: Body, rng: np.random.Generator) -> None:
    colour = look.clothes[2]
    deep = body.base_y + rng.uniform(0.5, 0.8)
    for side in (-1.0, 1.0):
        outer = points((0.02, deep), (body.neck + 0.1, body.base_y - 0.05), (body.shoulder * 0.75, body.base_y + 0.25))
        flap = np.concatenate([outer, points((body.shoulder * 0.8, body.base_y + 0.6), (0.1, deep + 0.35))]) * (side, 1)
        pen.fill(flap, colour, CLOTHES, look.line(colour))
        stripe = points(
            (body.shoulder * 0.72, body.base_y + 0.32), (body.shoulder * 0.7, body.base_y + 0.56), (0.12, deep + 0.22)
        )
        pen.line(stripe * (side, 1), look.clothes[1], 0.04)


def _jacket(pen: Pen, look: Look, body: Body, rng: np.random.Generator) -> None:
    first, second, _ = look.clothes
    deep = body.base_y + rng.uniform(0.9, 1.6)
    pen.fill(points((-0.55, body.base_y - 0.02), (0.55, body.base_y - 0.02), (0.0, deep + 0.3)), second, CLOTHES)
    _shirt(pen, look, body, rng)
    for side in (-1.0, 1.0):
        lapel = points(
            (0.45, body.base_y - 0.05), (0.85, body.base_y + 0.4), (0.6, body.base_y + 0.5), (0.7, body.base_y + 0.62)
        )
        lapel = np.concatenate([lapel, points((0.0, deep + 0.3), (0.3, body.base_y + 0.4))]) * (side, 1)
        pen.fill(lapel, first if rng.random() < 0.7 else shade(first, 0.8), CLOTHES, look.feature_line(first))


def _hoodie(pen: Pen, look: Look, body: Body, rng: np.random.Generator) -> None:
    first = look.clothes[0]
    for side in (-1.0, 1.0):
        path = points(
            (0.15, body.base_y + 0.5), (0.6, body.base_y + 0.25), (0.75, body.base_y - 0.15), (0.5, body.base_y - 0.5)
        )
        roll = ribbon(smooth(path * (side, 1), steps=5), [0.2, 0.42, 0.4, 0.2])
        pen.fill(roll, first, CLOTHES, look.feature_line(first))
        cord = points((side * 0.2, body.base_y + 0.5), (side * 0.25, body.base_y + rng.uniform(0.9, 1.4)))
        pen.line(cord, look.clothes[1], 0.05, CLOTHES)


def _kimono(pen: Pen, look: Look, body: Body, rng: np.random.Generator) -> None:
    for width, colour in ((0.34, look.clothes[1]), (0.2, look.clothes[0])):
        for side in (-1.0, 1.0):
            band = points(
                (side * (body.neck + 0.12), 1.35), (side * 0.45, body.base_y + 0.1), (-side * 0.3, body.base_y + 1.4)
            )
            pen.fill(ribbon(smooth(band, steps=5), [width * 0.6, width]), colour, CLOTHES, look.feature_line(colour))


def _scarf(pen: Pen, look: Look, body: Body, rng: np.random.Generator) -> None:
    colour = look.clothes[2]
    top = rng.uniform(1.1, 1.35)
    for k in range(3):
        wide, y = 0.75 + 0.12 * k, top + 0.2 + 0.22 * k
        wrap = smooth(ellipse(rng.uniform(-0.08, 0.08), y, wide, 0.24, 12), closed=True, steps=3)
        pen.fill(wrap, colour if k % 2 else shade(colour, 0.9), CLOTHES, look.feature_line(colour))


_COLLARS = {
    "turtleneck": _turtleneck,
    "shirt": _shirt,
    "sailor": _sailor,
    "jacket": _jacket,
    "hoodie": _hoodie,
    "kimono": _kimono,
    "scarf": _scarf,
}


def _paint_tie(pen: Pen, look: Look, body: Body, colour: Colour, rng: np.random.Generator) -> None:
    y = body.base_y + rng.uniform(0.15, 0.45)
    if rng.random() < 0.45:
        shape = points((-0.1, y), (0.1, y), (0.07, y + 0.2), (0.18, y + 2.0), (-0.18, y + 2.0), (-0.07, y + 0.2))
        pen.fill(shape, colour, CLOTHES, look.feature_line(colour))
    else:
        paint_bow(pen, look, (0.0, y), rng.uniform(0.25, 0.6), colour, tails=rng.random() < 0.6)
