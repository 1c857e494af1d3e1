"""Expressions of the procedural portraits: where the features sit and how they are drawn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gaugan.portraits.canvas import Colour, luminance, shade
from gaugan.portraits.look import Look


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
        mouth_y=float(rng.uniform(0.76, 0.9)),
        chin_y=float(rng.uniform(1.18, 1.4)),
        jaw=float(rng.uniform(0.72, 1.05)),
    )
