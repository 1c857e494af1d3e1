"""jobs.training: the same run on Ray Train, with more workers, after a killed worker, after a stop."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from tiny_models import save_spade, save_unet

from gaugan import checkpoint
from gaugan.errors import UserError
from gaugan.images import encode_png
from gaugan.labels import PORTRAIT_CLASSES, encode_label_map
from gaugan.pairs import Pair, Pairs, PairsWriter
from gaugan.portraits import draw_portrait
from gaugan.resume import run_record
from gaugan.spade.config import SpadeConfig
from gaugan.systems import build_spade
from gaugan.unet.config import UNetConfig
from jobs import attending, evaluate, resources, train_encoder, train_gaugan, train_unet
from jobs.command import STOP
from jobs.resources import Workers, check_resources
from jobs.train_encoder import TrainEncoder
from jobs.train_gaugan import TrainGauGAN
from jobs.train_unet import TrainUNet
from jobs.training import TrainingJob

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
    return replace(base, **changes)


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


@pytest.fixture(scope="module")
def undisturbed(ray_local: None, pairs: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 14 steps in one sitting."""
    output = tmp_path_factory.mktemp("undisturbed") / "run"
    assert train_gaugan.main(job(pairs, output, steps=14))["status"] == "finished"
    return output


@pytest.mark.ray
def test_a_run_in_two_sittings_gives_the_bytes_of_a_run_in_one(undisturbed: Path, pairs: str, tmp_path: Path) -> None:
    halves = tmp_path / "halves"
    assert train_gaugan.main(job(pairs, halves, steps=6))["step"] == 6
    assert train_gaugan.main(job(pairs, halves, steps=14))["step"] == 14
    assert weights(undisturbed) == weights(halves)
    assert reported_steps(halves) == reported_steps(undisturbed) == [2, 4, 6, 8, 10, 12, 14]


@pytest.mark.ray
def test_a_killed_worker_is_replaced_and_the_result_is_the_same(undisturbed: Path, pairs: str, tmp_path: Path) -> None:
    killed = tmp_path / "killed"
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
    shutil.copytree(straight, halves)
    shutil.rmtree(halves / "checkpoints" / "step_00000004")  # as a crash in step 3 leaves it
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


@pytest.fixture
def stop() -> Iterator[Callable[[], None]]:
    """Asks this process's job to stop, as SIGTERM would; taken back after the test."""
    yield STOP.event.set
    STOP.event.clear()


@pytest.mark.ray
@pytest.mark.parametrize("which", ["train", "evaluate"])
def test_a_cluster_without_room_is_waited_for_aloud_and_a_stop_ends_the_wait(
    ray_local: None, pairs: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, which: str,
    stop: Callable[[], None], capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")  # as in a submitted job; the Ray that is running is used
    monkeypatch.setattr(resources, "FIRST_TOLD_S", 2.0)
    threading.Timer(5.0, stop).start()
    begun = time.monotonic()
    if which == "train":
        result = train_gaugan.main(job(pairs, tmp_path / "run", cpus_per_worker=64))
        assert (result["status"], result["step"], result["checkpoint"]) == ("stopped", 0, "")
    else:
        models = {"model": save_spade(tmp_path / "gaugan"), "judge": save_unet(tmp_path / "judge")}
        flags: dict[str, Any] = {"input": pairs, "tracking": "none", "cpus_per_worker": 64, **models}
        assert evaluate.main(evaluate.Config(output=str(tmp_path / "run"), **flags)) == {}
    assert time.monotonic() - begun < 25
    told = [line for line in capsys.readouterr().out.splitlines() if "waiting" in line]
    assert len(told) == 1 and "waiting for 1 worker of 64 CPUs to start; the cluster has 4 CPUs and" in told[0]
    assert not (tmp_path / "run" / ".ray").exists()


@pytest.mark.ray
def test_workers_that_do_not_answer_a_stop_are_left_and_the_newest_checkpoint_counts(
    ray_local: None, pairs: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: Callable[[], None],
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(attending, "GIVE_UP_S", 2.0)
    monkeypatch.setattr(attending.Attendant, "tell_stop", lambda self: None)  # it gets lost
    saved = tmp_path / "run" / "checkpoints" / "step_00000002" / "meta.json"

    def stop_once_saved() -> None:
        while not saved.exists():
            time.sleep(0.02)
        stop()

    threading.Thread(target=stop_once_saved).start()
    result = train_gaugan.main(job(pairs, tmp_path / "run", steps=100_000, keep=1000))
    assert result["status"] == "stopped" and result["step"] >= 2
    assert "did not answer in time; what is saved is of step" in capsys.readouterr().out
    kill_workers()


def test_workers_that_a_private_ray_has_no_room_for_are_refused_with_advice(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 4.0})
    check_resources(Workers(2, 2))
    with pytest.raises(UserError, match="--num-workers 3 --cpus-per-worker 2: Ray has 4 CPUs"):
        check_resources(Workers(3, 2))
    with pytest.raises(UserError, match="--use-gpu --num-workers 1: .* this machine has 0; leave --use-gpu out"):
        check_resources(Workers(1, 1, use_gpu=True))
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    check_resources(Workers(8, 8, use_gpu=True))


@pytest.mark.ray
def test_without_the_workers_that_are_asked_for_nothing_is_written(
    ray_local: None, pairs: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(UserError, match="--cpus-per-worker 64: Ray has 4 CPUs"):
        train_gaugan.main(job(pairs, tmp_path / "run", cpus_per_worker=64))
    assert not (tmp_path / "run").exists()


def test_what_a_painter_is_trained_without_is_said_with_the_flag_that_gives_it(
    pairs: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train_gaugan.main(job(pairs, tmp_path / "run", dry_run=True))
    told = capsys.readouterr().out
    assert "warning: perceptual features: none" in told and "--features unet:RUN" in told and "vgg19[:FILE]" in told
    assert "warning: judge: none" in told and "--judge RUN" in told and "no checkpoint is chosen as the best" in told
    unet = save_unet(tmp_path / "unet")
    train_gaugan.main(
        job(pairs, tmp_path / "run", dry_run=True, spade=replace(TINY, features=f"unet:{unet}", judge=unet))
    )
    assert "warning" not in capsys.readouterr().out


def test_the_features_that_are_used_are_named_when_they_are_loaded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    unet = save_unet(tmp_path / "unet")
    build_spade(replace(TINY, features=f"unet:{unet}"), PORTRAIT_CLASSES, (32, 32), torch.device("cpu"))
    assert f"perceptual features: unet:{unet} (sha256 {checkpoint.load(unet).hash})" in capsys.readouterr().out


def test_a_number_of_steps_that_makes_no_sense_is_refused_by_its_own_name(pairs: str, tmp_path: Path) -> None:
    for kind in (TrainUNet, TrainEncoder, TrainGauGAN):
        with pytest.raises(UserError, match="^--steps -5: must be at least 1"):
            kind(input=pairs, output=str(tmp_path), steps=-5)


def test_a_longer_unet_run_is_refused_with_the_ways_to_go_on_which_work(pairs: str, tmp_path: Path) -> None:
    unet = UNetConfig(widths=(16, 8, 8, 8, 8), encoder_weights="none", half_size_share=0)
    flags: dict[str, Any] = {"input": pairs, "tracking": "none", "image_size": (32,), "dry_run": True}
    first = TrainUNet(output=str(tmp_path / "run"), steps=100, unet=unet, **flags)
    save(first, "unet", train_unet.with_decay(first))
    assert train_unet.main(first)["status"] == "dry-run"
    longer = replace(first, steps=150)
    advice = f"falls until step 100. Give --steps 100 .*--initial {first.output} --output ANOTHER; .*--decay-steps 100"
    with pytest.raises(UserError, match=f"^--steps 150: {first.output} .*{advice}"):
        train_unet.main(longer)
    begun_anew = replace(longer, output=str(tmp_path / "other"), unet=replace(unet, initial=first.output))
    at_the_lowest_rate = replace(longer, unet=replace(unet, decay_steps=100))
    for config in (begun_anew, at_the_lowest_rate):
        assert train_unet.main(config)["status"] == "dry-run"


def test_a_longer_run_of_the_encoder_or_the_painter_is_the_same_run(pairs: str, tmp_path: Path) -> None:
    flags: dict[str, Any] = {"input": pairs, "tracking": "none", "image_size": (32,), "dry_run": True}
    encoder = TrainEncoder(output=str(tmp_path / "encoder"), steps=4, **flags)
    painter = TrainGauGAN(output=str(tmp_path / "painter"), steps=4, spade=TINY, **flags)
    save(encoder, "style_vae", encoder.vae)
    save(painter, "spade", painter.spade)
    assert train_encoder.main(replace(encoder, steps=8))["status"] == "dry-run"
    assert train_gaugan.main(replace(painter, steps=8))["status"] == "dry-run"


def save(job: TrainingJob, system: str, config: Any) -> None:
    """A checkpoint of the job's last step, with its record and without networks."""
    plan = job.plan(system, config)
    checkpoint.save(
        checkpoint.step_uri(plan.output, plan.steps), system=system, config=plan.config, classes=PORTRAIT_CLASSES,
        image_size=plan.image_size, step=plan.steps, state={"networks": {}},
        run=run_record(plan, Pairs.open(plan.data), []),
    )  # fmt: skip


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
    spade = replace(TINY, **changes)
    with pytest.raises(ValueError, match=message):
        train_gaugan.main(job(pairs, tmp_path / "run", spade=spade, dry_run=True))
    assert not (tmp_path / "run").exists()


def test_a_batch_that_workers_cannot_share_is_refused_before_anything_starts(pairs: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--batch-size 4 must be a multiple of --num-workers 3"):
        train_gaugan.main(job(pairs, tmp_path / "run", num_workers=3))
