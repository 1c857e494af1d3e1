"""One line per request for people and machines (JSON), and the metrics of every request.

A plain ASGI middleware, the outermost around the API. Endpoints leave what they know in `Notes`.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TextIO

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gaugan.errors import UserError
from serve.backend import Painted
from serve.metrics import OK, Metrics

UNROUTED = "other"

log = logging.getLogger("serve")


@dataclass
class Notes:
    """What an endpoint tells about its request."""

    input_s: float | None = None
    """Reading and decoding the upload."""
    queue_s: float | None = None
    compute_s: float | None = None
    output_s: float | None = None
    """Encoding the answer."""
    batch_size: int | None = None
    pictures: int | None = None
    seed: int | None = None
    model: str | None = None
    cache: str | None = None
    """hit or miss."""


async def notes_of(request: Request) -> Notes:
    """The notes of a request. (Not a plain function: FastAPI would call that on a thread.)"""
    notes: Notes = request.scope.setdefault("state", {}).setdefault("notes", Notes())
    return notes


@dataclass
class AccessLog:
    """JSON lines, to a file or to this process's standard output."""

    path: str | None = None
    _stream: TextIO = field(init=False, repr=False)

    def __post_init__(self) -> None:
        try:
            self._stream = (
                sys.stdout if self.path is None else Path(self.path).open("a", encoding="utf-8", errors="replace")
            )
        except OSError as error:
            raise UserError(
                f"--access-log {self.path}: {error.strerror}; choose a file in a folder that exists"
            ) from error

    def write(self, entry: dict[str, Any]) -> None:
        """One line; it is flushed, so that it is there when the process dies. A full disk loses lines, not requests."""
        try:
            self._stream.write(json.dumps(entry, ensure_ascii=False) + "\n")
            self._stream.flush()
        except OSError as error:
            log.warning("--access-log %s: %s", self.path, error)


class Observer:
    """Times every request, counts its outcome and writes its line."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics, access_log: AccessLog | None) -> None:
        self.app, self.metrics, self.access_log = app, metrics, access_log
        self.inside = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()
        seen: dict[str, int] = {"status": 0, "bytes_out": 0}
        notes = Notes()
        scope.setdefault("state", {})["notes"] = notes

        async def watched(message: Message) -> None:
            if message["type"] == "http.response.start":
                seen["status"] = message["status"]
            elif message["type"] == "http.response.body":
                seen["bytes_out"] += len(message.get("body", b""))
            await send(message)

        self._count(1)
        try:
            await self.app(scope, receive, watched)
        finally:
            self._count(-1)
            self._finish(scope, seen, notes, time.perf_counter() - started)

    def _count(self, change: int) -> None:
        self.inside += change
        self.metrics.record("gaugan_requests_inside", self.inside)

    def _finish(self, scope: Scope, seen: dict[str, int], notes: Notes, seconds: float) -> None:
        endpoint = getattr(scope.get("route"), "path", UNROUTED)
        outcome = scope["state"].get("problem") or (OK if 0 < seen["status"] < 400 else "gone")
        self.metrics.record("gaugan_requests", endpoint=endpoint, outcome=outcome)
        self.metrics.record("gaugan_request_seconds", seconds, endpoint=endpoint)
        for stage in ("input", "queue", "compute", "output"):
            value = getattr(notes, f"{stage}_s")
            if value is not None:
                self.metrics.record("gaugan_stage_seconds", value, stage=stage)
        if notes.batch_size is not None:
            self.metrics.record("gaugan_batch_size", notes.batch_size)
        if self.access_log is not None:
            self.access_log.write(_entry(scope, seen, notes, outcome, seconds))


def _entry(scope: Scope, seen: dict[str, int], notes: Notes, outcome: str, seconds: float) -> dict[str, Any]:
    known = {name: _rounded(value) for name, value in asdict(notes).items() if value is not None}
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "request_id": scope["state"].get("request_id", ""),
        "method": scope["method"],
        "path": scope["path"],
        "status": seen["status"],
        "outcome": outcome,
        "seconds": _rounded(seconds),
        "bytes_out": seen["bytes_out"],
        **known,
    }


def _rounded(value: Any) -> Any:
    return round(value, 4) if isinstance(value, float) else value


def note_painting(notes: Notes, painted: Painted) -> None:
    """Where a painting's time went."""
    notes.queue_s, notes.compute_s, notes.batch_size = painted.queue_s, painted.compute_s, painted.batch_size
    notes.pictures = len(painted.pictures)
    notes.model = f"{painted.card.name} {painted.card.version} {painted.card.checkpoint_hash}"
