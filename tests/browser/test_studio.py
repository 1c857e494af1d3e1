"""The paint page in a real Chromium: every tool against an independent implementation, pixel by pixel."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uvicorn
from PIL import Image
from serve_fakes import TABLE, FakeBackend

from gaugan import images, labels
from serve.api import build_api
from serve.backend import PaintJob
from serve.problems import Problem

playwright_api = pytest.importorskip("playwright.sync_api", reason="browser tests did NOT run: playwright is missing")
pytestmark = pytest.mark.browser

HEIGHT, WIDTH = 80, 96
ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--no-first-run",
]  # fmt: skip
READ_IDS = "async () => btoa(String.fromCharCode(...(await import('/studio/state.js')).studio.ids))"
HAIR, FACE, EYE, CLOTHES = (TABLE.ids[name] for name in ("hair", "face", "eye", "clothes"))


class SlowBackend(FakeBackend):
    """Waits `delay_s` before it paints."""

    delay_s = 0.0

    async def paint(self, jobs: list[PaintJob]) -> list[np.ndarray]:
        delay, self.delay_s = self.delay_s, 0.0
        await asyncio.sleep(delay)
        return await super().paint(jobs)


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[str, SlowBackend]]:
    """(address, backend) of the page on a port of its own."""
    backend = SlowBackend((HEIGHT, WIDTH))
    uvicorn_server = uvicorn.Server(uvicorn.Config(build_api(backend), port=0, log_level="error"))
    thread = threading.Thread(target=uvicorn_server.run, daemon=True)
    thread.start()
    while not uvicorn_server.started:
        time.sleep(0.01)
    port = uvicorn_server.servers[0].sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}", backend
    uvicorn_server.should_exit = True
    thread.join(timeout=10)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright_api.sync_playwright() as playwright:
        names = ("chromium", "chromium-browser", "google-chrome")
        path = next(filter(None, map(shutil.which, names)), None) or playwright.chromium.executable_path
        if not Path(path).exists():
            pytest.skip("browser tests did NOT run: install chromium")
        chromium = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield chromium
        chromium.close()


class Studio:
    """The page as a test uses it: positions are pixels of the label map."""

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
        self.page.wait_for_timeout(300)
        self.settle()

    def at(self, x: int, y: int) -> tuple[float, float]:
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
        self.page.fill("#brush", str(brush))

    def download(self, button: str) -> bytes:
        with self.page.expect_download() as waiting:
            self.page.click(button)
        return Path(waiting.value.path()).read_bytes()


@pytest.fixture
def studio(browser: Any, server: tuple[str, SlowBackend]) -> Iterator[Studio]:
    """A fresh visitor with an empty drawing."""
    url, backend = server
    backend.problem, backend.delay_s = None, 0.0
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    page = context.new_page()
    studio = Studio(page, backend)
    page.goto(url)
    studio.settle()
    page.click("#blank")
    studio.painted()
    backend.jobs.clear()
    yield studio
    context.close()
    assert studio.complaints == []


def draw(ids: np.ndarray, start: tuple[int, int], end: tuple[int, int], diameter: int, class_id: int) -> None:
    """The reference brush: every pixel whose centre is within diameter / 2 of the segment, in exact integers."""
    y, x = np.mgrid[: ids.shape[0], : ids.shape[1]].astype(np.int64)
    (x0, y0), (x1, y1) = start, end
    dx, dy = x1 - x0, y1 - y0
    along, length2 = (x - x0) * dx + (y - y0) * dy, dx * dx + dy * dy
    to_start, to_end = (x - x0) ** 2 + (y - y0) ** 2, (x - x1) ** 2 + (y - y1) ** 2
    cross = (x - x0) * dy - (y - y0) * dx
    beside = 4 * cross**2 <= diameter**2 * length2
    near = np.where(
        along <= 0, 4 * to_start <= diameter**2, np.where(along >= length2, 4 * to_end <= diameter**2, beside)
    )
    ids[near] = class_id


def flood(ids: np.ndarray, x: int, y: int, class_id: int) -> None:
    """The reference fill: grows 4-connected until nothing changes."""
    area = np.zeros(ids.shape, dtype=bool)
    area[y, x] = True
    while True:
        grown = area.copy()
        grown[1:] |= area[:-1]
        grown[:-1] |= area[1:]
        grown[:, 1:] |= area[:, :-1]
        grown[:, :-1] |= area[:, 1:]
        grown &= ids == ids[y, x]
        if (grown == area).all():
            break
        area = grown
    ids[area] = class_id


def empty() -> np.ndarray:
    return np.zeros((HEIGHT, WIDTH), dtype=np.uint8)


@pytest.mark.parametrize("brush", [1, 2, 7, 20])
def test_brush_paints_exact_discs_along_the_stroke(studio: Studio, brush: int) -> None:
    studio.choose("brush", HAIR, brush)
    studio.drag((20, 20), (60, 33), (61, 70), (-4, 90))
    wanted = empty()
    for start, end in (((20, 20), (60, 33)), ((60, 33), (61, 70)), ((61, 70), (-4, 90))):
        draw(wanted, start, end, brush, HAIR)
    np.testing.assert_array_equal(studio.ids(), wanted)


def test_line_keeps_only_its_last_position(studio: Studio) -> None:
    studio.choose("line", EYE, 3)
    studio.drag((10, 10), (90, 12), (50, 75), (80, 40))
    wanted = empty()
    draw(wanted, (10, 10), (80, 40), 3, EYE)
    np.testing.assert_array_equal(studio.ids(), wanted)


def test_fill_stays_inside_a_one_pixel_outline(studio: Studio) -> None:
    corners = [(15, 40), (48, 8), (80, 41), (47, 74), (15, 40)]
    studio.choose("brush", HAIR, 1)
    studio.drag(*corners)
    studio.choose("fill", FACE)
    studio.drag((48, 40))
    wanted = empty()
    for start, end in zip(corners, corners[1:], strict=False):
        draw(wanted, start, end, 1, HAIR)
    flood(wanted, 48, 40, FACE)
    assert (wanted == FACE).sum() > 1500 and wanted[0, 0] == 0
    np.testing.assert_array_equal(studio.ids(), wanted)


def test_eyedropper_takes_the_class_and_gives_the_brush_back(studio: Studio) -> None:
    studio.choose("brush", CLOTHES, 9)
    studio.drag((30, 30))
    studio.page.click(f"[data-class-id='{EYE}']")
    studio.page.click("[data-tool=pick]")
    studio.drag((30, 30))
    assert studio.page.get_attribute(f"[data-class-id='{CLOTHES}']", "aria-pressed") == "true"
    assert studio.page.get_attribute("[data-tool=brush]", "aria-pressed") == "true"


def test_right_button_erases_and_mirror_draws_twice(studio: Studio) -> None:
    studio.choose("brush", HAIR, 11)
    studio.page.click("#mirror")
    studio.drag((20, 20), (30, 50))
    wanted = empty()
    draw(wanted, (20, 20), (30, 50), 11, HAIR)
    draw(wanted, (WIDTH - 21, 20), (WIDTH - 31, 50), 11, HAIR)
    np.testing.assert_array_equal(studio.ids(), wanted)
    studio.page.click("#mirror")
    studio.drag((20, 20), button="right")
    draw(wanted, (20, 20), (20, 20), 11, 0)
    np.testing.assert_array_equal(studio.ids(), wanted)


def test_sixty_steps_are_undone_and_redone_and_survive_tool_switches(studio: Studio) -> None:
    snapshots = [studio.ids()]
    rng = np.random.default_rng(0)
    for step in range(60):
        tool = ("brush", "line", "fill")[step % 3]
        studio.page.keyboard.press({"brush": "b", "line": "l", "fill": "f"}[tool])
        studio.page.keyboard.press(str(1 + (step % 6 + 1)))
        points = [(int(x), int(y)) for x, y in rng.integers((0, 0), (WIDTH, HEIGHT), (2, 2))]
        studio.drag(*points)
        if not (studio.ids() == snapshots[-1]).all():
            snapshots.append(studio.ids())
    assert len(snapshots) > 50
    for wanted in reversed(snapshots[:-1]):
        studio.page.keyboard.press("Control+z")
        np.testing.assert_array_equal(studio.ids(), wanted)
    for wanted in snapshots[1:]:
        studio.page.keyboard.press("Control+Shift+z")
        np.testing.assert_array_equal(studio.ids(), wanted)
    assert studio.page.is_disabled("#redo")


def test_server_receives_the_drawn_ids_and_its_answer_is_shown_and_saved(studio: Studio) -> None:
    studio.page.fill("#seed", "42")
    studio.choose("brush", HAIR, 30)
    studio.drag((10, 10), (70, 60))
    studio.painted()
    job = studio.backend.jobs[-1]
    np.testing.assert_array_equal(job.label_map, studio.ids())
    assert job.seed == 42 and "seed 42" in studio.page.inner_text("#result-caption")
    saved = np.array(Image.open(io.BytesIO(studio.download("#save-painting"))))
    np.testing.assert_array_equal(saved, studio.backend._paint(job))
    np.testing.assert_array_equal(labels.decode_label_map(studio.download("#save-map"), TABLE), studio.ids())


def test_only_the_newest_answer_is_shown(studio: Studio) -> None:
    studio.page.fill("#seed", "7")
    studio.choose("brush", HAIR, 30)
    studio.backend.delay_s = 1.0
    studio.drag((20, 20))
    studio.page.wait_for_timeout(400)  # the slow request is on its way
    studio.drag((70, 60))
    studio.painted()
    studio.page.wait_for_timeout(900)  # the slow answer would be here by now
    saved = np.array(Image.open(io.BytesIO(studio.download("#save-painting"))))
    np.testing.assert_array_equal(saved, studio.backend._paint(PaintJob(studio.ids(), 7)))


def test_strokes_in_quick_succession_ask_once(studio: Studio) -> None:
    studio.choose("brush", HAIR, 3)
    for x in range(10, 60, 10):
        studio.drag((x, 30), (x, 50))
    studio.painted()
    assert len(studio.backend.jobs) <= 2


def test_busy_and_error_are_said_and_the_page_recovers(studio: Studio) -> None:
    studio.backend.problem = Problem("busy", "full", retry_after_s=1)
    studio.choose("brush", HAIR, 30)
    studio.drag((20, 20))
    studio.page.wait_for_selector("#status-text:has-text('busy')")
    studio.backend.problem = None
    studio.settle()
    studio.page.fill("#seed", "many")
    studio.settle("error")
    assert "seed" in studio.page.inner_text("#status-text").lower()
    studio.page.fill("#seed", "5")
    studio.settle()


def test_offline_is_said_and_the_page_comes_back(studio: Studio) -> None:
    studio.page.context.set_offline(True)
    studio.page.click("#dice")
    studio.settle("offline")
    studio.page.context.set_offline(False)
    studio.settle()


def test_uploaded_label_map_and_portrait_become_the_drawing(studio: Studio) -> None:
    ids = np.random.default_rng(1).integers(0, 7, (HEIGHT, WIDTH), dtype=np.uint8)
    files = [
        ("#map-file", "m.png", labels.encode_label_map(ids, TABLE), ids),
        ("#map-file", "rgb.png", images.encode_png(labels.colourise(ids[::-1], TABLE)), ids[::-1]),
    ]
    half = np.zeros((HEIGHT, WIDTH, 3), dtype=np.uint8)
    half[:, WIDTH // 2 :] = 255
    files.append(("#photo-file", "p.png", images.encode_png(half), (half[..., 0] > 127).astype(np.uint8)))
    for field, name, data, wanted in files:
        before = len(studio.backend.jobs)
        studio.page.set_input_files(field, {"name": name, "mimeType": "image/png", "buffer": data})
        while len(studio.backend.jobs) == before:
            studio.page.wait_for_timeout(50)
        np.testing.assert_array_equal(studio.ids(), wanted)
    assert "88 % sure" in studio.page.inner_text("#map-caption")
    studio.page.set_input_files("#map-file", {"name": "t.png", "mimeType": "image/png", "buffer": b"text"})
    studio.settle("error")


def test_drawing_survives_a_reload(studio: Studio) -> None:
    studio.choose("brush", HAIR, 17)
    studio.drag((20, 20), (60, 60))
    ids = studio.ids()
    studio.painted()
    studio.page.reload()
    studio.settle()
    np.testing.assert_array_equal(studio.ids(), ids)


def test_keyboard_alone_draws(studio: Studio) -> None:
    page = studio.page
    page.focus("#surface")
    for name in ("5", "[", " ", "Shift+ArrowRight", "ArrowDown", " "):
        page.keyboard.press(name)
    wanted, (x, y) = empty(), (WIDTH // 2, HEIGHT // 2)
    draw(wanted, (x, y), (x + 10, y), 12, 4)
    draw(wanted, (x + 10, y), (x + 10, y + 1), 12, 4)
    np.testing.assert_array_equal(studio.ids(), wanted)


@pytest.mark.parametrize(("width", "height"), [(1280, 800), (768, 1024), (420, 900), (320, 640)])
def test_page_never_scrolls_sideways(studio: Studio, width: int, height: int) -> None:
    studio.page.set_viewport_size({"width": width, "height": height})
    assert studio.page.evaluate("document.documentElement.scrollWidth") <= width
    box = studio.page.locator("#surface").bounding_box()
    assert box["width"] / box["height"] == pytest.approx(WIDTH / HEIGHT, rel=0.01)


def test_raster_equals_the_reference_on_random_strokes(studio: Studio) -> None:
    rng = np.random.default_rng(3)
    strokes = [
        [int(v) for v in (*rng.integers(-20, 110, 4), rng.integers(1, 40), rng.integers(0, 7))] for _ in range(150)
    ]
    script = """async (strokes) => {
      const { drawSegment, floodFill } = await import('/studio/raster.js');
      const ids = new Uint8Array(80 * 96);
      strokes.forEach(([x0, y0, x1, y1, d, id], n) => {
        drawSegment(ids, 96, 80, x0, y0, x1, y1, d, id);
        if (n % 5 === 0) floodFill(ids, 96, 80, n % 96, n % 80, (id + 1) % 7);
      });
      return Array.from(ids);
    }"""
    wanted = empty()
    for number, (x0, y0, x1, y1, diameter, class_id) in enumerate(strokes):
        draw(wanted, (x0, y0), (x1, y1), diameter, class_id)
        if number % 5 == 0:
            flood(wanted, number % 96, number % 80, (class_id + 1) % 7)
    np.testing.assert_array_equal(np.array(studio.page.evaluate(script, strokes)).reshape(HEIGHT, WIDTH), wanted)


@pytest.mark.parametrize("kind", ["palette", "grey", "filtered"])
def test_label_maps_written_elsewhere_are_decoded_exactly(studio: Studio, kind: str) -> None:
    ids = np.random.default_rng(4).integers(0, 256, (31, 45), dtype=np.uint8)
    if kind == "filtered":  # smooth values make encoders use the row filters
        ids = (np.add.outer(np.arange(31), np.arange(45)) % 256).astype(np.uint8)
    picture = Image.fromarray(ids)
    if kind == "palette":
        picture.putpalette(labels.palette(TABLE))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    script = """async (bytes) => {
      const { decodeIndexed, encodeIndexed } = await import('/studio/png.js');
      const { ids, width, height } = await decodeIndexed(new Blob([new Uint8Array(bytes)]));
      const grey = Array.from({ length: 256 }, (_, id) => [id, id, id]);
      const again = new Uint8Array(await (await encodeIndexed(ids, width, height, grey)).arrayBuffer());
      return JSON.stringify({ ids: Array.from(ids), width, height, again: Array.from(again) });
    }"""
    answer = json.loads(studio.page.evaluate(script, list(buffer.getvalue())))
    assert (answer["width"], answer["height"]) == (45, 31)
    np.testing.assert_array_equal(np.array(answer["ids"]).reshape(31, 45), ids)
    written: Any = Image.open(io.BytesIO(bytes(answer["again"])))
    assert written.mode == "P"
    np.testing.assert_array_equal(np.array(written), ids)
