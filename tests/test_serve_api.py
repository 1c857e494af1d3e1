"""The HTTP side with a fake backend: what is painted, what is refused and how."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image
from serve_fakes import TABLE, FakeBackend

from gaugan import images, labels
from serve.api import build_api
from serve.gate import MAX_BODY_BYTES
from serve.problems import PROBLEM_JSON, PROBLEMS, Problem
from serve.styles import Style

SIZE = (64, 64)


@pytest.fixture
def backend() -> FakeBackend:
    return FakeBackend(SIZE)


@pytest.fixture
def client(backend: FakeBackend) -> Iterator[TestClient]:
    red = np.full((40, 80, 3), (200, 30, 30), dtype=np.uint8)
    with TestClient(build_api(backend, {"red": Style("red", red)}), raise_server_exceptions=False) as client:
        yield client


def label_map(seed: int = 0, size: tuple[int, int] = SIZE) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, TABLE.num_classes, size, dtype=np.uint8)


def label_png(seed: int = 0, size: tuple[int, int] = SIZE) -> bytes:
    return labels.encode_label_map(label_map(seed, size), TABLE)


def png(array: np.ndarray, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG", **options)
    return buffer.getvalue()


def header_only_png(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds no pixels."""
    head = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR" + head + struct.pack(">I", zlib.crc32(b"IHDR" + head))
        + struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", zlib.crc32(b"IDAT"))
    )  # fmt: skip


def paint(client: TestClient, data: bytes, headers: dict[str, str] | None = None, **fields: Any):  # type: ignore[no-untyped-def]
    return client.post("/v1/paint", files={"label_map": ("m.png", data)}, data=fields, headers=headers)


def assert_problem(answer, status: int, code: str) -> dict:  # type: ignore[no-untyped-def]
    assert answer.headers["content-type"] == PROBLEM_JSON, answer.text
    document = answer.json()
    assert (answer.status_code, document["code"]) == (status, code), document
    assert document["status"] == status and document["title"] and document["detail"]
    assert document["request_id"] == answer.headers["x-request-id"]
    assert PROBLEMS[code][0] == status
    return document


def test_painting_is_a_png_of_the_models_size_that_names_its_seed(client: TestClient, backend: FakeBackend) -> None:
    answer = paint(client, label_png(), seed=7)
    assert answer.status_code == 200, answer.text
    picture: Any = Image.open(io.BytesIO(answer.content))
    assert (picture.format, picture.size, picture.mode) == ("PNG", (64, 64), "RGB")
    assert picture.text["Seed"] == answer.headers["x-seed"] == "7"
    assert picture.text["Classes"] == answer.headers["x-classes-hash"] == TABLE.hash
    np.testing.assert_array_equal(backend.jobs[0].label_map, label_map())


def test_same_request_gives_the_same_bytes_and_another_seed_others(client: TestClient) -> None:
    first, again, other = (paint(client, label_png(), seed=seed).content for seed in (1, 1, 2))
    assert first == again != other


def test_without_a_seed_the_answer_tells_the_seed_that_repeats_it(client: TestClient) -> None:
    answer = paint(client, label_png())
    assert paint(client, label_png(), seed=answer.headers["x-seed"]).content == answer.content


def test_several_pictures_come_as_a_sheet_or_as_a_zip_of_the_single_answers(client: TestClient) -> None:
    sheet = paint(client, label_png(), seed=5, n=3)
    assert Image.open(io.BytesIO(sheet.content)).size == (3 * 64 + 2 * 2, 64)
    answer = paint(client, label_png(), headers={"Accept": "application/zip"}, seed=5, n=3)
    archive = zipfile.ZipFile(io.BytesIO(answer.content))
    assert archive.namelist() == ["painting-5.png", "painting-6.png", "painting-7.png"]
    assert archive.read("painting-6.png") == paint(client, label_png(), seed=6).content


@pytest.mark.parametrize("mode", ["palette", "grey", "rgb"])
def test_label_maps_are_read_by_id_or_by_class_colour(client: TestClient, backend: FakeBackend, mode: str) -> None:
    ids = label_map()
    data = {"palette": labels.encode_label_map(ids, TABLE), "grey": png(ids), "rgb": png(labels.colourise(ids, TABLE))}
    assert paint(client, data[mode]).status_code == 200
    np.testing.assert_array_equal(backend.jobs[0].label_map, ids)


def test_style_comes_from_an_upload_or_from_the_gallery(client: TestClient, backend: FakeBackend) -> None:
    blue = np.full((30, 50, 3), (10, 20, 250), dtype=np.uint8)
    files = {"label_map": ("m.png", label_png()), "style": ("s.jpg", images.encode_jpeg(blue))}
    assert client.post("/v1/paint", files=files, data={"seed": 1}).status_code == 200
    assert paint(client, label_png(), style_id="red").status_code == 200
    uploaded, gallery = backend.jobs[0].style, backend.jobs[1].style
    assert uploaded is not None and uploaded.shape == (64, 64, 3) and uploaded[..., 2].mean() > 200
    assert gallery is not None and gallery[..., 0].mean() > 150
    assert client.get("/v1/styles").json()["styles"] == [{"id": "red", "name": "red", "picture": "/v1/styles/red.png"}]
    assert client.get("/v1/styles/red.png").headers["content-type"] == "image/png"


BAD_LABEL_MAPS: dict[str, tuple[bytes, int, str]] = {
    "empty": (b"", 422, "empty"),
    "text": (b"hello, this is no picture", 422, "not_an_image"),
    "truncated": (label_png()[:-400], 422, "truncated"),
    "jpeg": (images.encode_jpeg(np.zeros((*SIZE, 3), np.uint8)), 415, "unsupported_format"),
    "gif": (b"GIF89a" + bytes(20), 415, "unsupported_format"),
    "rgb photo": (png(np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)), 422, "unknown_colour"),
    "16 bit": (png(np.full(SIZE, 300, dtype=np.uint16)), 422, "unsupported_mode"),
    "grey and alpha": (png(np.zeros((*SIZE, 2), np.uint8)), 422, "unsupported_mode"),
    "wrong size": (label_png(size=(64, 63)), 422, "wrong_size"),
    "id out of range": (png(np.full(SIZE, 7, dtype=np.uint8)), 422, "unknown_id"),
    "unlabelled": (png(np.full(SIZE, 255, dtype=np.uint8)), 422, "ignored_pixels"),
    "huge header": (header_only_png(100_000, 100_000), 422, "too_large"),
    "big header": (header_only_png(4001, 4001), 422, "too_large"),
    "header alone": (header_only_png(64, 64), 422, "truncated"),
    "nul bytes": (bytes(1000), 422, "not_an_image"),
}


@pytest.mark.parametrize("name", BAD_LABEL_MAPS)
def test_bad_label_map_is_refused_with_its_reason(client: TestClient, backend: FakeBackend, name: str) -> None:
    data, status, code = BAD_LABEL_MAPS[name]
    assert_problem(paint(client, data), status, code)
    assert_problem(client.post("/v1/label-map", files={"label_map": ("m.png", data)}), status, code)
    assert backend.jobs == []


def test_unlabelled_pixels_are_counted_and_located(client: TestClient) -> None:
    ids = label_map()
    ids[3, 5] = ids[9, 2] = 255
    detail = assert_problem(paint(client, png(ids)), 422, "ignored_pixels")["detail"]
    assert "2 pixels" in detail and "x=5, y=3" in detail


def test_another_size_is_resized_only_when_asked(client: TestClient, backend: FakeBackend) -> None:
    data = label_png(size=(32, 32))
    detail = assert_problem(paint(client, data), 422, "wrong_size")["detail"]
    assert "32x32" in detail and "64x64" in detail
    assert paint(client, data, resize="nearest").status_code == 200
    np.testing.assert_array_equal(backend.jobs[0].label_map, label_map(size=(32, 32)).repeat(2, 0).repeat(2, 1))


@pytest.mark.parametrize(
    "fields",
    [{"seed": "x"}, {"seed": -1}, {"seed": 2**32}, {"seed": "1e3"}, {"n": 0}, {"n": 9}, {"blend": 2}, {"blend": "nan"},
     {"resize": "bicubic"}],
)  # fmt: skip
def test_bad_field_is_named(client: TestClient, fields: dict[str, Any]) -> None:
    document = assert_problem(paint(client, label_png(), **fields), 422, "invalid_field")
    assert document["errors"][0]["field"] == next(iter(fields))


def test_missing_and_malformed_requests(client: TestClient) -> None:
    assert "label_map" in assert_problem(client.post("/v1/paint", data={"seed": 1}), 422, "missing_field")["detail"]
    assert_problem(client.post("/v1/paint", json={"label_map": 1}), 422, "missing_field")
    bad = client.post("/v1/paint", content=b"--x\r\nnonsense", headers={"Content-Type": "multipart/form-data"})
    assert_problem(bad, 400, "malformed_request")
    text_instead_of_file = client.post("/v1/paint", data={"label_map": "text"})
    assert_problem(text_instead_of_file, 422, "invalid_field")
    assert_problem(client.get("/v1/nothing"), 404, "not_found")
    assert_problem(client.get("/v1/paint"), 405, "method_not_allowed")
    assert_problem(paint(client, label_png(), style_id="blue"), 422, "unknown_style")
    assert_problem(paint(client, label_png(), style2_id="red"), 422, "invalid_field")
    assert_problem(paint(client, label_png(), headers={"X-Classes-Hash": "0" * 16}), 409, "classes_mismatch")


BAD_PICTURES = {
    "empty": (b"", 422, "empty"),
    "text": (b"not a picture", 422, "not_an_image"),
    "truncated": (
        images.encode_jpeg(np.random.default_rng(0).integers(0, 255, (99, 99, 3), np.uint8))[:2000],
        422,
        "truncated",
    ),
    "gif": (b"GIF89a" + bytes(20), 415, "unsupported_format"),
    "svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", 415, "unsupported_format"),
    "tiff": (b"II*\x00" + bytes(50), 415, "unsupported_format"),
    "huge header": (header_only_png(100_000, 100_000), 422, "too_large"),
}


@pytest.mark.parametrize("name", BAD_PICTURES)
def test_bad_picture_is_refused_as_style_and_by_the_segmenter(client: TestClient, name: str) -> None:
    data, status, code = BAD_PICTURES[name]
    assert_problem(client.post("/v1/segment", files={"image": ("p", data)}), status, code)
    files = {"label_map": ("m.png", label_png()), "style": ("s", data)}
    assert_problem(client.post("/v1/paint", files=files), status, code)


def test_segment_answers_a_label_map_of_the_pictures_size_with_its_confidence(client: TestClient) -> None:
    half = np.zeros((50, 80, 3), dtype=np.uint8)
    half[:, 40:] = 255
    answer = client.post("/v1/segment", files={"image": ("p.png", images.encode_png(half))})
    ids = labels.decode_label_map(answer.content, TABLE)
    assert answer.headers["x-confidence"] == "0.8750"
    assert ids.shape == (50, 80) and (ids[:, :40] == 0).all() and (ids[:, 40:] == 1).all()
    fitted = client.post("/v1/segment", files={"image": ("p.png", images.encode_png(half))}, data={"fit": "paint"})
    assert labels.decode_label_map(fitted.content, TABLE).shape == SIZE


def test_without_a_segmenter_segment_says_how_to_get_one() -> None:
    client = TestClient(build_api(FakeBackend(with_segmenter=False)))
    picture = images.encode_png(np.zeros((8, 8, 3), np.uint8))
    document = assert_problem(client.post("/v1/segment", files={"image": ("p.png", picture)}), 501, "no_segmenter")
    assert "--segmenter" in document["detail"]


def test_templates_are_label_maps_that_can_be_painted(client: TestClient) -> None:
    entries = client.get("/v1/templates").json()["templates"]
    assert len(entries) >= 2
    first = client.get(entries[0]["label_map"]).content
    assert len(np.unique(labels.decode_label_map(first, TABLE))) >= 5
    assert paint(client, first).status_code == 200
    assert_problem(client.get("/v1/templates/nobody.png"), 404, "not_found")


def test_class_table_and_its_hash_are_told_everywhere(client: TestClient) -> None:
    classes = client.get("/v1/classes").json()
    assert [entry["name"] for entry in classes["classes"]] == list(TABLE.names)
    assert classes["hash"] == TABLE.hash and classes["ignore"] == 255
    metadata = client.get("/v2/models/gaugan").json()
    assert metadata["parameters"]["classes_hash"] == TABLE.hash
    assert metadata["inputs"][0] == {"name": "label_map", "datatype": "UINT8", "shape": [-1, 64, 64]}
    assert client.get("/v2/models/unet").json()["outputs"][0]["name"] == "label_map"
    assert [entry["name"] for entry in client.get("/v2/models").json()["models"]] == ["gaugan", "unet"]
    assert_problem(client.get("/v2/models/other"), 404, "not_found")


def test_health_is_live_before_it_is_ready(client: TestClient, backend: FakeBackend) -> None:
    assert client.get("/v2/health/live").json() == {"live": True}
    assert client.get("/v2/health/ready").json() == {"ready": True}
    backend.problem = Problem("not_ready", "warming up", retry_after_s=1)
    assert_problem(client.get("/v2/health/ready"), 503, "not_ready")
    assert client.get("/v2/health/live").status_code == 200


def test_busy_timeout_and_failure_are_problem_documents(client: TestClient, backend: FakeBackend) -> None:
    backend.problem = Problem("busy", "full", retry_after_s=3)
    busy = paint(client, label_png())
    assert_problem(busy, 503, "busy")
    assert busy.headers["retry-after"] == "3"
    backend.problem = Problem("timeout", "slow")
    assert_problem(paint(client, label_png()), 504, "timeout")
    backend.problem = RuntimeError("secret path /somewhere")
    assert "secret" not in assert_problem(paint(client, label_png()), 500, "internal")["detail"]


def test_upload_over_the_limit_is_cut_with_or_without_a_length(client: TestClient) -> None:
    assert_problem(paint(client, bytes(MAX_BODY_BYTES + 1)), 413, "body_too_large")

    def endless() -> Iterator[bytes]:
        yield b'--x\r\nContent-Disposition: form-data; name="label_map"; filename="m"\r\n\r\n'
        for _ in range(1000):
            yield bytes(1024 * 1024)

    kind = {"Content-Type": "multipart/form-data; boundary=x"}
    assert_problem(client.post("/v1/paint", content=endless(), headers=kind), 413, "body_too_large")
    compressed = {**kind, "Content-Encoding": "gzip"}
    assert_problem(client.post("/v1/paint", content=b"x", headers=compressed), 415, "encoded_body")


def test_every_answer_carries_security_headers_and_a_request_id(client: TestClient) -> None:
    for path in ("/", "/v1/classes", "/nothing", "/studio/main.js"):
        answer = client.get(path)
        policy = answer.headers["content-security-policy"]
        assert "script-src 'self'" in policy and "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-request-id"]
    assert client.get("/", headers={"X-Request-ID": "mine-1"}).headers["x-request-id"] == "mine-1"
    assert client.get("/", headers={"X-Request-ID": "<script>"}).headers["x-request-id"] != "<script>"


def test_openapi_describes_the_surface_and_resolves(client: TestClient) -> None:
    description = client.get("/openapi.json").json()
    for path in ("/v1/paint", "/v1/segment", "/v1/classes", "/v1/styles", "/v2/health/live", "/v2/models/{name}"):
        assert path in description["paths"]
    text = client.get("/openapi.json").text
    for name in {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}:
        assert name in description["components"]["schemas"], name
    codes = description["components"]["schemas"]["ProblemDocument"]["properties"]["code"]["enum"]
    assert set(codes) == set(PROBLEMS)


def test_every_file_of_the_page_is_checked_for_a_newer_one(client: TestClient) -> None:
    for path in ("/", "/studio/main.js", "/studio/style.css"):
        answer = client.get(path)
        assert answer.headers["cache-control"] == "no-cache"
    assert (
        client.get(
            "/studio/main.js", headers={"If-None-Match": client.get("/studio/main.js").headers["etag"]}
        ).status_code
        == 304
    )


def test_the_page_asks_nobody_else_and_has_no_inline_code(client: TestClient) -> None:
    page = client.get("/").text
    assert "http://" not in page.replace("http://www.w3.org/", "") and "https://" not in page
    assert "<script>" not in page and " style=" not in page and " onclick=" not in page


@pytest.mark.parametrize("path", ["/", "/v1/classes", "/v2/health/ready", "/studio/main.js", "/openapi.json"])
def test_head_is_answered_as_get_without_the_body(client: TestClient, path: str) -> None:
    full, head = client.get(path), client.head(path)
    assert head.status_code == 200 and head.content == b""
    for name in ("content-type", "content-length"):
        assert head.headers[name] == full.headers[name]
    assert client.head("/v1/paint").status_code == 405 and client.head("/v1/nothing").status_code == 404
