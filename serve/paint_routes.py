"""The endpoints that take uploads: paint, segment, check a label map."""

from __future__ import annotations

import asyncio
import secrets
from typing import Any

import numpy as np
from fastapi import APIRouter, Request, Response, UploadFile

from gaugan import images, labels
from serve import answers, schema, uploads
from serve.backend import PaintJob
from serve.problems import Problem
from serve.service import PNG, UPLOAD_PROBLEMS, ZIP, Painter, PainterDep, Service, ServiceDep, file_of, problems_of

PAINT_ANSWER: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The painting. With n > 1 a sheet of all, or a zip of single PNGs with Accept: application/zip.",
        "content": {kind: {"schema": {"type": "string", "format": "binary"}} for kind in (PNG, ZIP)},
    },
    **UPLOAD_PROBLEMS,
}
router = APIRouter()


@router.post("/v1/paint", response_class=Response, responses=PAINT_ANSWER, tags=["paint"])
async def paint(
    request: Request,
    service: ServiceDep,
    painter: PainterDep,
    label_map: schema.LabelMapFile,
    style: schema.StyleFile = None,
    style_id: schema.StyleId = None,
    style2: schema.Style2File = None,
    style2_id: schema.StyleId = None,
    blend: schema.Blend = 0.0,
    seed: schema.Seed = None,
    n: schema.Count = 1,
    resize: schema.Resize = "refuse",
    x_classes_hash: schema.ClassesHash = None,
) -> Response:
    """Paint a label map. The same label map, style, seed and model give the same bytes."""
    _check_hash(x_classes_hash, painter.table)
    size = painter.card.image_size
    ids = await asyncio.to_thread(uploads.read_label_map, await label_map.read(), painter.table, size, resize)
    first_style = await _style(service, style, style_id, "style", size)
    second_style = await _style(service, style2, style2_id, "style2", size)
    if first_style is not None and not painter.card.has_style:
        raise Problem("no_style", "This generator was trained without styles; send the label map alone.")
    if second_style is not None and first_style is None:
        raise Problem("invalid_field", "style2 mixes with style: send both.")
    first_seed = secrets.randbelow(schema.MAX_SEED + 1) if seed is None else seed
    seeds = [(first_seed + place) % (schema.MAX_SEED + 1) for place in range(n)]
    jobs = [PaintJob(ids, one, first_style, second_style, blend) for one in seeds]
    pictures = await service.backend.paint(jobs)
    wants_zip = n > 1 and ZIP in request.headers.get("accept", "")
    body, kind = await asyncio.to_thread(_encode, pictures, seeds, painter, wants_zip)
    headers = {
        "X-Seed": str(first_seed),
        "X-Model": f"{painter.card.name}; version={painter.card.version}; checkpoint={painter.card.checkpoint_hash}",
        "X-Classes-Hash": painter.table.hash,
        "Cache-Control": "no-store",
    }
    return Response(body, media_type=kind, headers=headers)


def _encode(pictures: list[np.ndarray], seeds: list[int], painter: Painter, as_zip: bool) -> tuple[bytes, str]:
    card, classes_hash = painter.card, painter.table.hash
    if as_zip:
        pngs = [answers.painting_png(one, seed, card, classes_hash) for one, seed in zip(pictures, seeds, strict=True)]
        return answers.paintings_zip({f"painting-{seed}.png": png for seed, png in zip(seeds, pngs, strict=True)}), ZIP
    if len(pictures) > 1:
        return answers.sheet_png(pictures, seeds[0], card, classes_hash), PNG
    return answers.painting_png(pictures[0], seeds[0], card, classes_hash), PNG


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
    service: ServiceDep, painter: PainterDep, image: schema.PictureFile, fit: schema.Fit = "own"
) -> Response:
    """Turn a portrait into a label map. The header X-Confidence is the mean probability of the chosen classes."""
    if await service.backend.segmenter_card() is None:
        raise Problem("no_segmenter", "Start the server with --segmenter URI to turn pictures into label maps.")
    picture = await asyncio.to_thread(uploads.read_picture, await image.read(), "image")
    if fit == "paint":
        picture = await asyncio.to_thread(images.fit_image, picture, painter.card.image_size)
    segmented = await service.backend.segment(picture)
    body = await asyncio.to_thread(labels.encode_label_map, segmented.label_map, painter.table)
    headers = {"X-Confidence": f"{segmented.confidence:.4f}", "X-Classes-Hash": painter.table.hash}
    return Response(body, media_type=PNG, headers=headers)


@router.post(
    "/v1/label-map",
    response_class=Response,
    responses={200: file_of(PNG, "The same label map as indexed PNG at the model's size"), **UPLOAD_PROBLEMS},
    tags=["label maps"],
)
async def check_label_map(
    painter: PainterDep, label_map: schema.LabelMapFile, resize: schema.Resize = "refuse"
) -> Response:
    """Check a label map and answer it as an indexed PNG of class ids; nothing is painted."""
    ids = await asyncio.to_thread(
        uploads.read_label_map, await label_map.read(), painter.table, painter.card.image_size, resize
    )
    return Response(
        labels.encode_label_map(ids, painter.table), media_type=PNG, headers={"X-Classes-Hash": painter.table.hash}
    )
