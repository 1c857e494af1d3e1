"""Hair of the procedural portraits: back hair, tails, braids, bangs with strands, shading, lights, animal ears.

Hair comes in two layers. `paint_back` lies behind neck and face; `paint_front` (cap, bangs, side locks) lies over the
face and, when long, over the clothes. Head units.
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageChops

from gaugan.portraits.canvas import FACE, HAIR, SKIN, Pen, Points, bend, ellipse, mix, points, ribbon, shade, smooth
from gaugan.portraits.hairstyle import Hairstyle, lock
from gaugan.portraits.look import Look


def paint_back(pen: Pen, look: Look, style: Hairstyle, rng: np.random.Generator) -> None:
    """Everything behind the neck."""
    line = look.line(look.hair)
    colour = mix(look.hair, look.hair_shadow, rng.uniform(0.4, 1.0))
    shift = -0.35 * look.yaw
    bottom = {"short": 0.75, "spiky": 0.6, "bob": 1.2, "medium": 1.75, "long": 3.2, "wavy": 3.0}.get(style.back, 0.6)
    bottom *= rng.uniform(0.85, 1.15)
    if style.back in ("twin_tails", "drills"):
        _paint_tails(pen, look, style, rng)
    if style.back == "ponytail":
        side = -1.0 if look.yaw > 0 else 1.0
        root = np.array((side * rng.uniform(0.4, 1.2), -rng.uniform(0.6, 1.4)))
        tip = np.array((side * rng.uniform(1.0, 2.1), rng.uniform(0.8, 3)))
        _paint_tail(pen, look, root, tip, side, rng)
    if style.back == "buns":
        for side in (-1.0, 1.0) if rng.random() < 0.7 else (rng.choice((-1.0, 1.0)),):
            bun = ellipse(side * rng.uniform(0.8, 1.2), style.top + rng.uniform(0.0, 0.4), 0.42, 0.4)
            pen.fill(bun, look.hair, HAIR, line)
            pen.line(bun[4:14] * (0.97, 1.02), look.feature_line(look.hair), 0.015)
    width = style.radius_x * rng.uniform(0.86, 1.04) if bottom < 1.5 else style.radius_x * rng.uniform(1.0, 1.45)
    if style.back in ("short", "spiky", "twin_tails", "ponytail", "buns", "braids", "drills"):
        width = min(width, 1.02)
    outline = _mane(rng, width, bottom, shift, style)
    pen.fill(outline, colour, HAIR, line)
    inside = pen.mask(outline)
    for _ in range(int(rng.integers(2, 8))):
        x = rng.uniform(-width, width)
        streak = lock(
            np.array((x * 0.8, 0.0)), np.array((x * 1.1, bottom * rng.uniform(0.6, 1.1))), 0.03, 0.15, style.curl
        )
        pen.tint(
            streak + (shift, 0), inside, look.hair_shadow if rng.random() < 0.6 else look.hair, rng.uniform(0.4, 1)
        )


def _mane(rng: np.random.Generator, width: float, bottom: float, shift: float, style: Hairstyle) -> Points:
    """Outline of the hair behind the head with a ragged lower edge."""
    flare = rng.uniform(-0.15, 0.35) if bottom > 1.0 else 0.0
    slim = min(style.radius_x, width) * 0.97
    side = points((slim * 0.9, -0.9), (slim, -0.3), ((slim + width) / 2, 0.25), (width + flare * 0.4, bottom * 0.6))
    side = np.concatenate([side, points((width + flare, bottom))])
    count = int(rng.integers(4, 9))
    x = np.linspace(width + flare, -width - flare, 2 * count + 1)
    y = bottom + np.where(np.arange(2 * count + 1) % 2, -1, 1) * rng.uniform(0.03, 0.25, 2 * count + 1)
    x[1:-1] += rng.normal(0, 0.25 * width / count, 2 * count - 1)
    right, left = smooth(side, steps=6), smooth(mirrored_noise(rng, side), steps=6)
    if style.curl > 0.06:
        for edge in (right, left):
            edge[:, 0] += style.curl * np.sin(edge[:, 1] * rng.uniform(3.5, 6)) * np.clip(edge[:, 1] + 0.3, 0, 1)
    top = points((0.0, style.top + 0.2))
    return np.concatenate([top, right, np.stack([x, y], 1), left[::-1]]) + (shift, 0)


def mirrored_noise(rng: np.random.Generator, shape: Points) -> Points:
    """The shape on the other side of x = 0, not quite the same."""
    return shape * (-1.0, 1.0) + rng.normal(0, 0.04, shape.shape)


def _paint_tails(pen: Pen, look: Look, style: Hairstyle, rng: np.random.Generator) -> None:
    """Twin tails, smooth or as drills."""
    height, spread, low = rng.uniform(-1.2, 0.4), rng.uniform(1.3, 2.1), rng.uniform(1.2, 3.4)
    for side in (-1.0, 1.0):
        root = np.array((side * style.radius_x * np.sqrt(max(0.1, 1 - min(0, height + 0.25) ** 2 * 0.45)), height))
        tip = np.array((side * spread, max(low, height + 1.2)))
        if style.back == "drills":
            _paint_drill(pen, look, root, tip, side)
        else:
            _paint_tail(pen, look, root, tip, side, rng)


def _paint_drill(pen: Pen, look: Look, root: Points, tip: Points, side: float) -> None:
    """A corkscrew curl: overlapping slanted coils that grow narrower."""
    slant = np.array(((1.0, -0.3 * side), (0.3 * side, 1.0)))
    coils = max(4, round(float(np.hypot(*(tip - root))) / 0.26))
    for k in range(coils):
        t = k / coils
        coil = ellipse(0, 0, 0.45 * (1 - 0.6 * t), 0.24 - 0.06 * t) @ slant + root + (tip - root) * t * 0.85
        pen.fill(coil, look.hair, HAIR, look.line(look.hair))
        pen.tint(coil + (0.1, 0.13), pen.mask(coil), look.hair_shadow)


def _paint_tail(pen: Pen, look: Look, root: Points, tip: Points, side: float, rng: np.random.Generator) -> None:
    """A bundle of strands bound at the root."""
    line, bow, wave = look.line(look.hair), side * rng.uniform(0.05, 0.4), rng.uniform(0, 0.08)
    for _ in range(int(rng.integers(3, 6))):
        end = tip + rng.normal(0, (0.16, 0.2))
        pen.fill(lock(root, end, bow + rng.normal(0, 0.05), rng.uniform(0.3, 0.55), wave), look.hair, HAIR, line)
    shadow = lock(root, tip, bow * 0.7, 0.18, wave)
    pen.tint(shadow, pen.mask(lock(root, tip, bow, 0.4, wave)), look.hair_shadow)


def cast_shadow(pen: Pen, look: Look, style: Hairstyle, rng: np.random.Generator) -> None:
    """The bangs' shadow on face and ears, drawn before eyes and hair."""
    drop = np.array((0.05 * look.light, rng.uniform(0.03, 0.16)))
    pen.tint(style.front + drop, pen.canvas.region(FACE, SKIN), look.skin_shadow, rng.uniform(0.4, 1.0))


def paint_front(pen: Pen, look: Look, style: Hairstyle, rng: np.random.Generator) -> None:
    """Cap, bangs and side hair with shading, lights and strand lines."""
    line = look.line(look.hair)
    pen.fill(style.front, look.hair, HAIR, line)
    inside = pen.mask(style.front)
    _shade_front(pen, look, style, inside, rng)
    if rng.random() < 0.85:
        _paint_lights(pen, look, style, inside, rng)
    colour = look.feature_line(look.hair)
    width = max(0.012, look.line_width * rng.uniform(0.6, 1.0))
    for valley, _ in style.valleys[1:]:  # lines run from the valleys towards the crown
        end = valley + (style.crown - valley) * rng.uniform(0.12, 0.6)
        pen.stroke(bend(valley, end, rng.uniform(-0.1, 0.1)), colour, [width, width * 0.8, 0.003])
    for _ in range(int(rng.integers(3, 14))):  # strand lines of the sides, nearly upright
        side = rng.choice((-1.0, 1.0))
        x, y = side * rng.uniform(0.85, style.radius_x), rng.uniform(-0.9, 0.2)
        strand = bend(np.array((x * 0.93, y)), np.array((x * 1.03, y + rng.uniform(0.4, 1.6))), -0.08 * side)
        faint = colour if rng.random() < 0.6 else look.hair_shadow
        pen.tint(ribbon(strand, [0.003, width, 0.003]), inside, faint)
    for _ in range(int(rng.integers(0, 7))):  # and of the crown, fanning out
        foot = np.array((rng.uniform(-1.1, 1.1), -0.7))
        start = style.crown + (foot - style.crown) * rng.uniform(0.05, 0.4)
        strand = bend(start, start + (foot - style.crown) * rng.uniform(0.3, 0.6), 0.12 * np.sign(foot[0]))
        pen.tint(ribbon(strand, [0.003, width, 0.003]), inside, look.hair_shadow if rng.random() < 0.7 else colour)
    if not style.ears_shown and rng.random() < 0.6:
        _paint_side_locks(pen, look, style, rng)
    if rng.random() < 0.3:
        _paint_ahoge(pen, look, style, rng)
    for _ in range(int(rng.integers(0, 4))):  # loose strands off the silhouette
        side = rng.choice((-1.0, 1.0))
        root = np.array((side * style.radius_x * 0.84, rng.uniform(-0.8, -0.2)))
        tip = root + (side * rng.uniform(0.05, 0.3), rng.uniform(0.3, 0.8))
        pen.fill(lock(root, tip, side * 0.15, 0.07), look.hair, HAIR, line)


def _paint_side_locks(pen: Pen, look: Look, style: Hairstyle, rng: np.random.Generator) -> None:
    """One or two outlined locks over each side, in front of the cheeks."""
    for side in (-1.0, 1.0):
        for _ in range(int(rng.integers(1, 3))):
            root = np.array((side * rng.uniform(0.86, 1.0), rng.uniform(-0.75, -0.4)))
            tip = np.array((side * rng.uniform(0.7, 1.1), style.side_low * rng.uniform(0.6, 1.15)))
            strand = lock(root, tip, -side * rng.uniform(0.04, 0.16), rng.uniform(0.14, 0.32), style.curl * 0.5)
            pen.fill(strand, look.hair, HAIR)
            pen.tint(strand + (0.12 * look.light, 0.1), pen.mask(strand), look.hair_shadow, rng.choice((0.0, 1.0)))
            line = look.line(look.hair)
            if line:  # open at the root, so that the lock grows out of the cap
                pen.line(np.roll(strand, -4, axis=0)[: len(strand) - 5], line, pen.line_width, HAIR)


def _shade_front(pen: Pen, look: Look, style: Hairstyle, inside: Image.Image, rng: np.random.Generator) -> None:
    dark = look.hair_shadow
    if rng.random() < 0.7:  # a crescent on the side away from the light
        move = (round(look.light * pen.thickness(rng.uniform(0.05, 0.18))), -pen.thickness(rng.uniform(0.02, 0.15)))
        lit = ImageChops.offset(inside, *move)
        pen.canvas.tint(ImageChops.subtract(inside, lit), dark)
    for valley, tip in style.valleys:  # wedges between the tufts
        if rng.random() < 0.75:
            apex = valley + (style.crown - valley) * rng.uniform(0.15, 0.5)
            foot = valley + (tip - valley) * rng.uniform(0.3, 1.0)
            wedge = np.concatenate([bend(valley, apex, 0.06), bend(apex, foot, rng.uniform(-0.1, 0.2))])
            pen.tint(wedge, inside, dark, 1.0)
    for _ in range(int(rng.integers(0, 4))):
        x = rng.choice((-1.0, 1.0)) * rng.uniform(0.75, 1.15)
        streak = bend(np.array((x * 0.8, -1.0)), np.array((x, rng.uniform(0.2, 1.8))), 0.1 * np.sign(-x), 10)
        pen.tint(ribbon(streak, [0.0, rng.uniform(0.05, 0.2), 0.0]), inside, dark)


def _paint_lights(pen: Pen, look: Look, style: Hairstyle, inside: Image.Image, rng: np.random.Generator) -> None:
    """The ring of light: a zigzag band, separate lens shapes, or a soft patch."""
    kind, alpha = rng.integers(4), rng.uniform(0.45, 1.0)
    y, half = style.top * rng.uniform(0.5, 0.75), style.radius_x * rng.uniform(0.5, 0.85)
    x = np.linspace(-half, half, 19) - 0.2 * look.yaw
    curve = y + 0.35 * (x / style.radius_x) ** 2
    if kind == 0:
        jag = np.where(np.arange(19) % 2, -1.0, 1.0) * rng.uniform(0.03, 0.14, 19)
        taper = 0.13 * np.sqrt(np.maximum(0, 1 - np.linspace(-1, 1, 19) ** 2))
        band = np.concatenate(
            [np.stack([x, curve - taper + jag * 0.5], 1), np.stack([x, curve + taper + jag], 1)[::-1]]
        )
        pen.tint(band, inside, look.hair_light, alpha)
    elif kind == 3:
        for part in np.linspace(1.0, 0.2, 9):
            pen.tint(ellipse(0.4 * look.light, y, 0.6 * part, 0.35 * part), inside, look.hair_light, 0.12 * alpha)
    else:
        for k in range(1, 18, int(rng.integers(1, 4))):
            tall = rng.uniform(0.06, 0.24)
            root = np.array((x[k], curve[k] - tall))
            away = (root - style.crown) * 0.25
            pen.tint(
                lock(root, root + away + (0, tall * 1.4), 0.0, rng.uniform(0.03, 0.1)), inside, look.hair_light, alpha
            )


def _paint_ahoge(pen: Pen, look: Look, style: Hairstyle, rng: np.random.Generator) -> None:
    root = np.array((-0.3 * look.yaw + rng.uniform(-0.2, 0.2), style.top + 0.06))
    tip = root + (rng.choice((-1.0, 1.0)) * rng.uniform(0.2, 0.6), -rng.uniform(0.1, 0.45))
    pen.fill(lock(root, tip, rng.uniform(-0.6, 0.6), rng.uniform(0.08, 0.2)), look.hair, HAIR, look.line(look.hair))


def paint_falling_hair(pen: Pen, look: Look, style: Hairstyle, rng: np.random.Generator) -> None:
    """Long hair or braids lying over the shoulders, drawn after the clothes."""
    line = look.line(look.hair)
    if style.back == "braids":
        for side in (-1.0, 1.0):
            path = bend(np.array((side * 1.0, 0.7)), np.array((side * rng.uniform(0.7, 1.1), 2.9)), 0.1 * side, 11)
            for k, (x, y) in enumerate(path.tolist()):
                link = ellipse(x + 0.05 * (-1) ** k, y, 0.2 - 0.006 * k, 0.16, 14)
                pen.fill(link, look.hair if k % 2 else mix(look.hair, look.hair_shadow, 0.5), HAIR, line)
        return
    if style.back not in ("long", "wavy", "medium") or rng.random() < 0.25:
        return
    for side in (-1.0, 1.0):
        for _ in range(int(rng.integers(1, 4))):
            root = np.array((side * rng.uniform(0.85, 1.15), rng.uniform(-0.1, 0.5)))
            low = rng.uniform(1.6, 3.4) if style.back != "medium" else rng.uniform(1.2, 1.9)
            tip = np.array((side * rng.uniform(0.6, 1.5), low))
            strand = lock(
                root, tip, -side * rng.uniform(-0.05, 0.15), rng.uniform(0.15, 0.45), style.curl, rng.uniform(0, 6)
            )
            pen.fill(strand, look.hair, HAIR, line)
            pen.tint(strand + (0.1 * look.light, 0), pen.mask(strand), look.hair_shadow, rng.uniform(0, 1))


def paint_animal_ears(pen: Pen, look: Look, style: Hairstyle, rng: np.random.Generator) -> None:
    """Cat or rabbit ears; hair in the label map."""
    long, inner = rng.random() < 0.25, mix(look.skin, (240, 150, 160), rng.uniform(0, 0.6))
    tall, wide, at = (
        (rng.uniform(1.0, 1.4), 0.2, 0.45) if long else (rng.uniform(0.5, 0.8), 0.36, rng.uniform(0.6, 0.85))
    )
    for side in (-1.0, 1.0):
        foot = style.top + 0.35
        tip = (at + rng.uniform(0.0, 0.3), foot - tall)
        ear = points(
            (at - wide, foot - 0.1), (at - wide * 0.8, foot - tall * 0.6), tip, (at + wide, foot - tall * 0.45)
        )
        ear = np.concatenate([ear, points((at + wide, foot + 0.25))]) * (side, 1) - (0.3 * look.yaw, 0)
        pen.fill(smooth(ear, closed=True, steps=4), look.hair, HAIR, look.line(look.hair))
        centre = ear.mean(0)
        pen.fill(smooth(centre + (ear - centre) * 0.62, closed=True, steps=4), inner, HAIR)
        tuft = lock(centre + (0, 0.3), centre + (side * 0.1, -0.2), 0.1, 0.15)
        pen.fill(tuft, shade(look.hair, 0.95), HAIR)
