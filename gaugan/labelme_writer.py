"""Label maps written as labelme JSON: as masks, which read back exactly, or as polygons, which a person can edit."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from gaugan.labels import IGNORE, ClassTable
from gaugan.polygons import Polygon
from gaugan.shapes import IGNORE_LABEL


def write_labelme(label_map: np.ndarray, table: ClassTable, image_path: str) -> str:
    """Label map -> labelme JSON text, one `mask` shape per class (not background), that reads back to the same map.

    `image_path` is the picture relative to where the JSON will lie.
    """
    present = [int(number) for number in np.unique(label_map) if number != 0]
    shapes = [_mask_shape(_name(number, table), label_map == number) for number in present]
    return _content(shapes, image_path, label_map.shape)


def write_labelme_polygons(
    polygons: Sequence[Polygon], table: ClassTable, image_path: str, size: tuple[int, int], description: str = ""
) -> str:
    """Polygons, in painting order, -> labelme JSON text; `size` is the picture's height and width; `description` is
    shown beside the first shape.
    """
    shapes = [_shape(_name(each.id, table), "polygon", [list(point) for point in each.points]) for each in polygons]
    if shapes:
        shapes[0]["description"] = description
    return _content(shapes, image_path, size)


def _content(shapes: list[dict[str, Any]], image_path: str, size: tuple[int, ...]) -> str:
    content: dict[str, Any] = {
        "version": "5.5.0",
        "flags": {},
        "shapes": shapes,
        "imagePath": image_path,
        "imageData": None,
        "imageHeight": int(size[0]),
        "imageWidth": int(size[1]),
    }
    return json.dumps(content, indent=2, ensure_ascii=False)


def _name(number: int, table: ClassTable) -> str:
    return IGNORE_LABEL if number == IGNORE else table.names[number]


def _shape(label: str, kind: str, points: list[list[int]], **more: Any) -> dict[str, Any]:
    common: dict[str, Any] = {
        "label": label,
        "points": points,
        "group_id": None,
        "description": "",
        "shape_type": kind,
        "flags": {},
    }
    return common | more


def _mask_shape(label: str, area: np.ndarray) -> dict[str, Any]:
    from PIL import Image

    rows, columns = np.flatnonzero(area.any(axis=1)), np.flatnonzero(area.any(axis=0))
    top, bottom, left, right = int(rows[0]), int(rows[-1]), int(columns[0]), int(columns[-1])
    buffer = io.BytesIO()
    Image.fromarray(area[top : bottom + 1, left : right + 1].astype(np.uint8) * 255).save(buffer, "PNG")
    mask = base64.b64encode(buffer.getvalue()).decode()
    return _shape(label, "mask", [[left, top], [right, bottom]], mask=mask)
