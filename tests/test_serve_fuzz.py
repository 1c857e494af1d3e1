"""The HTTP side under odd requests: a fuzzer over its own OpenAPI document, and odd image files. Never a 5xx."""

from __future__ import annotations

import io
import os
import pickle
import struct
import time
import zlib
from collections.abc import Callable
from typing import Any

import hypothesis
import numpy as np
import psutil
import pytest
import schemathesis
from fastapi.testclient import TestClient
from hypothesis import strategies as st
from PIL import Image
from serve_fakes import TABLE, FakeBackend

from gaugan import labels
from serve.api import ApiOptions, build_api
from serve.guard import Tokens
from serve.problems import PROBLEM_JSON

CASES = int(os.environ.get("FUZZ_CASES", "15"))
"""Requests per operation and phase (make test-long: 300)."""
ADMIN = "admin-token-0123456789"
API = build_api(FakeBackend(), options=ApiOptions(tokens=Tokens.of(None, ADMIN)))
SCHEMA = schemathesis.openapi.from_asgi("/openapi.json", API)
ALLOWED_5XX = {501}
"""What a server without a segmenter answers; this one has one, and nothing to change: 403."""


@SCHEMA.parametrize()
@hypothesis.settings(max_examples=CASES, deadline=None, suppress_health_check=list(hypothesis.HealthCheck))
def test_no_request_makes_the_api_fail_or_leave_its_own_description(case: Any) -> None:
    answer = case.call(headers={"Authorization": f"Bearer {ADMIN}"} if "/admin/" in case.path else None)
    assert answer.status_code < 500, answer.text
    checks = schemathesis.checks
    case.validate_response(
        answer, checks=[checks.not_a_server_error, *_checks("response_schema_conformance", "content_type_conformance")]
    )


def _checks(*names: str) -> list[Any]:
    from schemathesis.specs.openapi import checks

    return [getattr(checks, name) for name in names]


def encoded(mode: str, kind: str, size: tuple[int, int] = (64, 64), **options: Any) -> bytes:
    """Noise of a Pillow mode in a file format."""
    rng = np.random.default_rng(0)
    if mode == "I;16":
        picture = Image.fromarray(rng.integers(0, 60_000, size).astype(np.uint16))
    else:
        picture = Image.fromarray(rng.integers(0, 7, (*size, 4), dtype=np.uint8), "RGBA").convert(mode)
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_of(width: int, height: int, *chunks: bytes, depth: int = 8, colour: int = 3) -> bytes:
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(chunks) + chunk(b"IEND", b"")


def animated(frames: int, kind: str) -> bytes:
    pictures = [Image.new("RGB", (64, 64), (n % 256, 0, 0)) for n in range(frames)]
    buffer = io.BytesIO()
    pictures[0].save(buffer, kind, save_all=True, append_images=pictures[1:])
    return buffer.getvalue()


def with_exif(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded("RGB", "JPEG", (48, 64), exif=exif)


GOOD = labels.encode_label_map(np.random.default_rng(1).integers(0, 7, (64, 64), dtype=np.uint8), TABLE)
BOMB = png_of(13_300, 13_300, chunk(b"IDAT", zlib.compress(bytes(13_300 * 2), 9)))
ODD: dict[str, bytes] = {
    **{f"PNG {mode}": encoded(mode, "PNG") for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")},
    **{f"JPEG {mode}": encoded(mode, "JPEG") for mode in ("L", "RGB", "CMYK")},
    **{f"WebP {mode}": encoded(mode, "WEBP") for mode in ("RGB", "RGBA")},
    **{f"other {kind}": encoded("RGB", kind) for kind in ("BMP", "TIFF", "GIF", "PPM", "EPS", "ICO", "PDF", "TGA")},
    **{f"EXIF {number}": with_exif(number) for number in (1, 3, 6, 8, 9)},
    **{f"cut at {share}": GOOD[: int(len(GOOD) * share)] for share in (0.01, 0.1, 0.5, 0.9, 0.999)},
    **{f"{w}x{h}": encoded("L", "PNG", (h, w)) for w, h in ((1, 1), (1, 5000), (5000, 1), (64, 65), (4001, 3))},
    "0 bytes": b"",
    "1 byte": b"\x89",
    "signature": b"\x89PNG\r\n\x1a\n",
    "SVG": b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>",
    "HTML": b"<!doctype html><script>alert(1)</script>",
    "script": b"#!/bin/sh\nrm -rf /\n",
    "pickle": pickle.dumps(os.system),
    "zip": b"PK\x03\x04" + bytes(200),
    "HEIC": b"\x00\x00\x00\x18ftypheic" + bytes(200),
    "bomb of zeros": BOMB,
    "header of 100000 x 100000": png_of(100_000, 100_000),
    "0 x 0": png_of(0, 0),
    "2147483647 x 1": png_of(2**31 - 1, 1),
    "text bomb": png_of(64, 64, chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(50_000_000), 9)), chunk(b"IDAT", b"")),
    "profile bomb": png_of(64, 64, chunk(b"iCCP", b"k\0\0" + zlib.compress(bytes(50_000_000), 9)), chunk(b"IDAT", b"")),
    "wrong checksum": GOOD[:40] + b"\0" + GOOD[41:],
    "no palette": png_of(64, 64, chunk(b"IDAT", zlib.compress(bytes(65 * 64)))),
    "short pixels": png_of(64, 64, chunk(b"PLTE", bytes(768)), chunk(b"IDAT", zlib.compress(bytes(10)))),
    "long pixels": png_of(64, 64, chunk(b"PLTE", bytes(768)), chunk(b"IDAT", zlib.compress(bytes(10**6)))),
    "negative chunk": b"\x89PNG\r\n\x1a\n\xff\xff\xff\xffIHDR" + bytes(30),
    "animated PNG": animated(40, "PNG"),
    "animated WebP": animated(10, "WEBP"),
    "animated GIF": animated(3, "GIF"),
    "transparent palette": encoded("P", "PNG", transparency=0),
    "two pictures in one": GOOD + GOOD,
    "trailing bytes": GOOD + bytes(1000),
    "JPEG cut": encoded("RGB", "JPEG")[:300],
    "WebP cut": encoded("RGB", "WEBP")[:100],
    "WebP that lies about its size": b"RIFF\xff\xff\xff\x7fWEBPVP8 " + bytes(50),
    "JPEG of many dimensions": b"\xff\xd8\xff\xc0\x00\x11\x08\xff\xff\xff\xff\x03" + bytes(20),
}  # fmt: skip

HTTP = TestClient(API, raise_server_exceptions=False)


def paint(data: bytes, **fields: str) -> Any:
    return HTTP.post("/v1/paint", files={"label_map": data}, data=fields)


SENDERS: dict[str, Callable[[bytes], Any]] = {
    "label map": lambda data: paint(data),
    "label map to be resized": lambda data: paint(data, resize="nearest"),
    "raw ids": lambda data: paint(data, shape="64x64"),
    "check": lambda data: HTTP.post("/v1/label-map", files={"label_map": data}),
    "style": lambda data: HTTP.post("/v1/paint", files={"label_map": GOOD, "style": data}),
    "photo": lambda data: HTTP.post("/v1/segment", files={"image": data}),
    "tensor": lambda data: HTTP.post("/v2/models/gaugan/infer", content=data),
}  # fmt: skip


def assert_is_an_answer_or_a_typed_refusal(answer: Any, name: str) -> None:
    if answer.status_code == 200:
        picture = Image.open(io.BytesIO(answer.content))
        picture.load()
        return
    assert 400 <= answer.status_code < 500, f"{name}: {answer.status_code} {answer.text}"
    assert answer.headers["content-type"] == PROBLEM_JSON, name
    assert answer.json()["code"] != "internal", name


@pytest.mark.parametrize("sender", SENDERS)
def test_odd_files_are_pictures_or_typed_refusals_and_cost_little(sender: str) -> None:
    process = psutil.Process()
    SENDERS[sender](GOOD)
    before = process.memory_info().rss
    for name, data in ODD.items():
        began = time.thread_time()
        assert_is_an_answer_or_a_typed_refusal(SENDERS[sender](data), name)
        assert time.thread_time() - began < 1.0, name
    assert process.memory_info().rss - before < 100 * 2**20


@hypothesis.settings(max_examples=10 * CASES, deadline=None, suppress_health_check=list(hypothesis.HealthCheck))
@hypothesis.given(place=st.integers(0, len(GOOD) - 1), flips=st.binary(min_size=1, max_size=8), cut=st.integers(0, 99))
def test_damaged_files_are_typed_refusals(place: int, flips: bytes, cut: int) -> None:
    data = GOOD[:place] + flips + GOOD[place + len(flips) : len(GOOD) - (cut if cut < 20 else 0)]
    for sender in ("label map", "photo"):
        assert_is_an_answer_or_a_typed_refusal(SENDERS[sender](data), data.hex())
