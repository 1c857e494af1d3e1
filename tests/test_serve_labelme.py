"""POST /v1/labelme: annotations become label maps as labelme paints them, and bad or costly ones are refused."""

from __future__ import annotations

import base64
import io
import json
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image
from serve_fakes import TABLE, FakeBackend

from gaugan import images, labels
from gaugan.labelme_writer import write_labelme
from serve import labelme_routes
from serve.api import build_api

HAIR, EYE = TABLE.ids["hair"], TABLE.ids["eye"]
SIZE = (64, 64)


@pytest.fixture
def client() -> TestClient:
    return TestClient(build_api(FakeBackend(SIZE)), raise_server_exceptions=False)


def annotation(shapes: list[Any], height: int | None = 64, width: int | None = 64, **fields: Any) -> bytes:
    content = {"version": "5.5.0", "shapes": shapes, "imageHeight": height, "imageWidth": width, **fields}
    return json.dumps(content).encode()


def rectangle(label: str, *corners: tuple[float, float]) -> dict[str, Any]:
    return {"label": label, "shape_type": "rectangle", "points": corners}


def send(client: TestClient, data: bytes) -> Any:
    return client.post("/v1/labelme", files={"annotation": ("a.json", data)})


def refusal(client: TestClient, data: bytes) -> str:
    answer = send(client, data)
    assert answer.status_code == 422, answer.text
    assert answer.json()["code"] in ("bad_annotation", "ignored_pixels")
    return str(answer.json()["detail"])


def test_written_annotation_comes_back_as_the_same_label_map(client: TestClient) -> None:
    ids = np.random.default_rng(0).integers(0, TABLE.num_classes, SIZE, dtype=np.uint8)
    answer = send(client, write_labelme(ids, TABLE, "a.png").encode())
    assert answer.status_code == 200 and answer.headers["x-classes-hash"] == TABLE.hash
    np.testing.assert_array_equal(labels.decode_label_map(answer.content, TABLE), ids)


def test_another_shape_is_cropped_in_the_middle_and_scaled(client: TestClient) -> None:
    shapes = [rectangle("hair", (0, 0), (255, 199)), rectangle(" Eye", (100, 100), (111, 111))]
    answer = send(client, annotation(shapes, 200, 256, imagePath="../../outside.png", imageData="no base64"))
    wanted = np.zeros((200, 256), dtype=np.uint8)
    wanted[:200, :256] = HAIR
    wanted[100:112, 100:112] = EYE
    ids = labels.decode_label_map(answer.content, TABLE)
    np.testing.assert_array_equal(ids, images.fit_label_map(wanted, SIZE))
    assert set(np.unique(ids)) == {EYE, HAIR}


MASK = {"label": "hair", "shape_type": "mask", "points": [[0, 0], [9999, 9999]]}

BAD: dict[str, tuple[bytes, str]] = {
    "text": (b"hello", "not valid JSON"),
    "empty": (b"", "not valid JSON"),
    "binary": (b"\xff\xfe\x00", "UTF-8"),
    "another JSON": (b'{"a": 1}', "no labelme file"),
    "deep": (b"[" * 100_000, "deep"),
    "unknown label": (annotation([rectangle("tail", (0, 0), (9, 9))]), "tail"),
    "no size": (annotation([], height=None), "imageHeight"),
    "too large": (annotation([], 5000, 5000), "25,000,000 pixels"),
    "far away": (annotation([rectangle("hair", (0, 0), (9e9, 9))]), "far"),
    "many shapes": (annotation([rectangle("hair", (0, 0), (1, 1))] * (labelme_routes.MAX_SHAPES + 1)), "301 shapes"),
    "many points": (annotation([{"label": "hair", "points": [[0, 0]] * 60_000}]), "60,000 points"),
    "mask bombs": (annotation([MASK]), "pixels together"),
    "ignored": (annotation([rectangle("__ignore__", (5, 3), (6, 4))]), "x=5, y=3"),
    "no shapes": (annotation([17]), "no object"),
    "a kind that is a list": (annotation([{"label": "hair", "points": [], "shape_type": [["mask"]]}]), "is unknown"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_annotation_is_refused_in_words(client: TestClient, name: str) -> None:
    data, words = BAD[name]
    assert words in refusal(client, data)


def test_a_mask_larger_than_its_corners_is_not_decoded(client: TestClient) -> None:
    buffer = io.BytesIO()
    Image.new("1", (8000, 8000)).save(buffer, "PNG")
    shape = {"label": "hair", "shape_type": "mask", "points": [[0, 0], [9, 9]]}
    data = annotation([shape | {"mask": base64.b64encode(buffer.getvalue()).decode()}])
    assert "8000x8000" in refusal(client, data)


def test_label_map_of_another_shape_is_cropped_when_asked(client: TestClient) -> None:
    ids = np.zeros((64, 128), dtype=np.uint8)
    ids[:, 32:96] = np.random.default_rng(1).integers(0, TABLE.num_classes, SIZE, dtype=np.uint8)
    files = {"label_map": ("m.png", labels.encode_label_map(ids, TABLE))}
    answer = client.post("/v1/label-map", files=files, data={"resize": "crop"})
    np.testing.assert_array_equal(labels.decode_label_map(answer.content, TABLE), ids[:, 32:96])
