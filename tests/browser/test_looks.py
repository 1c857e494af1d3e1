"""Overlay, comparison, and the drawing one sees through."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image
from studio_page import HAIR, HEIGHT, WIDTH, Studio

from gaugan import images

pytestmark = pytest.mark.browser


def pixel(studio: Studio, selector: str, across: float, down: float = 0.5) -> np.ndarray:
    """What a screenshot shows at a place of an element, in fractions of its size."""
    picture = np.array(Image.open(io.BytesIO(studio.page.locator(selector).screenshot())).convert("RGB"))
    return picture[int(down * picture.shape[0]), int(across * picture.shape[1])].astype(int)


def close(a: np.ndarray, b: np.ndarray) -> bool:
    return bool(np.abs(a - b).max() <= 6)


def paint_all(studio: Studio) -> np.ndarray:
    """Everything hair; returns the colour of the painting."""
    studio.page.click("[data-style=seed]")
    studio.page.fill("#seed", "40")
    studio.choose("fill", HAIR)
    studio.drag((WIDTH // 2, HEIGHT // 2))
    studio.painted()
    assert (studio.ids() == HAIR).all()
    return studio.backend._paint(studio.backend.jobs[-1])[0, 0].astype(int)


def test_compare_shows_the_label_map_left_of_the_divider(studio: Studio) -> None:
    painting = paint_all(studio)
    hair = pixel(studio, "#sheet", 0.2)
    studio.page.keyboard.press("c")
    studio.page.fill("#amount", "30")
    assert close(pixel(studio, "#result-sheet", 0.2), hair) and close(pixel(studio, "#result-sheet", 0.4), painting)
    box = studio.page.locator("#result-sheet").bounding_box()
    middle = box["y"] + box["height"] * 0.4
    studio.page.mouse.move(box["x"] + box["width"] * 0.3, middle)
    studio.page.mouse.down()
    studio.page.mouse.move(box["x"] + box["width"] * 0.7, middle)
    studio.page.mouse.up()
    assert studio.page.input_value("#amount") == "70"
    assert close(pixel(studio, "#result-sheet", 0.6), hair) and close(pixel(studio, "#result-sheet", 0.8), painting)
    studio.page.keyboard.press("c")
    assert close(pixel(studio, "#result-sheet", 0.2), painting) and studio.page.is_hidden("#amount")


def test_overlay_mixes_by_its_opacity(studio: Studio) -> None:
    painting = paint_all(studio)
    hair = pixel(studio, "#sheet", 0.2)
    studio.page.click("[data-view=overlay]")
    studio.page.fill("#amount", "25")
    assert close(pixel(studio, "#result-sheet", 0.5), (hair * 0.25 + painting * 0.75).astype(int))


def test_the_painting_before_can_be_compared(studio: Studio) -> None:
    before = paint_all(studio)
    studio.page.fill("#seed", "10")
    studio.painted()
    after = studio.backend._paint(studio.backend.jobs[-1])[0, 0].astype(int)
    studio.page.click("[data-view=compare]")
    studio.page.select_option("#other-kind", "before")
    assert close(pixel(studio, "#result-sheet", 0.2), before) and close(pixel(studio, "#result-sheet", 0.8), after)


def test_one_sees_through_the_drawing_to_the_painting_or_the_portrait(studio: Studio) -> None:
    white = images.encode_png(np.full((HEIGHT, WIDTH, 3), 255, dtype=np.uint8))
    studio.open_file("#photo-file", "p.png", white)
    studio.page.wait_for_selector("#map-caption:has-text('sure')")
    painting = paint_all(studio)
    hair = pixel(studio, "#sheet", 0.2)
    studio.page.select_option("#under", "portrait")
    studio.page.fill("#through", "60")
    assert close(pixel(studio, "#sheet", 0.2), (hair * 0.4 + 255 * 0.6).astype(int))
    studio.page.select_option("#under", "painting")
    studio.page.fill("#through", "100")
    assert close(pixel(studio, "#sheet", 0.2), painting)
    assert (studio.ids() == HAIR).all()
    studio.page.select_option("#under", "")
    assert close(pixel(studio, "#sheet", 0.2), hair)
