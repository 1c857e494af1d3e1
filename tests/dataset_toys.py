"""Small datasets in the layouts of jobs/import_dataset.py, made of noise; nothing of them is a real picture."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

SIZE = (12, 16)


def png(pixels: np.ndarray) -> bytes:
    """uint8 (H, W[, 3]) or uint16 (H, W) -> PNG bytes."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def jpeg(seed: int, size: tuple[int, int] = SIZE) -> bytes:
    """A noise picture."""
    buffer = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, "JPEG")
    return buffer.getvalue()


def label_map(seed: int, highest: int = 6, size: tuple[int, int] = SIZE) -> np.ndarray:
    """uint8 blocks of ids 0..highest."""
    small = np.random.default_rng(seed).integers(0, highest + 1, (size[0] // 4, size[1] // 4))
    return np.kron(small, np.ones((4, 4))).astype(np.uint8)


def write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def write_coco(root: Path, train: int = 3, val: int = 2, portraits: int = 1, instances: bool = True) -> str:
    """NAME is the number, so that natural and alphabetic order differ from 10 on."""
    parts = [("train", "", range(8, 8 + train)), ("val", "", range(val)), ("train", "_portrait", range(portraits))]
    for phase, suffix, numbers in parts:
        for number in numbers:
            ids = label_map(number, 181)
            ids[0, 0] = 255
            write(root / f"{phase}_img{suffix}" / f"{number}.jpg", jpeg(number))
            write(root / f"{phase}_label{suffix}" / f"{number}.png", png(ids))
            if instances:
                write(root / f"{phase}_inst{suffix}" / f"{number}.png", png(ids // 2))
    return str(root)


def write_ade20k(root: Path) -> str:
    """Raw ids 0 (unknown) to 150 in one tree."""
    for number, phase in enumerate(["train", "train", "val"]):
        ids = label_map(number, 149) + 1
        ids[0, 0], ids[0, 1] = 0, 150
        name = f"ADE_{phase}_{number:08d}"
        write(root / "images" / f"{name}.jpg", jpeg(number))
        write(root / "annotations" / f"{name}.png", png(ids))
    return str(root)


def write_cityscapes(root: Path) -> str:
    """Twice as wide as high, 16-bit instance maps."""
    size = (8, 16)
    for number, phase in enumerate(["train", "train", "val"]):
        ids, name = label_map(number, 33, size), f"{phase}/ulm/ulm_{number:06d}_000019"
        write(root / "leftImg8bit" / f"{name}_leftImg8bit.png", png(np.full((*size, 3), number, dtype=np.uint8)))
        write(root / "gtFine" / f"{name}_gtFine_labelIds.png", png(ids))
        write(root / "gtFine" / f"{name}_gtFine_instanceIds.png", png(ids.astype(np.uint16) * 1000 + 1))
        write(root / "gtFine" / f"{name}_gtFine_color.png", png(np.zeros((*size, 3), dtype=np.uint8)))
    return str(root)


def write_facades(root: Path) -> str:
    """Ids 1..12."""
    for number, phase in enumerate(["train", "train", "val"]):
        write(root / f"{phase}_img" / f"{number}.jpg", jpeg(number))
        write(root / f"{phase}_label" / f"{number}.png", png(label_map(number, 11) + 1))
    return str(root)


def write_custom(root: Path, count: int = 5) -> str:
    """images/, labels/ and instances/, ids 0..4."""
    for number in range(count):
        ids = label_map(number, 4)
        write(root / "images" / f"{number}.png", png(np.full((*SIZE, 3), number, dtype=np.uint8)))
        write(root / "labels" / f"{number}.png", png(ids))
        write(root / "instances" / f"{number}.png", png(ids))
    return str(root)
