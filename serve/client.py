"""A small client for programs: every endpoint as a method, patient with a server that is busy or restarting.

client = Client(token=...)
painting = client.paint(open("mask.png", "rb").read(), seed=7)
"""

from __future__ import annotations

import random
import sys
import time
from dataclasses import dataclass
from typing import Any

import httpx

from gaugan.errors import UserError

DEFAULT_URL = "http://127.0.0.1:8000"
PATIENCE_S = 60.0
FIRST_WAIT_S, LONGEST_WAIT_S = 0.25, 5.0
FINAL_5XX = (501,)
"""Not there, however often one asks."""
SWAP_POLL_S = 0.5


class ServerError(Exception):
    """The server's refusal: `code` and `status` for programs, the text for people."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(detail)
        self.status, self.code = status, code


@dataclass(frozen=True)
class Painting:
    """The picture as a file, and what made it."""

    data: bytes
    seed: int
    model: str

    @property
    def png(self) -> bytes:
        """`data`, when no other format was asked for."""
        return self.data


class Client:
    """Calls a server. All requests may be repeated: any 5xx (Ray's proxy answers some by itself), a timeout and a
    broken connection are tried again, with growing random pauses and as long as the server says with Retry-After, until
    `patience_s` is over. Used by one thread."""

    def __init__(
        self,
        url: str = DEFAULT_URL,
        timeout_s: float = 60.0,
        *,
        token: str | None = None,
        patience_s: float = PATIENCE_S,
        http: httpx.Client | None = None,
    ) -> None:
        """token: the server's GAUGAN_TOKEN, or for `swap`, `rollback` and `served_model` its GAUGAN_ADMIN_TOKEN."""
        if not url.startswith(("http://", "https://")):
            raise UserError(f"{url or 'the address'}: give the server's address with its scheme, such as {DEFAULT_URL}")
        try:
            self._http = http or httpx.Client(base_url=url, timeout=timeout_s)
        except httpx.InvalidURL as error:
            raise UserError(f"{url}: no address of a server ({error})") from error
        if token:
            self._http.headers["Authorization"] = f"Bearer {token}"
        self.patience_s = patience_s

    def paint(
        self,
        label_map: bytes,
        *,
        shape: tuple[int, int] | None = None,
        seed: int | None = None,
        style: bytes | None = None,
        style2: bytes | None = None,
        style_id: str | None = None,
        style2_id: str | None = None,
        blend: float = 0.0,
        n: int = 1,
        resize: str = "refuse",
        format: str = "png",  # noqa: A002  (as the API's field)
    ) -> Painting:
        """A label map (PNG, or raw ids with their (height, width) as `shape`) -> the painting, for n > 1 a sheet."""
        uploads = {"label_map": label_map, "style": style, "style2": style2}
        files = {name: (name, data) for name, data in uploads.items() if data is not None}
        fields = {
            "shape": None if shape is None else f"{shape[0]}x{shape[1]}",
            "seed": seed, "style_id": style_id, "style2_id": style2_id, "blend": blend, "n": n, "resize": resize,
            "format": format,
        }  # fmt: skip
        data = {name: str(value) for name, value in fields.items() if value is not None}
        answer = self._ask("POST", "/v1/paint", files=files, data=data)
        return Painting(answer.content, int(answer.headers["X-Seed"]), answer.headers["X-Model"])

    def segment(self, picture: bytes, fit: str = "own") -> tuple[bytes, float]:
        """Picture bytes -> (indexed PNG of the label map, confidence)."""
        answer = self._ask("POST", "/v1/segment", files={"image": ("image", picture)}, data={"fit": fit})
        return answer.content, float(answer.headers["X-Confidence"])

    def classes(self) -> dict[str, Any]:
        """The class table."""
        return dict(self._ask("GET", "/v1/classes").json())

    def ready(self) -> bool:
        """Whether the server can paint now."""
        try:
            return self._http.get("/v2/health/ready").status_code == 200
        except httpx.HTTPError:
            return False

    def served_model(self) -> dict[str, Any]:
        """The served model, the one before and the last change."""
        return dict(self._ask("GET", "/v1/admin/model").json())

    def swap(self, uri: str) -> dict[str, Any]:
        """Serves another model; returns when it is served or refused (`task` says which and why)."""
        self._ask("POST", "/v1/admin/model", json={"uri": uri})
        return self._finished_swap()

    def rollback(self) -> dict[str, Any]:
        """Serves the model before the last change again."""
        self._ask("POST", "/v1/admin/rollback")
        return self._finished_swap()

    def _finished_swap(self) -> dict[str, Any]:
        while (answer := self.served_model())["task"]["step"] in ("checking", "switching"):
            time.sleep(SWAP_POLL_S)
        return answer

    def _ask(self, method: str, path: str, **body: Any) -> httpx.Response:
        deadline, wait_s = time.monotonic() + self.patience_s, FIRST_WAIT_S
        while True:
            asked_wait_s = 0.0
            try:
                answer = self._http.request(method, path, **body)
            except httpx.TransportError as error:
                problem = ServerError(0, "unreachable", f"{self._http.base_url}: {error or type(error).__name__}")
            else:
                if answer.status_code < 400:
                    return answer
                problem = _problem(answer)
                if answer.status_code < 500 and answer.status_code != 408 or answer.status_code in FINAL_5XX:
                    raise problem
                asked_wait_s = _seconds(answer.headers.get("Retry-After", ""))
            pause_s = max(asked_wait_s, wait_s * random.uniform(0.5, 1.5))  # noqa: S311  (no secret)
            if time.monotonic() + pause_s > deadline:
                raise problem
            time.sleep(pause_s)
            wait_s = min(2 * wait_s, LONGEST_WAIT_S)


def _seconds(retry_after: str) -> float:
    return float(retry_after) if retry_after.isdigit() else 0.0


def _problem(answer: httpx.Response) -> ServerError:
    try:
        document = answer.json()
        return ServerError(answer.status_code, document["code"], f"{document['title']}: {document['detail']}")
    except (ValueError, KeyError, TypeError):
        return ServerError(answer.status_code, "unknown", f"HTTP {answer.status_code}: {answer.text[:200]}")


if __name__ == "__main__":
    from serve.client_command import main

    sys.exit(main())
