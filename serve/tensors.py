"""Tensors of the Open Inference Protocol v2, in JSON or as binary data behind it, checked and turned into arrays.

Source: KServe, "Open Inference Protocol" (inference over HTTP/REST) and its "Binary Tensor Data" extension: a tensor
with the parameter `binary_data_size` has no `data`; its bytes follow the JSON in the order of the tensors. The header
`Inference-Header-Content-Length` says how long the JSON is.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from serve.problems import Problem

DTYPES = {
    "BOOL": np.dtype(np.bool_), "UINT8": np.dtype("u1"), "UINT16": np.dtype("<u2"), "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"), "INT8": np.dtype("i1"), "INT16": np.dtype("<i2"), "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"), "FP32": np.dtype("<f4"), "FP64": np.dtype("<f8"),
}  # fmt: skip
MAX_AXES = 5


@dataclass(frozen=True)
class InferRequest:
    """A request whose tensors are arrays."""

    id: str
    inputs: dict[str, np.ndarray]
    wanted: tuple[str, ...]
    """Names of the outputs that are asked for; () = all."""
    binary: frozenset[str]
    """Outputs that are answered as binary data."""
    all_binary: bool


def read_request(body: bytes, json_length: str | None) -> InferRequest:
    """Raises Problem malformed_request for what is no such request, invalid_field for a tensor that is wrong."""
    head, rest = body, b""
    if json_length is not None:
        if not json_length.isdigit() or int(json_length) > len(body):
            raise _malformed(f"Inference-Header-Content-Length is {json_length!r}, the body has {len(body)} bytes")
        head, rest = body[: int(json_length)], body[int(json_length) :]
    try:
        document = json.loads(head)
    except (ValueError, RecursionError) as error:
        raise _malformed("the body (up to Inference-Header-Content-Length) is no JSON") from error
    if not isinstance(document, dict) or not _are_objects(document.get("inputs")):
        raise _malformed("expected an object with `inputs`, a list of tensors")
    outputs = document.get("outputs", [])
    if not _are_objects(outputs) or not isinstance(document.get("parameters", {}), dict):
        raise _malformed("`outputs` is a list of objects with a name, `parameters` an object")
    inputs: dict[str, np.ndarray] = {}
    for tensor in document["inputs"]:
        name = _name(tensor)
        if name in inputs:
            raise Problem("invalid_field", f"inputs: {name} is there twice.")
        inputs[name], rest = _read_tensor(name, tensor, rest)
    if rest:
        raise _malformed(f"{len(rest)} bytes of the body belong to no tensor")
    identity = document.get("id", "")
    return InferRequest(
        id=identity if isinstance(identity, str) else "",
        inputs=inputs,
        wanted=tuple(_name(output) for output in outputs),
        binary=frozenset(_name(one) for one in outputs if _parameters(one).get("binary_data") is True),
        all_binary=document.get("parameters", {}).get("binary_data_output") is True,
    )


def _malformed(what: str) -> Problem:
    return Problem("malformed_request", f"Open Inference Protocol: {what}.")


def _are_objects(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, dict) for one in value)


def _name(tensor: Mapping[str, Any]) -> str:
    name = tensor.get("name")
    if not isinstance(name, str) or not name:
        raise _malformed("a tensor has no name")
    return name


def _parameters(tensor: Mapping[str, Any]) -> Mapping[str, Any]:
    parameters = tensor.get("parameters", {})
    return parameters if isinstance(parameters, dict) else {}


def _read_tensor(name: str, tensor: Mapping[str, Any], rest: bytes) -> tuple[np.ndarray, bytes]:
    """(array, what is left of the binary data)."""
    datatype, shape = tensor.get("datatype"), tensor.get("shape")
    if not isinstance(datatype, str) or datatype not in DTYPES:
        raise Problem("invalid_field", f"inputs: {name}: datatype {datatype!r}; known are {', '.join(DTYPES)}.")
    if not isinstance(shape, list) or len(shape) > MAX_AXES or not all(type(n) is int and n >= 0 for n in shape):
        raise Problem("invalid_field", f"inputs: {name}: shape must be a list of at most {MAX_AXES} sizes.")
    count, dtype = math.prod(shape), DTYPES[datatype]
    size = _parameters(tensor).get("binary_data_size")
    if size is None:
        return _from_json(name, tensor.get("data"), dtype, count).reshape(shape), rest
    if type(size) is not int or size != count * dtype.itemsize or size > len(rest):
        detail = f"binary_data_size {size!r}; {datatype} of shape {shape} has {count * dtype.itemsize} bytes"
        raise Problem("invalid_field", f"inputs: {name}: {detail}, {len(rest)} follow.")
    return np.frombuffer(rest[:size], dtype=dtype).reshape(shape), rest[size:]


def _from_json(name: str, data: Any, dtype: np.dtype, count: int) -> np.ndarray:
    """A flat or nested list of numbers; those that the data type can't hold are refused, not wrapped."""
    try:
        values = np.asarray(data if isinstance(data, list) else None)
    except (ValueError, OverflowError, RecursionError) as error:
        raise Problem("invalid_field", f"inputs: {name}: data is no regular list of numbers.") from error
    if values.size != count:
        raise Problem("invalid_field", f"inputs: {name}: {values.size} values, the shape needs {count}.")
    allowed = {"b": "b", "u": "iu", "i": "iu", "f": "iuf"}[dtype.kind]
    if values.size and values.dtype.kind not in allowed:
        raise Problem("invalid_field", f"inputs: {name}: the values don't fit the datatype.")
    if dtype.kind in "iu" and values.size:
        bounds = np.iinfo(dtype)
        if int(values.min()) < bounds.min or int(values.max()) > bounds.max:
            detail = f"values from {values.min()} to {values.max()}, allowed are {bounds.min} to {bounds.max}"
            raise Problem("invalid_field", f"inputs: {name}: {detail}.")
    with np.errstate(over="ignore"):
        return values.astype(dtype)


def write_answer(
    request: InferRequest, model: str, version: str, outputs: Mapping[str, np.ndarray]
) -> tuple[bytes, dict[str, str]]:
    """(body, headers). Raises Problem invalid_field when an output is asked for that there is not."""
    unknown = [name for name in request.wanted if name not in outputs]
    if unknown:
        raise Problem("invalid_field", f"outputs: there is no {unknown[0]!r}; there are {', '.join(outputs)}.")
    tensors, tail = [], []
    for name in request.wanted or tuple(outputs):
        array = outputs[name]
        tensor: dict[str, Any] = {"name": name, "datatype": _datatype(array), "shape": list(array.shape)}
        if request.all_binary or name in request.binary:
            data = np.ascontiguousarray(array).tobytes()
            tensor["parameters"] = {"binary_data_size": len(data)}
            tail.append(data)
        else:
            tensor["data"] = array.reshape(-1).tolist()
        tensors.append(tensor)
    document = {"model_name": model, "model_version": version, "id": request.id, "outputs": tensors}
    head = json.dumps(document, separators=(",", ":")).encode()
    if not tail:
        return head, {"Content-Type": "application/json"}
    headers = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(len(head))}
    return b"".join([head, *tail]), headers


def _datatype(array: np.ndarray) -> str:
    return next(name for name, dtype in DTYPES.items() if dtype == array.dtype)


def check_names(inputs: Mapping[str, np.ndarray], required: str, optional: Sequence[str]) -> None:
    """Raises Problem missing_field or invalid_field."""
    if required not in inputs:
        raise Problem("missing_field", f"inputs: {required} is needed.")
    unknown = sorted(set(inputs) - {required, *optional})
    if unknown:
        names = ", ".join((required, *optional))
        raise Problem("invalid_field", f"inputs: there is no {unknown[0]!r}; there are {names}.")
