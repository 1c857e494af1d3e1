"""Paired augmentation: the same random change of shape for a picture and its label map, then colour for the picture.

Rotation, scale, shift, mirror and a smooth warp become one map from output to source pixels, so that there is a single
resampling: bilinear for the picture, nearest for the labels, both reflected at the border.

The warp is a free-form deformation (Rueckert et al., "Nonrigid registration using free-form deformations", 1999):
control points on a regular grid move at random, a uniform cubic B-spline carries the pixels between. It can't fold the
picture as long as no control point moves further than spacing / 2.046 (Choi and Lee, "Injectivity conditions of 2D and
3D uniform cubic B-spline functions", 2000).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gaugan.errors import UserError

if TYPE_CHECKING:
    import torch

FOLD_FREE = 0.48
"""Largest `warp * warp_cells` at which the warp stays one-to-one (Choi and Lee: 1 / 2.046)."""
LUMA = np.array([0.299, 0.587, 0.114])
"""Weights of R, G, B in the grey value (ITU-R BT.601)."""


@dataclass(frozen=True)
class Augmentation:
    """How far a pair may be changed; every amount is drawn anew for each pair. All zero = the pair itself."""

    rotate_degrees: float = 0.0
    """Largest rotation to either side."""
    mirror: float = 0.0
    """Probability of a left-right mirror."""
    scale: float = 0.0
    """Zoom between 1 / (1 + scale) and 1 + scale."""
    translate: float = 0.0
    """Largest shift, as a fraction of the picture's side."""
    warp: float = 0.0
    """Largest move of a warp control point, as a fraction of the side; warp * warp_cells must stay under 0.48."""
    warp_cells: int = 5
    """Control cells per side: fewer = smoother warp."""
    brightness: float = 0.0
    """Brightness factor between 1 - brightness and 1 + brightness."""
    contrast: float = 0.0
    """Contrast factor about the picture's mean grey, 1 +- contrast."""
    saturation: float = 0.0
    """Saturation factor, 1 +- saturation."""
    hue_degrees: float = 0.0
    """Largest turn of the colour wheel to either side."""
    gray: float = 0.0
    """Probability of a picture without colour."""

    def __post_init__(self) -> None:
        limits = dict(rotate_degrees=180.0, mirror=1.0, scale=1.0, translate=0.5, brightness=1.0, contrast=1.0)
        limits |= dict(saturation=1.0, hue_degrees=180.0, gray=1.0)
        for name, limit in limits.items():
            if not 0.0 <= getattr(self, name) <= limit:
                raise UserError(f"{name}: {getattr(self, name)} is outside 0..{limit:g}")
        if not 1 <= self.warp_cells <= 64:
            raise UserError(f"warp_cells: {self.warp_cells} is outside 1..64")
        if not 0.0 <= self.warp * self.warp_cells < FOLD_FREE:
            raise UserError(
                f"warp {self.warp} x warp_cells {self.warp_cells} would fold the picture: keep it in 0..{FOLD_FREE}"
            )

    @property
    def resamples(self) -> bool:
        """True when more than a mirror can happen to the shape."""
        return any((self.rotate_degrees, self.scale, self.translate, self.warp))

    @property
    def recolours(self) -> bool:
        """True when the colours can change."""
        return any((self.brightness, self.contrast, self.saturation, self.hue_degrees, self.gray))


PRESETS = {
    "none": Augmentation(),
    "flip": Augmentation(mirror=0.5),
    "mild": Augmentation(
        rotate_degrees=8, mirror=0.5, scale=0.08, translate=0.04, warp=0.03, warp_cells=5,
        brightness=0.1, contrast=0.1, saturation=0.1, hue_degrees=6,
    ),
    "strong": Augmentation(
        rotate_degrees=20, mirror=0.5, scale=0.2, translate=0.08, warp=0.07, warp_cells=5,
        brightness=0.25, contrast=0.25, saturation=0.3, hue_degrees=20, gray=0.05,
    ),
}  # fmt: skip


def preset(name: str) -> Augmentation:
    """One of PRESETS by name. Raises UserError listing the names."""
    if name not in PRESETS:
        raise UserError(f"augmentation {name!r} is unknown; choose one of {', '.join(PRESETS)}")
    return PRESETS[name]


def augment_pair(
    image: np.ndarray, label_map: np.ndarray, augmentation: Augmentation, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """`augment_maps` for a picture and its label map alone."""
    image, (label_map,) = augment_maps(image, [label_map], augmentation, rng)
    return image, label_map


def augment_maps(
    image: np.ndarray, maps: Sequence[np.ndarray], augmentation: Augmentation, rng: np.random.Generator
) -> tuple[np.ndarray, list[np.ndarray]]:
    """uint8 (H, W, 3) and maps (H, W) of small integers (labels, instances) -> all changed alike, of the same sizes.

    A pure function of its arguments and the state of `rng`, of which it always draws the same count of numbers, so
    changing one amount leaves the other draws alone. No number appears in a map that it did not hold; the inputs are
    never written to.
    """
    for each in maps:
        if image.shape[:2] != each.shape:
            raise ValueError(f"picture {image.shape[:2]} and label map {each.shape} differ in size")
    import torch

    draws = rng.uniform(-1.0, 1.0, size=10)
    moves = rng.uniform(-1.0, 1.0, size=(2, augmentation.warp_cells + 3, augmentation.warp_cells + 3))
    mirrored = draws[0] < 2.0 * augmentation.mirror - 1.0
    if not (augmentation.resamples or augmentation.recolours):
        step = -1 if mirrored else 1
        return np.array(image[:, ::step], order="C"), [np.array(each[:, ::step], order="C") for each in maps]
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).float()  # (3, H, W), 0..255
    labels = torch.from_numpy(np.stack(maps).astype(np.float32))  # (maps, H, W); exact below 2^24
    if augmentation.resamples:
        coordinates = _source_coordinates(image.shape[:2], augmentation, draws[1:5], moves, mirrored)
        pixels, labels = _read(pixels, coordinates, "bilinear"), _read(labels, coordinates, "nearest")
    elif mirrored:
        pixels, labels = pixels.flip(-1), labels.flip(-1)
    if augmentation.recolours:
        pixels = _recolour(pixels, augmentation, draws[5:10])
    pixels = pixels.round_().clamp_(0.0, 255.0).to(torch.uint8).permute(1, 2, 0).contiguous()
    return pixels.numpy(), [moved.astype(each.dtype) for moved, each in zip(labels.numpy(), maps, strict=True)]


def _source_coordinates(
    size: tuple[int, ...], augmentation: Augmentation, draws: np.ndarray, moves: np.ndarray, mirrored: bool
) -> torch.Tensor:
    """The source position of each output pixel: float32 (1, H, W, 2), x and y, -1..1 over the picture."""
    import torch

    height, width = size
    angle = math.radians(augmentation.rotate_degrees) * draws[0]
    zoom = (1.0 + augmentation.scale) ** -draws[1]
    across, down = math.cos(angle) * zoom, math.sin(angle) * zoom
    x = ((torch.arange(width) + 0.5) * (2.0 / width) - 1.0)[None, :]  # (1, W), pixel centres
    y = ((torch.arange(height) + 0.5) * (2.0 / height) - 1.0)[:, None]  # (H, 1)
    if augmentation.warp:
        rows, columns = _spline_basis(height, augmentation.warp_cells), _spline_basis(width, augmentation.warp_cells)
        shift = torch.from_numpy(2.0 * augmentation.warp * moves).float()  # (2, K, K); a side is 2 units long
        bent = rows @ shift @ columns.T  # (2, H, W)
        x, y = x + bent[0], y + bent[1]
    flip = -1.0 if mirrored else 1.0
    ratio = height / width  # so that the rotation is one in pixels, not in units of the sides
    source_x = flip * across * x - flip * down * ratio * y + 2.0 * augmentation.translate * draws[2]
    source_y = down / ratio * x + across * y + 2.0 * augmentation.translate * draws[3]
    return torch.stack([source_x, source_y], dim=-1)[None]


@functools.lru_cache(maxsize=32)
def _spline_basis(length: int, cells: int) -> torch.Tensor:
    """float32 (length, cells + 3): weights of the uniform cubic B-spline control points at each pixel centre."""
    import torch

    place = (np.arange(length) + 0.5) / length * cells
    cell = place.astype(int)
    t = place - cell
    weights = [(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3]
    basis = np.zeros((length, cells + 3), dtype=np.float32)
    for offset, weight in enumerate(weights):
        basis[np.arange(length), cell + offset] = weight / 6
    return torch.from_numpy(basis)


def _read(values: torch.Tensor, coordinates: torch.Tensor, mode: str) -> torch.Tensor:
    """float (C, H, W) -> the same shape, read at the source positions; the border reflects."""
    import torch.nn.functional as F  # noqa: N812

    return F.grid_sample(values[None], coordinates, mode=mode, padding_mode="reflection", align_corners=False)[0]


def _recolour(pixels: torch.Tensor, augmentation: Augmentation, draws: np.ndarray) -> torch.Tensor:
    """float (3, H, W) in 0..255 -> the same: all colour changes as one affine map of RGB, not yet clipped.

    Hue turns about the grey axis of RGB; saturation mixes with the grey value; contrast is about the mean grey value of
    the picture; brightness multiplies, last.
    """
    import torch

    linear = torch.from_numpy(colour_matrix(augmentation, draws)).float()  # (3, 3)
    contrast, brightness = 1.0 + augmentation.contrast * draws[2], 1.0 + augmentation.brightness * draws[3]
    flat = linear @ pixels.reshape(3, -1)  # (3, H*W)
    mean_grey = float(flat.mean(dim=1) @ torch.from_numpy(LUMA).float())
    flat.mul_(brightness * contrast).add_(brightness * (1.0 - contrast) * mean_grey)
    return flat.view_as(pixels)


def colour_matrix(augmentation: Augmentation, draws: np.ndarray) -> np.ndarray:
    """float64 (3, 3) on RGB: hue turn by draws[0], saturation by draws[1] (both in -1..1), grey or not by draws[4].

    Its rows add up to 1, so greys stay what they are.
    """
    turn = math.radians(augmentation.hue_degrees) * draws[0]
    cross = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) * math.sqrt(1.0 / 3.0)
    hue = math.cos(turn) * np.eye(3) + (1.0 - math.cos(turn)) / 3.0 + math.sin(turn) * cross  # Rodrigues' formula
    grayed = draws[4] < 2.0 * augmentation.gray - 1.0
    colourful = 0.0 if grayed else 1.0 + augmentation.saturation * draws[1]
    return (colourful * np.eye(3) + (1.0 - colourful) * LUMA[None, :]) @ hue
