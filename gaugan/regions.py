"""Augmentation that reads the label map: new colours for single regions, new backgrounds behind the figure.

With few annotated pictures a network learns that hair is brown and clothes are white. Where the label map is known,
hair, clothes, eyes and background can be given other colours one by one, and the figure can be set before another
picture's background; shapes, shading and lines, which carry the meaning, stay (cf. Dwibedi et al. 2017, "Cut, Paste and
Learn", arXiv 1708.01642; Ghiasi et al. 2021, "Simple Copy-Paste", arXiv 2012.07177). docs/segmenter.md has its effect.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gaugan.augment import Augmentation, colour_matrix
from gaugan.errors import UserError
from gaugan.images import resize_image
from gaugan.labels import IGNORE

BACKGROUND_MIN_SHARE = 0.2
"""A picture with less background than this lends none: too little of it is seen."""
BACKGROUND_CROP = 0.75
"""Share of the side that is cut, at a random place, from the picture that lends its background."""
COLOURS = Augmentation(hue_degrees=180.0, saturation=0.4)
CONTRAST, BRIGHTNESS = 0.3, 0.35
DYED, FROM_PICTURE = 0.5, 0.6
"""Share of the recoloured regions that get a mean colour of any kind; and of those, one that the picture has."""


@dataclass(frozen=True)
class RegionAugmentation:
    """How often a pair is changed by regions; all zero = never."""

    recolour: float = 0.0
    """Probability, class by class, that a class of any colour gets other colours."""
    background: float = 0.0
    """Probability that the figure is set before another picture's background."""

    def __post_init__(self) -> None:
        for name in ("recolour", "background"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise UserError(f"{name}: {getattr(self, name)} is outside 0..1")

    @property
    def used(self) -> bool:
        """True when anything can happen."""
        return self.recolour > 0 or self.background > 0


REGION_PRESETS = {
    "none": RegionAugmentation(),
    "flip": RegionAugmentation(),
    "mild": RegionAugmentation(),
    "strong": RegionAugmentation(recolour=0.45, background=0.4),
}
"""Beside augment.PRESETS, of the same names."""


def recolour_regions(
    image: np.ndarray, label_map: np.ndarray, class_ids: Sequence[int], probability: float, rng: np.random.Generator
) -> np.ndarray:
    """Gives each class of `class_ids`, with `probability`, other colours, its shading kept.

    Either a turn of hue and another saturation and brightness, or, in a share DYED of the cases, a mean colour that has
    nothing to do with its own: any colour, or that of a random pixel of the picture. A turn leaves white clothes white;
    only dyed ones are now and then as pink as skin. Contrast changes in both.

    uint8 (H, W, 3) and (H, W) -> uint8 (H, W, 3). Region borders are blended over 3 pixels, so that no hard edge
    betrays them. Draws the same count of random numbers whatever happens.
    """
    draws = rng.uniform(-1.0, 1.0, size=(len(class_ids), 6))
    dyes = rng.random(size=(len(class_ids), 7))
    pixels = image.astype(np.float32)
    result = pixels
    for number, draw, dye in zip(class_ids, draws, dyes, strict=True):
        region = label_map == number
        if draw[5] >= 2.0 * probability - 1.0 or not region.any():
            continue
        turned = pixels @ colour_matrix(COLOURS, np.array([draw[0], draw[1], 0, 0, 1.0])).T.astype(np.float32)
        mean = turned[region].mean(0)
        colour = mean * (1 + BRIGHTNESS * draw[3])
        if dye[0] < DYED:
            place = tuple((dye[2:4] * label_map.shape).astype(int))
            colour = pixels[place] if dye[1] < FROM_PICTURE else 255 * dye[4:].astype(np.float32)
        turned = (turned - mean) * (1 + CONTRAST * draw[2]) + colour
        weight = _softened(region)
        result = result * (1 - weight) + turned * weight
    return _to_uint8(result)


def lends_background(label_map: np.ndarray, background: int) -> bool:
    """True when enough of the picture is background."""
    return float((label_map == background).mean()) >= BACKGROUND_MIN_SHARE


def lone_background(image: np.ndarray, label_map: np.ndarray, background: int) -> np.ndarray:
    """The picture without its figure: uint8 (H, W, 3), holes filled smoothly from their surroundings.

    The hole takes colours from a pyramid of averages over the known pixels (Burt and Adelson 1983; "push-pull", Gortler
    et al. 1996, "The Lumigraph").
    """
    import torch
    import torch.nn.functional as F  # noqa: N812

    known = torch.from_numpy(label_map == background)[None, None].float()  # (1, 1, H, W)
    pixels = torch.from_numpy(image.astype(np.float32)).permute(2, 0, 1)[None]  # (1, 3, H, W)
    levels = [(pixels * known, known)]
    while max(levels[-1][1].shape[2:]) > 1:
        levels.append(
            tuple(F.avg_pool2d(part, 2, ceil_mode=True, count_include_pad=False) for part in levels[-1])  # type: ignore[arg-type]
        )
    coloured, weight = levels[-1]
    filled = coloured / weight.clamp(min=1e-6)
    for coloured, weight in reversed(levels[:-1]):
        above = F.interpolate(filled, weight.shape[2:], mode="bilinear")
        filled = coloured + (1 - weight) * above
    return _to_uint8(filled[0].permute(1, 2, 0).numpy())


def set_before(
    image: np.ndarray, label_map: np.ndarray, backdrop: np.ndarray, background: int, rng: np.random.Generator
) -> np.ndarray:
    """The figure of a picture before a random cut of `backdrop` (from `lone_background`); the labels stay the same.

    All uint8, (H, W, 3) and (H, W). Ignored pixels keep their colours.
    """
    draws = rng.random(3)
    height, width = label_map.shape
    cut = max(1, round(backdrop.shape[0] * BACKGROUND_CROP)), max(1, round(backdrop.shape[1] * BACKGROUND_CROP))
    top, left = (int(draw * (side - part + 1)) for draw, side, part in zip(draws, backdrop.shape, cut, strict=False))
    behind = backdrop[top : top + cut[0], left : left + cut[1]]
    behind = resize_image(behind[:, ::-1] if draws[2] < 0.5 else behind, (height, width))
    figure = _softened((label_map != background) | (label_map == IGNORE))
    return _to_uint8(image * figure + behind * (1 - figure))


def _softened(region: np.ndarray) -> np.ndarray:
    """bool (H, W) -> float32 (H, W, 1): the mean over 3 x 3 pixels, inside the picture."""
    import torch
    import torch.nn.functional as F  # noqa: N812

    weight = torch.from_numpy(region.astype(np.float32))[None, None]
    return F.avg_pool2d(weight, 3, 1, 1, count_include_pad=False)[0, 0].numpy()[..., None]


def _to_uint8(pixels: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8)
