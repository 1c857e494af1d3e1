"""jobs/generate.py as a whole: what it leaves behind, how it is stopped and continued, what it refuses."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from tiny_models import save_spade, save_unet, write_pairs

from gaugan import storage
from gaugan.errors import UserError
from gaugan.images import decode_image, encode_png
from gaugan.labels import PORTRAIT_CLASSES, encode_label_map
from gaugan.painting import OUTCOMES
from gaugan.portraits import draw_portrait
from gaugan.style_choice import StyleChoice
from jobs import generate as job
from jobs.command import STOP, TooManyFailuresError

COUNT = 10
ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_spade(tmp_path_factory.mktemp("model") / "checkpoint", size=32)


@pytest.fixture(scope="module")
def label_maps(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("maps")
    for number in range(COUNT):
        (folder / f"{number}.png").write_bytes(encode_label_map(draw_portrait(number, 48)[1], PORTRAIT_CLASSES))
    (folder / "broken.png").write_bytes(b"broken")
    return str(folder)


@pytest.fixture(autouse=True)
def never_stopped() -> Iterator[None]:
    yield
    STOP.event.clear()


def config(output: Path, source: str, model: str, **changes: Any) -> job.Config:
    values: dict = {"batch_size": 2, "num_workers": 1, "tracking": "none", **changes}
    return job.Config(output=str(output), input=source, model=model, **values)


def pictures(output: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((output / "pictures").glob("*.png"))}


@pytest.mark.ray
def test_a_stopped_run_continues_without_painting_twice_and_a_bad_file_is_a_row(
    ray_local: None, tmp_path: Path, label_maps: str, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from jobs import generate_stages

    stages = generate_stages.run_stages

    def stop_after_two(*arguments: Any) -> Iterator[Any]:
        seen = 0
        for row in stages(*arguments):
            yield row
            seen += row is not None
            if seen == 2:
                STOP.event.set()

    monkeypatch.setattr(generate_stages, "run_stages", stop_after_two)
    assert job.main(config(tmp_path, label_maps, model)) == {}
    assert not (tmp_path / "stats.json").exists()
    STOP.event.clear()
    monkeypatch.setattr(generate_stages, "run_stages", stages)
    early = {path: path.stat().st_mtime_ns for path in (tmp_path / "pictures").glob("*.png")}
    assert early
    stats = job.main(config(tmp_path, label_maps, model, num_workers=2, batch_size=8))
    assert stats["painted_now"] <= COUNT + 1 - 4 and stats["painted"] == COUNT and stats["refused"] == 1
    rows = pq.read_table(tmp_path / "outcomes").to_pylist()
    assert list(rows[0]) == OUTCOMES.names and len(rows) == COUNT + 1
    assert len(pictures(tmp_path)) == COUNT and (tmp_path / "gallery" / "index.html").exists()
    assert {path: path.stat().st_mtime_ns for path in early} == early
    again = job.main(config(tmp_path, label_maps, model))
    assert again["painted_now"] == 0 and again["painted"] == COUNT
    straight = tmp_path / "straight"
    job.main(config(straight, label_maps, model))
    assert pictures(straight) == pictures(tmp_path)


@pytest.mark.ray
def test_what_a_stage_refuses_is_told_in_one_line(
    ray_local: None, tmp_path: Path, label_maps: str, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare = job.prepare

    def prepare_then_change(given: job.Config) -> tuple:
        plan, classes, items = prepare(given)
        return dataclasses.replace(plan, model_hash="another"), classes, items

    monkeypatch.setattr(job, "prepare", prepare_then_change)
    with pytest.raises(UserError) as caught:
        job.main(config(tmp_path, label_maps, model))
    assert str(caught.value) == f"{model}: changed since the run began; use another --output"


@pytest.mark.ray
def test_a_dataset_is_painted_in_its_own_styles_and_too_many_failures_are_told_at_the_end(
    ray_local: None, tmp_path: Path, model: str
) -> None:
    data = write_pairs(tmp_path / "pairs", train=1, held_out=3)
    stats = job.main(config(tmp_path / "out", data, model, choice=StyleChoice(style="own")))
    assert stats["painted"] == 3 and json.loads((tmp_path / "out" / "stats.json").read_text()) == stats
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "x.png").write_bytes(b"")
    with pytest.raises(TooManyFailuresError, match="1 of 1 label maps were refused"):
        job.main(config(tmp_path / "other", str(tmp_path / "bad"), model))
    assert (tmp_path / "other" / "gallery" / "index.html").exists()


@pytest.mark.ray
def test_model_label_maps_style_and_paintings_may_all_lie_in_a_bucket(
    tmp_path: Path, bucket: str, label_maps: str, model: str
) -> None:
    """As a command of its own: Ray's workers take credentials from the environment that it was started in."""
    (tmp_path / "style.png").write_bytes(encode_png(draw_portrait(7, 32)[0]))
    for name, folder in (("maps", label_maps), ("model", model), ("styles", str(tmp_path))):
        storage.upload_folder(folder, f"{bucket}/in put/{name}", last="meta.json")
    flags = {
        "--input": f"{bucket}/in put/maps", "--model": f"{bucket}/in put/model", "--output": f"{bucket}/out",
        "--style-image": f"{bucket}/in put/styles/style.png", "--batch-size": "4", "--num-workers": "1",
        "--tracking": "none", "--cpus-per-worker": "1",
    }  # fmt: skip
    words = [sys.executable, "jobs/generate.py", *(word for pair in flags.items() for word in pair)]
    ended = subprocess.run(words, capture_output=True, text=True, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)})
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert f"{COUNT} painted ({COUNT} pictures), 1 refused, not_a_png 1" in ended.stdout
    painted = storage.list_files(f"{bucket}/out/pictures")
    assert [entry.path for entry in painted] == sorted(f"{number}.png" for number in range(COUNT))
    assert decode_image(storage.read_bytes(painted[0].uri)).shape == (32, 32, 3)
    assert storage.exists(f"{bucket}/out/gallery/index.html") and not storage.exists(f"{bucket}/out/.work")


def test_a_dry_run_checks_and_writes_nothing(tmp_path: Path, label_maps: str, model: str) -> None:
    assert job.main(config(tmp_path / "out", label_maps, model, dry_run=True)) == {}
    assert not (tmp_path / "out").exists()


def test_models_inputs_and_styles_that_do_not_fit_are_refused_beforehand(
    tmp_path: Path, label_maps: str, model: str
) -> None:
    out = tmp_path / "out"
    with pytest.raises(UserError, match="painting needs a spade"):
        job.main(config(out, label_maps, save_unet(tmp_path / "unet")))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no files there; give a folder of label maps"):
        job.main(config(out, str(tmp_path / "empty"), model))
    with pytest.raises(UserError, match="lies inside --input"):
        job.main(config(Path(label_maps) / "out", label_maps, model))
    with pytest.raises(UserError, match="style picture"):
        job.main(config(out, label_maps, model, choice=StyleChoice(style_image=str(tmp_path / "none.png"))))
    data = write_pairs(tmp_path / "pairs", train=2, held_out=0)
    with pytest.raises(UserError, match="'held_out' is empty; give --split train"):
        job.main(config(out, data, model))
    with pytest.raises(UserError, match="--images and --instances belong to a folder"):
        job.main(config(out, data, model, images=label_maps))
    manifest = tmp_path / "pairs" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"mouth"', '"lips"'))
    with pytest.raises(UserError, match="class table .* differs from .*; use data and models of one class table"):
        job.main(config(out, data, model, split="train"))
    assert not out.exists()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"batch_size": 0}, "--batch-size 0"),
        ({"max_failure_rate": 2.0}, "--max-failure-rate"),
        ({"seed": -1}, "--seed"),
    ],
)
def test_impossible_numbers_are_refused_by_flag(flags: dict, words: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=words):
        config(tmp_path, "in", "model", **flags)


def test_inputs_without_an_instance_map_are_counted(
    tmp_path: Path, model: str, label_maps: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "3.png").write_bytes(encode_png(np.zeros((48, 48), np.uint8)))
    job.main(config(tmp_path / "out", label_maps, model, instances=str(tmp_path), dry_run=True))
    assert f"{COUNT} of {COUNT + 1} inputs have no instance map" in capsys.readouterr().out
