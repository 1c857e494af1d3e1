"""Everything at once, in any order: what is drawn, asked for, shown, undone and kept still agrees."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from studio_page import HEIGHT, TABLE, WIDTH, Studio, noise, png_of

from serve.backend import PaintJob

pytestmark = pytest.mark.browser

TOOLS = ("brush", "line", "rectangle", "ellipse", "fill", "pick")
ACTIONS = 40


def act(studio: Studio, rng: random.Random) -> None:
    """One thing that a person may do, without waiting for what the last one leads to."""
    page = studio.page

    def pixel() -> tuple[int, int]:
        return rng.randrange(-5, WIDTH + 5), rng.randrange(HEIGHT)

    def half_a_stroke_and_a_key() -> None:
        page.mouse.move(*studio.at(*pixel()))
        page.mouse.down()
        page.mouse.move(*studio.at(*pixel()))
        page.keyboard.press(rng.choice(("Control+z", "Control+Shift+z", "m", "r", "Escape")))
        page.mouse.move(*studio.at(*pixel()))
        page.mouse.up()

    page.keyboard.press(str(rng.randrange(1, TABLE.num_classes + 1)))
    page.click(f"[data-tool={rng.choice(TOOLS)}]")
    studio.backend.delay_s = rng.choice((0.0, 0.0, 0.5))
    rng.choice(
        (
            lambda: studio.drag(*(pixel() for _ in range(rng.randrange(1, 4)))),
            lambda: studio.drag(pixel(), pixel(), button="right"),
            half_a_stroke_and_a_key,
            lambda: page.keyboard.press("Control+z"),
            lambda: page.keyboard.press("Control+Shift+z"),
            lambda: page.locator("#templates .card").nth(rng.randrange(3, 9)).click(),
            lambda: studio.open_file("#map-file", "m.png", png_of(noise(rng.randrange(100)))),
            lambda: page.keyboard.press("m"),
            lambda: page.wait_for_timeout(rng.randrange(400)),
        )
    )()


@pytest.mark.parametrize("seed", [0, 1])
def test_whatever_is_done_painting_history_and_memory_agree(visitor: Studio, seed: int) -> None:
    begun, page = visitor.ids(), visitor.page
    rng = random.Random(seed)
    for _ in range(ACTIONS):
        act(visitor, rng)
    page.wait_for_timeout(600)
    visitor.painted()
    drawn = visitor.ids()
    wanted = visitor.backend._paint(PaintJob(drawn, int(page.input_value("#seed"))))
    assert shown(page) == wanted.tolist()
    undone = through(visitor, "#undo")
    np.testing.assert_array_equal(visitor.ids(), begun)
    assert through(visitor, "#redo") == undone > 5
    np.testing.assert_array_equal(visitor.ids(), drawn)
    page.reload()
    visitor.settle()
    np.testing.assert_array_equal(visitor.ids(), drawn)


def through(studio: Studio, button: str) -> int:
    """Clicks until the button rests; returns how often."""
    clicks = 0
    while studio.page.is_enabled(button):
        studio.page.click(button)
        clicks += 1
    return clicks


def shown(page: Any) -> list[Any]:
    """The pixels of the painting on the page."""
    script = """async () => {
      const image = document.getElementById('result');
      const canvas = new OffscreenCanvas(image.naturalWidth, image.naturalHeight);
      const context = canvas.getContext('2d');
      context.drawImage(image, 0, 0);
      return [...context.getImageData(0, 0, canvas.width, canvas.height).data];
    }"""
    return np.array(page.evaluate(script)).reshape(HEIGHT, WIDTH, 4)[..., :3].tolist()
