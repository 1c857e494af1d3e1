"""POST /v2/models/NAME/infer: painting and segmenting for clients of the Open Inference Protocol v2."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
from fastapi import APIRouter, Header, Request, Response

from serve import schema, uploads
from serve.backend import PaintJob
from serve.problems import Problem
from serve.service import UPLOAD_PROBLEMS, NotesDep, Painter, PainterDep, Service, ServiceDep, problems_of
from serve.tensors import DTYPES, InferRequest, check_names, read_request, write_answer

PAINT_INPUTS = ("seed", "style", "style2", "blend")
DEFAULT_BLEND = 0.5

_TENSOR = {
    "type": "object",
    "required": ["name", "shape", "datatype"],
    "properties": {
        "name": {"type": "string"},
        "shape": {"type": "array", "items": {"type": "integer", "minimum": 0}},
        "datatype": {"enum": sorted(DTYPES)},
        "parameters": {"type": "object"},
        "data": {"type": "array", "items": {}},
    },
}
_REQUEST = {
    "type": "object",
    "required": ["inputs"],
    "properties": {
        "id": {"type": "string"},
        "inputs": {"type": "array", "items": _TENSOR},
        "outputs": {"type": "array", "items": {"type": "object", "required": ["name"]}},
        "parameters": {"type": "object"},
    },
}
_ANSWER = {
    "type": "object",
    "required": ["model_name", "model_version", "outputs"],
    "properties": {"outputs": {"type": "array", "items": _TENSOR}},
}
_BINARY = {"schema": {"type": "string", "format": "binary"}}
DESCRIPTION: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": _REQUEST}, "application/octet-stream": _BINARY},
    }
}
ANSWER: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The output tensors",
        "content": {"application/json": {"schema": _ANSWER}, "application/octet-stream": _BINARY},
    },
    **UPLOAD_PROBLEMS,
    **problems_of(404),
}
router = APIRouter(tags=["model"])


@router.get("/v2")
async def server() -> schema.ServerAnswer:
    """Server metadata (Open Inference Protocol v2)."""
    return schema.ServerAnswer(name="gaugan", version="1", extensions=["binary_tensor_data"])


@router.post("/v2/models/{name}/infer", response_class=Response, responses=ANSWER, openapi_extra=DESCRIPTION)
@router.post(
    "/v2/models/{name}/versions/{version}/infer",
    response_class=Response,
    responses=ANSWER,
    openapi_extra=DESCRIPTION,
)
async def infer(
    request: Request,
    service: ServiceDep,
    painter: PainterDep,
    notes: NotesDep,
    name: str,
    version: str | None = None,
    inference_header_content_length: str | None = Header(default=None),
) -> Response:
    """Paint (`label_map`, optional `seed`, `style`, `style2`, `blend`) or segment (`image`)."""
    segmenter = await service.backend.segmenter_card()
    cards = [card for card in (painter.card, segmenter) if card is not None]
    card = next((one for one in cards if one.name == name and version in (None, one.version)), None)
    if card is None:
        loaded = ", ".join(f"{one.name} {one.version}" for one in cards)
        raise Problem("not_found", f"No model is called {name!r} {version or ''}; loaded are {loaded}.")
    body = await request.body()
    asked = await asyncio.to_thread(read_request, body, inference_header_content_length)
    if card is painter.card:
        jobs = _paint_jobs(asked, painter)
        painted = await service.backend.paint(jobs)
        service.note(notes, painted)
        card, outputs = painted.card, {"image": np.stack(painted.pictures)}
    else:
        outputs = await _segment(asked, service)
    data, headers = await asyncio.to_thread(write_answer, asked, card.name, card.version, outputs)
    return Response(data, headers=headers)


def _paint_jobs(asked: InferRequest, painter: Painter) -> list[PaintJob]:
    """One job per label map of the batch."""
    check_names(asked.inputs, "label_map", PAINT_INPUTS)
    maps = _tensor(asked, "label_map", np.uint8, (None, *painter.card.image_size))
    assert maps is not None
    count = len(maps)
    if not 1 <= count <= schema.MAX_PICTURES:
        raise Problem(
            "invalid_field", f"label_map: {count} label maps; 1 to {schema.MAX_PICTURES} are painted in a call."
        )
    seeds = _tensor(asked, "seed", np.int64, (count,))
    styles = [_tensor(asked, each, np.uint8, (count, None, None, 3)) for each in ("style", "style2")]
    blends = _tensor(asked, "blend", np.float32, (count,))
    if seeds is not None and not ((seeds >= 0) & (seeds <= schema.MAX_SEED)).all():
        raise Problem("invalid_field", f"seed: allowed are 0 to {schema.MAX_SEED}.")
    if blends is not None and not ((blends >= 0) & (blends <= 1)).all():
        raise Problem("invalid_field", "blend: allowed are 0 (style alone) to 1 (style2 alone).")
    if styles[0] is not None and not painter.card.has_style:
        raise Problem("no_style", "This generator was trained without styles; send the label map alone.")
    if styles[1] is not None and styles[0] is None:
        raise Problem("invalid_field", "style2 mixes with style: send both.")
    return [
        PaintJob(
            uploads.check_label_map(maps[place], painter.table, painter.card.image_size),
            place if seeds is None else int(seeds[place]),
            None if styles[0] is None else styles[0][place],
            None if styles[1] is None else styles[1][place],
            DEFAULT_BLEND if blends is None else float(blends[place]),
        )
        for place in range(count)
    ]


def _tensor(
    asked: InferRequest, name: str, dtype: type[np.generic], shape: tuple[int | None, ...]
) -> np.ndarray | None:
    """The input of that name, None when it was not sent; None in `shape` = any size above 0."""
    array = asked.inputs.get(name)
    if array is None:
        return None
    fits = array.ndim == len(shape) and all(
        found == size or (size is None and found > 0) for found, size in zip(array.shape, shape, strict=True)
    )
    if array.dtype != dtype or not fits:
        sizes = ", ".join("any" if size is None else str(size) for size in shape)
        detail = f"{array.dtype} of shape {list(array.shape)}; needed is {np.dtype(dtype)} of shape [{sizes}]"
        raise Problem("invalid_field", f"inputs: {name}: {detail}.")
    return array


async def _segment(asked: InferRequest, service: Service) -> dict[str, np.ndarray]:
    check_names(asked.inputs, "image", ())
    pictures = _tensor(asked, "image", np.uint8, (None, None, None, 3))
    assert pictures is not None
    if len(pictures) > schema.MAX_PICTURES:
        raise Problem("invalid_field", f"image: {len(pictures)} pictures; at most {schema.MAX_PICTURES} in a call.")
    found = await asyncio.gather(*(service.backend.segment(picture) for picture in pictures))
    return {
        "label_map": np.stack([one.label_map for one in found]),
        "confidence": np.array([one.confidence for one in found], dtype=np.float32),
    }
