"""Label maps to measure on: drawn portraits, COCO-Stuff files, a synthetic stand-in for them, and noise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

COCO_CLASSES = 183
"""182 ids and one class for unlabelled pixels (255)."""


def make_label_maps(kind: str, size: int, count: int, label_dir: str = "") -> tuple[list[Tensor], int, str]:
    """[int64 (1, size, size)] * count, the number of classes, and what the maps are."""
    if kind == "portrait":
        from gaugan.portraits import draw_portrait

        return [as_map(draw_portrait(1000 + seed, size)[1]) for seed in range(count)], 7, "drawn portraits"
    if kind == "noise":
        generator = torch.Generator().manual_seed(0)
        return [torch.randint(0, 7, (1, size, size), generator=generator) for _ in range(count)], 7, "noise"
    if not label_dir:
        maps = [as_map(draw_ragged(seed, size)) for seed in range(count)]
        return maps, COCO_CLASSES, "synthetic ragged regions, 183 classes"
    return read_label_maps(label_dir, size, count), COCO_CLASSES, f"files of {Path(label_dir).name}"


def read_label_maps(label_dir: str, size: int, count: int) -> list[Tensor]:
    """The first `count` label pictures of a folder (repeated when there are fewer), 255 as the last class."""
    from PIL import Image

    paths = sorted(path for path in Path(label_dir).iterdir() if path.suffix.lower() == ".png")
    if not paths:
        raise SystemExit(f"--label-dir {label_dir}: no .png files there")
    maps = []
    for number in range(count):
        picture = Image.open(paths[number % len(paths)]).resize((size, size), Image.Resampling.NEAREST)
        ids = np.asarray(picture)
        maps.append(as_map(np.where(ids == 255, COCO_CLASSES - 1, ids)))
    return maps


def draw_ragged(seed: int, size: int) -> np.ndarray:
    """uint8 (size, size): some twenty regions of random classes whose borders are torn by smooth noise."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:size, :size] / size
    shift = sum(
        rng.normal(0, 0.06 / 2**k, (2, 1, 1)) * np.sin(rng.uniform(0, 6) + 2**k * 9 * (rows + columns))
        for k in range(5)
    )
    shift = shift + rng.normal(0, 0.0035, (2, size, size))
    centres, ids = rng.random((20, 2)), rng.integers(0, COCO_CLASSES - 1, 20)
    points = np.stack([rows, columns]) + shift
    distances = [((points - centre[:, None, None]) ** 2).sum(0) for centre in centres]
    return ids[np.argmin(distances, axis=0)].astype(np.uint8)


def as_map(ids: np.ndarray) -> Tensor:
    """(H, W) -> int64 (1, H, W)."""
    return torch.from_numpy(ids.astype(np.int64))[None]
