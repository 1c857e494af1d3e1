"""jobs.tracking: a sqlite store for real, and servers that are not there."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import mlflow
import pytest
import torch

from benchmarks.ports import free_port
from gaugan import checkpoint, storage
from gaugan.errors import UserError
from gaugan.labels import PORTRAIT_CLASSES
from jobs import tracking
from jobs.command import JobConfig
from jobs.tracking import MLflowTracker, NullTracker, attach, open_run, resolve_model, tracking_uri


@pytest.fixture(autouse=True)
def no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def job(folder: Path) -> JobConfig:
    return JobConfig(output=str(folder), seed=3)


def save(folder: Path, step: int) -> str:
    return checkpoint.save(
        checkpoint.step_uri(str(folder), step),
        system="toy",
        config={},
        classes=PORTRAIT_CLASSES,
        image_size=(8, 8),
        step=step,
        state={"networks": {"G": {"weight": torch.full((2,), float(step))}}, "optimisers": {}},
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One output for all tests: making the database is slow."""
    return tmp_path_factory.mktemp("an output")


@pytest.fixture(scope="module")
def tracker(folder: Path) -> MLflowTracker:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        opened = open_run("", str(folder), "toy", job(folder))
    assert isinstance(opened, MLflowTracker)
    return opened


def test_the_uri_is_absolute_or_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert tracking_uri("none", "/out") == "" == tracking_uri("", "s3://bucket/out")
    assert tracking_uri("", "/out") == "sqlite:////out/mlflow.db"
    assert tracking_uri("sqlite:///x.db", "/out") == f"sqlite:///{tmp_path}/x.db"
    assert tracking_uri("http://host:5000", "/out") == "http://host:5000"
    with pytest.raises(UserError, match="sqlite:////path/mlflow.db"):
        tracking_uri("mlruns", "/out")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://other:5000")
    assert tracking_uri("", "/out") == "http://other:5000" and tracking_uri("none", "/out") == ""


def test_no_tracking_does_nothing_and_says_why(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert isinstance(open_run("none", str(tmp_path), "toy", None), NullTracker) and capsys.readouterr().out == ""
    off = open_run("", "s3://bucket/out", "toy", None)
    assert "needs --tracking" in capsys.readouterr().out
    off.log_metrics({"loss": 1.0}, 1)
    off.finish()
    assert off.register_model("toy", "uri", "score", 1.0, {}) == "" and isinstance(attach(off.reference()), NullTracker)


def test_params_metrics_and_artifacts_arrive(tracker: MLflowTracker, folder: Path) -> None:
    tracker.log_metrics({"loss": 0.5, "held_out/miou": 0.25}, 10)
    worker = attach(tracker.reference())
    worker.log_metrics({"loss": 0.25}, 20)
    (folder / "sheet.png").write_bytes(b"png")
    tracker.log_artifact(str(folder / "sheet.png"), "samples")
    run = tracker.client.get_run(tracker.run_id)
    assert run.data.params["seed"] == "3" and "tracking" not in run.data.params and run.info.status == "RUNNING"
    assert run.data.metrics["loss"] == 0.25 and run.data.metrics["held_out/miou"] == 0.25
    assert [item.path for item in tracker.client.list_artifacts(tracker.run_id, "samples")] == ["samples/sheet.png"]
    assert (folder / "mlartifacts").is_dir()


def test_the_same_output_continues_the_same_run_and_no_step_stands_twice(tracker: MLflowTracker, folder: Path) -> None:
    tracker.log_metrics({"again": 1.0}, 1)
    tracker.log_metrics({"again": 2.0}, 2)
    resumed = open_run("", str(folder), "toy", JobConfig(output=str(folder), seed=99))
    assert isinstance(resumed, MLflowTracker) and resumed.run_id == tracker.run_id
    for step in (2, 3):
        resumed.log_metrics({"again": float(step)}, step)
    history = tracker.client.get_metric_history(tracker.run_id, "again")
    assert [(point.step, point.value) for point in history] == [(1, 1), (2, 2), (3, 3)]


def test_a_cleared_store_gets_a_new_run(tmp_path: Path, tracker: MLflowTracker, folder: Path) -> None:
    reference = storage.read_json(f"{folder}/mlflow_run.json")
    storage.write_json(f"{tmp_path}/mlflow_run.json", {**reference, "run_id": "0" * 32})
    opened = open_run(tracker.uri, str(tmp_path), "toy", job(tmp_path))
    assert isinstance(opened, MLflowTracker) and opened.run_id not in ("0" * 32, tracker.run_id)
    opened.finish()
    assert tracker.client.get_run(opened.run_id).info.status == "FINISHED"


def test_the_better_model_is_champion_and_keeps_its_files(tracker: MLflowTracker, folder: Path) -> None:
    def register(step: int, value: float | None) -> str:
        uri = save(folder, step)
        return tracker.register_model("toy", uri, "score", value, {"model_hash": checkpoint.load(uri).hash})

    assert register(1, 0.5) == "models:/toy@champion"
    assert register(2, 0.4) == "models:/toy@challenger"
    assert register(3, None) == "models:/toy@challenger"
    assert register(4, float("nan")) == "models:/toy@challenger"
    champion = checkpoint.load(resolve_model("models:/toy@champion", tracker.uri))
    assert champion.meta["step"] == 1 and champion.state["networks"]["G"]["weight"][0] == 1
    assert not [entry for entry in storage.list_files(champion.uri) if entry.path == "training.pt"]
    assert register(5, 0.6) == "models:/toy@champion"
    assert checkpoint.load(resolve_model("models:/toy@champion", tracker.uri)).meta["step"] == 5
    assert checkpoint.load(resolve_model("models:/toy/1", tracker.uri)).meta["step"] == 1


def test_a_registered_model_with_other_files_or_no_such_model_is_refused(tracker: MLflowTracker, folder: Path) -> None:
    tracker.register_model("swapped", save(folder, 7), "score", 1.0, {"model_hash": "0123456789abcdef"})
    with pytest.raises(UserError, match="not those that were registered"):
        resolve_model("models:/swapped@champion", tracker.uri)
    for uri in ("models:/toy@nobody", "models:/nothing/1"):
        with pytest.raises(UserError, match="not found in the registry"):
            resolve_model(uri, tracker.uri)
    with pytest.raises(UserError, match="MLFLOW_TRACKING_URI"):
        resolve_model("models:/toy@champion", "none")
    assert resolve_model("/a/path") == "/a/path"


def test_no_password_reaches_the_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Opened(NullTracker):
        run_id = "1"

    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:canary@host:5000")
    monkeypatch.setattr(MLflowTracker, "open", staticmethod(lambda uri, job, name, run_id: Opened()))
    open_run("", str(tmp_path), "toy", None)
    assert storage.read_json(f"{tmp_path}/mlflow_run.json") == {"uri": "http://host:5000", "run_id": "1"}


def test_a_dead_server_is_warned_about_and_the_run_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    start = time.monotonic()
    opened = open_run(f"http://127.0.0.1:{free_port()}", str(tmp_path), "toy", job(tmp_path))
    assert isinstance(opened, NullTracker) and time.monotonic() - start < 15
    assert capsys.readouterr().out.count("goes on without it") == 1


def test_a_server_that_hangs_is_warned_about_once_and_hardly_waited_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(64)  # takes connections, never answers
        worker = attach({"uri": f"http://127.0.0.1:{server.getsockname()[1]}", "run_id": "x"})
        start = time.monotonic()
        for step in range(500):
            worker.log_metrics({"loss": 1.0}, step)
        worker.finish()
        assert time.monotonic() - start < 15
    assert capsys.readouterr().out.count("warning:") == 1


def test_points_wait_for_a_server_that_comes_back(tracker: MLflowTracker, monkeypatch: pytest.MonkeyPatch) -> None:
    worker = attach(tracker.reference())
    assert isinstance(worker, MLflowTracker)
    send, away = worker.client.log_batch, True

    def log_batch(*arguments: object, **options: object) -> None:
        if away:
            raise mlflow.exceptions.MlflowException("away")
        send(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(worker.client, "log_batch", log_batch)
    monkeypatch.setattr(tracking, "RETRY_AFTER_S", 0.0)
    for step in range(3):
        worker.log_metrics({"late": float(step)}, step)
    away = False
    worker.log_metrics({"late": 3.0}, 3)
    history = tracker.client.get_metric_history(tracker.run_id, "late")
    assert sorted(point.step for point in history) == [0, 1, 2, 3]
