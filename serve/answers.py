"""Paintings as answers: PNG with its own provenance, a sheet of several, or a zip of single pictures."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Mapping, Sequence

import numpy as np

from gaugan import images
from serve.backend import ModelCard

SHEET_COLUMNS = 4
PNG_HEAD = 8 + 25  # signature and IHDR chunk
ZIP_DATE = (1980, 1, 1, 0, 0, 0)  # fixed, so that equal paintings give equal archives


def painting_png(image: np.ndarray, seed: int, card: ModelCard, classes_hash: str) -> bytes:
    """uint8 (H, W, 3) -> PNG bytes that name the seed, the model and the class table; equal input, equal bytes."""
    text = {
        "Software": "gaugan-suite",
        "Seed": str(seed),
        "Model": f"{card.name} {card.version} {card.checkpoint_hash}",
        "Classes": classes_hash,
    }
    return with_text(images.encode_png(image), text)


def with_text(png: bytes, entries: Mapping[str, str]) -> bytes:
    """PNG bytes with a tEXt chunk (Latin-1) per entry, placed behind the header."""
    chunks = b"".join(_chunk(b"tEXt", f"{key}\0{value}".encode("latin-1", "replace")) for key, value in entries.items())
    return png[:PNG_HEAD] + chunks + png[PNG_HEAD:]


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def sheet_png(pictures: Sequence[np.ndarray], seed: int, card: ModelCard, classes_hash: str) -> bytes:
    """Several pictures as one PNG, row by row; the text names the first seed."""
    sheet = images.grid(list(pictures), columns=min(SHEET_COLUMNS, len(pictures)))
    return painting_png(sheet, seed, card, classes_hash)


def paintings_zip(pngs: Mapping[str, bytes]) -> bytes:
    """File name -> PNG bytes, as a zip without further compression and without a clock."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, data in pngs.items():
            archive.writestr(zipfile.ZipInfo(name, ZIP_DATE), data)
    return buffer.getvalue()
