"""labelme annotations as uploads: JSON -> label map at the generator's size."""

from __future__ import annotations

import asyncio

import numpy as np
from fastapi import APIRouter, Response

from gaugan import images, labels
from gaugan.annotations import Annotation, AnnotationError, paint_annotation, parse_labelme
from gaugan.shapes import class_ids
from serve import schema, uploads
from serve.problems import Problem
from serve.service import PNG, UPLOAD_PROBLEMS, PainterDep, file_of

MAX_SHAPES = 300
MAX_POINTS = 50_000
"""Together, over all shapes."""
MAX_MASK_PIXELS = 4 * uploads.MAX_PIXELS
"""Together, over all shapes of kind mask."""
NAME = "labelme file"

router = APIRouter()


@router.post(
    "/v1/labelme",
    response_class=Response,
    responses={200: file_of(PNG, "Label map (indexed PNG) at the model's size"), **UPLOAD_PROBLEMS},
    tags=["label maps"],
)
async def labelme(painter: PainterDep, annotation: schema.LabelmeFile) -> Response:
    """Turn a labelme annotation into a label map, as labelme paints it, cropped and scaled to the model's size."""
    data = await annotation.read()
    ids = await asyncio.to_thread(read_annotation, data, painter.table, painter.card.image_size)
    body = await asyncio.to_thread(labels.encode_label_map, ids, painter.table)
    return Response(body, media_type=PNG, headers={"X-Classes-Hash": painter.table.hash})


def read_annotation(data: bytes, table: labels.ClassTable, size: tuple[int, int]) -> np.ndarray:
    """labelme JSON -> uint8 `size` (height, width) of class ids. Raises Problem naming the shape and the remedy."""
    try:
        annotation = parse_labelme(data, NAME, MAX_MASK_PIXELS)
        _check_effort(annotation)
        painted = paint_annotation(annotation, class_ids(table)).label_map
    except AnnotationError as error:
        raise Problem("bad_annotation", f"{NAME}: {_first(error)}.") from error
    uploads.refuse_ignored(painted)
    return images.fit_label_map(painted, size)


def _check_effort(annotation: Annotation) -> None:
    """What would take seconds to paint is refused before it is painted."""
    shapes = annotation.shapes
    counts = {
        "shapes": (len(shapes), MAX_SHAPES),
        "points": (sum(len(shape.points) for shape in shapes), MAX_POINTS),
        "pixels": ((annotation.height or 0) * (annotation.width or 0), uploads.MAX_PIXELS),
    }
    for what, (count, most) in counts.items():
        if count > most:
            raise AnnotationError(f"{count:,} {what}; at most {most:,} are read")


def _first(error: AnnotationError) -> str:
    """The first problem, without the name in front of it."""
    more = f" (and {len(error.problems) - 1} more problems)" if len(error.problems) > 1 else ""
    advice_for_folders = "; move it out of the folder"
    return error.problems[0].removeprefix(f"{NAME}: ").rstrip(".").removesuffix(advice_for_folders) + more
