"""What the endpoints share: the backend, the style gallery, the generator's card, the OpenAPI entries of refusals."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Request

from gaugan import labels
from serve.backend import Backend, ModelCard, Painted
from serve.cache import AnswerCache
from serve.metrics import Metrics
from serve.observe import Notes, note_painting, notes_of
from serve.problems import PROBLEM_JSON
from serve.styles import Style
from serve.switch import Switch

PNG = "image/png"
QUICK_PIXELS = 300_000
"""Decoding or encoding so many takes a few milliseconds; a thread would add its own."""
Result = TypeVar("Result")


@dataclass(frozen=True)
class Painter:
    """The generator as one request sees it."""

    card: ModelCard
    table: labels.ClassTable


@dataclass
class Service:
    """What the endpoints share."""

    backend: Backend
    styles: dict[str, Style]
    metrics: Metrics
    cache: AnswerCache
    switch: Switch | None
    """None where the model can't be changed (an API without Ray)."""
    painter: Painter | None = None
    """The generator as it was last seen: a class table is not made anew for every request."""

    def note(self, notes: Notes, painted: Painted) -> None:
        """Remembers who painted and how long it took."""
        note_painting(notes, painted)
        card = painted.card
        self.metrics.record("gaugan_pictures", len(painted.pictures), model=card.name, version=card.version)


async def the_service(request: Request) -> Service:
    return request.app.state.service


async def the_painter(service: Annotated[Service, Depends(the_service)]) -> Painter:
    card = await service.backend.painter_card()
    if service.painter is None or service.painter.card != card:
        service.painter = Painter(card, labels.ClassTable.from_plain(card.classes, source="model"))
    return service.painter


async def off_loop(work: Callable[..., Result], *arguments: Any, pixels: int) -> Result:
    """`work(*arguments)`, on a thread when that many pixels would keep the event loop for long."""
    if pixels <= QUICK_PIXELS:
        return work(*arguments)
    return await asyncio.to_thread(work, *arguments)


ServiceDep = Annotated[Service, Depends(the_service)]
NotesDep = Annotated[Notes, Depends(notes_of)]
PainterDep = Annotated[Painter, Depends(the_painter)]


def problems_of(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """OpenAPI entries of the refusals an endpoint may give."""
    content = {PROBLEM_JSON: {"schema": {"$ref": "#/components/schemas/ProblemDocument"}}}
    return {status: {"description": "A problem document (RFC 9457)", "content": content} for status in statuses}


def file_of(kind: str, description: str) -> dict[str, Any]:
    return {"description": description, "content": {kind: {"schema": {"type": "string", "format": "binary"}}}}


UPLOAD_PROBLEMS = problems_of(400, 401, 403, 408, 409, 413, 415, 422, 503, 504)
