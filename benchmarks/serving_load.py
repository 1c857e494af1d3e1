"""Clients on loopback: one or many that wait for their answers, and a stream that does not."""

from __future__ import annotations

import asyncio
import statistics
import time
from dataclasses import dataclass, field
from typing import Any

import httpx

PATIENCE_S = 120.0


@dataclass
class Answers:
    """What came back."""

    painted_s: list[float] = field(default_factory=list)
    """Seconds of each picture."""
    refused_s: list[float] = field(default_factory=list)
    """Seconds of each 503."""
    other: list[str] = field(default_factory=list)
    """What was neither."""
    seconds: float = 0.0
    """From the first request to the last answer."""

    @property
    def per_s(self) -> float:
        return len(self.painted_s) / max(self.seconds, 1e-9)


class Load:
    """Requests to POST URL/v1/paint with one label map after the other."""

    def __init__(self, url: str, maps: list[bytes]) -> None:
        self.url, self.maps, self.sent = url, maps, 0

    async def _ask(self, client: httpx.AsyncClient, answers: Answers, number: int | None = None) -> None:
        if number is None:
            number, self.sent = self.sent, self.sent + 1
        files = {"label_map": ("map.png", self.maps[number % len(self.maps)], "image/png")}
        start = time.perf_counter()
        try:
            response = await client.post(f"{self.url}/v1/paint", files=files, data={"seed": str(number)})
        except httpx.HTTPError as error:
            answers.other.append(type(error).__name__)
            return
        took = time.perf_counter() - start
        if response.status_code == 200:
            answers.painted_s.append(took)
        elif response.status_code == 503 and "retry-after" in response.headers:
            answers.refused_s.append(took)
        else:
            answers.other.append(f"{response.status_code} {response.text[:100]}")

    async def _waiting(self, clients: int, seconds: float) -> Answers:
        answers, begun = Answers(), 0.0

        async def one(client: httpx.AsyncClient) -> None:
            while time.perf_counter() - begun < seconds:
                await self._ask(client, answers)

        async with _client() as client:
            begun = time.perf_counter()  # a client takes some milliseconds to make
            await asyncio.gather(*(one(client) for _ in range(clients)))
        answers.seconds = time.perf_counter() - begun
        return answers

    async def _each(self, numbers: list[int]) -> Answers:
        answers = Answers()
        async with _client() as client:
            begun = time.perf_counter()
            for number in numbers:
                await self._ask(client, answers, number)
        answers.seconds = time.perf_counter() - begun
        return answers

    async def _stream(self, per_s: float, seconds: float) -> Answers:
        answers, tasks = Answers(), []
        async with _client() as client:
            begun = time.perf_counter()
            for number in range(round(per_s * seconds)):
                await asyncio.sleep(max(0.0, begun + number / per_s - time.perf_counter()))
                tasks.append(asyncio.create_task(self._ask(client, answers)))
            await asyncio.gather(*tasks)
        answers.seconds = time.perf_counter() - begun
        return answers

    def each(self, numbers: list[int]) -> Answers:
        """One client that asks for the pictures of these label maps, one after the other."""
        return asyncio.run(self._each(numbers))

    def wait_in_turn(self, clients: int, seconds: float) -> Answers:
        """`clients` that each ask again when they are answered."""
        return asyncio.run(self._waiting(clients, seconds))

    def pour(self, per_s: float, seconds: float) -> Answers:
        """So many requests a second, whether answered or not; then waits for all."""
        return asyncio.run(self._stream(per_s, seconds))


def _client() -> httpx.AsyncClient:
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=32)
    return httpx.AsyncClient(timeout=PATIENCE_S, limits=limits)


def percentile(values: list[float], share: float) -> float:
    """The value below which that share of them lies."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))] if values else float("nan")


def summary(answers: Answers) -> dict[str, Any]:
    """For a line of progress."""
    return {
        "painted": len(answers.painted_s), "refused": len(answers.refused_s), "other": answers.other[:3],
        "p50_ms": round(1e3 * statistics.median(answers.painted_s), 1) if answers.painted_s else None,
        "p99_ms": round(1e3 * percentile(answers.painted_s, 0.99), 1), "per_s": round(answers.per_s, 2),
    }  # fmt: skip
