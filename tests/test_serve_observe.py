"""Metrics, access log, cache, PNG writer, raw ids and WebP."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image
from serve_fakes import TABLE, FakeBackend

from gaugan import labels
from gaugan.errors import UserError
from serve.api import ApiOptions, build_api
from serve.cache import AnswerCache, CachedAnswer, content_key
from serve.metrics import METRICS, Metrics
from serve.observe import AccessLog
from serve.png import encode_png
from serve.problems import Problem

IDS = np.random.default_rng(0).integers(0, TABLE.num_classes, (64, 64), dtype=np.uint8)
MAP = labels.encode_label_map(IDS, TABLE)


@pytest.fixture
def backend() -> FakeBackend:
    return FakeBackend()


def paint(http: TestClient, data: bytes = MAP, **fields: Any) -> Any:
    return http.post("/v1/paint", files={"label_map": data}, data=fields)


def number(text: str, line: str) -> float:
    found = [one for one in text.splitlines() if one.startswith(line + " ")]
    assert found, f"{line} is not in\n{text}"
    return float(found[0].split(" ")[1])


def test_metrics_count_success_and_failure_by_reason_and_time_every_stage(backend: FakeBackend) -> None:
    http = TestClient(build_api(backend))
    paint(http, n=2)
    paint(http, b"no picture")
    backend.problem = Problem("busy", "full", retry_after_s=1)
    paint(http)
    text = http.get("/metrics").text
    for outcome, count in (("ok", 1), ("not_an_image", 1), ("busy", 1)):
        assert number(text, f'gaugan_requests_total{{endpoint="/v1/paint",outcome="{outcome}"}}') == count
    for stage in ("queue", "compute", "output"):
        assert number(text, f'gaugan_stage_seconds_count{{stage="{stage}"}}') == 1
    assert number(text, 'gaugan_stage_seconds_count{stage="input"}') == 2
    assert number(text, "gaugan_batch_size_count") == 1
    assert number(text, 'gaugan_pictures_total{model="gaugan",version="step-7"}') == 2
    assert number(text, "gaugan_requests_inside") == 1  # this one


def test_unknown_paths_share_one_label(backend: FakeBackend) -> None:
    http = TestClient(build_api(backend))
    for path in ("/a", "/b", "/v1/c"):
        http.get(path)
    assert number(http.get("/metrics").text, 'gaugan_requests_total{endpoint="other",outcome="not_found"}') == 3


def test_every_value_is_told_to_the_sink_too() -> None:
    told: list[tuple[str, float, dict[str, str]]] = []
    metrics = Metrics(lambda name, value, labels: told.append((name, value, dict(labels))))
    metrics.record("gaugan_cache", result="hit")
    metrics.record("gaugan_batch_size", 3)
    assert told == [("gaugan_cache", 1.0, {"result": "hit"}), ("gaugan_batch_size", 3, {})]
    assert all(name.startswith("gaugan_") for name in METRICS)


def test_access_log_has_a_line_per_request_with_its_id_and_times(backend: FakeBackend, tmp_path: Path) -> None:
    path = tmp_path / "access.jsonl"
    http = TestClient(build_api(backend, options=ApiOptions(access_log=AccessLog(str(path)))))
    http.post("/v1/paint", files={"label_map": MAP}, data={"seed": 7}, headers={"X-Request-ID": "mine"})
    http.get("/nothing", headers={"X-Request-ID": "lost"})
    painted, lost = (json.loads(line) for line in path.read_text().splitlines())
    assert (painted["request_id"], painted["status"], painted["outcome"], painted["seed"]) == ("mine", 200, "ok", 7)
    assert {"input_s", "queue_s", "compute_s", "output_s", "batch_size", "model", "bytes_out"} <= set(painted)
    assert (lost["request_id"], lost["status"], lost["outcome"]) == ("lost", 404, "not_found")


def test_cache_answers_the_same_request_without_painting(backend: FakeBackend) -> None:
    http = TestClient(build_api(backend, options=ApiOptions(cache_bytes=10**6)))
    first, again = paint(http, seed=3), paint(http, seed=3)
    assert first.content == again.content and len(backend.jobs) == 1
    assert (first.headers["x-cache"], again.headers["x-cache"]) == ("miss", "hit")
    assert {name: first.headers[name] for name in ("x-seed", "x-model", "content-type")} == {
        name: again.headers[name] for name in ("x-seed", "x-model", "content-type")
    }
    for other in ({"seed": 4}, {"seed": 3, "n": 2}, {"seed": 3, "format": "webp"}):
        assert paint(http, **other).headers["x-cache"] == "miss"
    assert number(http.get("/metrics").text, 'gaugan_cache_total{result="hit"}') == 1


def test_without_a_cache_nothing_is_kept(backend: FakeBackend) -> None:
    http = TestClient(build_api(backend))
    assert "x-cache" not in paint(http, seed=3).headers
    paint(http, seed=3)
    assert len(backend.jobs) == 2


def test_cache_drops_what_was_not_used_for_longest_and_stays_within_its_memory() -> None:
    cache = AnswerCache(max_bytes=30)
    for name in "abc":
        cache.put(name, CachedAnswer(bytes(10), "x"))
    cache.get("a")
    cache.put("d", CachedAnswer(bytes(10), "x"))
    assert [cache.get(name) is not None for name in "abcd"] == [True, False, True, True] and cache.bytes == 30
    cache.put("large", CachedAnswer(bytes(31), "x"))
    assert cache.get("large") is None and cache.bytes == 30


def test_content_keys_tell_types_shapes_and_places_apart() -> None:
    ids = np.zeros((2, 3), np.uint8)
    parts = [(1,), ("1",), (1.0,), (None,), (1, 2), ("12",), ("1", "2"), (ids,), (ids.T,), (ids.astype(np.int16),)]
    assert len({content_key(*part) for part in parts}) == len(parts)
    assert content_key(ids, 1) == content_key(ids.copy(), 1)


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (33, 17)])
def test_png_writer_keeps_every_pixel_and_its_text(size: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    data = encode_png(image, {"Seed": "7", "Model": "größe"})
    assert data == encode_png(image.copy(), {"Seed": "7", "Model": "größe"})
    picture: Any = Image.open(io.BytesIO(data))
    np.testing.assert_array_equal(np.array(picture), image)
    assert picture.text == {"Seed": "7", "Model": "größe"}


def test_webp_is_small_and_the_same_every_time(backend: FakeBackend) -> None:
    http = TestClient(build_api(backend))
    first, again = paint(http, seed=1, format="webp"), paint(http, seed=1, format="webp")
    assert first.headers["content-type"] == "image/webp" and first.content == again.content
    assert Image.open(io.BytesIO(first.content)).size == (64, 64)
    assert paint(http, format="gif").json()["code"] == "invalid_field"


def test_raw_ids_mean_the_same_as_their_png(backend: FakeBackend) -> None:
    http = TestClient(build_api(backend))
    assert paint(http, IDS.tobytes(), shape="64x64", seed=1).content == paint(http, seed=1).content
    half = IDS[::2, ::2]
    assert paint(http, half.tobytes(), shape="32x32", resize="nearest").status_code == 200
    assert backend.jobs[-1].label_map.shape == (64, 64)
    cases = {
        "wrong_shape": (IDS.tobytes(), "64x63"),
        "wrong_size": (half.tobytes(), "32x32"),
        "unknown_id": (bytes([7]) * 4096, "64x64"),
        "ignored_pixels": (bytes([255]) * 4096, "64x64"),
        "empty": (b"", "64x64"),
        "invalid_field": (IDS.tobytes(), "64,64"),
    }
    for code, (data, shape) in cases.items():
        answer = paint(http, data, shape=shape)
        assert (answer.status_code, answer.json()["code"]) == (422, code), answer.text
    assert paint(http, b"", shape="0x0").json()["code"] == "empty"


def test_an_access_log_that_cannot_be_written_is_refused_at_the_start_and_no_obstacle_later(
    backend: FakeBackend, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="--access-log"):
        AccessLog(str(tmp_path / "nothing" / "log"))
    http = TestClient(build_api(backend, options=ApiOptions(access_log=AccessLog("/dev/full"))))
    assert http.get("/v1/classes").status_code == 200
