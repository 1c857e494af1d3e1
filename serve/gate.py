"""The gate in front of everything: request id, body limits counted on streamed bytes, security headers.

A plain ASGI middleware, used twice: around the API itself, and where requests come in (see `proxy_middlewares`): Ray
Serve's proxy, where it is used, queues a body without bound before our code sees it, and words its own errors as plain
text.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import time
import uuid
from collections.abc import Iterable

from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.problems import STATUS_CODES, Problem, problem_bytes

MAX_BODY_BYTES = 8 * 1024 * 1024
BODY_DEADLINE_S = 15.0
BODY_REFUSALS = {"body_too_large", "slow_upload", "encoded_body"}
"""What ends the connection. Otherwise the server reads the rest of the body and drops it: closing on a client that
still sends would reset its connection, and lose our answer."""
MOST_INSIDE = "GAUGAN_MOST_INSIDE"
"""Variable: how many uploads are let in at once."""
DEFAULT_MOST_INSIDE = 64
REQUEST_ID = re.compile(r"^[A-Za-z0-9._-]{1,64}$")
PROXY_CALLBACK = "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH"

SECURITY_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}

log = logging.getLogger("serve")


def proxy_middlewares() -> list[Middleware]:
    """What Ray Serve's proxy, or `serve.listening`, wraps around every request.

    Ray Serve finds it by its import path in the variable PROXY_CALLBACK.
    """
    most = int(os.environ.get(MOST_INSIDE) or DEFAULT_MOST_INSIDE)
    return [Middleware(Gate, rewrite_plain_errors=True, most_inside=most)]


class Gate:
    """Refuses bodies that are too large, too slow or compressed; stamps every answer."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        max_body_bytes: int = MAX_BODY_BYTES,
        body_deadline_s: float = BODY_DEADLINE_S,
        timeout_s: float | None = None,
        rewrite_plain_errors: bool = False,
        most_inside: int | None = None,
    ) -> None:
        """timeout_s: longest time for a whole request, from its headers to the first byte of the answer.
        most_inside: so many uploads at once; the next is refused before anything is done for it, since with more
        than can be handled even saying no late costs those who are inside."""
        self.app = app
        self.max_body_bytes = max_body_bytes
        self.body_deadline_s = body_deadline_s
        self.timeout_s = timeout_s
        self.rewrite_plain_errors = rewrite_plain_errors
        self.most_inside = most_inside
        self.inside = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        passage = _Passage(self, scope, receive, send)
        if (problem := passage.refusal_by_headers() or self._refusal_by_crowd(scope)) is not None:
            await passage.refuse(problem)
            return
        uploads = int(scope["method"] == "POST")
        self.inside += uploads
        try:
            async with asyncio.timeout(self.timeout_s):
                await self.app(scope, passage.receive, passage.send)
        except TimeoutError:
            detail = f"No answer within {self.timeout_s:g} s; try again, or ask for fewer pictures."
            await passage.refuse(Problem("timeout", detail, retry_after_s=1))
        except Exception:
            log.exception("request %s failed", passage.request_id)
            detail = f"Something broke while this was answered; tell the operator the request id {passage.request_id}."
            await passage.refuse(Problem("internal", detail))
        finally:
            self.inside -= uploads

    def _refusal_by_crowd(self, scope: Scope) -> Problem | None:
        if self.most_inside is None or self.inside < self.most_inside or scope["method"] != "POST":
            return None
        return Problem("busy", "Too many requests are being answered; try again.", retry_after_s=1)


class _Passage:
    """One request on its way through the gate."""

    def __init__(self, gate: Gate, scope: Scope, receive: Receive, send: Send) -> None:
        self.gate, self.scope = gate, scope
        self._receive, self._send = receive, send
        self.headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        self.request_id = self._name_request()
        self.deadline = time.monotonic() + gate.body_deadline_s
        self.received = 0
        self.body_complete = False
        self.started = False  # our client has seen the first line of an answer
        self.silenced = False  # the gate has answered: what the app still says is dropped

    def _name_request(self) -> str:
        given = self.headers.get("x-request-id", "")
        request_id = given if REQUEST_ID.match(given) else uuid.uuid4().hex
        self.scope.setdefault("state", {})["request_id"] = request_id
        others = [(name, value) for name, value in self.scope["headers"] if name.lower() != b"x-request-id"]
        self.scope["headers"] = [*others, (b"x-request-id", request_id.encode())]
        return request_id

    def refusal_by_headers(self) -> Problem | None:
        """What can be refused before one byte of the body is read."""
        if not self.scope["path"].startswith("/"):  # OPTIONS *: no part of this server
            return Problem("malformed_request", f"The address {self.scope['path'][:40]!r} must begin with '/'.")
        if self.headers.get("content-encoding", "identity").lower() != "identity":
            return Problem("encoded_body", "Send the body without Content-Encoding.")
        length = self.headers.get("content-length", "")
        if length.isdigit() and int(length) > self.gate.max_body_bytes:
            return self._too_large(f"{int(length)} bytes")
        return None

    def _too_large(self, size: str) -> Problem:
        limit = self.gate.max_body_bytes
        return Problem(
            "body_too_large", f"The body has {size}; at most {limit} bytes are read. Send a smaller picture."
        )

    async def receive(self) -> Message:
        """The next piece of the body; over a limit the app is told that the client left, and the gate answers."""
        if self.silenced:
            return {"type": "http.disconnect"}
        if self.body_complete:
            return await self._receive()
        try:
            message = await asyncio.wait_for(self._receive(), max(0.0, self.deadline - time.monotonic()))
        except TimeoutError:
            await self.refuse(Problem("slow_upload", f"The body must arrive within {self.gate.body_deadline_s:g} s."))
            return {"type": "http.disconnect"}
        if message["type"] == "http.request":
            self.received += len(message.get("body", b""))
            self.body_complete = not message.get("more_body", False)
            if self.received > self.gate.max_body_bytes:
                await self.refuse(self._too_large(f"more than {self.gate.max_body_bytes} bytes"))
                return {"type": "http.disconnect"}
        return message

    async def send(self, message: Message) -> None:
        if self.silenced:
            return
        if message["type"] == "http.response.start":
            if self.gate.rewrite_plain_errors and _is_plain_error(message):
                await self.refuse(_reword(message["status"]))
                return
            self.started = True
            message = {**message, "headers": self._stamped(message.get("headers", []))}
        await self._send(message)

    async def refuse(self, problem: Problem) -> None:
        """Answers with the problem, unless an answer is already on its way."""
        self.silenced = True
        if self.started:
            return
        self.started = True
        self.scope["state"]["problem"] = problem.code
        body, headers = problem_bytes(problem, self.scope["path"], self.request_id)
        if problem.code in BODY_REFUSALS:
            headers["connection"] = "close"
        raw = [(name.encode(), value.encode()) for name, value in headers.items()]
        await self._send({"type": "http.response.start", "status": problem.status, "headers": self._stamped(raw)})
        await self._send({"type": "http.response.body", "body": body})

    def _stamped(self, headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        given = [(name, value) for name, value in headers if name.lower() != b"x-request-id"]  # Serve adds its own
        present = {name.lower() for name, _ in given}
        stamps = {"x-request-id": self.request_id, **SECURITY_HEADERS}
        return given + [
            (name.encode(), value.encode()) for name, value in stamps.items() if name.encode() not in present
        ]


def _is_plain_error(message: Message) -> bool:
    headers = {name.lower(): value for name, value in message.get("headers", [])}
    return message["status"] >= 400 and headers.get(b"content-type", b"text/plain").startswith(b"text/plain")


def _reword(status: int) -> Problem:
    """Ray Serve's own answers (full queue, timeout, dead replica, no application) as problems."""
    if status == 503:
        return Problem("busy", "Every worker is busy or starting; try again.", retry_after_s=1)
    if status == 404:  # the API words its own: here Serve has no application yet, or no longer
        return Problem("not_ready", "The server is starting or stopping; try again.", retry_after_s=1)
    code = STATUS_CODES.get(status, "internal" if status >= 500 else "malformed_request")
    return Problem(code, {"timeout": "Try again, or ask for fewer pictures."}.get(code, "Try again."))
