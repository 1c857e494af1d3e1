"""Every way to begin: templates, label maps of any kind, labelme files, portraits; and files that are none of these."""

from __future__ import annotations

import base64
import io
import json
from typing import Any

import numpy as np
import pytest
from PIL import Image
from studio_page import EYE, HAIR, HEIGHT, TABLE, WIDTH, SlowBackend, Studio, noise, png_of, serve_page

from gaugan import images, labels
from serve import templates
from serve.problems import Problem

pytestmark = pytest.mark.browser


def half_portrait() -> bytes:
    """A picture that the pretended segmenter sees as background beside skin."""
    image = np.zeros((HEIGHT, WIDTH, 3), dtype=np.uint8)
    image[:, WIDTH // 2 :] = 255
    return images.encode_png(image)


def half_ids() -> np.ndarray:
    return np.repeat([[0] * (WIDTH // 2) + [1] * (WIDTH // 2)], HEIGHT, axis=0).astype(np.uint8)


def labelme(**fields: Any) -> bytes:
    shape = {"label": "Hair", "shape_type": "rectangle", "points": [[20, 20], [79, 59]]}
    eye = {"label": "eye", "points": [[40, 30], [60, 30], [50, 45]]}
    content = {"version": "5.5.0", "shapes": [shape, eye], "imagePath": "..\\a.png", "imageData": "AAAA"}
    return json.dumps(content | {"imageHeight": HEIGHT, "imageWidth": WIDTH} | fields).encode()


def test_first_visit_shows_a_template_and_its_painting(visitor: Studio) -> None:
    wanted = templates.draw_template("portrait-1", (HEIGHT, WIDTH))
    np.testing.assert_array_equal(visitor.ids(), wanted)
    assert visitor.page.is_visible("#result") and visitor.page.is_disabled("#undo")


def test_every_template_opens_as_a_step_that_can_be_undone(visitor: Studio) -> None:
    cards = visitor.page.locator("#templates .card:has(img)")
    assert cards.count() == len(templates.TEMPLATES) >= 6
    first = visitor.ids()
    for place, template in enumerate(templates.TEMPLATES):
        cards.nth(place).click()
        visitor.wait_for_ids(templates.draw_template(template, (HEIGHT, WIDTH)))
    for _ in range(len(templates.TEMPLATES) - 1):  # the first was open already: no step
        visitor.page.click("#undo")
    np.testing.assert_array_equal(visitor.ids(), first)


def test_uploaded_label_map_becomes_the_drawing(studio: Studio) -> None:
    ids = noise(1)
    for data in (png_of(ids), images.encode_png(ids), images.encode_png(labels.colourise(ids, TABLE))):
        studio.open_file("#map-file", "m.png", data)
        studio.wait_for_ids(ids)
        studio.painted()
        np.testing.assert_array_equal(studio.backend.jobs[-1].label_map, ids)
        studio.page.click("#undo")
        assert not studio.ids().any()


def test_label_map_of_another_size_is_cropped_and_resized(studio: Studio) -> None:
    ids = np.zeros((2 * HEIGHT + 40, 2 * WIDTH), dtype=np.uint8)
    ids[20 : 20 + 2 * HEIGHT] = noise(2).repeat(2, axis=0).repeat(2, axis=1)
    studio.open_file("#map-file", "large.png", png_of(ids))
    studio.wait_for_ids(noise(2))
    assert "Cropped and resized" in studio.page.inner_text("#map-caption")


def test_labelme_file_is_painted_as_labelme_does(studio: Studio) -> None:
    studio.open_file("#map-file", "a.json", labelme(), "application/json")
    studio.page.wait_for_selector("#map-caption:has-text('a.json')")
    ids = studio.ids()
    assert (ids == HAIR).sum() + (ids == EYE).sum() == 60 * 40
    assert ids[20, 20] == ids[59, 79] == HAIR and ids[31, 50] == EYE and ids[19, 20] == 0


NO_LABEL_MAPS: list[tuple[str, bytes, str]] = [
    ("t.png", b"text", "picture"),
    ("t.json", b"{broken", "damaged"),
    ("t.json", b'{"a": 1}', "neither"),
    ("t.json", labelme(shapes=[{"label": "tail", "points": [[0, 0], [9, 0], [9, 9]]}]), "tail"),
    ("t.json", labelme(imageHeight=None), "imageHeight"),
    ("ids.png", png_of(np.full((HEIGHT, WIDTH), 255, dtype=np.uint8)), "unlabelled"),
]


def test_files_that_are_no_label_maps_are_refused_in_words(studio: Studio) -> None:
    for name, data, words in NO_LABEL_MAPS:
        studio.open_file("#map-file", name, data)
        assert words in studio.notice()
        assert not studio.ids().any()
        studio.page.click("#notice-close")
        assert studio.page.is_hidden("#notice")


def test_portrait_becomes_a_label_map_to_edit_in_its_own_style(studio: Studio) -> None:
    studio.open_file("#photo-file", "p.png", half_portrait())
    studio.wait_for_ids(half_ids())
    assert "88 % sure" in studio.page.inner_text("#map-caption")
    studio.painted()
    job = studio.backend.jobs[-1]
    assert job.style is not None and job.style[:, -1].min() == 255 and job.style[:, 0].max() == 0
    studio.choose("brush", HAIR, 9)
    studio.drag((20, 20))
    assert studio.ids()[20, 20] == HAIR


def test_a_large_portrait_is_made_smaller_before_it_travels(studio: Studio) -> None:
    image = np.random.default_rng(0).integers(0, 256, (2100, 2300, 3), dtype=np.uint8)
    data = images.encode_jpeg(image)
    with studio.page.expect_request("**/v1/segment") as asked:
        studio.open_file("#photo-file", "p.jpg", data, "image/jpeg")
    assert int(asked.value.header_value("content-length")) < len(data)
    studio.page.wait_for_selector("#map-caption:has-text('sure')")


def test_a_busy_segmenter_can_be_asked_again(studio: Studio) -> None:
    studio.backend.problem = Problem("busy", "Too many pictures are waiting; try again.", retry_after_s=1)
    studio.open_file("#photo-file", "p.png", half_portrait())
    assert "Too many pictures" in studio.notice()
    studio.backend.problem = None
    studio.page.click("#notice-action")
    studio.wait_for_ids(half_ids())


DROP = """([data, name, type]) => {
  const file = new File([Uint8Array.from(atob(data), (c) => c.charCodeAt(0))], name, { type });
  const transfer = new DataTransfer();
  transfer.items.add(file);
  const drop = (kind) => document.body.dispatchEvent(
    new DragEvent(kind, { dataTransfer: transfer, bubbles: true, cancelable: true }));
  drop('dragover');
  drop('drop');
}"""


def test_dropped_files_are_told_apart_by_their_content(studio: Studio) -> None:
    for data, name, kind, wanted in (
        (png_of(noise(3)), "m.png", "image/png", noise(3)),
        (half_portrait(), "p.png", "image/png", half_ids()),
        (png_of(noise(4)), "m.png", "image/png", noise(4)),
    ):
        studio.page.evaluate(DROP, [base64.b64encode(data).decode(), name, kind])
        studio.wait_for_ids(wanted)
    assert studio.page.is_hidden("#drop")


def test_without_a_segmenter_no_portrait_is_offered(browser: Any) -> None:
    for url in serve_page(SlowBackend((HEIGHT, WIDTH), with_segmenter=False)):
        page = browser.new_page()
        page.goto(url)
        page.wait_for_selector("#status[data-state=ok]")
        assert page.is_hidden("#open-photo") and page.is_visible("#open-map")
        page.close()


def test_only_what_was_opened_last_is_shown(studio: Studio) -> None:
    other = np.where(half_ids() == 0, 1, 0).astype(np.uint8)
    held = []
    studio.page.route("**/v1/segment", lambda route: held.append(route))
    studio.open_file("#photo-file", "first.png", half_portrait())
    studio.page.wait_for_selector("#open-photo[data-busy]")
    studio.open_file("#map-file", "second.png", png_of(other))  # quicker than the portrait
    studio.wait_for_ids(other)
    studio.page.wait_for_selector("#open-photo:not([data-busy])")
    for route in held:
        route.continue_()
    studio.painted()
    np.testing.assert_array_equal(studio.ids(), other)
    assert studio.page.locator("#styles .card", has_text="My portrait").count() == 0 and studio.page.is_hidden(
        "#notice"
    )


def test_a_portrait_that_comes_while_a_line_is_drawn_stays(studio: Studio) -> None:
    held: list[Any] = []
    studio.page.route("**/v1/segment", lambda route: held.append(route))
    studio.open_file("#photo-file", "p.png", half_portrait())
    studio.choose("line", HAIR, 5)
    studio.page.mouse.move(*studio.at(10, 10))
    studio.page.mouse.down()
    studio.page.mouse.move(*studio.at(40, 40))
    held[0].continue_()
    studio.wait_for_ids(half_ids())
    studio.page.mouse.move(*studio.at(60, 20))
    studio.page.mouse.up()
    np.testing.assert_array_equal(studio.ids(), half_ids())


def test_two_style_pictures_in_quick_succession_are_both_kept_and_the_last_is_used(studio: Studio) -> None:
    large = np.full((3000, 3000, 3), 200, dtype=np.uint8)
    studio.open_file("#style-file", "large.jpg", images.encode_jpeg(large), "image/jpeg")
    studio.open_file("#style-file", "small.png", images.encode_png(np.full((40, 40, 3), 30, dtype=np.uint8)))
    studio.page.wait_for_selector("[data-style='own:2']")
    assert studio.page.eval_on_selector("#styles [aria-pressed=true] img", "(image) => image.naturalWidth") == 40


@pytest.mark.parametrize(
    ("kind", "orientation"), [("JPEG", 6), ("JPEG", 3), ("GIF", 1), ("BMP", 1), ("animated WebP", 1)]
)
def test_portraits_of_any_kind_are_read_upright_and_by_their_first_frame(
    studio: Studio, kind: str, orientation: int
) -> None:
    upright = Image.fromarray(images.decode_image(half_portrait()))
    turned = {
        1: upright,
        3: upright.transpose(Image.Transpose.ROTATE_180),
        6: upright.transpose(Image.Transpose.ROTATE_90),
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    options: dict[str, Any] = {"JPEG": {"exif": exif, "quality": 95}}.get(kind, {})
    if kind == "animated WebP":
        options = {"save_all": True, "append_images": [Image.new("RGB", upright.size)], "lossless": True}
    turned[orientation].save(buffer, kind.split()[-1].upper(), **options)
    studio.open_file("#photo-file", "p", buffer.getvalue(), f"image/{kind.split()[-1].lower()}")
    studio.page.wait_for_selector("#map-caption:has-text('sure')")
    assert (studio.ids() == half_ids()).mean() > 0.98  # JPEG blurs the edge


def test_a_photo_too_large_for_a_label_map_is_taken_for_a_portrait_when_dropped(studio: Studio) -> None:
    noise_picture = np.random.default_rng(0).integers(0, 256, (1700, 1700, 3), dtype=np.uint8)
    data = images.encode_png(noise_picture)
    assert len(data) > 8 * 2**20
    studio.page.evaluate(DROP, [base64.b64encode(data).decode(), "p.png", "image/png"])
    studio.page.wait_for_selector("#map-caption:has-text('sure')")


def test_a_portrait_can_be_pasted(studio: Studio) -> None:
    studio.page.evaluate(
        """(data) => {
          const transfer = new DataTransfer();
          const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
          transfer.items.add(new File([bytes], 'image.png', { type: 'image/png' }));
          document.dispatchEvent(new ClipboardEvent('paste', { clipboardData: transfer }));
        }""",
        base64.b64encode(half_portrait()).decode(),
    )
    studio.wait_for_ids(half_ids())
