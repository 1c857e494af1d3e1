"""The gate in front of the service: how many uploads it lets in, and what a refusal does to the connection."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from starlette.types import Message, Receive, Scope, Send

from serve.gate import Gate

SCOPE: Scope = {"type": "http", "method": "POST", "path": "/v1/paint", "headers": [(b"content-length", b"9")]}
BODY: Message = {"type": "http.request", "body": bytes(9), "more_body": False}


class Slow:
    """An application that answers when it is told to."""

    def __init__(self) -> None:
        self.go_on, self.asked = asyncio.Event(), 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.asked += 1
        await self.go_on.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})


async def ask(gate: Gate, **changes: Any) -> tuple[int, dict[bytes, bytes], bytes]:
    """(status, headers, body)."""
    said: list[Message] = []

    async def receive() -> Message:
        return BODY

    async def send(message: Message) -> None:
        said.append(message)

    await gate({**SCOPE, **changes}, receive, send)
    return said[0]["status"], dict(said[0]["headers"]), said[1]["body"]


def test_uploads_beyond_the_number_are_refused_before_the_application_hears_of_them() -> None:
    async def crowd() -> tuple[list[Any], int]:
        app = Slow()
        gate = Gate(app, most_inside=2)
        inside = [asyncio.create_task(ask(gate)) for _ in range(2)]
        await asyncio.sleep(0)
        refused = await ask(gate)
        look = asyncio.create_task(ask(gate, method="GET"))
        app.go_on.set()
        painted = await asyncio.gather(*inside)
        return [refused, await look, *painted, await ask(gate)], app.asked

    (refused, *others), asked = asyncio.run(crowd())
    status, headers, body = refused
    assert (status, json.loads(body)["code"]) == (503, "busy") and headers[b"retry-after"]
    assert [answer[0] for answer in others] == [200, 200, 200, 200], "looking is always allowed, and places come free"
    assert asked == 4


def test_a_refusal_keeps_the_connection_unless_the_body_is_what_is_wrong() -> None:
    """Closing on a client that still sends resets its connection: it never reads the refusal."""
    _, busy, _ = asyncio.run(ask(Gate(Slow(), most_inside=0)))
    _, large, _ = asyncio.run(ask(Gate(Slow(), max_body_bytes=8)))
    assert b"connection" not in busy and large[b"connection"] == b"close"


def test_an_address_that_is_no_path_is_malformed() -> None:
    status, _, body = asyncio.run(ask(Gate(Slow()), method="OPTIONS", path="*"))
    assert (status, json.loads(body)["code"]) == (400, "malformed_request")


def test_a_body_that_does_not_arrive_is_given_up_on() -> None:
    sent: list[Message] = []

    async def reads_the_body(scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    async def never() -> Message:
        await asyncio.sleep(60)
        return BODY

    async def keep(message: Message) -> None:
        sent.append(message)

    asyncio.run(Gate(reads_the_body, body_deadline_s=0.05)(SCOPE, never, keep))
    assert sent[0]["status"] == 408 and json.loads(sent[1]["body"])["code"] == "slow_upload"
