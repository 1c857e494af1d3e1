"""The client against the API with a fake backend."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
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
    pass_time_by_sleeping(monkeypatch)
    return Client(http=TestClient(build_api(backend)))


def pass_time_by_sleeping(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Sleeping takes the client no time and moves its clock; answers its pauses. Other threads keep the real clock."""
    pauses: list[float] = []
    clock = SimpleNamespace(sleep=pauses.append, monotonic=lambda: sum(pauses))
    monkeypatch.setattr("serve.client.time", clock)
    return pauses


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


@pytest.mark.parametrize("status", [500, 502, 503, 504, 408])
def test_whatever_the_proxy_says_in_plain_text_is_tried_again(status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses = pass_time_by_sleeping(monkeypatch)
    answers = iter([httpx.Response(status, text="Internal Server Error"), httpx.Response(200, json={"hash": "x"})])
    http = httpx.Client(transport=httpx.MockTransport(lambda request: next(answers)), base_url="http://server")
    assert Client(http=http).classes() == {"hash": "x"}
    assert len(pauses) == 1


def test_client_waits_as_long_as_the_server_asks_and_gives_up_when_its_patience_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pauses = pass_time_by_sleeping(monkeypatch)
    busy = httpx.Response(503, headers={"Retry-After": "7"}, text="full")
    http = httpx.Client(transport=httpx.MockTransport(lambda request: busy), base_url="http://server")
    with pytest.raises(ServerError):
        Client(http=http, patience_s=30).classes()
    assert min(pauses) >= 7 and 20 < sum(pauses) <= 30


def test_refusals_are_not_tried_again_and_the_token_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    def refuse(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers["Authorization"])
        return httpx.Response(401, json={"code": "wrong_token", "title": "No", "detail": "no"})

    http = httpx.Client(transport=httpx.MockTransport(refuse), base_url="http://server")
    with pytest.raises(ServerError, match="No: no"):
        Client(http=http, token="secret-0123456789").classes()
    assert seen == ["Bearer secret-0123456789"]


def test_swap_command_waits_for_the_end_and_tells_why_it_was_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pass_time_by_sleeping(monkeypatch)
    steps = iter(["checking", "switching", "refused"])

    def answer(request: httpx.Request) -> httpx.Response:
        task = {"wanted": "run", "step": "checking" if request.method == "POST" else next(steps), "reason": "flat"}
        current = {"name": "gaugan", "version": "v1", "uri": "old"}
        return httpx.Response(202, json={"current": current, "task": task})

    http = httpx.Client(transport=httpx.MockTransport(answer), base_url="http://server")
    assert main(["swap", "run"], Client(http=http)) == 2
    told = capsys.readouterr()
    assert told.out.startswith("refused: gaugan v1 (old) is served") and "run: flat" in told.err


def test_raw_ids_and_webp_reach_the_server(client: Client, mask: Path, backend: FakeBackend) -> None:
    ids = np.full((64, 64), 5, np.uint8)
    painting = client.paint(ids.tobytes(), shape=(64, 64), seed=2, format="webp")
    assert painting.data[:4] == b"RIFF" and (backend.jobs[0].label_map == ids).all()
    out = mask.with_name("o.webp")
    assert main(["paint", str(mask), "-o", str(out)], client) == 0 and out.read_bytes()[:4] == b"RIFF"


def test_absent_server_is_an_error_not_a_traceback(mask: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pass_time_by_sleeping(monkeypatch)
    assert main(["--url", "http://127.0.0.1:9", "paint", str(mask), "-o", "o.png"]) == 1
    assert not Client("http://127.0.0.1:9").ready()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--url", "localhost:8000", "classes"], "http://"),
        (["--url", "http://[::1", "classes"], "no address"),
        (["paint", "MASK", "-o", "out.jpg"], ".png or .webp"),
        (["paint", "nothing.png", "-o", "out.png"], "nothing.png"),
    ],
)
def test_mistakes_are_told_at_once_in_one_line(
    flags: list[str], words: str, mask: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pauses = pass_time_by_sleeping(monkeypatch)
    assert main([str(mask) if flag == "MASK" else flag for flag in flags]) == 2
    told = capsys.readouterr().err
    assert words in told and told.count("\n") == 1 and pauses == []
