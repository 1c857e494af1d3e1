"""A server on loopback and a Chromium for each file of tests of the paint page; a fresh visitor for each test.

Playwright holds an event loop while it runs: one that outlived its file would be in the way of other tests.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from studio_page import HEIGHT, WIDTH, SlowBackend, Studio, serve_page, visit

ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--no-first-run",
]  # fmt: skip
NOT_RUN = "browser tests did NOT run"


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[str, SlowBackend]]:
    backend = SlowBackend((HEIGHT, WIDTH))
    for url in serve_page(backend):
        yield url, backend


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """The Chromium on PATH, else the one that Playwright downloaded."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        names = ("chromium", "chromium-browser", "google-chrome")
        path = next(filter(None, map(shutil.which, names)), None) or playwright.chromium.executable_path
        if not Path(path).exists():
            pytest.skip(f"{NOT_RUN}: no chromium on PATH; apt install chromium, or playwright install chromium")
        chromium = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield chromium
        chromium.close()


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
