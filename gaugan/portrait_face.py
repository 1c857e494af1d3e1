"""Faces of the procedural portraits: head shape, ears, eyes, brows, nose, mouth, blush, glasses. Head units."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gaugan.portrait_canvas import (
    EYE,
    FACE,
    HAIR,
    MOUTH,
    SKIN,
    Colour,
    Pen,
    Points,
    bend,
    ellipse,
    hsv,
    luminance,
    mirrored,
    mix,
    points,
    shade,
    smooth,
)
from gaugan.portrait_look import Look


@dataclass(frozen=True)
class Expression:
    """Where the features sit and how they are drawn; shared by both halves of the face."""

    eye_x: float
    eye_half_width: float
    eye_half_height: float
    eye_slant: float  # radians, outer corner up when positive
    left_eye: str  # open, closed_up, closed_down
    right_eye: str
    iris_width: float  # fraction of the eye's half width
    lash: float  # width of the upper lash line
    gaze: float
    brow_height: float
    brow_slant: float
    brow_width: float
    brow_colour: Colour
    mouth: str
    mouth_y: float
    chin_y: float
    jaw: float


def draw_expression(rng: np.random.Generator, look: Look) -> Expression:
    """A random expression."""
    mood = rng.choice(("calm", "happy", "angry", "sad"), p=(0.45, 0.25, 0.17, 0.13))
    slant = {"calm": 0.0, "happy": -0.05, "angry": -0.32, "sad": 0.28}[str(mood)]  # brows: inner end down when negative
    closed = rng.random()
    style = str(rng.choice(("closed_up", "closed_down")))
    mouths = {
        "calm": ("line", "smile", "pout", "small_open", "dot"),
        "happy": ("smile", "open", "smile", "wide_open", "cat"),
        "angry": ("frown", "line", "teeth", "small_open", "frown"),
        "sad": ("frown", "line", "small_open", "wavy", "dot"),
    }[str(mood)]
    brow = shade(look.hair, 0.7) if luminance(look.hair) > 50 else look.hair
    eye_half_height = float(np.clip(rng.normal(0.235, 0.065), 0.1, 0.38))
    return Expression(
        eye_x=float(rng.uniform(0.5, 0.6)),
        eye_half_width=float(rng.uniform(0.24, 0.34)),
        eye_half_height=eye_half_height,
        eye_slant=float(rng.normal(0.08, 0.1)),
        left_eye=style if closed < 0.07 or 0.1 < closed < 0.12 else "open",
        right_eye=style if closed < 0.1 else "open",
        iris_width=float(rng.uniform(0.5, 0.78)) if eye_half_height > 0.15 else float(rng.uniform(0.38, 0.55)),
        lash=float(rng.uniform(0.045, 0.1)),
        gaze=float(rng.normal(0, 0.1)),
        brow_height=float(rng.uniform(0.14, 0.3)),
        brow_slant=float(slant + rng.normal(0, 0.08)),
        brow_width=float(rng.uniform(0.025, 0.075) if rng.random() < 0.88 else rng.uniform(0.1, 0.16)),
        brow_colour=brow if rng.random() < 0.8 else shade(look.skin, 0.45),
        mouth=str(rng.choice(mouths)),
        mouth_y=float(rng.uniform(0.76, 0.92)),
        chin_y=float(rng.uniform(1.18, 1.4)),
        jaw=float(rng.uniform(0.75, 1.12)),
    )


def face_shape(look: Look, expression: Expression, far_cheek: float = 1.0) -> Points:
    """Outline of the face; the chin follows the turn of the head and the far cheek flattens."""
    chin, jaw = expression.chin_y, expression.jaw
    half = points((0.98, -0.7), (1.01, -0.1), (0.97, 0.3), (0.83 * jaw**0.4, chin * 0.55), (0.5 * jaw, chin * 0.82))
    half = np.concatenate([half, points((0.14 * jaw, chin * 0.985))])
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
    lids = rng.random() < 0.6
    lashes = int(rng.integers(0, 4))
    for side, state in ((-1.0, expression.left_eye), (1.0, expression.right_eye)):
        eye = _EyeFrame(pen, look, expression, side)
        if state == "open":
            _paint_open_eye(eye, lids, lashes, np.random.default_rng(rng.integers(2**32) if side < 0 else 7))
        else:
            _paint_closed_eye(eye, 1.0 if state == "closed_up" else -1.0)


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
    half, line = rng.uniform(0.07, 0.2), look.feature_line(look.skin)
    line = mix(line, (140, 40, 40), rng.uniform(0, 0.5))
    inside = hsv(rng.uniform(0.96, 1.03), rng.uniform(0.35, 0.7), rng.uniform(0.35, 0.85))
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
        pen.mark(ribbon_strip(path, max(width, 0.042)), MOUTH)
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


class _EyeFrame:
    """Maps eye units (u in [-1, 1] from inner to outer corner, y down in half heights) to the head."""

    def __init__(self, pen: Pen, look: Look, expression: Expression, side: float) -> None:
        self.pen, self.look, self.expression, self.side = pen, look, expression, side

    def head(self, shape: Points) -> Points:
        e = self.expression
        x, y = shape[:, 0] * e.eye_half_width, shape[:, 1] * e.eye_half_height
        y = y - np.sin(e.eye_slant) * x
        return self.look.turned(np.stack([self.side * (e.eye_x + x), y], 1))


def _upper_lid(u: Points) -> Points:
    return -np.sqrt(np.maximum(0.0, 1 - np.abs(u) ** 2.6)) + 0.12 * u


def _lower_lid(u: Points) -> Points:
    return 0.92 * np.maximum(0.0, 1 - np.abs(u) ** 3.0) ** 0.8 + 0.12 * u


def _paint_open_eye(eye: _EyeFrame, lids: bool, lashes: int, rng: np.random.Generator) -> None:
    """White, iris with gradient and lights, lash line, lower line, lid crease."""
    pen, look, e = eye.pen, eye.look, eye.expression
    u = np.linspace(-1, 1, 17)
    upper, lower = np.stack([u, _upper_lid(u)], 1), np.stack([u, _lower_lid(u)], 1)
    white = mix((255, 255, 255), look.skin, 0.12)
    opening = np.concatenate([upper, lower[::-1]])
    pen.fill(eye.head(opening), white, EYE)
    pen.fill(eye.head(np.concatenate([upper, (upper + (0, 0.28))[::-1]])), shade(white, 0.78), EYE)

    def clipped(shape: Points) -> Points:
        x = np.clip(shape[:, 0], -1, 1)
        return eye.head(np.stack([x, np.clip(shape[:, 1], _upper_lid(x), _lower_lid(x))], 1))

    centre = -0.08 + e.gaze * eye.side
    width, tall = e.iris_width, 1.02 if e.eye_half_height > 0.17 else 1.3
    dark = shade(look.iris, 0.35)
    pen.fill(clipped(ellipse(centre, -0.05, width, tall)), dark, EYE)
    pen.fill(clipped(ellipse(centre, 0.05, width * 0.86, tall * 0.86)), shade(look.iris, 0.75), EYE)
    pen.fill(clipped(ellipse(centre, 0.3, width * 0.8, tall * 0.56)), look.iris, EYE)
    pen.fill(clipped(ellipse(centre, 0.52, width * 0.6, tall * 0.32)), mix(look.iris, (255, 255, 255), 0.35), EYE)
    pen.fill(clipped(ellipse(centre, -0.02, width * 0.4, tall * 0.45)), shade(dark, 0.6), EYE)
    lash_colour = mix(shade(look.hair, 0.25), (20, 14, 20), 0.6)
    lash = e.lash / e.eye_half_height
    path = np.concatenate([upper - (0, lash * 0.3), points((1.12, 0.22))])
    pen.fill(eye.head(_lash(path, lash)), lash_colour, EYE)
    for k in range(lashes):
        at = 0.98 - 0.2 * k
        root = points((at, float(_upper_lid(np.array([min(at, 0.95)]))[0])))[0]
        pen.stroke(eye.head(np.stack([root, root + (0.3, -0.32 + 0.05 * k)])), lash_colour, [0.04, 0.006], EYE)
    under = lower[8:] if lashes else lower[4:14]
    pen.stroke(eye.head(under), mix(lash_colour, look.skin, 0.3), [0.01, 0.024, 0.012], EYE)
    light = (255, 255, 255)
    size = rng.uniform(0.16, 0.3)
    pen.fill(clipped(ellipse(centre - 0.26 * eye.side * look.light, -0.38, size, size * 1.1)), light, EYE)
    if rng.random() < 0.7:
        pen.fill(clipped(ellipse(centre + 0.24 * eye.side * look.light, 0.42, size * 0.5, size * 0.5)), light, EYE)
    if lids:
        crease = np.stack([u[2:14], _upper_lid(u[2:14]) - lash - 0.22], 1)
        pen.stroke(eye.head(crease), shade(look.skin, 0.55), [0.006, 0.018, 0.006])


def _lash(path: Points, thickness: float) -> Points:
    """The upper lash line: thin at the inner corner, thick towards the outer one."""
    grow = np.interp(np.linspace(0, 1, len(path)), (0, 0.25, 0.8, 1), (0.25, 0.9, 1.1, 0.1))[:, None] * thickness
    return np.concatenate([path + grow * (0, -0.5), (path + grow * (0, 0.6))[::-1]])


def _paint_closed_eye(eye: _EyeFrame, direction: float) -> None:
    """A closed eye is an arc, up (laughing) or down (asleep), labelled as eye."""
    u = np.linspace(-1, 1, 13)
    arc = np.stack([u, direction * (-0.55 + 0.65 * (u**2)) + 0.2], 1)
    colour = mix(shade(eye.look.hair, 0.25), (20, 14, 20), 0.6)
    width = max(eye.expression.lash, 0.06)
    eye.pen.stroke(eye.head(arc), colour, [width * 0.4, width, width * 0.5], EYE)
    if direction < 0:
        for at in (0.7, 0.95):
            root = np.array((at, direction * (-0.55 + 0.65 * at**2) + 0.2))
            eye.pen.stroke(eye.head(np.stack([root, root + (0.18, 0.25)])), colour, [0.03, 0.008], EYE)


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
