"""Decoders that crash or never return: the picture at fault gets a code, the others their labels."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_models import make_plan, write_portraits

from gaugan import reading
from gaugan.careful import CarefulDecoder
from gaugan.label_plan import Chunk
from gaugan.listing import Item
from gaugan.reading import Picture, judge, read_chunk

# Python runs this when it starts: a decoder that dies, exits or hangs at pictures that hold these words.
SABOTAGE = """
import os, signal, time
from PIL import PngImagePlugin
load = PngImagePlugin.PngImageFile.load
def sabotaged(self):
    comment = self.info.get("Comment", "")
    if comment == "segfault":
        os.kill(os.getpid(), signal.SIGSEGV)
    if comment == "exit":
        os._exit(3)
    if comment == "hang":
        time.sleep(1000)
    return load(self)
PngImagePlugin.PngImageFile.load = sabotaged
"""


def armed(path: Path, word: str) -> Path:
    """Adds a comment to a PNG file."""
    from PIL import Image, PngImagePlugin

    comment = PngImagePlugin.PngInfo()
    comment.add_text("Comment", word)
    Image.open(path).save(path, pnginfo=comment)
    return path


@pytest.fixture
def sabotage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For child processes only."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(SABOTAGE)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'site'}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")


@pytest.fixture
def items(tmp_path: Path) -> list[Item]:
    folder = Path(write_portraits(tmp_path / "in", 6, 48))
    for name, word in {"001.png": "segfault", "003.png": "exit", "004.png": "hang"}.items():
        armed(folder / name, word)
    return [Item(path.name, path.stat().st_size, "train") for path in sorted(folder.iterdir())]


def test_a_child_that_dies_or_hangs_costs_the_picture_at_fault_only(
    tmp_path: Path, sabotage: None, items: list[Item], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gaugan.careful.START_S", 20)
    plan = make_plan(items, input=str(tmp_path / "in"))
    with CarefulDecoder(timeout_s=2) as decoder:
        pictures = [
            decoder.judge(Picture(item, item.id), (tmp_path / "in" / item.id).read_bytes(), plan)
            for item in items
            if item.id != "004.png"
        ]
        assert decoder.child is not None
        hung = decoder.judge(Picture(items[4], "004.png"), (tmp_path / "in" / "004.png").read_bytes(), plan)
    assert [picture.code for picture in pictures] == ["", "decoder_crash", "", "decoder_crash", ""]
    assert "SIGSEGV" in pictures[1].message and "exit code 3" in pictures[3].message
    assert hung.code == "decoder_timeout" and hung.status == "refused"
    for picture in (pictures[0], pictures[2], pictures[4]):
        data = (tmp_path / "in" / picture.item.id).read_bytes()
        assert vars(judge(Picture(picture.item, picture.item.id), data, plan)).keys() == vars(picture).keys()
        assert picture.pixels is not None and picture.image == data


def test_the_second_attempt_at_a_chunk_is_the_careful_one_with_the_same_result(
    tmp_path: Path, sabotage: None, items: list[Item]
) -> None:
    chunk = Chunk(0, 0, tuple(item for item in items if item.id != "004.png"))
    plan, trace = make_plan(items, input=str(tmp_path / "in")), str(tmp_path / "out" / "0.begun")
    first = read_chunk(chunk, plan, trace)  # this process is not sabotaged
    assert Path(trace).exists() and [picture.code for picture in first] == [""] * 5
    second = read_chunk(chunk, plan, trace)
    assert [picture.code for picture in second] == ["", "decoder_crash", "", "decoder_crash", ""]
    for one, other in zip(first, second, strict=True):
        assert other.code or (one.image, one.picture_hash) == (other.image, other.picture_hash)
        assert one.sha256 == other.sha256


def test_a_decoder_that_never_returns_ends_its_process(tmp_path: Path, sabotage: None, items: list[Item]) -> None:
    program = (
        "from gaugan import reading; from gaugan.label_plan import Chunk; from gaugan.listing import Item\n"
        "from tiny_models import make_plan\n"
        "reading.DECODE_TIMEOUT_S = 1\n"
        f"plan = make_plan([], input={str(tmp_path / 'in')!r})\n"
        f"reading.read_chunk(Chunk(0, 0, (Item('004.png', 1, 'train'),)), plan, {str(tmp_path / 'out' / 'x')!r})\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    ended = subprocess.run([sys.executable, "-c", program], env=environment, timeout=60, check=False)
    assert ended.returncode == 1 and (tmp_path / "out" / "x").exists()


def test_big_pictures_wait_for_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fcntl
    import threading

    monkeypatch.setattr(reading.tempfile, "gettempdir", lambda: str(tmp_path))
    ended = threading.Event()

    def take() -> None:
        with reading._one_at_a_time(True):
            ended.set()

    with open(tmp_path / f"gaugan-big-picture-{os.getuid()}.lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        thread = threading.Thread(target=take)
        thread.start()
        assert not ended.wait(0.3)
    assert ended.wait(5)
    thread.join()
