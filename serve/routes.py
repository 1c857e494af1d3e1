"""The endpoints under /v1 and /v2: read the upload, ask the backend, encode the answer."""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Depends, Request, Response, UploadFile

from gaugan import images, labels
from serve import answers, schema, templates, uploads
from serve.backend import Backend, ModelCard, PaintJob
from serve.problems import PROBLEM_JSON, Problem
from serve.styles import Style

PNG = "image/png"
ZIP = "application/zip"


@dataclass
class Service:
    """What the endpoints share."""

    backend: Backend
    styles: dict[str, Style]


@dataclass(frozen=True)
class Painter:
    """The generator as one request sees it."""

    card: ModelCard
    table: labels.ClassTable


def the_service(request: Request) -> Service:
    return request.app.state.service


async def the_painter(service: Annotated[Service, Depends(the_service)]) -> Painter:
    card = await service.backend.painter_card()
    return Painter(card, labels.ClassTable.from_plain(card.classes, source="model"))


ServiceDep = Annotated[Service, Depends(the_service)]
PainterDep = Annotated[Painter, Depends(the_painter)]


def _problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """OpenAPI entries of the refusals an endpoint may give."""
    content = {PROBLEM_JSON: {"schema": {"$ref": "#/components/schemas/ProblemDocument"}}}
    return {status: {"description": "A problem document (RFC 9457)", "content": content} for status in statuses}


def _file(kind: str, description: str) -> dict[str, Any]:
    return {"description": description, "content": {kind: {"schema": {"type": "string", "format": "binary"}}}}


UPLOAD_PROBLEMS = _problems(400, 408, 409, 413, 415, 422, 503, 504)
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
    responses={200: _file(PNG, "Label map (indexed PNG)"), **UPLOAD_PROBLEMS, **_problems(501)},
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
    responses={200: _file(PNG, "The same label map as indexed PNG at the model's size"), **UPLOAD_PROBLEMS},
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


@router.get("/v1/classes", responses=_problems(503), tags=["model"])
async def classes(painter: PainterDep) -> schema.ClassesAnswer:
    """Names, ids and colours of the classes, and the hash that label maps are checked with."""
    table = painter.table
    entries = [
        schema.ClassEntry(id=number, name=name, colour="#{:02x}{:02x}{:02x}".format(*colour))
        for number, (name, colour) in enumerate(zip(table.names, table.colours, strict=True))
    ]
    return schema.ClassesAnswer(name=table.name, hash=table.hash, ignore=labels.IGNORE, classes=entries)


@router.get("/v1/styles", tags=["paint"])
async def styles(service: ServiceDep) -> schema.StylesAnswer:
    """The styles that `style_id` may name."""
    entries = [
        schema.StyleEntry(id=style_id, name=style.name, picture=f"/v1/styles/{style_id}.png")
        for style_id, style in service.styles.items()
    ]
    return schema.StylesAnswer(styles=entries)


@router.get(
    "/v1/styles/{style_id}.png",
    response_class=Response,
    responses={200: _file(PNG, "Style picture"), **_problems(404, 422)},
    tags=["paint"],
)
async def style_picture(service: ServiceDep, style_id: str) -> Response:
    """One style picture."""
    if style_id not in service.styles:
        raise Problem("not_found", f"No style has the id {style_id!r}; see GET /v1/styles.")
    body = await asyncio.to_thread(images.encode_png, service.styles[style_id].image)
    return Response(body, media_type=PNG)


@router.get("/v1/templates", responses=_problems(503), tags=["label maps"])
async def template_list(painter: PainterDep) -> schema.TemplatesAnswer:
    """Label maps to begin with."""
    entries = [
        schema.TemplateEntry(id=one, name=templates.TEMPLATES[one][0], label_map=f"/v1/templates/{one}.png")
        for one in templates.template_ids(painter.table)
    ]
    return schema.TemplatesAnswer(templates=entries)


@router.get(
    "/v1/templates/{template_id}.png",
    response_class=Response,
    responses={200: _file(PNG, "Label map (indexed PNG)"), **_problems(404, 422, 503)},
    tags=["label maps"],
)
async def template(painter: PainterDep, template_id: str) -> Response:
    """One starter label map at the model's size."""
    if template_id not in templates.template_ids(painter.table):
        raise Problem("not_found", f"No template has the id {template_id!r}; see GET /v1/templates.")
    ids = await asyncio.to_thread(templates.draw_template, template_id, painter.card.image_size)
    return Response(labels.encode_label_map(ids, painter.table), media_type=PNG)


@router.get("/v2/health/live", tags=["health"])
async def live() -> schema.LiveAnswer:
    """200 while the process answers."""
    return schema.LiveAnswer(live=True)


@router.get("/v2/health/ready", responses=_problems(503), tags=["health"])
async def ready(service: ServiceDep) -> schema.ReadyAnswer:
    """200 once the generator has painted its warm-up picture; 503 before, and when it no longer answers."""
    await service.backend.painter_card(fresh=True)
    return schema.ReadyAnswer(ready=True)


@router.get("/v2/models", responses=_problems(503), tags=["model"])
async def model_list(service: ServiceDep, painter: PainterDep) -> schema.ModelsAnswer:
    """Metadata of every loaded model, the generator first."""
    return schema.ModelsAnswer(models=await _models(service, painter))


@router.get("/v2/models/{name}", responses=_problems(404, 422, 503), tags=["model"])
async def model(service: ServiceDep, painter: PainterDep, name: str) -> schema.ModelAnswer:
    """Metadata of a loaded model (Open Inference Protocol v2)."""
    found = await _models(service, painter)
    for answer in found:
        if answer.name == name:
            return answer
    raise Problem("not_found", f"No model is called {name!r}; loaded are {', '.join(one.name for one in found)}.")


@router.get("/v2/models/{name}/ready", responses=_problems(404, 422, 503), tags=["health"])
async def model_ready(service: ServiceDep, painter: PainterDep, name: str) -> schema.ReadyAnswer:
    """200 when this model can answer."""
    await model(service, painter, name)
    return schema.ReadyAnswer(ready=True)


async def _models(service: Service, painter: Painter) -> list[schema.ModelAnswer]:
    found = [_model_answer(painter.card, painter.table, is_painter=True)]
    if (card := await service.backend.segmenter_card()) is not None:
        found.append(_model_answer(card, labels.ClassTable.from_plain(card.classes, source="model"), is_painter=False))
    return found


def _model_answer(card: ModelCard, table: labels.ClassTable, is_painter: bool) -> schema.ModelAnswer:
    height, width = card.image_size
    ids = schema.TensorSpec(name="label_map", datatype="UINT8", shape=[-1, height, width])
    image = schema.TensorSpec(name="image", datatype="UINT8", shape=[-1, height, width, 3])
    seed = schema.TensorSpec(name="seed", datatype="INT64", shape=[-1])
    return schema.ModelAnswer(
        name=card.name,
        versions=[card.version],
        inputs=[ids, seed] if is_painter else [image],
        outputs=[image] if is_painter else [ids],
        parameters=schema.ModelParameters(
            classes_hash=table.hash,
            checkpoint_hash=card.checkpoint_hash,
            image_size=card.image_size,
            device=card.device,
            has_style=card.has_style,
        ),
    )
