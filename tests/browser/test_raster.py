"""The modules of the paint page that compute without a page, against numpy, Pillow and zipfile."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import reference
from PIL import Image
from studio_page import HEIGHT, TABLE, WIDTH, SlowBackend, Studio, empty, visit

from gaugan import images, labels

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def visitor(browser: Any, server: tuple[str, SlowBackend]) -> Iterator[Studio]:
    """One page for all: these tests leave nothing behind."""
    yield from visit(browser, server)


def test_raster_equals_the_reference_on_random_strokes(visitor: Studio) -> None:
    rng = np.random.default_rng(3)
    strokes = [
        [int(v) for v in (*rng.integers(-20, 110, 4), rng.integers(1, 40), rng.integers(0, 7))] for _ in range(120)
    ]
    script = """async (strokes) => {
      const { drawBox, drawSegment } = await import('/studio/raster.js');
      const ids = new Uint8Array(80 * 96);
      strokes.forEach(([x0, y0, x1, y1, d, id], n) => {
        if (n % 3 === 0) drawSegment(ids, 96, 80, x0, y0, x1, y1, d, id);
        else drawBox(ids, 96, 80, x0, y0, x1, y1, n % 3 === 1, id);
      });
      return Array.from(ids);
    }"""
    wanted = empty()
    for number, (x0, y0, x1, y1, diameter, class_id) in enumerate(strokes):
        if number % 3 == 0:
            reference.draw(wanted, (x0, y0), (x1, y1), diameter, class_id)
        else:
            reference.box(wanted, (x0, y0), (x1, y1), class_id, number % 3 == 1)
    np.testing.assert_array_equal(np.array(visitor.page.evaluate(script, strokes)).reshape(HEIGHT, WIDTH), wanted)


@pytest.mark.parametrize("density", [0.05, 0.3])
def test_gap_fill_equals_the_reference_on_random_ground(visitor: Studio, density: float) -> None:
    rng = np.random.default_rng(5)
    script = """async ([ids, x, y, gap]) => {
      const { gapFill } = await import('/studio/fill.js');
      const filled = Uint8Array.from(ids);
      gapFill(filled, 48, 40, x, y, 6, gap);
      return Array.from(filled);
    }"""
    for gap in (0, 1, 2, 3, 5, 8):
        ground = (rng.random((40, 48)) < density).astype(np.uint8) * 3
        x, y = (int(v) for v in rng.integers((0, 0), (48, 40)))
        wanted = ground.copy()
        reference.flood(wanted, x, y, 6, gap)
        filled = np.array(visitor.page.evaluate(script, [ground.ravel().tolist(), x, y, gap])).reshape(40, 48)
        np.testing.assert_array_equal(filled, wanted)


@pytest.mark.parametrize("kind", ["palette", "grey", "filtered"])
def test_label_maps_written_elsewhere_are_decoded_exactly(visitor: Studio, kind: str) -> None:
    ids = np.random.default_rng(4).integers(0, 256, (31, 45), dtype=np.uint8)
    if kind == "filtered":  # smooth values make encoders use the row filters
        ids = (np.add.outer(np.arange(31), np.arange(45)) % 256).astype(np.uint8)
    picture = Image.fromarray(ids)
    if kind == "palette":
        picture.putpalette(labels.palette(TABLE))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    script = """async (bytes) => {
      const { decodeIndexed, encodeIndexed } = await import('/studio/png.js');
      const { ids, width, height } = await decodeIndexed(new Blob([new Uint8Array(bytes)]));
      const grey = Array.from({ length: 256 }, (_, id) => [id, id, id]);
      const again = new Uint8Array(await (await encodeIndexed(ids, width, height, grey)).arrayBuffer());
      return JSON.stringify({ ids: Array.from(ids), width, height, again: Array.from(again) });
    }"""
    answer = json.loads(visitor.page.evaluate(script, list(buffer.getvalue())))
    assert (answer["width"], answer["height"]) == (45, 31)
    np.testing.assert_array_equal(np.array(answer["ids"]).reshape(31, 45), ids)
    written: Any = Image.open(io.BytesIO(bytes(answer["again"])))
    assert written.mode == "P"
    np.testing.assert_array_equal(np.array(written), ids)


@pytest.mark.parametrize("size", [(40, 48), (7, 5), (160, 200)])
def test_resized_ids_equal_nearest_neighbour_of_the_library(visitor: Studio, size: tuple[int, int]) -> None:
    ids = np.random.default_rng(6).integers(0, 7, (31, 45), dtype=np.uint8)
    script = """async ([ids, width, height]) => {
      const { resized } = await import('/studio/raster.js');
      return Array.from(resized(Uint8Array.from(ids), 45, 31, width, height));
    }"""
    answer = np.array(visitor.page.evaluate(script, [ids.ravel().tolist(), size[1], size[0]])).reshape(size)
    np.testing.assert_array_equal(answer, images.resize_label_map(ids, size))


def test_stored_zip_archives_are_read(visitor: Studio) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("one.png", b"first")
        archive.writestr("tw\u00f6.png", b"the second")
    script = """async (bytes) => {
      const { readZip } = await import('/studio/zip.js');
      const files = await readZip(new Blob([new Uint8Array(bytes)]), 'image/png');
      return Promise.all(files.map(async ({ name, blob }) => [name, await blob.text()]));
    }"""
    found = visitor.page.evaluate(script, list(buffer.getvalue()))
    assert found == [["one.png", "first"], ["tw\u00f6.png", "the second"]]
