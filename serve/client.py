"""A small client: a class for programs, and a command for people.

python -m serve.client paint mask.png --seed 7 -o out.png
python -m serve.client segment portrait.jpg -o mask.png
python -m serve.client classes
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

DEFAULT_URL = "http://127.0.0.1:8000"
TRIES = 4
RETRIED = (502, 503)


class ServerError(Exception):
    """The server's refusal: `code` and `status` for programs, the text for people."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(detail)
        self.status, self.code = status, code


@dataclass(frozen=True)
class Painting:
    """PNG bytes, and what made them."""

    png: bytes
    seed: int
    model: str


class Client:
    """Calls a server. Requests are safe to repeat, so a busy or restarting server is asked again, up to TRIES times."""

    def __init__(self, url: str = DEFAULT_URL, timeout_s: float = 60.0, http: httpx.Client | None = None) -> None:
        self._http = http or httpx.Client(base_url=url, timeout=timeout_s)

    def paint(
        self,
        label_map: bytes,
        *,
        seed: int | None = None,
        style: bytes | None = None,
        style2: bytes | None = None,
        blend: float = 0.0,
        n: int = 1,
        resize: str = "refuse",
    ) -> Painting:
        """PNG bytes of a label map -> the painting (for n > 1 a sheet of n)."""
        files = {"label_map": ("label_map.png", label_map)}
        if style is not None:
            files["style"] = ("style", style)
        if style2 is not None:
            files["style2"] = ("style2", style2)
        data = {"n": str(n), "resize": resize, "blend": str(blend)} | ({} if seed is None else {"seed": str(seed)})
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

    def _ask(self, method: str, path: str, **body: Any) -> httpx.Response:
        wait_s = 0.5
        for attempt in range(1, TRIES + 1):
            last = attempt == TRIES
            try:
                answer = self._http.request(method, path, **body)
            except httpx.TransportError as error:
                if last or isinstance(error, httpx.TimeoutException):
                    raise ServerError(0, "unreachable", f"{self._http.base_url}: {error}") from error
            else:
                if answer.status_code < 400:
                    return answer
                if answer.status_code not in RETRIED or last:
                    raise _problem(answer)
                wait_s = max(wait_s, float(answer.headers.get("Retry-After", 0)))
            time.sleep(wait_s)
            wait_s *= 2
        raise AssertionError("unreachable")


def _problem(answer: httpx.Response) -> ServerError:
    try:
        document = answer.json()
        return ServerError(answer.status_code, document["code"], f"{document['title']}: {document['detail']}")
    except (ValueError, KeyError, TypeError):
        return ServerError(answer.status_code, "unknown", f"HTTP {answer.status_code}: {answer.text[:200]}")


def main(argv: Sequence[str] | None = None, client: Client | None = None) -> int:
    """The command; returns the exit code (0 ok, 2 refused by the server, 1 anything else)."""
    flags = _parser().parse_args(argv)
    client = client or Client(flags.url)
    try:
        _COMMANDS[flags.command](client, flags)
    except ServerError as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 2 if 400 <= problem.status < 500 else 1
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m serve.client", description="Calls a running `python -m serve`.")
    parser.add_argument("--url", default=DEFAULT_URL, help="address of the server (default: %(default)s)")
    commands = parser.add_subparsers(dest="command", required=True)
    paint = commands.add_parser("paint", help="paint a label map")
    paint.add_argument("label_map", type=Path, help="indexed PNG of class ids")
    paint.add_argument("--seed", type=int, help="same seed, same picture; random when absent")
    paint.add_argument("--style", type=Path, help="picture whose style is taken")
    paint.add_argument("--style2", type=Path, help="second style picture")
    paint.add_argument("--blend", type=float, default=0.0, help="0 = style alone, 1 = style2 alone")
    paint.add_argument("--n", type=int, default=1, help="paint a sheet of n pictures")
    paint.add_argument(
        "--resize", choices=("refuse", "nearest", "crop"), default="refuse", help="label map of another size"
    )
    paint.add_argument("-o", "--output", type=Path, required=True, help="PNG file to write")
    segment = commands.add_parser("segment", help="turn a portrait into a label map")
    segment.add_argument("image", type=Path, help="PNG, JPEG or WebP")
    segment.add_argument(
        "--fit", choices=("own", "paint"), default="own", help="paint: crop and scale to the model's size"
    )
    segment.add_argument("-o", "--output", type=Path, required=True, help="PNG file to write")
    commands.add_parser("classes", help="print the class table")
    return parser


def _paint(client: Client, flags: argparse.Namespace) -> None:
    styles = {name: path.read_bytes() for name in ("style", "style2") if (path := getattr(flags, name)) is not None}
    painting = client.paint(
        flags.label_map.read_bytes(), seed=flags.seed, blend=flags.blend, n=flags.n, resize=flags.resize, **styles
    )
    flags.output.write_bytes(painting.png)
    print(f"{flags.output}: seed {painting.seed}, {painting.model}")


def _segment(client: Client, flags: argparse.Namespace) -> None:
    png, confidence = client.segment(flags.image.read_bytes(), flags.fit)
    flags.output.write_bytes(png)
    print(f"{flags.output}: confidence {confidence:.4f}")


def _classes(client: Client, flags: argparse.Namespace) -> None:
    print(json.dumps(client.classes(), indent=2))


_COMMANDS = {"paint": _paint, "segment": _segment, "classes": _classes}

if __name__ == "__main__":
    sys.exit(main())
