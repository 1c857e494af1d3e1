"""Faces of the procedural portraits: head shape, ears, brows, nose, mouth, blush, glasses. Head units."""

from __future__ import annotations

import numpy as np

from gaugan.portraits.canvas import (
    FACE,
    HAIR,
    MOUTH,
    SKIN,
    Pen,
    Points,
    bend,
    ellipse,
    hsv,
    mirrored,
    mix,
    points,
    smooth,
)
from gaugan.portraits.expression import Expression
from gaugan.portraits.eyes import paint_eyes
from gaugan.portraits.look import Look


def face_shape(look: Look, expression: Expression, far_cheek: float = 1.0) -> Points:
    """Outline of the face; the chin follows the turn of the head and the far cheek flattens."""
    chin, jaw = expression.chin_y, expression.jaw
    half = points((0.98, -0.7), (1.01, -0.1), (0.97, 0.3), (0.83 * jaw**0.4, chin * 0.55), (0.48 * jaw, chin * 0.83))
    half = np.concatenate([half, points((0.16 * jaw, chin * 0.98))])
    left = mirrored(half)
    top = points((-0.6, -1.2), (0.0, -1.35), (0.6, -1.2))
    outline = np.concatenate([top, half, points((0.0, chin)), left[::-1]])
    low = np.clip((outline[:, 1] + 0.5) / 1.8, 0, 1) ** 1.3
    outline[:, 0] += look.yaw * 0.62 * low
    far = np.sign(outline[:, 0]) == np.sign(look.yaw)
    outline[far, 0] -= far_cheek * 0.2 * look.yaw * np.exp(-(((outline[far, 1] - 0.15) / 0.35) ** 2))
    outline[:, 1] += look.pitch * np.clip(low, 0, 1)
    return smooth(outline, closed=True, steps=6)


def paint_ears(pen: Pen, look: Look, rng: np.random.Generator) -> None:
    """Human ears beside the face, drawn before it."""
    size, low = rng.uniform(0.75, 1.0), rng.uniform(0.05, 0.2)
    pointed = 0.45 if rng.random() < 0.03 else 0.0
    line = look.line(look.skin)
    for side in (-1.0, 1.0):
        visible = 1 + 0.5 * np.clip(-side * look.yaw, -0.5, 0.3)
        x = 0.95 - 0.25 * side * look.yaw
        ear = points((x - 0.1, low - 0.2), (x + 0.14, low - 0.3 - pointed), (x + 0.17, low), (x + 0.1, low + 0.25))
        ear = np.concatenate([ear, points((x - 0.08, low + 0.33))]) * (1, size)
        outline = smooth(ear, closed=True, steps=5) * (side * visible**0.3, 1)
        pen.fill(outline, look.skin, SKIN, line)
        inner = bend(points((x + 0.12, low - 0.18))[0], points((x + 0.04, low + 0.16))[0], 0.25 * side)
        pen.stroke(inner * (side, size), look.skin_shadow, [0.02, 0.06, 0.02])


def paint_face(pen: Pen, look: Look, expression: Expression, rng: np.random.Generator) -> None:
    """Face, cheeks and their shading; eyes, brows and mouth follow in their own functions."""
    outline = face_shape(look, expression)
    pen.fill(outline, look.skin, FACE, look.line(look.skin))
    inside = pen.mask(outline)
    if rng.random() < 0.35:  # cel shadow along the side away from the light
        edge = points((0.55, -1.4), (rng.uniform(0.35, 0.8), -0.2), (0.75, 0.35), (0.2, 1.45), (1.4, 1.4), (1.4, -1.4))
        pen.tint(smooth(edge, closed=True, steps=4) * (-look.light, 1), inside, look.skin_shadow, rng.uniform(0.5, 1))
    if rng.random() < 0.5:
        paint_blush(pen, look, expression, rng)


def paint_blush(pen: Pen, look: Look, expression: Expression, rng: np.random.Generator) -> None:
    """Red cheeks: soft discs, or three slanted lines."""
    colour = mix(look.skin, (250, 90, 90), rng.uniform(0.15, 0.5))
    hatched, strength = rng.random() < 0.3, rng.uniform(0.3, 0.8)
    face = pen.canvas.region(FACE)
    for side in (-1.0, 1.0):
        x, y = side * rng.uniform(0.55, 0.66), expression.eye_half_height + rng.uniform(0.1, 0.2)
        for part in np.linspace(1.0, 0.45, 4):
            disc = look.turned(ellipse(x, y, 0.26 * part, 0.13 * part, 18))
            pen.tint(disc, face, colour, strength * 0.45)
        for k in range(3 if hatched else 0):
            start = look.turned(points((x - 0.12 + 0.1 * k, y + 0.06), (x - 0.06 + 0.1 * k, y - 0.05)))
            pen.line(start, mix(colour, (200, 60, 60), 0.5), 0.018)


def paint_features(pen: Pen, look: Look, expression: Expression, rng: np.random.Generator) -> None:
    """Nose, mouth, brows, eyes, in that order."""
    paint_nose(pen, look, expression, rng)
    paint_mouth(pen, look, expression, rng)
    paint_brows(pen, look, expression, FACE)
    paint_eyes(pen, look, expression, rng)


def paint_nose(pen: Pen, look: Look, expression: Expression, rng: np.random.Generator) -> None:
    """A dot, a short line, a hook or a small shadow."""
    kind, y = rng.integers(5), 0.45 * expression.mouth_y + rng.uniform(0.05, 0.15)
    colour = look.feature_line(look.skin)
    side = look.light if abs(look.yaw) < 0.1 else float(np.sign(look.yaw))
    if kind == 0:
        pen.fill(look.turned(ellipse(0.0, y, 0.018, 0.015, 8)), colour)
    elif kind == 1:
        pen.stroke(look.turned(points((0.0, y - 0.1), (0.03 * side, y))), colour, [0.008, 0.022])
    elif kind == 2:
        pen.stroke(
            look.turned(points((0.0, y - 0.12), (0.05 * side, y), (-0.02 * side, y + 0.02))), colour, [0.01, 0.02]
        )
    elif kind == 3:
        shape = points((0.0, y - 0.13), (0.06 * side, y), (-0.03 * side, y + 0.02))
        pen.fill(look.turned(shape), look.skin_shadow)
    else:
        pen.stroke(look.turned(points((0.0, -0.05), (0.05 * side, y - 0.1), (0.07 * side, y))), colour, [0.005, 0.02])
        pen.stroke(look.turned(points((-0.05, y + 0.05), (0.05, y + 0.05))), colour, [0.004, 0.02, 0.004])


def paint_mouth(pen: Pen, look: Look, expression: Expression, rng: np.random.Generator) -> None:
    """One of nine mouths; a closed mouth is labelled as a strip a little thicker than its line."""
    y, kind = expression.mouth_y, expression.mouth
    half, line = rng.uniform(0.09, 0.22), look.feature_line(look.skin)
    line = mix(mix(line, (150, 50, 45), rng.uniform(0, 0.5)), look.skin, rng.uniform(0, 0.4))
    inside = hsv(rng.uniform(0.96, 1.03), rng.uniform(0.35, 0.7), rng.uniform(0.45, 0.9))
    if kind in ("line", "smile", "frown", "pout", "wavy", "cat", "dot"):
        rise = {"smile": -0.35, "frown": 0.35, "pout": 0.5}.get(kind, 0.0)
        half = {"pout": 0.06, "dot": 0.035}.get(kind, half)
        path = bend(np.array((-half, y)), np.array((half, y)), rise * rng.uniform(0.5, 1.3))
        if kind in ("wavy", "cat"):
            wave = np.linspace(0, 3 * np.pi if kind == "wavy" else 2 * np.pi, len(path))
            path[:, 1] += 0.03 * (np.sin(wave) if kind == "wavy" else np.abs(np.sin(wave)))
        path = look.turned(path)
        width = rng.uniform(0.018, 0.035)
        pen.stroke(path, line, [width * 0.6, width, width * 0.6], MOUTH)
        pen.mark(ribbon_strip(path, max(width, 0.05)), MOUTH)
        if rng.random() < 0.35:  # the lower lip's shadow is face
            lip = look.turned(points((-0.05, y + 0.13), (0.05, y + 0.13)))
            pen.stroke(lip, look.skin_shadow, [0.01, 0.03, 0.01])
        return
    height = {"small_open": 0.5, "open": 0.75, "wide_open": 1.1, "teeth": 0.5}[kind] * rng.uniform(0.7, 1.2)
    half = {"small_open": 0.08, "open": 0.17, "wide_open": 0.26, "teeth": 0.27}[kind] * rng.uniform(0.7, 1.1)
    top = bend(np.array((-half, y)), np.array((half, y)), rng.uniform(-0.15, 0.12) if kind != "teeth" else 0.15)
    bottom = bend(np.array((half, y)), np.array((-half, y)), height if kind != "teeth" else 0.35)
    if kind == "teeth":
        bottom[:, 1] = np.maximum(bottom[:, 1], y + 0.16 * np.sin(np.linspace(0, np.pi, len(bottom))) ** 0.3)
    shape = look.turned(np.concatenate([top, bottom[1:-1]]))
    pen.fill(shape, inside if kind != "teeth" else (245, 240, 240), MOUTH)
    hole = pen.mask(shape)
    deep = y + half * height
    if kind != "small_open" and rng.random() < 0.7:
        pen.tint(look.turned(ellipse(0, deep + 0.02, half * 0.7, half * 0.4)), hole, mix(inside, (250, 140, 140), 0.6))
    if kind in ("open", "wide_open") and rng.random() < 0.6:
        pen.tint(look.turned(ellipse(0, y, half * 0.9, half * 0.22)), hole, (250, 246, 244))
    if kind == "teeth":
        pen.line(look.turned(points((-half, y + 0.06), (half, y + 0.06))), (170, 150, 150), 0.014)
    pen.line(np.concatenate([shape, shape[:1]]), line, max(0.014, 0.7 * pen.line_width), MOUTH)


def ribbon_strip(path: Points, width: float) -> Points:
    """A strip of constant height around a nearly horizontal path."""
    return np.concatenate([path + (0.0, -width / 2), (path + (0.0, width / 2))[::-1]])


def paint_brows(pen: Pen, look: Look, expression: Expression, class_id: int) -> None:
    """Tapered brow strokes; drawn over hair they take the class hair."""
    for side in (-1.0, 1.0):
        y = -expression.eye_half_height - expression.brow_height
        inner = np.array((0.26, y - 0.3 * expression.brow_slant))
        outer = np.array((0.84, y + 0.3 * expression.brow_slant + 0.03))
        path = look.turned(bend(inner, outer, 0.13) * (side, 1))
        width = expression.brow_width
        pen.stroke(path, expression.brow_colour, [width * 0.8, width, 0.01], class_id)


def paint_brows_over_hair(pen: Pen, look: Look, expression: Expression) -> None:
    """Brows showing through the bangs, as many series draw them: faint, and hair in the label map."""
    before = pen.canvas.picture.copy()
    labels = pen.canvas.labels.copy()
    hair = pen.canvas.region(HAIR)
    paint_brows(pen, look, expression, HAIR)
    pen.canvas.picture.paste(before, (0, 0), hair.point([255 if i == 0 else 150 for i in range(256)]))
    pen.canvas.labels.paste(labels)


def paint_glasses(pen: Pen, look: Look, expression: Expression, rng: np.random.Generator) -> None:
    """Spectacles: the frame is face where it crosses face or skin; what shows through keeps its class."""
    colour = mix((20, 20, 25), look.clothes[2], rng.uniform(0, 0.7))
    width, rim = rng.uniform(0.025, 0.05), rng.integers(3)
    half, tall = expression.eye_half_width + 0.1, max(expression.eye_half_height + 0.06, 0.22)
    for side in (-1.0, 1.0):
        lens = ellipse(side * expression.eye_x, 0.04, half, tall)
        if rim == 1:  # rectangular
            lens = smooth(
                points((-half, -tall * 0.8), (half, -tall * 0.9), (half * 0.9, tall), (-half * 0.9, tall)), True
            )
            lens = lens * (side, 1) + (side * expression.eye_x, 0.04)
        lens = look.turned(lens)
        closed = np.concatenate([lens, lens[:1]]) if rim != 2 else lens[: len(lens) // 2 + 1]
        pen.line(closed, colour, width, FACE)
        arm = look.turned(points((side * (expression.eye_x + half), 0.0), (side * 1.02, -0.06)))
        pen.line(arm, colour, width, FACE)
    bridge = look.turned(points((-expression.eye_x + half, 0.0), (0, -0.05), (expression.eye_x - half, 0.0)))
    pen.line(bridge, colour, width, FACE)
