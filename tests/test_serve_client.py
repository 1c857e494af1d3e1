"""The client against the API with a fake backend."""

from __future__ import annotations

import io
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image
from serve_fakes import TABLE, FakeBackend

from gaugan import images, labels
from serve.api import build_api
from serve.client import Client, ServerError
from serve.client_command import main
from serve.problems import Problem


@pytest.fixture
def backend() -> FakeBackend:
    return FakeBackend()


@pytest.fixture
def client(backend: FakeBackend, monkeypatch: pytest.MonkeyPatch) -> Client:
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    return Client(http=TestClient(build_api(backend)))


@pytest.fixture
def mask(tmp_path: Path) -> Path:
    path = tmp_path / "mask.png"
    path.write_bytes(labels.encode_label_map(np.full((64, 64), 5, np.uint8), TABLE))
    return path


def test_paint_command_writes_the_painting_of_the_seed(client: Client, mask: Path, backend: FakeBackend) -> None:
    out = mask.with_name("out.png")
    assert main(["paint", str(mask), "--seed", "7", "-o", str(out)], client) == 0
    assert backend.jobs[0].seed == 7
    picture: Any = Image.open(out)
    assert picture.size == (64, 64) and picture.text["Seed"] == "7"


def test_styles_and_blend_reach_the_model(client: Client, mask: Path, backend: FakeBackend) -> None:
    style = mask.with_name("style.png")
    style.write_bytes(images.encode_png(np.full((9, 9, 3), 200, np.uint8)))
    words = ["paint", str(mask), "--style", str(style), "--style2", str(style), "--blend", "0.25", "-o"]
    assert main([*words, str(mask.with_name("o.png"))], client) == 0
    assert backend.jobs[0].style is not None and backend.jobs[0].style2 is not None and backend.jobs[0].blend == 0.25


def test_segment_command_writes_a_label_map(client: Client, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photo, out = tmp_path / "p.jpg", tmp_path / "m.png"
    photo.write_bytes(images.encode_jpeg(np.full((20, 30, 3), 255, np.uint8)))
    assert main(["segment", str(photo), "-o", str(out)], client) == 0
    assert (labels.decode_label_map(out.read_bytes(), TABLE) == np.ones((20, 30))).all()
    assert "confidence 0.8750" in capsys.readouterr().out


def test_refusal_is_told_in_words_with_exit_code_2(
    client: Client, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no picture")
    assert main(["paint", str(bad), "-o", str(tmp_path / "o.png")], client) == 2
    assert "not a picture" in capsys.readouterr().err
    assert main(["paint", str(tmp_path / "nothing.png"), "-o", "o.png"], client) == 2


def test_busy_server_is_asked_again(client: Client, mask: Path, backend: FakeBackend) -> None:
    calls = []
    paint = backend.paint

    async def busy_twice(jobs: Any) -> Any:
        calls.append(1)
        if len(calls) <= 2:
            raise Problem("busy", "full", retry_after_s=1)
        return await paint(jobs)

    backend.paint = busy_twice
    assert Image.open(io.BytesIO(client.paint(mask.read_bytes(), seed=1).png)).size == (64, 64)
    assert len(calls) == 3


def test_server_that_stays_busy_is_an_error(client: Client, mask: Path, backend: FakeBackend) -> None:
    backend.problem = Problem("busy", "full")
    with pytest.raises(ServerError) as caught:
        client.paint(mask.read_bytes())
    assert caught.value.code == "busy"


def test_absent_server_is_an_error_not_a_traceback(mask: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    assert main(["--url", "http://127.0.0.1:9", "paint", str(mask), "-o", "o.png"]) == 1
    assert not Client("http://127.0.0.1:9").ready()
