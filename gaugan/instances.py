"""Instance maps: which object each pixel belongs to. Only where two neighbours differ matters, not the numbers.

uint16 (H, W), beside a label map of the same size; on disk a grey PNG, 8-bit when the numbers fit, else 16-bit.
"""

from __future__ import annotations

import io

import numpy as np

from gaugan.labels import LabelMapError, open_png

MODES = ("1", "L", "P", "I", "I;16", "I;16B")
"""Pillow's names for PNG of one number per pixel."""


def encode_instance_map(instance_map: np.ndarray) -> bytes:
    """uint16 (H, W) -> PNG bytes; equal maps give equal bytes."""
    from PIL import Image

    assert instance_map.dtype == np.uint16 and instance_map.ndim == 2, (instance_map.dtype, instance_map.shape)
    narrow = instance_map.astype(np.uint8) if instance_map.max(initial=0) < 256 else instance_map
    buffer = io.BytesIO()
    Image.fromarray(narrow).save(buffer, "PNG", compress_level=6)
    return buffer.getvalue()


def decode_instance_map(data: bytes, max_pixels: int = 100_000_000) -> np.ndarray:
    """PNG bytes -> uint16 (H, W): grey of up to 16 bits, or palette indices.

    Raises LabelMapError (not_a_png, too_large, truncated, unsupported_mode).
    """
    picture = open_png(data, max_pixels, "instance map")
    if picture.mode not in MODES:
        advice = "save one number per pixel as 8-bit or 16-bit grey PNG"
        raise LabelMapError("unsupported_mode", f"an instance map of {picture.mode}; {advice}")
    try:
        picture.load()
    except Exception as error:
        raise LabelMapError("truncated", f"the instance map's PNG data is damaged: {error}") from error
    return np.array(picture).astype(np.uint16)
