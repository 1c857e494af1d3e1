"""From one picture of a public dataset, with its maps, to a row of ours: decoded, checked, stored.

Pictures keep their size (or are reduced to a shorter side); random cuts and mirrors belong to training. A file that
can't be used becomes a problem with its name, never an exception.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gaugan import storage
from gaugan.images import ImageError, decode_image, encode_jpeg, encode_png, file_kind, resize_image, resize_label_map
from gaugan.instances import decode_instance_map, encode_instance_map
from gaugan.label_counts import DontCare, check_label_map
from gaugan.labels import IGNORE, ClassTable, LabelMapError, encode_label_map, holds_colours, read_ids
from gaugan.layouts import Triple
from gaugan.pairs import Pair, provenance

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "PPM")
"""A dataset on one's own disk may hold BMP and PPM; TIFF is refused by name."""
JPEG_QUALITY = 95


@dataclass(frozen=True)
class Rules:
    """How the files of a layout become rows."""

    classes: ClassTable
    dontcare: DontCare
    shift: int = 0
    """Subtracted from the ids in the files; what falls below 0 is unknown."""
    short_side: int | None = None
    """Larger pictures are reduced until their shorter side has so many pixels; None = kept."""
    layout: str = ""


@dataclass(frozen=True)
class Prepared:
    """What came of one triple."""

    pair: Pair | None
    label_map: np.ndarray | None
    """uint8 (H, W): the ids as they will be stored, for counting."""
    image: np.ndarray | None
    problems: tuple[str, ...] = ()


def prepare(triple: Triple, rules: Rules) -> Prepared:
    """Reads the files of a triple, checks them against each other, and makes its row."""
    problems: list[str] = []
    data: dict[str, bytes] = {}
    image = label_map = instance_map = None
    for name, entry in (("image", triple.image), ("label", triple.label_map), ("instance", triple.instance_map)):
        try:
            data[name] = storage.read_bytes(entry.uri) if entry else b""
        except OSError as error:
            problems.append(f"can't be read: {error}")
    if problems:
        return Prepared(None, None, None, tuple(problems))
    try:
        image = decode_image(data["image"], formats=FORMATS)
    except ImageError as error:
        problems.append(f"{triple.image.uri}: {error.message}")
    try:
        label_map = read_label_map(data["label"], rules)
        problem = check_label_map(label_map, rules.classes, rules.dontcare, rules.shift)
        problems += [f"{triple.label_map.uri}: {problem}"] * bool(problem)
    except LabelMapError as error:
        problems.append(f"{triple.label_map.uri}: {error.message}")
    if triple.instance_map is not None:
        try:
            instance_map = decode_instance_map(data["instance"])
        except LabelMapError as error:
            problems.append(f"{triple.instance_map.uri}: {error.message}")
    problems += _size_problems(triple, image, label_map, instance_map)
    if problems or image is None or label_map is None:
        return Prepared(None, label_map, None, tuple(problems))
    return _row(triple, rules, data["image"], image, label_map, instance_map)


def read_label_map(data: bytes, rules: Rules) -> np.ndarray:
    """PNG bytes -> uint8 (H, W) of ids, the layout's shift taken off: below 0, and 255, become 255. LabelMapError."""
    if rules.shift and holds_colours(data):
        raise LabelMapError("unsupported_mode", "a label map of RGB; this layout's files hold one number per pixel")
    ids = read_ids(data, rules.classes)
    if not rules.shift:
        return ids
    return np.where((ids < rules.shift) | (ids == IGNORE), IGNORE, ids - np.uint8(rules.shift)).astype(np.uint8)


def _size_problems(
    triple: Triple, image: np.ndarray | None, label_map: np.ndarray | None, instance_map: np.ndarray | None
) -> list[str]:
    if image is None:
        return []
    height, width = image.shape[:2]
    problems = []
    for entry, found in ((triple.label_map, label_map), (triple.instance_map, instance_map)):
        if entry is not None and found is not None and found.shape != (height, width):
            problems.append(
                f"{entry.uri}: {found.shape[1]}x{found.shape[0]} px, its picture {triple.image.path} has "
                f"{width}x{height}; both must have one size"
            )
    return problems


def _row(
    triple: Triple,
    rules: Rules,
    data: bytes,
    image: np.ndarray,
    label_map: np.ndarray,
    instance_map: np.ndarray | None,
) -> Prepared:
    short = min(label_map.shape)
    if rules.short_side and short > rules.short_side:
        height, width = (round(side * rules.short_side / short) for side in label_map.shape)
        image, label_map = resize_image(image, (height, width)), resize_label_map(label_map, (height, width))
        instance_map = None if instance_map is None else resize_label_map(instance_map, (height, width))
        stored = encode_jpeg(image, JPEG_QUALITY) if file_kind(data) in ("JPEG", "WEBP") else encode_png(image)
    else:
        stored = data if file_kind(data) in ("JPEG", "PNG", "WEBP") else encode_png(image)
    pair = Pair(
        id=triple.id,
        image=stored,
        label_map=encode_label_map(label_map, rules.classes),
        width=label_map.shape[1],
        height=label_map.shape[0],
        split=triple.split,
        source_id=triple.source_id,
        provenance=provenance(labels="imported", layout=rules.layout, file=triple.label_map.path),
        instance_map=None if instance_map is None else encode_instance_map(instance_map),
    )
    return Prepared(pair, label_map, image)
