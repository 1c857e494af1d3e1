"""Hairstyles of the procedural portraits: the outline of cap, bangs and side hair. Head units."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gaugan.portraits.canvas import Points, bend, points, ribbon, smooth
from gaugan.portraits.look import Look

BANGS = ("straight", "choppy", "parted", "swept", "over_eye", "between_eyes", "bare")
_BANGS_ODDS = (0.15, 0.25, 0.17, 0.17, 0.05, 0.16, 0.05)
BACKS = ("short", "bob", "medium", "long", "wavy", "twin_tails", "ponytail", "buns", "spiky", "braids", "drills")
_BACKS_ODDS = (0.11, 0.13, 0.14, 0.27, 0.09, 0.08, 0.05, 0.03, 0.04, 0.03, 0.03)


@dataclass(frozen=True)
class Hairstyle:
    """The geometry chosen for one head."""

    bangs: str
    back: str
    front: Points  # closed outline of cap, bangs and side hair
    valleys: list[tuple[Points, Points]]  # per tuft of the bangs: its upper left valley and its tip, (2,) each
    crown: Points  # (2,) where strands start
    radius_x: float
    top: float  # y of the highest point of the cap
    ears_shown: bool
    curl: float  # waviness of long strands
    side_low: float  # how far down the side hair reaches


def draw_hairstyle(rng: np.random.Generator, look: Look) -> Hairstyle:
    """A random hairstyle."""
    bangs = str(rng.choice(BANGS, p=np.array(_BANGS_ODDS) / sum(_BANGS_ODDS)))
    back = str(rng.choice(BACKS, p=np.array(_BACKS_ODDS) / sum(_BACKS_ODDS)))
    radius_x, top = rng.uniform(1.25, 1.55), -rng.uniform(1.55, 1.95)
    tufts = _bangs(rng, bangs, look)
    shift = -0.3 * look.yaw
    tidy = back in ("ponytail", "buns") or (back in ("short", "twin_tails", "braids") and rng.random() < 0.5)
    ears_shown = tidy or (rng.random() < (0.6 if back in ("short", "spiky") else 0.22))
    reach = {"short": (0.2, 0.7), "spiky": (0.2, 0.8), "bob": (0.75, 1.35), "medium": (0.8, 1.7)}.get(back, (0.6, 2.6))
    if tidy:
        reach = (0.1, 1.0)
    front = _front_outline(rng, tufts, (radius_x, top, shift), reach, ears_shown, spiky=back == "spiky")
    crown = np.array((shift * 1.5 + rng.uniform(-0.25, 0.25), top + rng.uniform(0.1, 0.4)))
    valleys = [(left, tip) for left, tip, _ in tufts]
    curl = rng.uniform(0.08, 0.2) if back == "wavy" else rng.uniform(0, 0.05)
    return Hairstyle(bangs, back, front, valleys, crown, radius_x, top, ears_shown, float(curl), reach[1] * 0.75)


def _bangs(rng: np.random.Generator, kind: str, look: Look) -> list[tuple[Points, Points, Points]]:
    """Tufts from left to right: (upper left valley, tip, upper right valley), already turned with the head."""
    fewest, most = {"straight": (6, 14), "choppy": (4, 8), "bare": (1, 2)}.get(kind, (4, 9))
    count = int(rng.integers(fewest, most))
    edges = np.linspace(-0.92, 0.92, count + 1)
    edges[1:-1] += rng.normal(0, 0.4 / count, count - 1)
    edges = np.sort(edges)
    centre = rng.uniform(-0.45, 0.45)
    way = rng.choice((-1.0, 1.0))
    base = rng.uniform(-0.42, 0.02)
    if kind == "over_eye":
        base, centre = rng.uniform(-0.3, 0.0), -0.4 * way

    def tip_of(x: float) -> tuple[float, float]:
        jitter = rng.normal(0, 0.05)
        if kind == "straight":
            return x + rng.normal(0, 0.01), min(base, -0.12) + 0.4 * jitter
        if kind == "parted":
            away = np.sign(x - centre) * rng.uniform(0.05, 0.25)
            return x + away, -0.75 + 0.95 * min(abs(x - centre), 1.0) ** 0.8 + base + 0.3 + jitter
        if kind in ("swept", "over_eye"):
            low = 0.65 if kind == "over_eye" else 0.3
            return x + way * rng.uniform(0.1, 0.4), base + low * way * x + 2 * jitter
        if kind == "bare":
            return x, -0.8
        return x + rng.normal(0, 0.12) - 0.12 * x, base + 0.25 * (abs(x) - 0.3) + 2 * jitter

    def valley_of(x: float) -> float:
        depth = {"straight": (0.02, 0.15), "bare": (0.0, 0.1)}.get(kind, (0.2, 0.75))
        if kind == "parted":
            return float(-0.95 + 0.65 * min(abs(x - centre), 1.0) + rng.normal(0, 0.05))
        return float(tip_of(x)[1] - rng.uniform(*depth))

    heights = [valley_of(float(x)) for x in edges]
    for k in (0, -1):  # the outermost valleys lie where bangs and side hair meet
        heights[k] = max(heights[k], float(rng.uniform(-0.55, -0.25)))
    if kind == "parted":
        edges[int(np.argmin(np.abs(edges[1:-1] - centre))) + 1 if count > 1 else 0] = centre
        edges = np.sort(edges)
    tufts = []
    for k in range(count):
        tip = np.array(tip_of(float(edges[k] + edges[k + 1]) / 2))
        if kind == "between_eyes" and k == count // 2:
            tip = np.array((rng.normal(0, 0.08), rng.uniform(0.1, 0.45)))
        left, right = np.array((edges[k], heights[k])), np.array((edges[k + 1], heights[k + 1]))
        tip[1] = max(tip[1], min(left[1], right[1]) + 0.02) if kind != "bare" else rng.uniform(-1.0, -0.7)
        turned = look.turned(np.stack([left, tip, right]))
        tufts.append((turned[0], turned[1], turned[2]))
    return tufts


def _front_outline(
    rng: np.random.Generator,
    tufts: list[tuple[Points, Points, Points]],
    cap: tuple[float, float, float],
    reach: tuple[float, float],
    ears_shown: bool,
    *,
    spiky: bool,
) -> Points:
    """Closed outline: up the left side, over the crown, down the right side, back along the bangs."""
    radius_x, top, shift = cap
    angle = np.linspace(np.pi, 2 * np.pi, 15)
    crown_y = -0.25
    arc = np.stack([shift + radius_x * np.cos(angle), crown_y + (crown_y - top) * np.sin(angle)], 1)
    arc[:, 0] += rng.normal(0, 0.012, len(arc))
    if spiky:
        arc = _spikes(rng, arc, np.array((shift, crown_y)))
    else:
        arc = smooth(arc, steps=4)
    left = _side(rng, -1.0, arc[0], tufts[0][0], reach, ears_shown)
    right = _side(rng, 1.0, arc[-1], tufts[-1][2], reach, ears_shown)
    fringe = []
    for start, tip, end in tufts:  # blades: both edges bow outwards
        bow = rng.uniform(0.04, 0.16) if len(tufts) > 1 else -0.16  # a bare forehead is an arch
        fringe += [bend(start, tip, bow), bend(tip, end, bow)]
    return np.concatenate([left[::-1], arc, right, np.concatenate(fringe)[::-1]])


def _spikes(rng: np.random.Generator, arc: Points, centre: Points) -> Points:
    """The cap's outline with pointed tufts standing off it."""
    pieces = []
    for k in range(0, len(arc) - 2, 2):
        out = arc[k + 1] - centre
        swing = np.array((-out[1], out[0])) * rng.uniform(-0.25, 0.25)
        tip = centre + out * rng.uniform(1.12, 1.4) + swing
        pieces += [bend(arc[k], tip, rng.uniform(0.0, 0.15), 5), bend(tip, arc[k + 2], rng.uniform(-0.12, 0.05), 5)]
    return np.concatenate(pieces)


def _side(
    rng: np.random.Generator, side: float, start: Points, end: Points, reach: tuple[float, float], ears_shown: bool
) -> Points:
    """Side hair from the cap's end down to two or three tips and up to the first valley of the bangs."""
    low = rng.uniform(*reach)
    outer_x, inner_x = start[0], end[0]
    if ears_shown:  # a thin lock in front of the ear
        outer = side * (abs(inner_x) + rng.uniform(0.05, 0.18))
        back = points((outer_x, 0.0), (side * abs(inner_x) * 1.06, -0.25))
        lock = np.concatenate([back, points((outer, low * 0.4), (inner_x - side * rng.uniform(-0.08, 0.1), low))])
        rise = points((inner_x - side * rng.uniform(0.05, 0.16), low * 0.3))
        return np.concatenate([start[None], smooth(lock, steps=5), smooth(np.concatenate([rise, end[None]]), steps=4)])
    blades = int(rng.integers(1, 5))
    foot = start[0] + side * rng.uniform(-0.15, 0.2) * min(low, 1.5)
    x = np.linspace(foot, end[0] - side * rng.uniform(-0.12, 0.18), blades + 1)
    x[1:-1] += rng.normal(0, 0.03, blades - 1)
    at, pieces = start, []
    for k in range(blades):
        near_edge = (x[k] * 0.7 + x[k + 1] * 0.3) if k < blades - 1 else (x[k] * 0.4 + x[k + 1] * 0.6)
        tip = np.array((near_edge, low * (rng.uniform(0.75, 1.1) if k else 1.0)))
        pieces.append(bend(at, tip, -side * (rng.uniform(0.0, 0.12) if k == 0 else 0.08), 6))
        if k < blades - 1:
            at = np.array((x[k + 1], low * rng.uniform(0.35, 0.8)))
            pieces.append(bend(tip, at, side * rng.uniform(0.02, 0.14), 6))
        else:
            pieces.append(bend(tip, end, side * rng.uniform(0.0, 0.1), 6))
    return np.concatenate(pieces)


def lock(root: Points, tip: Points, bow: float, width: float, wave: float = 0.0, phase: float = 0.0) -> Points:
    """A tapering strand from root to tip."""
    path = bend(root, tip, bow, 14)
    if wave:
        length = float(np.hypot(*(tip - root)))
        path[:, 0] += wave * np.sin(np.linspace(0, 4.5 * length, len(path)) + phase) * np.linspace(0.2, 1, len(path))
    return ribbon(path, [width * 0.75, width, width * 0.95, width * 0.7, 0.0])
