"""Paintings as answers: PNG with its own provenance or WebP, a sheet of several, or a zip of single pictures."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from gaugan import images
from serve.backend import ModelCard
from serve.png import encode_png

SHEET_COLUMNS = 4
ZIP_DATE = (1980, 1, 1, 0, 0, 0)  # fixed, so that equal paintings give equal archives

Format = Literal["png", "webp"]
MEDIA_TYPES: dict[Format, str] = {"png": "image/png", "webp": "image/webp"}
ZIP = "application/zip"


def encode_painting(image: np.ndarray, seed: int, card: ModelCard, classes_hash: str, kind: Format = "png") -> bytes:
    """uint8 (H, W, 3) -> a file that equal input makes equal; a PNG names its seed, model and class table."""
    if kind == "webp":
        return images.encode_webp(image)
    model = f"{card.name} {card.version} {card.checkpoint_hash}"
    return encode_png(image, {"Software": "gaugan-suite", "Seed": str(seed), "Model": model, "Classes": classes_hash})


def encode_paintings(
    pictures: Sequence[np.ndarray],
    seeds: Sequence[int],
    card: ModelCard,
    classes_hash: str,
    kind: Format,
    as_zip: bool,
) -> tuple[bytes, str]:
    """(body, media type): one picture, a sheet of several row by row (it names the first seed), or a zip."""
    if as_zip:
        files = {
            f"painting-{seed}.{kind}": encode_painting(picture, seed, card, classes_hash, kind)
            for picture, seed in zip(pictures, seeds, strict=True)
        }
        return _zip(files), ZIP
    sheet = pictures[0]
    if len(pictures) > 1:
        sheet = images.grid(list(pictures), columns=min(SHEET_COLUMNS, len(pictures)))
    return encode_painting(sheet, seeds[0], card, classes_hash, kind), MEDIA_TYPES[kind]


def _zip(files: Mapping[str, bytes]) -> bytes:
    """Without further compression and without a clock."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name, ZIP_DATE), data)
    return buffer.getvalue()
