"""The paint page as a test uses it: positions are pixels of the label map."""

from __future__ import annotations

import asyncio
import base64
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import uvicorn
from serve_fakes import TABLE, FakeBackend

from gaugan import labels
from serve.api import ApiOptions, build_api
from serve.backend import PaintJob
from serve.styles import Style

HEIGHT, WIDTH = 80, 96
READ_IDS = "async () => btoa(String.fromCharCode(...(await import('/studio/state.js')).studio.ids))"
SKIN, FACE, EYE = (TABLE.ids[name] for name in ("skin", "face", "eye"))
MOUTH, HAIR, CLOTHES = (TABLE.ids[name] for name in ("mouth", "hair", "clothes"))

GALLERY = {
    "red": Style("Red", np.full((40, 40, 3), (200, 30, 30), dtype=np.uint8)),
    "blue": Style("Blue", np.full((40, 40, 3), (30, 30, 200), dtype=np.uint8)),
}


class SlowBackend(FakeBackend):
    """Waits `delay_s` before it paints, once."""

    delay_s = 0.0
    calls = 0

    async def paint(self, jobs: list[PaintJob]) -> Any:
        self.calls += 1
        delay, self.delay_s = self.delay_s, 0.0
        await asyncio.sleep(delay)
        return await super().paint(jobs)


def serve_page(backend: Any, options: ApiOptions = ApiOptions()) -> Iterator[str]:  # noqa: B008  (frozen)
    """The address of the page around a backend, on a port of its own."""
    server = uvicorn.Server(uvicorn.Config(build_api(backend, GALLERY, options), port=0, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join(timeout=10)


def empty() -> np.ndarray:
    return np.zeros((HEIGHT, WIDTH), dtype=np.uint8)


def noise(seed: int) -> np.ndarray:
    """A label map of all classes."""
    return np.random.default_rng(seed).integers(0, TABLE.num_classes, (HEIGHT, WIDTH), dtype=np.uint8)


def png_of(ids: np.ndarray) -> bytes:
    return labels.encode_label_map(ids, TABLE)


class Studio:
    def __init__(self, page: Any, backend: SlowBackend) -> None:
        self.page, self.backend = page, backend
        self.complaints: list[str] = []
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", lambda m: self.complaints.append(m.text) if "Content Security Policy" in m.text else None)

    def ids(self) -> np.ndarray:
        return np.frombuffer(base64.b64decode(self.page.evaluate(READ_IDS)), dtype=np.uint8).reshape(HEIGHT, WIDTH)

    def settle(self, state: str = "ok") -> None:
        self.page.wait_for_selector(f"#status[data-state={state}]", timeout=10_000)

    def painted(self) -> None:
        """Waits until the last change is on screen."""
        self.page.wait_for_timeout(280)
        self.settle()

    def blank(self) -> None:
        self.page.click("#blank")
        self.page.wait_for_timeout(50)
        self.settle()
        self.backend.jobs.clear()

    def at(self, x: float, y: float) -> tuple[float, float]:
        """The middle of a pixel, in the window."""
        box = self.page.locator("#surface").bounding_box()
        return box["x"] + (x + 0.5) * box["width"] / WIDTH, box["y"] + (y + 0.5) * box["height"] / HEIGHT

    def drag(self, *points: tuple[int, int], button: str = "left") -> None:
        self.page.mouse.move(*self.at(*points[0]))
        self.page.mouse.down(button=button)
        for point in points[1:]:
            self.page.mouse.move(*self.at(*point))
        self.page.mouse.up(button=button)

    def choose(self, tool: str, class_id: int, brush: int = 5) -> None:
        self.page.click(f"[data-tool={tool}]")
        self.page.click(f"[data-class-id='{class_id}']")
        if tool != "fill":
            self.page.fill("#brush", str(brush))

    def pressed(self, selector: str) -> bool:
        return bool(self.page.get_attribute(selector, "aria-pressed") == "true")

    def open_file(self, field: str, name: str, data: bytes, kind: str = "image/png") -> None:
        self.page.set_input_files(field, {"name": name, "mimeType": kind, "buffer": data})

    def wait_for_ids(self, wanted: np.ndarray) -> None:
        for _ in range(100):
            if (self.ids() == wanted).all():
                break
            self.page.wait_for_timeout(30)
        np.testing.assert_array_equal(self.ids(), wanted)

    def notice(self) -> str:
        self.page.wait_for_selector("#notice:not([hidden])", timeout=10_000)
        return str(self.page.inner_text("#notice-text"))

    def download(self, button: str) -> tuple[str, bytes]:
        """(suggested name, content) of what a button downloads."""
        with self.page.expect_download() as waiting:
            self.page.click(button)
        return waiting.value.suggested_filename, Path(waiting.value.path()).read_bytes()


def visit(browser: Any, server: tuple[str, SlowBackend], **options: Any) -> Iterator[Studio]:
    """A fresh visitor; at the end nothing may have gone wrong in the page."""
    url, backend = server
    backend.problem, backend.delay_s = None, 0.0
    context = browser.new_context(**{"viewport": {"width": 1280, "height": 800}, **options})
    studio = Studio(context.new_page(), backend)
    studio.page.goto(url)
    studio.settle()
    backend.jobs.clear()
    yield studio
    context.close()
    assert studio.complaints == []
