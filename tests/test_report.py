"""The report page: what it writes, that it escapes, that pictures keep their proportions."""

from pathlib import Path

import numpy as np
import pytest

from gaugan.images import decode_image
from gaugan.labels import IGNORE, PORTRAIT_CLASSES
from gaugan.report import Page, Strip, label_strip, letterbox, overlay


@pytest.fixture
def page(tmp_path: Path) -> Page:
    return Page(str(tmp_path), "A <b>title</b>", "Sub & title")


def saved(page: Page) -> str:
    return Path(page.save()).read_text()


def test_every_text_is_escaped(page: Page) -> None:
    nasty = '"><script>alert(1)</script>'
    page.heading(nasty, nasty)
    page.facts({nasty: nasty})
    page.bars({nasty: 1.0})
    page.table([nasty], [[nasty]])
    page.sheet([Strip("pictures/a.png", nasty, nasty)])
    text = saved(page)
    assert "<script" not in text and "<b>title" not in text


def test_pictures_are_files_beside_the_page_and_addressed_relatively(page: Page, tmp_path: Path) -> None:
    path = page.picture("one two", np.full((4, 6, 3), 7, dtype=np.uint8))
    page.sheet([Strip(path, "caption", "0.5")])
    assert (decode_image((tmp_path / path).read_bytes()) == 7).all()
    text = saved(page)
    assert 'src="pictures/one%20two.png"' in text and str(tmp_path) not in text


def test_the_page_asks_nothing_of_the_network_and_has_a_dark_side(page: Page) -> None:
    page.legend(PORTRAIT_CLASSES)
    page.histogram([0, 3, 1], 0.0, 1.0)
    text = saved(page)
    assert "http://" not in text and "https://" not in text and "<script" not in text
    assert "prefers-color-scheme: dark" in text


def test_columns_below_the_threshold_are_marked_and_a_long_page_has_links_to_its_parts(page: Page) -> None:
    for name in ("one", "two", "three", "<four>"):
        page.heading(name)
    page.histogram([1, 2, 3, 4, 5], 0.5, 1.0, warn_below=0.8)
    text = saved(page)
    assert text.count('<i class="warn"') == 3
    assert '<a href="#part4">&lt;four&gt;</a>' in text and '<h2 id="part4">' in text


def test_empty_values_make_no_error(page: Page) -> None:
    page.bars({})
    page.histogram([0, 0], 0.0, 1.0)
    page.table(["a"], [])
    page.sheet([])
    assert saved(page).startswith("<!doctype html>")


def test_an_overlay_shows_full_class_colour_on_borders_and_a_blend_inside() -> None:
    image = np.zeros((4, 4, 3), dtype=np.uint8)
    label_map = np.zeros((4, 4), dtype=np.uint8)
    label_map[:, 2:] = 5
    tinted = overlay(image, label_map, PORTRAIT_CLASSES, opacity=0.5)
    assert tuple(tinted[0, 2]) == PORTRAIT_CLASSES.colours[5]
    assert np.allclose(tinted[0, 3], np.array(PORTRAIT_CLASSES.colours[5]) / 2, atol=1)


@pytest.mark.parametrize("size", [(10, 40), (40, 10), (32, 32), (1, 500)])
def test_letterbox_shows_the_whole_picture(size: tuple[int, int]) -> None:
    boxed = letterbox(np.full((*size, 3), 255, dtype=np.uint8), 32)
    assert boxed.shape == (32, 32, 3)
    white = (boxed == 255).all(axis=-1)
    assert white.any(axis=1).sum() == max(1, round(32 * size[0] / max(size)))
    assert white.any(axis=0).sum() == max(1, round(32 * size[1] / max(size)))


def test_a_label_strip_has_picture_map_and_overlay() -> None:
    image, label_map = np.full((20, 10, 3), 90, dtype=np.uint8), np.full((20, 10), 5, dtype=np.uint8)
    label_map[0, 0] = IGNORE
    picture = label_strip(image, label_map, PORTRAIT_CLASSES, side=20)
    assert picture.shape == (20, 3 * 20 + 4, 3)
    assert tuple(picture[10, 10]) == (90, 90, 90) and tuple(picture[10, 22 + 10]) == PORTRAIT_CLASSES.colours[5]
