"""Nothing is lost: a reload restores the visit, a project file holds everything and opens again."""

from __future__ import annotations

import base64
import io
import json
from typing import Any

import numpy as np
import pytest
import reference
from studio_page import EYE, HAIR, HEIGHT, TABLE, WIDTH, Studio, empty, noise, png_of

from gaugan import images, labels

pytestmark = pytest.mark.browser

GREEN = images.encode_png(np.full((30, 50, 3), (20, 200, 20), dtype=np.uint8))


def arrange(studio: Studio) -> np.ndarray:
    """A drawing, a seed that isn't locked, and a blend of an own picture with one of the gallery."""
    studio.page.fill("#seed", "77")
    studio.choose("brush", HAIR, 17)
    studio.drag((20, 20), (60, 60))
    studio.painted()
    studio.page.click("#lock")
    studio.open_file("#style-file", "green.png", GREEN)
    studio.page.wait_for_selector("[data-style='own:1']")
    studio.page.click("#blend-toggle")
    studio.page.click("[data-style='gallery:blue']")
    studio.page.fill("#blend", "25")
    studio.painted()
    return studio.ids()


def assert_arranged(studio: Studio, ids: np.ndarray) -> None:
    studio.wait_for_ids(ids)
    studio.painted()
    job = studio.backend.jobs[-1]
    np.testing.assert_array_equal(job.label_map, ids)
    assert job.style is not None and job.style2 is not None
    assert job.style[0, 0].tolist() == [20, 200, 20] and job.style2[0, 0].tolist() == [30, 30, 200]
    assert job.blend == 0.25 and studio.page.input_value("#seed") == "77" and not studio.pressed("#lock")


def test_reload_restores_drawing_seed_and_styles(studio: Studio) -> None:
    ids = arrange(studio)
    studio.page.reload()
    studio.settle()
    assert_arranged(studio, ids)
    assert studio.page.is_disabled("#undo")


def test_a_reload_right_after_a_stroke_loses_nothing(studio: Studio) -> None:
    studio.choose("brush", EYE, 9)
    studio.drag((30, 30), (70, 50))
    studio.page.reload()
    studio.settle()
    wanted = empty()
    reference.draw(wanted, (30, 30), (70, 50), 9, EYE)
    np.testing.assert_array_equal(studio.ids(), wanted)


def test_a_browser_that_keeps_nothing_is_no_obstacle(browser: Any, server: tuple[str, Any]) -> None:
    url, backend = server
    page = browser.new_page()
    page.add_init_script("""
      indexedDB.open = () => { throw new DOMException('forbidden', 'SecurityError'); };
      for (const name of ['localStorage', 'sessionStorage']) {
        Object.defineProperty(window, name, { get() { throw new DOMException('forbidden', 'SecurityError'); } });
      }""")
    studio = Studio(page, backend)
    page.goto(url)
    assert "Save the project" in studio.notice()
    studio.settle()
    studio.choose("brush", HAIR, 9)
    studio.drag((30, 30))
    assert studio.ids()[30, 30] == HAIR
    page.click("#theme")
    assert studio.complaints == []
    page.close()


def test_project_file_opens_again_on_another_day(studio: Studio) -> None:
    ids = arrange(studio)
    name, data = studio.download("#save-project")
    assert name.endswith(".json")
    picture = base64.b64decode(json.loads(data)["label_map"]["base64"])
    np.testing.assert_array_equal(labels.decode_label_map(picture, TABLE), ids)
    studio.page.evaluate("indexedDB.deleteDatabase('studio')")
    studio.page.reload()
    studio.settle()
    studio.blank()
    studio.open_file("#map-file", name, data, "application/json")
    assert_arranged(studio, ids)
    studio.page.keyboard.press("Control+z")
    assert not studio.ids().any()


def test_project_remembers_the_portrait(studio: Studio) -> None:
    buffer = io.BytesIO(images.encode_png(np.full((HEIGHT, WIDTH, 3), 255, dtype=np.uint8)))
    studio.open_file("#photo-file", "p.png", buffer.getvalue())
    studio.page.wait_for_selector("#map-caption:has-text('sure')")
    _, data = studio.download("#save-project")
    studio.blank()
    assert studio.page.locator("#under option[value=portrait]").is_disabled()
    studio.open_file("#map-file", "portrait.json", data, "application/json")
    studio.page.wait_for_selector("#under option[value=portrait]:not([disabled])", state="attached")


def project(studio: Studio, **fields: Any) -> bytes:
    _, data = studio.download("#save-project")
    return json.dumps(json.loads(data) | fields).encode()


MISFITS: list[tuple[dict[str, Any], str]] = [
    ({"format_version": 2}, "newer"),
    ({"classes": {"name": "facades", "hash": "0"}}, "facades"),
    ({"label_map": {"type": "image/png", "base64": "AAAA"}}, "damaged"),
    ({"seed": "x"}, "damaged"),
    ({"style": None}, "damaged"),
]


def test_projects_that_do_not_fit_are_refused_in_words(studio: Studio) -> None:
    for fields, words in MISFITS:
        studio.open_file("#map-file", "p.json", project(studio, **fields), "application/json")
        assert words in studio.notice()
        assert not studio.ids().any()
        studio.page.click("#notice-close")


def test_project_of_another_size_is_resized_and_lost_styles_are_named(studio: Studio) -> None:
    large = noise(5).repeat(2, axis=0).repeat(2, axis=1)
    label_map = {"type": "image/png", "base64": base64.b64encode(png_of(large)).decode()}
    style = {"first": "gallery:gone", "second": None, "blend": 0.5, "pictures": []}
    data = project(studio, label_map=label_map, style=style, width=2 * WIDTH, height=2 * HEIGHT)
    studio.open_file("#map-file", "p.json", data, "application/json")
    studio.wait_for_ids(noise(5))
    assert "doesn't have all styles" in studio.notice() and studio.pressed("[data-style=seed]")


def test_two_tabs_keep_two_drawings_and_a_third_begins_with_the_newest(studio: Studio) -> None:
    other = Studio(studio.page.context.new_page(), studio.backend)
    other.page.goto(studio.page.url)
    other.settle()
    drawn = {}
    for number, tab in enumerate((studio, other)):
        tab.choose("brush", HAIR, 9)
        tab.drag((20 + 30 * number, 30))
        drawn[number] = tab.ids()
    for number, tab in enumerate((studio, other)):
        tab.page.reload()
        tab.settle()
        np.testing.assert_array_equal(tab.ids(), drawn[number])
    third = Studio(studio.page.context.new_page(), studio.backend)
    third.page.goto(studio.page.url)
    third.settle()
    assert any((third.ids() == ids).all() for ids in drawn.values())


def test_a_full_disk_is_said(studio: Studio) -> None:
    """Chromium tells it at the end of the transaction, after the request has succeeded."""
    studio.page.evaluate("""() => {
      const put = IDBObjectStore.prototype.put;
      IDBObjectStore.prototype.put = function (...values) {
        const request = put.apply(this, values);
        this.transaction.commit = () => {};
        request.onsuccess = () => this.transaction.abort();
        return request;
      };
    }""")
    studio.choose("brush", HAIR, 9)
    studio.drag((20, 20))
    assert "Save the project" in studio.notice()


def test_of_many_tabs_the_oldest_drawings_are_dropped(studio: Studio) -> None:
    found = studio.page.evaluate("""async () => {
      const store = await (await import('/studio/store.js')).Store.open();
      const read = async (tab) => (await store.read.call({ database: store.database, tab }, 'hash')).number;
      for (let number = 0; number < 9; number++) {
        await store.write.call({ database: store.database, tab: `${number}` }, 'hash', { number });
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
      await store.read('hash');
      return [await read('0'), await read('4'), await read('another')];
    }""")
    assert found == [8, 4, 8]
