"""What one procedural portrait looks like: its colours, pose and line style, drawn from a seeded generator.

Colours of hair, skin, clothes and background are chosen so that they overlap between classes: pale or skin-coloured
hair, clothes in the hair's colour, backgrounds in either; a segmenter has to learn shapes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gaugan.portraits.canvas import Colour, Points, hsv, luminance, mix, shade

# hue, saturation, value: (low, high) each, then how often. Roughly the mix of television anime.
_HAIR_TONES = (
    ((0.60, 0.80), (0.05, 0.35), (0.08, 0.25), 0.17),  # black
    ((0.02, 0.08), (0.30, 0.60), (0.22, 0.50), 0.20),  # brown
    ((0.05, 0.10), (0.25, 0.50), (0.55, 0.80), 0.11),  # light brown
    ((0.09, 0.14), (0.20, 0.60), (0.80, 1.00), 0.13),  # blond, close to skin at its palest
    ((0.97, 1.03), (0.55, 0.85), (0.40, 0.85), 0.08),  # red
    ((0.03, 0.07), (0.55, 0.80), (0.70, 0.95), 0.05),  # orange
    ((0.90, 0.99), (0.20, 0.50), (0.80, 1.00), 0.08),  # pink
    ((0.55, 0.68), (0.20, 0.65), (0.35, 0.95), 0.09),  # blue
    ((0.70, 0.82), (0.15, 0.50), (0.35, 0.90), 0.07),  # purple
    ((0.22, 0.48), (0.20, 0.55), (0.30, 0.90), 0.05),  # green
    ((0.00, 1.00), (0.00, 0.10), (0.70, 0.98), 0.09),  # silver
)
_LINE_STYLES = ("dark", "own", "soft", "none")


@dataclass(frozen=True)
class Look:
    """Colours, pose and line style of one portrait."""

    hair: Colour
    hair_shadow: Colour
    hair_light: Colour
    skin: Colour
    skin_shadow: Colour
    iris: Colour
    clothes: tuple[Colour, Colour, Colour]
    line_style: str  # dark, own, soft, none
    line_width: float  # head units
    light: float  # -1: light from the left, 1: from the right
    yaw: float  # sine of the head's turn: features move by it, the far eye narrows
    pitch: float  # how far features move down, head units

    def line(self, colour: Colour) -> Colour | None:
        """Outline colour for a region of this colour; None when the portrait has no outlines."""
        if self.line_style == "none":
            return None
        if self.line_style == "dark":
            return mix(shade(colour, 0.2), (16, 12, 20), 0.5)
        return shade(colour, 0.4 if self.line_style == "own" else 0.66)

    def feature_line(self, colour: Colour) -> Colour:
        """Colour of lines that every style draws (nose, strands, folds)."""
        return self.line(colour) or shade(colour, 0.6)

    def turned(self, shape: Points) -> Points:
        """Features on the front of the head, moved and narrowed as the head turns (a cylinder of radius 1.15)."""
        depth = np.sqrt(np.maximum(0.0, 1 - (shape[:, 0] / 1.15) ** 2))
        x = shape[:, 0] * np.sqrt(1 - self.yaw**2) + 0.75 * self.yaw * depth
        return np.stack([x, shape[:, 1] + self.pitch], 1)


def any_colour(rng: np.random.Generator) -> Colour:
    """A colour as clothes and rooms have them: greys and whites as often as strong colours."""
    kind = rng.random()
    if kind < 0.25:
        return hsv(rng.random(), rng.uniform(0, 0.12), rng.uniform(0.75, 1.0))
    if kind < 0.45:
        return hsv(rng.random(), rng.uniform(0.05, 0.4), rng.uniform(0.1, 0.4))
    return hsv(rng.random(), rng.uniform(0.1, 0.75), rng.uniform(0.45, 1.0))


def near(rng: np.random.Generator, colour: Colour, spread: float = 18) -> Colour:
    """The colour with a little noise."""
    r, g, b = np.clip(np.array(colour) + rng.normal(0, spread, 3), 0, 255).astype(int).tolist()
    return r, g, b


def _hair_colour(rng: np.random.Generator) -> Colour:
    weights = np.array([tone[3] for tone in _HAIR_TONES])
    hue, saturation, value, _ = _HAIR_TONES[rng.choice(len(_HAIR_TONES), p=weights / weights.sum())]
    return hsv(rng.uniform(*hue), rng.uniform(*saturation), rng.uniform(*value))


def _skin_colour(rng: np.random.Generator) -> Colour:
    if rng.random() < 0.05:
        return hsv(rng.uniform(0.04, 0.08), rng.uniform(0.35, 0.6), rng.uniform(0.5, 0.88))
    return hsv(rng.uniform(0.03, 0.085), rng.uniform(0.04, 0.25), rng.uniform(0.93, 1.0))


def draw_look(rng: np.random.Generator) -> Look:
    """A random look."""
    hair, skin = _hair_colour(rng), _skin_colour(rng)
    if rng.random() < 0.04:
        hair = near(rng, skin, 10)
    kind = rng.random()
    first = any_colour(rng)
    if rng.random() < 0.33:
        first = hsv(rng.random(), rng.uniform(0, 0.15), rng.uniform(0.85, 1))
    if kind < 0.12:
        first = near(rng, hair)
    elif kind < 0.22:
        first = near(rng, skin)
    second = any_colour(rng) if rng.random() < 0.6 else hsv(rng.random(), rng.uniform(0, 0.1), rng.uniform(0.85, 1))
    iris = hsv(rng.random(), rng.uniform(0.25, 0.9), rng.uniform(0.35, 0.9))
    if rng.random() < 0.4:
        iris = near(rng, hair if luminance(hair) > 60 else (110, 70, 50), 25)
    skin_shadow = mix(shade(skin, rng.uniform(0.68, 0.86)), (235, 120, 100), rng.uniform(0.0, 0.2))
    return Look(
        hair=hair,
        hair_shadow=shade(hair, rng.uniform(0.5, 0.78)),
        hair_light=mix(hair, (255, 255, 255), rng.uniform(0.2, 0.7)),
        skin=skin,
        skin_shadow=skin_shadow,
        iris=iris,
        clothes=(first, second, any_colour(rng)),
        line_style=str(rng.choice(_LINE_STYLES, p=(0.45, 0.35, 0.14, 0.06))),
        line_width=float(rng.uniform(0.014, 0.034)),
        light=float(rng.choice((-1.0, 1.0))),
        yaw=float(np.clip(rng.normal(0, 0.22), -0.5, 0.5)),
        pitch=float(np.clip(rng.normal(0, 0.05), -0.12, 0.12)),
    )
