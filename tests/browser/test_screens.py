"""Every state of the page as a picture for people: SCREENS=FOLDER pytest tests/browser/test_screens.py, then look.

Checked by the test: sheets side by side are in line, no row of tools is wider than its column, nothing
lies on top of a button, and the drawing is on the first screen.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from studio_page import HAIR, Studio

from gaugan import images
from serve.problems import Problem

pytestmark = pytest.mark.browser

SIZES = {
    "wide": (1920, 1080),
    "desk": (1366, 768),
    "small-desk": (1024, 640),
    "tablet": (820, 1180),
    "across": (844, 390),
    "phone": (390, 844),
}

FAULTS = """() => {
  const box = (e) => e.getBoundingClientRect();
  const [map, painting] = ['sheet', 'result-sheet'].map((id) => box(document.getElementById(id)));
  const faults = [];
  const together = map.left !== painting.left && map.top < painting.bottom && painting.top < map.bottom;
  if (together && Math.abs(map.top - painting.top) > 0.5) faults.push('the sheets are not in line');
  for (const easel of document.querySelectorAll('.easel')) {
    const tools = easel.querySelector('.tools');
    const wide = [...tools.children].filter((e) => box(e).right > box(easel).right + 0.5);
    if (together) faults.push(...wide.map((e) => `${e.id || e.className} sticks out`));
  }
  const buttons = [...document.querySelectorAll('.tools button, .palette button, .bar button')];
  for (const e of buttons.filter((e) => e.checkVisibility())) {
    e.scrollIntoView({ block: 'nearest' });
    const { left, top, width, height } = box(e);
    const there = document.elementFromPoint(left + width / 2, top + height / 2);
    const covered = there !== null && !e.contains(there) && !e.disabled && !there.closest('#notice');
    if (covered) faults.push(`${e.id || e.ariaLabel} is covered`);
  }
  scrollTo(0, 0);
  const large = 'large' in document.getElementById('desk').dataset; // on a phone, until it is closed
  if (!large && box(document.getElementById('sheet')).bottom > innerHeight) faults.push('the drawing is cut off');
  return faults;
}"""


def portrait(studio: Studio) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (80, 96, 3), dtype=np.uint8)
    studio.open_file("#photo-file", "p.png", images.encode_png(picture))
    studio.page.wait_for_selector("#map-caption:has-text('sure')")
    studio.painted()


def compare(studio: Studio) -> None:
    studio.page.click("[data-view=compare]")


def variations(studio: Studio) -> None:
    studio.page.click("#vary")
    studio.page.locator("#four button").nth(3).wait_for()


def underneath(studio: Studio) -> None:
    studio.page.select_option("#under", "painting")
    studio.page.click("#mirror")
    studio.page.click("[data-tool=fill]")


def blend(studio: Studio) -> None:
    studio.page.click("#blend-toggle")
    studio.painted()


def busy(studio: Studio) -> None:
    studio.backend.problem = Problem("busy", "Too many pictures are waiting; try again.", retry_after_s=9)
    studio.choose("brush", HAIR, 9)
    studio.drag((20, 20), (40, 40))
    studio.notice()


def failed(studio: Studio) -> None:
    studio.backend.problem = RuntimeError("a bug")
    studio.page.click("#dice")
    studio.settle("error")


def offline(studio: Studio) -> None:
    studio.page.context.set_offline(True)
    studio.page.click("#dice")
    studio.settle("offline")


def shortcuts(studio: Studio) -> None:
    studio.page.click("#help")


STATES: dict[str, Callable[[Studio], None]] = {
    "first": lambda studio: None, "portrait": portrait, "compare": compare, "variations": variations,
    "underneath": underneath, "blend": blend, "busy": busy, "failed": failed, "offline": offline,
    "shortcuts": shortcuts,
}  # fmt: skip


def keep_pictures(studio: Studio, folder: Path, name: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for scheme in ("light", "dark"):
        studio.page.emulate_media(color_scheme=scheme)
        studio.page.wait_for_timeout(150)  # colours fade
        studio.page.screenshot(path=folder / f"{name}-{scheme}.png")


@pytest.mark.parametrize("state", STATES)
def test_every_state_is_tidy_at_every_size(visitor: Studio, state: str) -> None:
    page = visitor.page
    STATES[state](visitor)
    for name, (width, height) in SIZES.items():
        page.set_viewport_size({"width": width, "height": height})
        if "SCREENS" in os.environ:
            keep_pictures(visitor, Path(os.environ["SCREENS"]), f"{state}-{name}")
        if state != "shortcuts":
            assert page.evaluate(FAULTS) == [], name
