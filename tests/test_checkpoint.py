"""gaugan.checkpoint: whole or not at all, whatever happens while it is written; tensors only."""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gaugan import checkpoint, storage
from gaugan.errors import UserError
from gaugan.labels import PORTRAIT_CLASSES


def state(value: float) -> dict[str, Any]:
    network = {"weight": torch.full((2, 3), value), "count": torch.tensor(int(value))}
    optimiser = {"state": {0: {"step": torch.tensor(value)}}, "param_groups": [{"lr": 0.1, "betas": (0.0, 0.9)}]}
    extra = {"seen": 3, "none": None}
    return {"networks": {"G": network, "D": network}, "optimisers": {"G": optimiser}, "extra": extra}


def save(run: str, step: int, value: float | None = None) -> str:
    uri = checkpoint.step_uri(run, step)
    return checkpoint.save(
        uri,
        system="toy",
        config={"a": [1, 2]},
        classes=PORTRAIT_CLASSES,
        image_size=(8, 16),
        step=step,
        state=state(step if value is None else value),
        metrics={"miou": 0.5},
    )


def newest_step(run: str) -> int | None:
    found = checkpoint.newest(run, log=lambda text: None)
    if found is not None:
        assert found.state["networks"]["G"]["weight"][0, 0] == found.meta["step"]
        assert found.state["optimisers"]["G"]["state"][0]["step"] == found.meta["step"]
    return found and found.meta["step"]


@pytest.fixture(params=["local", "s3"])
def run_uri(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "a run") if request.param == "local" else f"{request.getfixturevalue('bucket')}/a run"


def test_what_is_saved_is_loaded(run_uri: str) -> None:
    uri = save(run_uri, 7)
    found = checkpoint.load(uri, networks_only=False)
    assert found.meta["system"] == "toy" and found.meta["config"] == {"a": [1, 2]} and found.meta["step"] == 7
    assert found.classes == PORTRAIT_CLASSES and found.image_size == (8, 16) and found.meta["metrics"] == {"miou": 0.5}
    assert torch.equal(found.state["networks"]["D"]["weight"], torch.full((2, 3), 7.0))
    assert found.state["optimisers"]["G"]["param_groups"] == [{"lr": 0.1, "betas": (0.0, 0.9)}]
    assert found.state["extra"] == {"seen": 3, "none": None}
    light = checkpoint.load(uri)
    assert set(light.state) == {"networks"} and light.hash == found.hash and len(light.hash) == 16
    assert checkpoint.load(save(run_uri, 8)).hash != light.hash
    files = [entry.path for entry in storage.list_files(uri)]
    assert files == ["D.safetensors", "G.safetensors", "meta.json", "training.pt"]


def test_saving_a_step_again_replaces_it(run_uri: str) -> None:
    save(run_uri, 5, value=1)
    uri = save(run_uri, 5, value=2)
    assert checkpoint.load(uri).state["networks"]["G"]["weight"][0, 0] == 2
    assert checkpoint.steps(run_uri) == [5]


class CrashError(Exception):
    """The process dies here."""


def crash_after(monkeypatch: pytest.MonkeyPatch, operations: int) -> Callable[[], int]:
    """Every file operation counts; the one after `operations` never happens, nor does any later one."""
    done = 0

    def counted(call: Callable) -> Callable:
        def wrapper(*arguments: Any, **options: Any) -> Any:
            nonlocal done
            if done >= operations:
                raise CrashError
            done += 1
            return call(*arguments, **options)

        return wrapper

    monkeypatch.setattr(storage, "write_bytes", counted(storage.write_bytes))
    monkeypatch.setattr(storage, "remove", counted(storage.remove))
    monkeypatch.setattr(os, "rename", counted(os.rename))
    monkeypatch.setattr(Path, "rename", counted(Path.rename))
    monkeypatch.setattr(os, "unlink", counted(os.unlink))
    monkeypatch.setattr(shutil, "rmtree", counted(shutil.rmtree))
    return lambda: done


@pytest.mark.parametrize(("where", "replaces"), [("local", False), ("local", True), ("s3", True)])
def test_a_crash_after_any_file_operation_leaves_a_loadable_checkpoint(
    where: str, replaces: bool, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_uri, operations = f"{request.getfixturevalue('tmp_path' if where == 'local' else 'bucket')}/run", 0
    while True:
        storage.remove(run_uri)
        save(run_uri, 10)
        checkpoint.point(run_uri, "last", 10)
        if replaces:
            save(run_uri, 20)
        crashed = False
        with monkeypatch.context() as patch:
            crash_after(patch, operations)
            try:
                save(run_uri, 20)
                checkpoint.point(run_uri, "last", 20)
                checkpoint.prune(run_uri, 1)
            except CrashError:
                crashed = True
        assert newest_step(run_uri) in (10, 20), f"after {operations} operations"
        assert newest_step(run_uri) == checkpoint.load(checkpoint.find(run_uri)).meta["step"] or crashed
        checkpoint.load(checkpoint.find(run_uri))
        save(run_uri, 30)
        checkpoint.prune(run_uri, 1)
        assert newest_step(run_uri) == 30 and checkpoint.steps(run_uri) == [30]
        assert len(storage.list_files(storage.join(run_uri, "checkpoints"))) == 4, "left-overs are cleared"
        if not crashed:
            break
        operations += 1
    assert newest_step(run_uri) == 30 and operations >= 6


@pytest.mark.parametrize("file", ["G.safetensors", "training.pt", "meta.json"])
@pytest.mark.parametrize("damage", ["flip", "cut", "gone"])
def test_a_damaged_newest_checkpoint_is_noticed_and_the_one_before_used(tmp_path: Path, file: str, damage: str) -> None:
    run = str(tmp_path)
    save(run, 10)
    path = Path(save(run, 20), file)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 255
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(bytes(data) if damage == "flip" else bytes(data[: len(data) // 2]))
    said: list[str] = []
    found = checkpoint.newest(run, log=said.append)
    assert found is not None and found.meta["step"] == 10
    assert (damage == "gone" and file == "meta.json") or "step 20" in said[0]


def test_a_half_uploaded_checkpoint_does_not_count(bucket: str) -> None:
    save(bucket + "/run", 10)
    for name in ("G.safetensors", "training.pt"):
        storage.write_bytes(checkpoint.step_uri(bucket + "/run", 20) + "/" + name, b"half")
    assert newest_step(bucket + "/run") == 10


def test_nothing_is_newest_in_an_empty_or_odd_run_folder(tmp_path: Path) -> None:
    assert checkpoint.newest(str(tmp_path)) is None
    for name in ("step_x", "step_12", "other", ".half-step_00000001"):
        storage.write_json(str(tmp_path / "checkpoints" / name / "meta.json"), {})
    assert checkpoint.steps(str(tmp_path)) == []


class Payload:
    """Unpickling it would run a command."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple:
        return os.system, (f"touch {self.canary}",)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("raw", [False, True])
def test_a_pickle_payload_is_refused_and_not_run(tmp_path: Path, raw: bool) -> None:
    import hashlib

    uri, canary, buffer = save(str(tmp_path), 10), tmp_path / "canary", io.BytesIO()
    if raw:
        pickle.dump(Payload(canary), buffer)
    else:
        torch.save({"extra": Payload(canary)}, buffer)
    storage.write_bytes(f"{uri}/training.pt", buffer.getvalue())
    meta = storage.read_json(f"{uri}/meta.json")
    meta["files"]["training.pt"] = hashlib.sha256(buffer.getvalue()).hexdigest()
    storage.write_json(f"{uri}/meta.json", meta)
    with pytest.raises(UserError, match="tensors only"):
        checkpoint.load(uri, networks_only=False)
    assert not canary.exists() and checkpoint.newest(str(tmp_path), log=lambda text: None) is None
    checkpoint.load(uri)


@pytest.mark.parametrize("bad", [np.float64(1), np.zeros(2), Path("x"), {1, 2}, torch.nn.Linear(1, 1)])
def test_what_could_not_be_loaded_again_is_refused_when_saved(tmp_path: Path, bad: object) -> None:
    with pytest.raises(TypeError, match=r"training state\['extra'\]\['list'\]\[0\] is a"):
        checkpoint.save(
            str(tmp_path / "x"),
            system="toy",
            config={},
            classes=PORTRAIT_CLASSES,
            image_size=(8, 8),
            step=1,
            state={"networks": {}, "extra": {"list": [bad]}},
        )
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"format_version": 99}, "format 99, .*newer suite wrote it: update this one"),
        ({"format_version": 0}, "format 0, .*train it anew"),
        ({"format": "pairs"}, "not that of a checkpoint"),
        ({"files": {"../../G.safetensors": ""}}, "outside"),
    ],
)
def test_a_foreign_checkpoint_is_refused(tmp_path: Path, change: dict, words: str) -> None:
    uri = save(str(tmp_path), 1)
    meta = storage.read_json(f"{uri}/meta.json")
    storage.write_json(f"{uri}/meta.json", meta | change)
    with pytest.raises(UserError, match=words):
        checkpoint.load(uri)
    storage.write_text(f"{uri}/meta.json", json.dumps({key: value for key, value in meta.items() if key != "files"}))
    with pytest.raises(UserError, match="not that of a checkpoint"):
        checkpoint.load(uri)


def test_find_takes_a_checkpoint_or_a_run_and_prefers_the_best(run_uri: str) -> None:
    first, second, third = (save(run_uri, step) for step in (10, 20, 30))
    assert checkpoint.find(first) == first
    assert checkpoint.find(run_uri) == third
    checkpoint.point(run_uri, "last", 20)
    assert checkpoint.find(run_uri + "/") == second
    checkpoint.point(run_uri, "best", 10)
    for uri in (run_uri, f"{run_uri}/best", f"{run_uri}/best.json"):
        assert checkpoint.find(uri) == first
    assert checkpoint.find(f"{run_uri}/last") == second
    storage.remove(first)
    assert checkpoint.find(run_uri) == second
    for uri in (f"{run_uri}/nothing", f"{run_uri}/best"):
        with pytest.raises(UserError, match="neither a checkpoint"):
            checkpoint.find(uri)


def test_pruning_keeps_the_newest_and_the_best(run_uri: str) -> None:
    for step in (10, 20, 30, 40):
        save(run_uri, step)
    checkpoint.point(run_uri, "best", 10)
    checkpoint.prune(run_uri, 2)
    assert checkpoint.steps(run_uri) == [10, 30, 40]


def test_what_lies_beyond_the_resumed_step_is_forgotten(run_uri: str) -> None:
    for step in (10, 20):
        save(run_uri, step)
        checkpoint.point(run_uri, "last", step)
    checkpoint.point(run_uri, "best", 10)
    checkpoint.forget_after(run_uri, 10)
    assert checkpoint.steps(run_uri) == [10]
    assert checkpoint.pointed(run_uri, "last") is None and checkpoint.pointed(run_uri, "best") is not None
