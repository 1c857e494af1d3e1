"""The style gallery: a folder of pictures, read once when the server starts, or portraits drawn by code."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np

from gaugan import images, portraits, storage
from gaugan.errors import UserError

MAX_STYLES = 64
STYLE_SIDE_PX = 512
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
DRAWN_SIDE_PX = 256
# id -> seed of gaugan.portraits
DRAWN = {
    "honey": 24,
    "amber": 10,
    "rose": 5,
    "lilac": 26,
    "lagoon": 1,
    "meadow": 18,
    "silver": 27,
    "night": 32,
}


@dataclass(frozen=True)
class Style:
    """One style picture: uint8 (h, w, 3), the longer side at most STYLE_SIDE_PX."""

    name: str
    image: np.ndarray


def load_styles(uri: str | None) -> dict[str, Style]:
    """id (the file's stem) -> style, in the order of the names; drawn portraits without a folder. Raises UserError."""
    if uri is None:
        return {
            name: Style(name.capitalize(), portraits.draw_portrait(seed, DRAWN_SIDE_PX)[0])
            for name, seed in DRAWN.items()
        }
    entries = storage.list_files(uri, suffixes=SUFFIXES, recursive=False)
    if not entries:
        raise UserError(f"--styles {uri}: no pictures ({', '.join(SUFFIXES)}) in this folder")
    if len(entries) > MAX_STYLES:
        raise UserError(f"--styles {uri}: {len(entries)} pictures; at most {MAX_STYLES} are offered")
    styles = {}
    for entry in entries:
        stem = PurePosixPath(entry.path).stem
        if stem in styles:
            raise UserError(f"--styles {uri}: two pictures are called {stem}; rename one")
        try:
            image = images.decode_image(storage.read_bytes(entry.uri))
        except images.ImageError as error:
            raise UserError(f"--styles {entry.uri}: {error.message}") from error
        styles[stem] = Style(name=stem.replace("_", " ").replace("-", " "), image=_shrink(image))
    return styles


def _shrink(image: np.ndarray) -> np.ndarray:
    height, width = image.shape[:2]
    scale = STYLE_SIDE_PX / max(height, width)
    return (
        image
        if scale >= 1
        else images.resize_image(image, (max(1, round(height * scale)), max(1, round(width * scale))))
    )
