"""The style of the painting: seeds with a lock, the gallery, own pictures, blends and variations."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from studio_page import GALLERY, HAIR, HEIGHT, WIDTH, Studio

from gaugan import images
from serve.backend import PaintJob

pytestmark = pytest.mark.browser

GREEN = images.encode_png(np.full((30, 50, 3), (20, 200, 20), dtype=np.uint8))


def colour(style: np.ndarray | None) -> tuple[int, ...]:
    assert style is not None
    return tuple(int(value) for value in style.reshape(-1, 3).mean(axis=0))


def last_job(studio: Studio) -> PaintJob:
    studio.painted()
    return studio.backend.jobs[-1]


def add_green(studio: Studio) -> None:
    studio.open_file("#style-file", "green.png", GREEN)
    studio.page.wait_for_selector("[data-style='own:1'][aria-pressed=true]")


def test_gallery_picture_gives_the_style_and_the_seed_rests(studio: Studio) -> None:
    assert studio.page.locator("#styles .card").count() == len(GALLERY) + 2
    studio.page.click("[data-style='gallery:red']")
    job = last_job(studio)
    assert colour(job.style) == (200, 30, 30) and job.style2 is None
    assert studio.page.is_disabled("#seed") and studio.page.is_disabled("#dice")
    studio.page.click("[data-style=seed]")
    assert last_job(studio).style is None and studio.page.is_enabled("#seed")


def test_own_picture_gives_the_style(studio: Studio) -> None:
    add_green(studio)
    assert colour(last_job(studio).style) == (20, 200, 20)


def test_two_pictures_are_blended_by_the_slider(studio: Studio) -> None:
    studio.page.click("[data-style='gallery:red']")
    studio.page.click("#blend-toggle")
    studio.page.fill("#blend", "30")
    job = last_job(studio)
    assert colour(job.style) == (200, 30, 30) and colour(job.style2) == (30, 30, 200) and job.blend == 0.3
    add_green(studio)  # takes the second place, which was chosen last
    assert colour(last_job(studio).style2) == (20, 200, 20)
    studio.page.click("[data-slot=first]")
    studio.page.click("[data-style='gallery:blue']")
    job = last_job(studio)
    assert colour(job.style) == (30, 30, 200) and colour(job.style2) == (20, 200, 20)
    studio.page.click("#blend-toggle")
    job = last_job(studio)
    assert colour(job.style) == (30, 30, 200) and job.style2 is None


def test_locked_seed_stays_and_an_open_one_changes_with_each_stroke(studio: Studio) -> None:
    studio.page.fill("#seed", "5")
    studio.choose("brush", HAIR, 20)
    studio.drag((20, 20))
    assert last_job(studio).seed == 5
    studio.page.click("#lock")
    studio.drag((60, 60))
    assert last_job(studio).seed != 5
    studio.page.keyboard.press("s")
    assert len({job.seed for job in (last_job(studio), *studio.backend.jobs)}) >= 3


def test_four_variations_are_one_call_and_the_chosen_one_is_painted(studio: Studio) -> None:
    studio.choose("brush", HAIR, 20)
    studio.drag((20, 20))
    studio.painted()
    studio.backend.jobs.clear()
    calls = studio.backend.calls
    studio.page.click("#vary")
    tiles = studio.page.locator("#four button")
    tiles.nth(3).wait_for()
    offered = list(studio.backend.jobs)
    assert studio.backend.calls == calls + 1
    assert [job.seed for job in offered] == list(range(offered[0].seed, offered[0].seed + 4))
    assert f"Seed {offered[2].seed}" in tiles.nth(2).inner_text()
    tiles.nth(2).click()
    assert last_job(studio).seed == offered[2].seed and studio.page.is_hidden("#four")
    shown = np.array(Image.open(io.BytesIO(studio.download("#save-painting")[1])))
    np.testing.assert_array_equal(shown, studio.backend._paint(offered[2]))


def test_variations_of_a_picture_mix_in_the_others(studio: Studio) -> None:
    add_green(studio)
    studio.painted()
    studio.page.click("#vary")
    tiles = studio.page.locator("#four button")
    tiles.nth(1).wait_for()
    assert sorted(tiles.all_inner_texts()) == ["With Blue", "With Red"]
    studio.page.click("#four button:has-text('With Blue')")
    job = last_job(studio)
    assert colour(job.style) == (20, 200, 20) and colour(job.style2) == (30, 30, 200) and job.blend == 0.5


def test_escape_and_drawing_close_the_variations(studio: Studio) -> None:
    studio.page.click("#vary")
    studio.page.locator("#four button").first.wait_for()
    studio.page.keyboard.press("Escape")
    assert studio.page.is_hidden("#four")
    studio.page.click("#vary")
    studio.choose("brush", HAIR, 9)
    studio.drag((HEIGHT // 2, WIDTH // 2))
    assert studio.page.is_hidden("#four")
    studio.painted()


def test_a_style_that_is_no_picture_is_refused_in_words(studio: Studio) -> None:
    studio.open_file("#style-file", "s.png", b"text")
    studio.settle("error")
    assert "style" in studio.notice()
    studio.page.click("[data-style=seed]")
    studio.settle()


def test_a_style_picture_may_leave_the_disk_after_it_was_chosen(studio: Studio, tmp_path: Path) -> None:
    path = tmp_path / "green.png"
    path.write_bytes(images.encode_png(np.full((40, 40, 3), (20, 200, 20), dtype=np.uint8)))
    studio.page.set_input_files("#style-file", path)
    studio.page.wait_for_selector("[data-style='own:1'][aria-pressed=true]")
    path.unlink()
    studio.choose("brush", HAIR, 9)
    studio.drag((30, 30))
    assert colour(last_job(studio).style) == (20, 200, 20) and studio.page.is_hidden("#notice")
