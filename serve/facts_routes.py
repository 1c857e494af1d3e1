"""The endpoints that tell what the server has: classes, styles, templates, models, health."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Response

from gaugan import images, labels
from serve import schema, templates
from serve.backend import ModelCard
from serve.problems import Problem
from serve.service import PNG, Painter, PainterDep, Service, ServiceDep, file_of, problems_of

METRICS_TEXT = "text/plain; version=0.0.4"
router = APIRouter()


@router.get("/v1/classes", responses=problems_of(503), tags=["model"])
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
    responses={200: file_of(PNG, "Style picture"), **problems_of(404, 422)},
    tags=["paint"],
)
async def style_picture(service: ServiceDep, style_id: str) -> Response:
    """One style picture."""
    if style_id not in service.styles:
        raise Problem("not_found", f"No style has the id {style_id!r}; see GET /v1/styles.")
    body = await asyncio.to_thread(images.encode_png, service.styles[style_id].image)
    return Response(body, media_type=PNG)


@router.get("/v1/templates", responses=problems_of(503), tags=["label maps"])
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
    responses={200: file_of(PNG, "Label map (indexed PNG)"), **problems_of(404, 422, 503)},
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


@router.get("/v2/health/ready", responses=problems_of(503), tags=["health"])
async def ready(service: ServiceDep) -> schema.ReadyAnswer:
    """200 once the generator has painted its warm-up picture; 503 before, and when it no longer answers."""
    await service.backend.painter_card(fresh=True)
    return schema.ReadyAnswer(ready=True)


@router.get("/v2/models", responses=problems_of(503), tags=["model"])
async def model_list(service: ServiceDep, painter: PainterDep) -> schema.ModelsAnswer:
    """Metadata of every loaded model, the generator first."""
    return schema.ModelsAnswer(models=await _models(service, painter))


@router.get("/v2/models/{name}", responses=problems_of(404, 422, 503), tags=["model"])
@router.get("/v2/models/{name}/versions/{version}", responses=problems_of(404, 422, 503), tags=["model"])
async def model(service: ServiceDep, painter: PainterDep, name: str, version: str | None = None) -> schema.ModelAnswer:
    """Metadata of a loaded model (Open Inference Protocol v2)."""
    found = await _models(service, painter)
    for answer in found:
        if answer.name == name and version in (None, *answer.versions):
            return answer
    loaded = ", ".join(f"{one.name} {one.versions[0]}" for one in found)
    raise Problem("not_found", f"No model is called {name!r} {version or ''}; loaded are {loaded}.")


@router.get("/v2/models/{name}/ready", responses=problems_of(404, 422, 503), tags=["health"])
@router.get("/v2/models/{name}/versions/{version}/ready", responses=problems_of(404, 422, 503), tags=["health"])
async def model_ready(
    service: ServiceDep, painter: PainterDep, name: str, version: str | None = None
) -> schema.ReadyAnswer:
    """200 when this model can answer."""
    await model(service, painter, name, version)
    return schema.ReadyAnswer(ready=True)


@router.get("/metrics", response_class=Response, responses={200: file_of(METRICS_TEXT, "Metrics")}, tags=["health"])
async def metrics(service: ServiceDep) -> Response:
    """What this HTTP process has counted and timed, in Prometheus' text format."""
    return Response(service.metrics.text(), media_type=METRICS_TEXT)


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
    styles = [
        schema.TensorSpec(name="style", datatype="UINT8", shape=[-1, -1, -1, 3]),
        schema.TensorSpec(name="style2", datatype="UINT8", shape=[-1, -1, -1, 3]),
        schema.TensorSpec(name="blend", datatype="FP32", shape=[-1]),
    ]
    picture = schema.TensorSpec(name="image", datatype="UINT8", shape=[-1, -1, -1, 3])
    found = schema.TensorSpec(name="label_map", datatype="UINT8", shape=[-1, -1, -1])
    confidence = schema.TensorSpec(name="confidence", datatype="FP32", shape=[-1])
    return schema.ModelAnswer(
        name=card.name,
        versions=[card.version],
        inputs=[ids, seed, *(styles if card.has_style else [])] if is_painter else [picture],
        outputs=[image] if is_painter else [found, confidence],
        parameters=schema.ModelParameters(
            classes_hash=table.hash,
            checkpoint_hash=card.checkpoint_hash,
            image_size=card.image_size,
            device=card.device,
            has_style=card.has_style,
        ),
    )
