"""labelme files for tests."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gaugan.annotations import (
    AnnotationError,
    rasterise,
    read_labelme,
    read_picture,
)
from gaugan.labels import PORTRAIT_CLASSES
from gaugan.shapes import class_ids

IDS = class_ids(PORTRAIT_CLASSES)
HAIR, FACE, EYE = (PORTRAIT_CLASSES.ids[name] for name in ("hair", "face", "eye"))


def png(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()


def shape(label: str, points: list[Any], kind: str | None = "polygon", **extra: Any) -> dict[str, Any]:
    return {"label": label, "points": points, "shape_type": kind, "group_id": None, "flags": {}, **extra}


def box(label: str, left: int, top: int, right: int, bottom: int) -> dict[str, Any]:
    return shape(label, [[left, top], [right, bottom]], "rectangle")


def write(
    folder: Path, shapes: list[Any], name: str = "a.json", size: tuple[int, int] = (24, 32), **fields: Any
) -> str:
    """A labelme file (and, unless fields say otherwise, its picture) in `folder`; returns the path."""
    folder.mkdir(parents=True, exist_ok=True)
    content: dict[str, Any] = {
        "version": "5.5.0",
        "flags": {},
        "shapes": shapes,
        "imagePath": "a.png",
        "imageData": None,
        "imageHeight": size[0],
        "imageWidth": size[1],
    }
    content = {key: value for key, value in (content | fields).items() if value != "absent"}
    (folder / name).write_text(json.dumps(content))
    if content.get("imagePath") == "a.png" and not (folder / "a.png").exists():
        (folder / "a.png").write_bytes(png(np.full((*size, 3), 120, dtype=np.uint8)))
    return str(folder / name)


def painted(tmp_path: Path, shapes: list[Any], **options: Any) -> np.ndarray:
    return rasterise(read_labelme(write(tmp_path, shapes)), IDS, **options)


def problem(tmp_path: Path, shapes: list[Any] | None = None, **fields: Any) -> str:
    """The message of the error that reading the file and its picture raises."""
    with pytest.raises(AnnotationError) as caught:
        annotation = read_labelme(write(tmp_path, [] if shapes is None else shapes, **fields))
        read_picture(annotation)
        rasterise(annotation, IDS)
    assert "a.json" in str(caught.value)
    return str(caught.value)
