"""The paint page as its user feels it: from the end of a stroke to the new picture on the screen.

    python benchmarks/studio.py --url http://127.0.0.1:8000 [--strokes 30] [--chromium PATH]

Opens the page of a running server (`python -m serve ...`) in a headless Chromium, draws strokes one after the other,
and reads the times that the page measures itself: from the pointer's release to the decoded picture in place. They
include the page's pause of 250 ms, in which further strokes would join. `model_ms` is what the page shows: request
sent to answer received. Prints one JSON line last.
"""

from __future__ import annotations

import json
import random
import shutil
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from gaugan.config import parse
from gaugan.errors import UserError

PAUSE_MS = 250
READ = "performance.getEntriesByName('stroke-to-picture').map((entry) => entry.duration)"
UP_TO_DATE = "#status[data-state=ok]"


@dataclass(frozen=True)
class Config:
    """What is measured."""

    url: str = "http://127.0.0.1:8000"
    """Address of a running server."""
    strokes: int = 30
    """Strokes drawn, each after the picture of the one before."""
    chromium: str = ""
    """Path of the browser; empty = the one on PATH."""
    seed: int = 0
    """Where the strokes go."""


def main(config: Config) -> int:
    """Measures, prints; returns the exit code."""
    from playwright.sync_api import sync_playwright

    path = config.chromium or shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        raise UserError("--chromium: none on PATH; name the browser's file")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.goto(config.url)
        page.wait_for_selector(UP_TO_DATE, timeout=60_000)
        to_picture, model = _draw(page, config)
        size = page.evaluate("document.getElementById('result').naturalWidth")
        browser.close()
    figures = {
        "strokes": len(to_picture),
        "width_px": size,
        "p50_ms": round(statistics.median(to_picture), 1),
        "p95_ms": round(statistics.quantiles(to_picture, n=20)[-1], 1),
        "p50_without_pause_ms": round(statistics.median(to_picture) - PAUSE_MS, 1),
        "model_p50_ms": round(statistics.median(model), 1),
    }
    print(json.dumps(figures))
    return 0


def _draw(page: Any, config: Config) -> tuple[list[float], list[float]]:
    """Milliseconds from stroke end to picture, and from request to answer."""
    rng = random.Random(config.seed)
    page.evaluate("performance.clearMeasures()")
    model = []
    for number in range(config.strokes):
        box = page.locator("#surface").bounding_box()
        page.keyboard.press(str(2 + number % 6))
        points = [(box["x"] + rng.random() * box["width"], box["y"] + rng.random() * box["height"]) for _ in range(4)]
        page.mouse.move(*points[0])
        page.mouse.down()
        for point in points[1:]:
            page.mouse.move(*point, steps=8)
        page.mouse.up()
        _wait_for_picture(page, number + 1)
        model.append(float(page.inner_text("#result-caption").split("·")[-1].removesuffix("ms")))
    return page.evaluate(READ), model


def _wait_for_picture(page: Any, number: int) -> None:
    """Looks every few milliseconds: the page's policy forbids waiting inside it. Raises UserError after a minute."""
    deadline = time.monotonic() + 60
    while len(page.evaluate(READ)) < number:
        if time.monotonic() > deadline:
            raise UserError(
                f"--url: no picture for stroke {number} within a minute; the page says "
                f"{page.inner_text('#status-text')!r}"
            )
        page.wait_for_timeout(5)


if __name__ == "__main__":
    try:
        sys.exit(main(parse(Config, description=__doc__ or "")))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
