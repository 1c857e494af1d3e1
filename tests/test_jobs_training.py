"""jobs.training: the same run on Ray Train, with more workers, after a killed worker, after a stop."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from gaugan import checkpoint
from gaugan.errors import UserError
from gaugan.images import encode_png
from gaugan.labels import PORTRAIT_CLASSES, encode_label_map
from gaugan.pairs import Pair, PairsWriter
from gaugan.portraits import draw_portrait
from gaugan.spade.config import SpadeConfig
from jobs import train_gaugan
from jobs.train_gaugan import TrainGauGAN

ROOT = Path(__file__).resolve().parent.parent
TINY = SpadeConfig(
    style="none", ngf=4, ndf=4, spade_hidden=8, num_discriminators=1, discriminator_layers=2, precision="fp32"
)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Twelve drawn portraits of 32 px, two of them held out."""
    uri = str(tmp_path_factory.mktemp("pairs"))
    writer = PairsWriter(uri, PORTRAIT_CLASSES)
    for seed in range(12):
        image, label_map = draw_portrait(seed, 32)
        split = "held_out" if seed < 2 else "train"
        labels = encode_label_map(label_map, PORTRAIT_CLASSES)
        writer.add(Pair(f"{seed:02d}.png", encode_png(image), labels, 32, 32, split))
    writer.finish()
    return uri


def job(pairs: str, output: Path, **changes: Any) -> TrainGauGAN:
    base = TrainGauGAN(
        input=pairs,
        output=str(output),
        tracking="none",
        spade=TINY,
        image_size=(32,),
        batch_size=4,
        steps=6,
        report_every=2,
        save_every=2,
        evaluate_every=None,
        sample_every=None,
        cpus_per_worker=1,
    )
    return dataclasses.replace(base, **changes)


def weights(output: Path) -> bytes:
    uri = checkpoint.find(str(output))
    return Path(uri, "G.safetensors").read_bytes() + Path(uri, "D.safetensors").read_bytes()


def reported_steps(output: Path) -> list[int]:
    return [json.loads(line)["step"] for line in (output / "metrics.jsonl").read_text().splitlines()]


def kill_workers() -> list[int]:
    """Kills the training workers of this test session's own Ray."""
    mine = [p for p in psutil.Process().children(recursive=True) if "RayTrainWorker" in " ".join(p.cmdline())]
    for process in mine:
        process.kill()
    return [process.pid for process in mine]


@pytest.mark.ray
def test_a_run_in_two_sittings_gives_the_bytes_of_a_run_in_one(ray_local: None, pairs: str, tmp_path: Path) -> None:
    straight, halves = tmp_path / "straight", tmp_path / "halves"
    assert train_gaugan.main(job(pairs, straight))["status"] == "finished"
    assert train_gaugan.main(job(pairs, halves, steps=4))["step"] == 4
    assert train_gaugan.main(job(pairs, halves))["step"] == 6
    assert weights(straight) == weights(halves)
    assert reported_steps(halves) == reported_steps(straight) == [2, 4, 6]


@pytest.mark.ray
def test_a_killed_worker_is_replaced_and_the_result_is_the_same(ray_local: None, pairs: str, tmp_path: Path) -> None:
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    train_gaugan.main(job(pairs, undisturbed, steps=14))
    victims: list[int] = []

    def kill_once_saved() -> None:
        while not (killed / "checkpoints" / "step_00000002" / "meta.json").exists():
            time.sleep(0.02)
        victims.extend(kill_workers())

    thread = threading.Thread(target=kill_once_saved)
    thread.start()
    result = train_gaugan.main(job(pairs, killed, steps=14))
    thread.join()
    assert victims
    assert result["status"] == "finished"
    assert weights(undisturbed) == weights(killed)
    assert reported_steps(killed) == reported_steps(undisturbed)


@pytest.mark.ray
def test_a_worker_that_vanishes_too_often_names_the_flags_to_lower(ray_local: None, pairs: str, tmp_path: Path) -> None:
    def kill_each_worker() -> None:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and not (tmp_path / "run" / "checkpoints").exists():
            time.sleep(0.05)
        kill_workers()

    killer = threading.Thread(target=kill_each_worker)
    killer.start()
    with pytest.raises(UserError, match="memory ran out: lower --batch-size"):
        train_gaugan.main(job(pairs, tmp_path / "run", steps=2000, max_failures=0))
    killer.join()


@pytest.mark.ray
def test_two_workers_train_one_model_and_resume_exactly(ray_local: None, pairs: str, tmp_path: Path) -> None:
    straight, halves = tmp_path / "straight", tmp_path / "halves"
    train_gaugan.main(job(pairs, straight, num_workers=2, steps=4))
    train_gaugan.main(job(pairs, halves, num_workers=2, steps=2))
    train_gaugan.main(job(pairs, halves, num_workers=2, steps=4))
    assert weights(straight) == weights(halves)


@pytest.mark.ray
def test_sigterm_saves_ends_soon_and_names_the_command_that_continues(pairs: str, tmp_path: Path) -> None:
    config = tmp_path / "job.yaml"
    from gaugan.config import to_yaml

    config.write_text(to_yaml(job(pairs, tmp_path / "run", steps=100_000, save_every=50_000, report_every=5)))
    command = [sys.executable, str(ROOT / "jobs" / "train_gaugan.py"), "--config", str(config)]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, cwd=ROOT) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "ETA" in line:
                break
        process.send_signal(signal.SIGTERM)
        start = time.monotonic()
        rest = process.stdout.read()
        code = process.wait(timeout=60)
    assert code == 143
    assert time.monotonic() - start < 30
    assert "Continue with" in rest and str(config) in rest
    saved = checkpoint.newest(str(tmp_path / "run"))
    assert saved is not None and saved.meta["step"] > 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"style": "frozen_encoder"}, "--style frozen_encoder needs --encoder"),
        ({"judge": "/nowhere"}, "/nowhere: neither a checkpoint"),
    ],
)
def test_a_model_that_is_missing_is_refused_before_anything_is_written(
    pairs: str, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    spade = dataclasses.replace(TINY, **changes)
    with pytest.raises(ValueError, match=message):
        train_gaugan.main(job(pairs, tmp_path / "run", spade=spade, dry_run=True))
    assert not (tmp_path / "run").exists()


def test_a_batch_that_workers_cannot_share_is_refused_before_anything_starts(pairs: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--batch-size 4 must be a multiple of --num-workers 3"):
        train_gaugan.main(job(pairs, tmp_path / "run", num_workers=3))
