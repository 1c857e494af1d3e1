"""The Open Inference Protocol v2: JSON and binary tensors, painting and segmenting, and whatever may be wrong."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from serve_fakes import TABLE, FakeBackend

from serve.api import build_api
from serve.problems import PROBLEM_JSON

PAINT, SEGMENT = "/v2/models/gaugan/infer", "/v2/models/unet/infer"
IDS = np.random.default_rng(0).integers(0, TABLE.num_classes, (2, 64, 64), dtype=np.uint8)


@pytest.fixture
def backend() -> FakeBackend:
    return FakeBackend()


@pytest.fixture
def http(backend: FakeBackend) -> TestClient:
    return TestClient(build_api(backend), raise_server_exceptions=False)


def tensor(name: str, array: np.ndarray, datatype: str, **changes: Any) -> dict[str, Any]:
    return {"name": name, "shape": list(array.shape), "datatype": datatype, "data": array.tolist(), **changes}


def maps(**changes: Any) -> dict[str, Any]:
    return {**tensor("label_map", IDS, "UINT8"), **changes}


def infer(http: TestClient, *inputs: Any, path: str = PAINT, **rest: Any) -> Any:
    return http.post(path, json={"inputs": list(inputs), **rest})


def test_label_maps_and_seeds_become_pictures(http: TestClient, backend: FakeBackend) -> None:
    answer = infer(http, maps(), tensor("seed", np.array([5, 6]), "INT64"), id="mine").json()
    assert (answer["id"], answer["model_name"], answer["model_version"]) == ("mine", "gaugan", "step-7")
    (output,) = answer["outputs"]
    assert (output["name"], output["datatype"], output["shape"]) == ("image", "UINT8", [2, 64, 64, 3])
    pictures = np.array(output["data"], dtype=np.uint8).reshape(output["shape"])
    np.testing.assert_array_equal(pictures[1], backend._paint(backend.jobs[1]))
    assert [job.seed for job in backend.jobs] == [5, 6]
    np.testing.assert_array_equal(backend.jobs[0].label_map, IDS[0])


def test_flat_data_means_the_same_as_nested_data(http: TestClient) -> None:
    flat = infer(http, maps(data=IDS.reshape(-1).tolist())).json()
    assert flat["outputs"] == infer(http, maps()).json()["outputs"]


def test_styles_and_blends_reach_the_model(http: TestClient, backend: FakeBackend) -> None:
    styles = np.full((2, 9, 8, 3), 7, dtype=np.uint8)
    inputs = (
        maps(), tensor("style", styles, "UINT8"), tensor("style2", styles + 1, "UINT8"),
        tensor("blend", np.array([0.25, 1.0]), "FP32"),
    )  # fmt: skip
    assert infer(http, *inputs).status_code == 200
    job = backend.jobs[0]
    assert job.style is not None and job.style2 is not None
    assert (job.style.shape, int(job.style2.max()), job.blend) == ((9, 8, 3), 8, 0.25)


def test_binary_tensors_travel_behind_the_json_both_ways(http: TestClient) -> None:
    head = json.dumps(
        {
            "inputs": [{**maps(), "data": None, "parameters": {"binary_data_size": IDS.size}}],
            "outputs": [{"name": "image", "parameters": {"binary_data": True}}],
        }
    ).encode()
    length = {"Inference-Header-Content-Length": str(len(head)), "Content-Type": "application/octet-stream"}
    answer = http.post(PAINT, content=head + IDS.tobytes(), headers=length)
    assert answer.status_code == 200, answer.text
    size = int(answer.headers["inference-header-content-length"])
    described = json.loads(answer.content[:size])["outputs"][0]
    pictures = np.frombuffer(answer.content[size:], np.uint8)
    assert described["parameters"]["binary_data_size"] == len(pictures) == 2 * 64 * 64 * 3
    assert pictures.tolist() == infer(http, maps()).json()["outputs"][0]["data"]


def test_segmenter_answers_label_maps_and_confidences(http: TestClient) -> None:
    pictures = np.zeros((2, 6, 5, 3), dtype=np.uint8)
    pictures[:, :3] = 255
    outputs = {
        one["name"]: one for one in infer(http, tensor("image", pictures, "UINT8"), path=SEGMENT).json()["outputs"]
    }
    assert outputs["label_map"]["shape"] == [2, 6, 5] and sum(outputs["label_map"]["data"]) == 2 * 3 * 5
    assert outputs["confidence"]["data"] == [0.875, 0.875] and outputs["confidence"]["datatype"] == "FP32"


def test_versions_and_server_are_described(http: TestClient) -> None:
    assert http.get("/v2").json()["extensions"] == ["binary_tensor_data"]
    assert http.get("/v2/models/gaugan/versions/step-7").json()["name"] == "gaugan"
    assert http.get("/v2/models/gaugan/versions/step-7/ready").status_code == 200
    assert http.post("/v2/models/gaugan/versions/step-7/infer", json={"inputs": [maps()]}).status_code == 200
    assert http.post("/v2/models/gaugan/versions/step-8/infer", json={"inputs": [maps()]}).status_code == 404


BAD_TENSORS: dict[str, dict[str, Any]] = {
    "no shape": {"shape": None},
    "negative size": {"shape": [-2, 64, 64]},
    "true as a size": {"shape": [True, 64, 64]},
    "too many axes": {"shape": [1] * 9},
    "huge shape": {"shape": [2**40, 2**40]},
    "other shape": {"shape": [2, 64, 32]},
    "unknown datatype": {"datatype": "BYTES"},
    "other datatype": {"datatype": "INT32"},
    "unhashable datatype": {"datatype": []},
    "no data": {"data": None},
    "text": {"data": "x"},
    "texts": {"data": ["x"] * IDS.size},
    "ragged": {"data": [[1], [1, 2]]},
    "floats": {"data": [0.5] * IDS.size},
    "above the type": {"data": [256] * IDS.size},
    "below the type": {"data": [-1] * IDS.size},
    "beyond 64 bit": {"data": [2**70] * IDS.size},
    "unknown class": {"data": [7] * IDS.size},
    "unlabelled": {"data": [255] * IDS.size},
    "binary size of another": {"parameters": {"binary_data_size": 3}},
    "binary size as text": {"parameters": {"binary_data_size": "3"}},
}


@pytest.mark.parametrize("name", BAD_TENSORS)
def test_bad_tensor_is_refused_in_words_that_protocol_clients_find(
    http: TestClient, backend: FakeBackend, name: str
) -> None:
    answer = infer(http, maps(**BAD_TENSORS[name]))
    document = answer.json()
    assert answer.headers["content-type"] == PROBLEM_JSON and answer.status_code in (400, 422), document
    assert document["error"] == document["detail"] and backend.jobs == []


BAD_BODIES: dict[str, tuple[bytes, dict[str, str]]] = {
    "empty": (b"", {}),
    "no JSON": (b"{", {}),
    "deep JSON": (b"[" * 100_000, {}),
    "a list": (b"[]", {}),
    "inputs are text": (b'{"inputs": "x"}', {}),
    "inputs are numbers": (b'{"inputs": [1]}', {}),
    "a nameless input": (b'{"inputs": [{"name": 3}]}', {}),
    "outputs are text": (b'{"inputs": [], "outputs": "x"}', {}),
    "parameters are text": (b'{"inputs": [], "parameters": "x"}', {}),
    "no inputs": (b'{"inputs": []}', {}),
    "another input": (b'{"inputs": [{"name": "x", "shape": [0], "datatype": "UINT8", "data": []}]}', {}),
    "no UTF-8": (b"\xff\xfe{", {}),
    "header length is text": (b"{}", {"Inference-Header-Content-Length": "x"}),
    "header length beyond the body": (b"{}", {"Inference-Header-Content-Length": "99"}),
    "bytes of no tensor": (b'{"inputs": []}xyz', {"Inference-Header-Content-Length": "14"}),
}


@pytest.mark.parametrize("name", BAD_BODIES)
def test_bad_body_is_refused(http: TestClient, name: str) -> None:
    body, headers = BAD_BODIES[name]
    for path in (PAINT, SEGMENT):
        answer = http.post(path, content=body, headers=headers)
        assert answer.headers["content-type"] == PROBLEM_JSON and answer.status_code in (400, 422), answer.text


def test_fields_outside_their_range_are_named(http: TestClient) -> None:
    two = np.ones(2)
    cases = [
        ((maps(), tensor("seed", np.array([-1, 2]), "INT64")), "seed"),
        ((maps(), tensor("seed", np.array([1]), "INT64")), "seed"),
        ((maps(), tensor("blend", 2 * two, "FP32")), "blend"),
        ((maps(), maps()), "twice"),
        ((maps(), tensor("style2", np.zeros((2, 4, 4, 3), np.uint8), "UINT8")), "style"),
        ((tensor("label_map", np.zeros((9, 64, 64), np.uint8), "UINT8"),), "label_map"),
        ((tensor("label_map", np.zeros((0, 64, 64), np.uint8), "UINT8"),), "label_map"),
    ]
    for inputs, word in cases:
        answer = infer(http, *inputs)
        assert answer.status_code == 422 and word in answer.json()["detail"], answer.text
    assert infer(http, maps(), outputs=[{"name": "sound"}]).status_code == 422
    assert infer(http, maps(), path="/v2/models/other/infer").status_code == 404


def test_half_a_surrogate_pair_in_a_name_is_refused_and_can_be_quoted(http: TestClient) -> None:
    body = b'{"inputs": [{"name": "\\ud800", "datatype": "x", "shape": [1], "data": [1]}]}'
    answer = http.post(PAINT, content=body)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_field")
