"""One server on loopback and one Chromium for all tests of the paint page; a fresh visitor for each."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from studio_page import HEIGHT, WIDTH, SlowBackend, Studio, serve_page

ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--no-first-run",
]  # fmt: skip
NOT_RUN = "browser tests did NOT run"


@pytest.fixture(scope="session")
def server() -> Iterator[tuple[str, SlowBackend]]:
    backend = SlowBackend((HEIGHT, WIDTH))
    for url in serve_page(backend):
        yield url, backend


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """The Chromium on PATH, else the one that Playwright downloaded."""
    api = pytest.importorskip("playwright.sync_api", reason=f"{NOT_RUN}: playwright is missing")
    with api.sync_playwright() as playwright:
        names = ("chromium", "chromium-browser", "google-chrome")
        path = next(filter(None, map(shutil.which, names)), None) or playwright.chromium.executable_path
        if not Path(path).exists():
            pytest.skip(f"{NOT_RUN}: no chromium on PATH; apt install chromium, or playwright install chromium")
        chromium = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield chromium
        chromium.close()


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


@pytest.fixture
def visitor(browser: Any, server: tuple[str, SlowBackend]) -> Iterator[Studio]:
    """Somebody who sees the page for the first time."""
    yield from visit(browser, server)


@pytest.fixture
def studio(visitor: Studio) -> Studio:
    """A visitor with an empty drawing."""
    visitor.blank()
    return visitor


@pytest.fixture
def touch_studio(browser: Any, server: tuple[str, SlowBackend]) -> Iterator[Studio]:
    """The same on a tablet."""
    for visitor in visit(browser, server, viewport={"width": 820, "height": 1180}, has_touch=True):
        visitor.blank()
        yield visitor
