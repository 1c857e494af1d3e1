"""The quality gate of a model swap: both models paint the same label maps, and the new one must not be worse.

Runs in a process of its own (see serve/switch.py), so that a model which crashes takes nobody along. Refused are
another class table or size, flat pictures, pictures that don't follow the label map, pictures far from the old
model's, and, where there is a segmenter, pictures in which it recognises clearly less of the label map.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gaugan import images, labels, storage
from gaugan.errors import UserError
from serve.models import ModelSource
from serve.templates import draw_template, template_ids

if TYPE_CHECKING:
    from gaugan.painter import Painter

NUM_DRAWN_MAPS = 6
MAX_GATE_MAPS = 16
CELLS = 12
"""Regions of a made-up label map, for class tables of which no portraits can be drawn."""


@dataclass(frozen=True)
class GateLimits:
    """How much worse than the old model a new one may be."""

    max_difference: float = 0.35
    """Mean absolute difference of the two models' pictures, as a share of the value range."""
    min_contrast: float = 0.5
    """Standard deviation within a picture, as a share of the old model's."""
    min_spread: float = 0.5
    """Difference between the pictures of different label maps, as a share of the old model's."""
    max_agreement_drop: float = 0.05
    """Share of pixels in which the segmenter finds the label map again, at most this much less."""


def examine(
    current: ModelSource,
    wanted: ModelSource,
    segmenter: ModelSource | None,
    gate_uri: str | None = None,
    limits: GateLimits = GateLimits(),  # noqa: B008  (frozen)
) -> dict[str, Any]:
    """Paints with both models -> {"passed", "reasons", figures..}. Raises UserError for a model that can't be used."""
    from gaugan.painter import Painter

    new = Painter.load(wanted.checkpoint_uri())
    old = Painter.load(current.checkpoint_uri())
    if new.classes.hash != old.classes.hash:
        raise UserError(
            f"its class table {new.classes.name!r} ({new.classes.hash}) is not the served one "
            f"{old.classes.name!r} ({old.classes.hash}); start another server for it"
        )
    if new.image_size != old.image_size:
        raise UserError(
            f"it paints {_words(new.image_size)}, the served model {_words(old.image_size)}; "
            "start another server for it"
        )
    maps = gate_label_maps(old.classes, old.image_size, gate_uri)
    old_pictures, new_pictures = _paint(old, maps), _paint(new, maps)
    agreements = None
    if segmenter is not None:
        agreements = tuple(_agreement(segmenter, pictures, maps) for pictures in (old_pictures, new_pictures))
    return compare(old_pictures, new_pictures, agreements, limits)  # type: ignore[arg-type]


def _words(size: tuple[int, int]) -> str:
    return f"{size[1]}x{size[0]}"


def gate_label_maps(table: labels.ClassTable, size: tuple[int, int], uri: str | None = None) -> list[np.ndarray]:
    """uint8 `size` label maps: the PNG files of a folder, else drawn portraits, else made-up regions."""
    if uri is not None:
        entries = storage.list_files(uri, suffixes=(".png",))[:MAX_GATE_MAPS]
        if not entries:
            raise UserError(f"--gate-maps {uri}: no PNG label maps in this folder")
        found = [_read_map(entry.uri, table) for entry in entries]
        return [images.resize_label_map(np.where(one == labels.IGNORE, 0, one).astype(np.uint8), size) for one in found]
    ids = template_ids(table)
    if ids:
        return [draw_template(one, size) for one in ids[:NUM_DRAWN_MAPS]]
    return [_regions(table.num_classes, size, seed) for seed in range(NUM_DRAWN_MAPS)]


def _read_map(uri: str, table: labels.ClassTable) -> np.ndarray:
    try:
        return labels.decode_label_map(storage.read_bytes(uri), table)
    except labels.LabelMapError as error:
        raise UserError(f"--gate-maps {uri}: {error.message}") from error


def _regions(num_classes: int, size: tuple[int, int], seed: int) -> np.ndarray:
    """Each pixel takes the class of the closest of CELLS random points."""
    rng = np.random.default_rng(seed)
    points, classes = rng.random((CELLS, 2)) * size, rng.integers(0, num_classes, CELLS)
    places = np.moveaxis(np.mgrid[: size[0], : size[1]], 0, -1)
    distances = ((places[:, :, None] - points) ** 2).sum(-1)
    return classes[distances.argmin(-1)].astype(np.uint8)


def _paint(painter: Painter, maps: Sequence[np.ndarray]) -> np.ndarray:
    return painter.paint(np.stack(list(maps)), seeds=list(range(len(maps))))


def _agreement(source: ModelSource, pictures: np.ndarray, maps: Sequence[np.ndarray]) -> float:
    from gaugan.segmenter import Segmenter

    found = Segmenter.load(source.checkpoint_uri(), device="cpu").segment(list(pictures))
    return float(np.mean([(one.label_map == label_map).mean() for one, label_map in zip(found, maps, strict=True)]))


def compare(
    old: np.ndarray,
    new: np.ndarray,
    agreements: tuple[float, float] | None = None,
    limits: GateLimits = GateLimits(),  # noqa: B008
) -> dict[str, Any]:
    """uint8 (N, H, W, 3) of both models for the same label maps -> the report; `agreements`: (old, new)."""
    figures: dict[str, Any] = {
        "label_maps": len(old),
        "difference": _distance(old, new),
        "contrast_old": _contrast(old),
        "contrast_new": _contrast(new),
        "spread_old": _spread(old),
        "spread_new": _spread(new),
    }
    reasons = []
    if figures["contrast_new"] < limits.min_contrast * figures["contrast_old"] or figures["contrast_new"] == 0:
        reasons.append("its pictures are flat")
    if figures["spread_new"] < limits.min_spread * figures["spread_old"]:
        reasons.append("its pictures hardly follow the label map")
    if figures["difference"] > limits.max_difference:
        reasons.append("its pictures are far from the served model's")
    if agreements is not None:
        figures["agreement_old"], figures["agreement_new"] = (round(value, 4) for value in agreements)
        if agreements[1] < agreements[0] - limits.max_agreement_drop:
            reasons.append("the segmenter recognises less of the label map in its pictures")
    return {"passed": not reasons, "reasons": reasons, **figures}


def _distance(one: np.ndarray, other: np.ndarray) -> float:
    return round(float(np.abs(one.astype(np.int16) - other).mean()) / 255, 4)


def _contrast(pictures: np.ndarray) -> float:
    return round(float(pictures.std(axis=(1, 2)).mean()) / 255, 4)


def _spread(pictures: np.ndarray) -> float:
    pairs = list(itertools.combinations(pictures, 2))
    return round(float(np.mean([_distance(one, other) for one, other in pairs])), 4) if pairs else 0.0
