"""Eyes of the procedural portraits: open ones with iris, lights and lashes, closed arcs. An eye has its own units."""

from __future__ import annotations

import numpy as np

from gaugan.portraits.canvas import EYE, Pen, Points, ellipse, mix, points, shade
from gaugan.portraits.expression import Expression
from gaugan.portraits.look import Look


def paint_eyes(pen: Pen, look: Look, expression: Expression, rng: np.random.Generator) -> None:
    """Both eyes; the two share lid creases, lashes and lights."""
    lids, lashes, lights = rng.random() < 0.6, int(rng.integers(0, 4)), int(rng.integers(2**32))
    for side, state in ((-1.0, expression.left_eye), (1.0, expression.right_eye)):
        eye = _EyeFrame(pen, look, expression, side)
        if state == "open":
            _paint_open_eye(eye, lids, lashes, np.random.default_rng(lights))
        else:
            _paint_closed_eye(eye, 1.0 if state == "closed_up" else -1.0)


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
