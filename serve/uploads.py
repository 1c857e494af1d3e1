"""Uploaded bytes -> label maps and pictures, or a Problem that says what is wrong with them.

Sizes are read from the file's header and refused before a pixel is decoded.
"""

from __future__ import annotations

import numpy as np

from gaugan import images, labels
from serve.problems import Problem

MAX_PIXELS = 16_000_000
PICTURE_FORMATS = ("PNG", "JPEG", "WEBP")


def read_label_map(data: bytes, table: labels.ClassTable, size: tuple[int, int], resize: str = "refuse") -> np.ndarray:
    """PNG bytes -> uint8 `size` (height, width) of class ids, all within the table.

    Another size is refused unless `resize` is "nearest", or "crop": first a centre crop to the model's shape.
    Unlabelled pixels (255) are refused with count and place.
    """
    found = _header_size(data, "label map", ("PNG",))
    _check_size(found, size, resize)
    try:
        label_map = labels.decode_label_map(data, table, max_pixels=MAX_PIXELS)
    except labels.LabelMapError as error:
        raise Problem(error.code, f"{_sentence(error.message)}") from error
    return _complete(label_map, size, resize)


def parse_shape(text: str) -> tuple[int, int]:
    """ "HEIGHTxWIDTH" -> (height, width)."""
    height, width = text.split("x")
    return int(height), int(width)


def read_raw_ids(
    data: bytes, shape: tuple[int, int], table: labels.ClassTable, size: tuple[int, int], resize: str = "refuse"
) -> np.ndarray:
    """One byte per pixel, row by row -> as `read_label_map`."""
    if not data:
        raise Problem("empty", "label map: the file has 0 bytes.")
    if len(data) != shape[0] * shape[1]:
        raise Problem(
            "wrong_shape",
            f"The label map has {len(data)} bytes; shape {shape[0]}x{shape[1]} (height x width) needs "
            f"{shape[0] * shape[1]}, one per pixel.",
        )
    _check_size(shape, size, resize)
    return check_label_map(np.frombuffer(data, dtype=np.uint8).reshape(shape), table, size, resize)


def check_label_map(
    ids: np.ndarray, table: labels.ClassTable, size: tuple[int, int], resize: str = "nearest"
) -> np.ndarray:
    """uint8 (H, W) of any numbers -> class ids of the table at `size`."""
    try:
        labels.check_ids(ids, table, "label map")
    except labels.LabelMapError as error:
        raise Problem(error.code, f"{_sentence(error.message)}") from error
    return _complete(ids, size, resize)


def _check_size(found: tuple[int, int], size: tuple[int, int], resize: str) -> None:
    if found != size and resize == "refuse":
        raise Problem(
            "wrong_size",
            f"The label map is {_words(found)}, the model paints {_words(size)} (width x height). "
            "Draw it at that size, or send resize=nearest or resize=crop.",
        )


def _complete(label_map: np.ndarray, size: tuple[int, int], resize: str) -> np.ndarray:
    """At `size`; refused when pixels have no class."""
    refuse_ignored(label_map)
    return images.fit_label_map(label_map, size) if resize == "crop" else images.resize_label_map(label_map, size)


def refuse_ignored(label_map: np.ndarray) -> None:
    """Raises Problem with count and place when a pixel is 255 (unlabelled)."""
    ignored = label_map == labels.IGNORE
    if ignored.any():
        y, x = np.argwhere(ignored)[0]
        raise Problem(
            "ignored_pixels",
            f"{int(ignored.sum())} pixels are {labels.IGNORE} (unlabelled), the first at x={x}, y={y}. "
            "Give each pixel a class.",
        )


def read_picture(data: bytes, field: str) -> np.ndarray:
    """PNG, JPEG or WebP bytes -> uint8 (H, W, 3), upright."""
    _header_size(data, field, PICTURE_FORMATS)
    try:
        image, note = images.decode_image_with_note(data, max_pixels=MAX_PIXELS, formats=PICTURE_FORMATS)
    except images.ImageError as error:
        raise Problem(error.code, f"{field}: {error.message}.") from error
    if note == "animated":
        raise Problem("unsupported_format", f"{field}: the picture is animated; send a single frame.")
    return image


def _header_size(data: bytes, field: str, formats: tuple[str, ...]) -> tuple[int, int]:
    try:
        height, width = images.read_size(data, formats)
    except images.ImageError as error:
        raise Problem(error.code, f"{field}: {error.message}.") from error
    if height * width > MAX_PIXELS:
        raise Problem(
            "too_large", f"{field}: {_words((height, width))} pixels; at most {MAX_PIXELS:,} pixels are read."
        )
    return height, width


def _words(size: tuple[int, int]) -> str:
    return f"{size[1]}x{size[0]}"


def _sentence(message: str) -> str:
    return message[:1].upper() + message[1:].rstrip(".") + "."
