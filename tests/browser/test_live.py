"""The painting follows the drawing; when it can't the page says why, what to do, and goes on by itself."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image
from studio_page import HAIR, HEIGHT, TABLE, WIDTH, SlowBackend, Studio

from gaugan import labels
from serve.backend import PaintJob
from serve.problems import Problem

pytestmark = pytest.mark.browser


def saved_painting(studio: Studio) -> np.ndarray:
    return np.array(Image.open(io.BytesIO(studio.download("#save-painting")[1])))


def test_server_receives_the_drawn_ids_and_its_answer_is_shown_and_saved(studio: Studio) -> None:
    studio.page.fill("#seed", "42")
    studio.choose("brush", HAIR, 30)
    studio.drag((10, 10), (70, 60))
    studio.painted()
    job = studio.backend.jobs[-1]
    np.testing.assert_array_equal(job.label_map, studio.ids())
    assert job.seed == 42 and "Seed 42" in studio.page.inner_text("#result-caption")
    name, data = studio.download("#save-painting")
    painting: Any = Image.open(io.BytesIO(data))
    assert name == "painting-seed-42.png" and painting.text["Seed"] == "42"
    np.testing.assert_array_equal(np.array(painting), studio.backend._paint(job))
    assert studio.page.evaluate("document.getElementById('result').naturalWidth") == WIDTH


def test_only_the_newest_answer_is_shown(studio: Studio) -> None:
    studio.page.fill("#seed", "7")
    studio.choose("brush", HAIR, 30)
    studio.backend.delay_s = 1.0
    studio.drag((20, 20))
    studio.page.wait_for_timeout(400)  # the slow request is on its way
    studio.drag((70, 60))
    studio.painted()
    studio.page.wait_for_timeout(900)  # the slow answer would be here by now
    np.testing.assert_array_equal(saved_painting(studio), studio.backend._paint(PaintJob(studio.ids(), 7)))


def test_strokes_in_quick_succession_ask_once(studio: Studio) -> None:
    studio.choose("brush", HAIR, 3)
    for x in range(10, 60, 10):
        studio.drag((x, 30), (x, 50))
    studio.painted()
    assert len(studio.backend.jobs) <= 2


def test_stroke_end_to_picture_is_measured_in_the_browser(studio: Studio) -> None:
    studio.page.evaluate("performance.clearMeasures()")
    studio.choose("brush", HAIR, 30)
    studio.drag((20, 20), (60, 50))
    studio.painted()
    script = "performance.getEntriesByName('stroke-to-picture').map((entry) => entry.duration)"
    (milliseconds,) = studio.page.evaluate(script)
    assert 250 <= milliseconds < 5000  # the pause after the last stroke is 250 ms


def test_a_long_wait_is_called_a_queue(studio: Studio) -> None:
    studio.backend.delay_s = 2.6
    studio.page.click("#dice")
    studio.page.wait_for_selector("#status-text:has-text('In the queue')")
    assert studio.page.get_attribute("#status", "data-state") == "busy"
    studio.settle()


def test_busy_is_said_and_drawing_goes_on_meanwhile(studio: Studio) -> None:
    studio.backend.problem = Problem("busy", "full", retry_after_s=2)
    studio.choose("brush", HAIR, 30)
    studio.drag((20, 20))
    assert "busy" in studio.notice() and "Try now (" in studio.page.inner_text("#notice-action")
    studio.drag((70, 60))
    studio.backend.problem = None
    studio.settle()
    np.testing.assert_array_equal(studio.backend.jobs[-1].label_map, studio.ids())
    assert studio.page.is_hidden("#notice")


def test_try_now_does_not_wait_for_the_countdown(studio: Studio) -> None:
    studio.backend.problem = Problem("not_ready", "loading", retry_after_s=60)
    studio.page.click("#dice")
    assert "waking up" in studio.notice()
    studio.backend.problem = None
    studio.page.click("#notice-action")
    studio.settle()


def test_offline_is_said_and_the_page_comes_back(studio: Studio) -> None:
    studio.page.context.set_offline(True)
    studio.page.click("#dice")
    studio.settle("offline")
    assert "Your drawing is kept" in studio.notice()
    studio.choose("brush", HAIR, 30)
    studio.drag((20, 20))
    studio.page.context.set_offline(False)
    studio.settle()
    np.testing.assert_array_equal(studio.backend.jobs[-1].label_map, studio.ids())


def test_a_failure_of_the_server_is_said_with_its_request_id_and_can_be_tried_again(studio: Studio) -> None:
    studio.backend.problem = RuntimeError("a bug")
    studio.page.click("#dice")
    studio.settle("error")
    assert "request id" in studio.notice()
    studio.backend.problem = None
    studio.page.click("#notice-action")
    studio.settle()
    assert studio.page.is_hidden("#notice")


def test_a_seed_that_is_none_is_refused_in_words(studio: Studio) -> None:
    for text in ("many", "-1", "4294967296", "1.5", ""):
        studio.page.fill("#seed", text)
        studio.settle("error")
        assert "whole number" in studio.notice()
        assert studio.page.get_attribute("#seed", "aria-invalid") == "true"
        studio.page.fill("#seed", "5")
        studio.settle()
        assert studio.page.is_hidden("#notice")


def test_page_waits_for_a_model_that_is_waking_up(browser: Any, server: tuple[str, SlowBackend]) -> None:
    url, backend = server
    backend.problem = Problem("not_ready", "loading", retry_after_s=1)
    page = browser.new_page()
    studio = Studio(page, backend)
    page.goto(url)
    assert "waking up" in studio.notice()
    backend.problem = None
    studio.settle()
    assert page.is_hidden("#notice") and page.locator("#swatches button").count() == TABLE.num_classes
    assert studio.ids().any() and studio.ids().shape == (HEIGHT, WIDTH)
    page.close()


def test_label_map_is_saved_as_indexed_png(studio: Studio) -> None:
    studio.choose("brush", HAIR, 30)
    studio.drag((20, 20), (50, 50))
    name, data = studio.download("#save-map")
    assert name == "label-map.png" and Image.open(io.BytesIO(data)).mode == "P"
    np.testing.assert_array_equal(labels.decode_label_map(data, TABLE), studio.ids())


@pytest.mark.parametrize("code", ["classes_mismatch", "wrong_size"])
def test_another_model_behind_the_page_is_said_and_a_reload_is_offered(studio: Studio, code: str) -> None:
    studio.choose("brush", HAIR, 30)
    studio.drag((20, 20))
    studio.painted()
    drawn = studio.ids()
    studio.page.route("**/v1/paint", lambda route: route.fulfill(status=409, json={"code": code, "detail": "?"}))
    studio.page.click("#dice")
    studio.settle("error")
    assert "reload the page" in studio.notice().lower()
    studio.page.unroute("**/v1/paint")
    studio.page.click("#notice-action")
    studio.page.wait_for_load_state()
    studio.settle()
    np.testing.assert_array_equal(studio.ids(), drawn)


def test_every_painting_is_asked_with_the_class_table_it_was_drawn_with(studio: Studio) -> None:
    for button in ("#dice", "#vary"):
        with studio.page.expect_request("**/v1/paint") as asked:
            studio.page.click(button)
        assert asked.value.header_value("x-classes-hash") == TABLE.hash
