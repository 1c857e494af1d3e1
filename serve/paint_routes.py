"""The endpoints that take uploads: paint, segment, check a label map."""

from __future__ import annotations

import asyncio
import math
import secrets
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from fastapi import APIRouter, Request, Response, UploadFile

from gaugan import images, labels
from serve import answers, schema, uploads
from serve.answers import MEDIA_TYPES, ZIP, Format
from serve.backend import ModelCard, PaintJob
from serve.cache import CachedAnswer, content_key
from serve.observe import Notes
from serve.problems import Problem
from serve.service import (
    PNG,
    UPLOAD_PROBLEMS,
    NotesDep,
    Painter,
    PainterDep,
    Service,
    ServiceDep,
    file_of,
    off_loop,
    problems_of,
)

SEEDS = schema.MAX_SEED + 1

PAINT_ANSWER: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The painting. With n > 1 a sheet, or a zip of single files with Accept: application/zip.",
        "content": {kind: {"schema": {"type": "string", "format": "binary"}} for kind in (*MEDIA_TYPES.values(), ZIP)},
        "headers": {
            "X-Seed": {"schema": {"type": "integer"}, "description": "Seed of the (first) painting."},
            "X-Model": {"schema": {"type": "string"}, "description": "Who painted it."},
        },
    },
    **UPLOAD_PROBLEMS,
}
router = APIRouter()


@dataclass(frozen=True)
class _Order:
    """A checked request."""

    jobs: list[PaintJob]
    form: Format
    as_zip: bool

    @property
    def seeds(self) -> list[int]:
        return [job.seed for job in self.jobs]

    def key(self, card: ModelCard) -> str:
        """Names everything that the answer depends on."""
        job = self.jobs[0]
        return content_key(
            card.checkpoint_hash, job.label_map, job.style, job.style2, job.blend, *self.seeds, self.form, self.as_zip
        )


@router.post("/v1/paint", response_class=Response, responses=PAINT_ANSWER, tags=["paint"])
async def paint(
    request: Request,
    service: ServiceDep,
    painter: PainterDep,
    notes: NotesDep,
    label_map: schema.LabelMapFile,
    shape: schema.Shape = None,
    style: schema.StyleFile = None,
    style_id: schema.StyleId = None,
    style2: schema.Style2File = None,
    style2_id: schema.StyleId = None,
    blend: schema.Blend = 0.0,
    seed: schema.Seed = None,
    n: schema.Count = 1,
    resize: schema.Resize = "refuse",
    format: schema.Format = "png",  # noqa: A002  (the field's name)
    x_classes_hash: schema.ClassesHash = None,
) -> Response:
    """Paint a label map. The same label map, style, seed and model give the same bytes."""
    begun = time.perf_counter()
    _check_hash(x_classes_hash, painter.table)
    size = painter.card.image_size
    ids = await _label_map(label_map, shape, painter, resize)
    first_style = await _style(service, style, style_id, "style", size)
    second_style = await _style(service, style2, style2_id, "style2", size)
    if first_style is not None and not painter.card.has_style:
        raise Problem("no_style", "This generator was trained without styles; send the label map alone.")
    if second_style is not None and first_style is None:
        raise Problem("invalid_field", "style2 mixes with style: send both.")
    first_seed = secrets.randbelow(SEEDS) if seed is None else seed
    seeds = [(first_seed + place) % SEEDS for place in range(n)]
    jobs = [PaintJob(ids, one, first_style, second_style, blend) for one in seeds]
    order = _Order(jobs, format, n > 1 and ZIP in request.headers.get("accept", ""))
    notes.seed, notes.input_s = first_seed, time.perf_counter() - begun
    return await _answer(service, painter, notes, order)


async def _answer(service: Service, painter: Painter, notes: Notes, order: _Order) -> Response:
    """Paints, or answers from memory when the same was asked before."""
    cached = None
    if service.cache.max_bytes:
        cached = service.cache.get(order.key(painter.card))
        notes.cache = "miss" if cached is None else "hit"
        service.metrics.record("gaugan_cache", result=notes.cache)
    card = painter.card
    if cached is None:
        painted = await service.backend.paint(order.jobs)
        card = painted.card  # the model may have been changed since the request came
        service.note(notes, painted)
        begun = time.perf_counter()
        pixels = len(painted.pictures) * math.prod(card.image_size)
        cached = await off_loop(_encode, painted.pictures, order, card, painter.table.hash, pixels=pixels)
        notes.output_s = time.perf_counter() - begun
        service.cache.put(order.key(card), cached)
    headers = {
        "X-Seed": str(order.jobs[0].seed),
        "X-Model": f"{card.name}; version={card.version}; checkpoint={card.checkpoint_hash}",
        "X-Classes-Hash": painter.table.hash,
        "Cache-Control": "no-store",
        **({"X-Cache": notes.cache} if notes.cache else {}),
    }
    return Response(cached.body, media_type=cached.media_type, headers=headers)


def _encode(pictures: list[np.ndarray], order: _Order, card: ModelCard, classes_hash: str) -> CachedAnswer:
    return CachedAnswer(*answers.encode_paintings(pictures, order.seeds, card, classes_hash, order.form, order.as_zip))


async def _label_map(upload: UploadFile, shape: str | None, painter: Painter, resize: str) -> np.ndarray:
    """A PNG, or with `shape` the ids as they are."""
    data, size = await upload.read(), painter.card.image_size
    if shape is not None:
        return uploads.read_raw_ids(data, uploads.parse_shape(shape), painter.table, size, resize)
    pixels = math.prod(size) if resize == "refuse" else uploads.MAX_PIXELS  # of another size, only the header is read
    return await off_loop(uploads.read_label_map, data, painter.table, size, resize, pixels=pixels)


async def _style(
    service: Service, upload: UploadFile | None, style_id: str | None, field: str, size: tuple[int, int]
) -> np.ndarray | None:
    """The style picture at the model's size: uploaded, or from the gallery by id."""
    if upload is not None and style_id:
        raise Problem("invalid_field", f"Send either {field} or {field}_id, not both.")
    if style_id:
        if style_id not in service.styles:
            raise Problem("unknown_style", f"{field}_id: no style has the id {style_id!r}; see GET /v1/styles.")
        image = service.styles[style_id].image
    elif upload is not None:
        image = await asyncio.to_thread(uploads.read_picture, await upload.read(), field)
    else:
        return None
    return await asyncio.to_thread(images.fit_image, image, size)


def _check_hash(given: str | None, table: labels.ClassTable) -> None:
    if given is not None and given != table.hash:
        detail = (
            f"X-Classes-Hash is {given!r}, the model's class table is {table.hash}. Map the ids to GET /v1/classes."
        )
        raise Problem("classes_mismatch", detail)


@router.post(
    "/v1/segment",
    response_class=Response,
    responses={200: file_of(PNG, "Label map (indexed PNG)"), **UPLOAD_PROBLEMS, **problems_of(501)},
    tags=["label maps"],
)
async def segment(
    service: ServiceDep, painter: PainterDep, notes: NotesDep, image: schema.PictureFile, fit: schema.Fit = "own"
) -> Response:
    """Turn a portrait into a label map. The header X-Confidence is the mean probability of the chosen classes."""
    begun = time.perf_counter()
    if await service.backend.segmenter_card() is None:
        raise Problem("no_segmenter", "Start the server with --segmenter URI to turn pictures into label maps.")
    picture = await asyncio.to_thread(uploads.read_picture, await image.read(), "image")
    if fit == "paint":
        picture = await asyncio.to_thread(images.fit_image, picture, painter.card.image_size)
    read = time.perf_counter()
    segmented = await service.backend.segment(picture)
    found = time.perf_counter()
    body = await asyncio.to_thread(labels.encode_label_map, segmented.label_map, painter.table)
    notes.input_s, notes.compute_s, notes.output_s = read - begun, found - read, time.perf_counter() - found
    headers = {"X-Confidence": f"{segmented.confidence:.4f}", "X-Classes-Hash": painter.table.hash}
    return Response(body, media_type=PNG, headers=headers)


@router.post(
    "/v1/label-map",
    response_class=Response,
    responses={200: file_of(PNG, "The same label map as indexed PNG at the model's size"), **UPLOAD_PROBLEMS},
    tags=["label maps"],
)
async def check_label_map(
    painter: PainterDep, label_map: schema.LabelMapFile, shape: schema.Shape = None, resize: schema.Resize = "refuse"
) -> Response:
    """Check a label map and answer it as an indexed PNG of class ids; nothing is painted."""
    ids = await _label_map(label_map, shape, painter, resize)
    return Response(
        labels.encode_label_map(ids, painter.table), media_type=PNG, headers={"X-Classes-Hash": painter.table.hash}
    )
