"""jobs.command: exit codes, stopping in good order, and paths that survive a change of machine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml

from gaugan import storage
from gaugan.errors import UserError
from jobs import command, outputs
from jobs.command import JobConfig, Stop, TooManyFailuresError

ROOT = Path(__file__).parent.parent
JOB = '''
"""What this job does."""
import sys, time
from dataclasses import dataclass
from gaugan.errors import UserError
from jobs.command import STOP, JobConfig, TooManyFailuresError, begin, run

@dataclass(frozen=True, kw_only=True)
class Config(JobConfig):
    """A job."""
    how: str = "ok"
    """How it ends."""

def main(config: Config) -> None:
    if config.dry_run:
        return
    begin(config)
    if config.how == "user":
        raise UserError("the picture is upside down; turn it")
    if config.how == "failures":
        raise TooManyFailuresError("9 of 10 pictures failed")
    if config.how == "crash":
        raise RuntimeError("a bug")
    while config.how in ("wait", "deaf") and not (STOP() and config.how == "wait"):
        print("ready", flush=True)
        time.sleep(0.05)

if __name__ == "__main__":
    run(main, Config)
'''


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("job") / "a job.py"
    path.write_text(JOB)
    return path


def start(script: Path, *arguments: str, **options: object) -> subprocess.Popen[str]:
    words = [sys.executable, str(script), *arguments]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)  # type: ignore[call-overload, no-any-return]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--how", "ok"], 0, ""),
        (["--how", "user"], 2, "error: the picture is upside down; turn it\n"),
        (["--how", "failures"], 3, "error: 9 of 10 pictures failed\n"),
        (["--how", "crash"], 1, "RuntimeError: a bug"),
        (["--hoow", "ok"], 2, "--how"),
        (["--num-workers", "0"], 2, "at least 1"),
        (["--seed", "-1"], 2, "--seed"),
        (["--tracking", "http://me:secret@host:5000"], 2, "MLFLOW_TRACKING_PASSWORD"),
        (["--tracking", "htp://host:5000"], 2, "expected an MLflow URI"),
        (["--help"], 0, "What this job does."),
    ],
)
def test_exit_codes_and_messages(script: Path, tmp_path: Path, arguments: list[str], code: int, words: str) -> None:
    process = start(script, "--output", str(tmp_path / "out"), *arguments)
    out, error = process.communicate(timeout=60)
    assert process.returncode == code and words in out + error and "secret" not in out + error
    assert ("Traceback" in error) == (code == 1)


def test_the_programs_own_folders_and_the_results_of_other_jobs_are_no_output(script: Path, tmp_path: Path) -> None:
    for arguments in (["--dry-run"], []):
        process = start(script, "--output", "gaugan", *arguments, cwd=ROOT)
        out, error = process.communicate(timeout=60)
        assert process.returncode == 2 and "holds the program's own code" in error and "runs/" in error
        (tmp_path / "pairs").mkdir(exist_ok=True)
        (tmp_path / "pairs" / "run.json").write_text('{"job": "import_annotations"}')
        process = start(script, "--output", str(tmp_path / "pairs"), *arguments)
        out, error = process.communicate(timeout=60)
        assert process.returncode == 2 and "holds the result of import_annotations" in error
    assert os.listdir(tmp_path / "pairs") == ["run.json"]


def test_the_same_job_may_use_its_output_again(script: Path, tmp_path: Path) -> None:
    for _ in range(2):
        process = start(script, "--output", str(tmp_path / "out"))
        assert process.communicate(timeout=60) and process.returncode == 0
    assert json.loads((tmp_path / "out" / "run.json").read_text())["job"] == script.stem


def test_a_dry_run_prints_the_config_and_writes_nothing(script: Path, tmp_path: Path) -> None:
    process = start(script, "--output", "a b", "--dry-run", "--seed", "7", cwd=tmp_path)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    printed = yaml.safe_load(out)
    assert printed["output"] == f"{tmp_path}/a b" and printed["seed"] == 7
    assert not (tmp_path / "a b").exists()
    (tmp_path / "saved.yaml").write_text(out)
    process = start(script, "--config", "saved.yaml", "--dry-run", cwd=tmp_path)
    assert process.communicate(timeout=60)[0] == out


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_in_good_order_and_tells_how_to_go_on(
    script: Path, tmp_path: Path, number: int, code: int
) -> None:
    process = start(script, "--output", str(tmp_path / "out"), "--how", "wait")
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    process.send_signal(number)
    out, error = process.communicate(timeout=30)
    assert process.returncode == code and "Traceback" not in error
    assert "saving, then ending" in error and f"'{script}' --output" in out and "Continue with" in out


def test_a_second_ctrl_c_ends_at_once(script: Path, tmp_path: Path) -> None:
    process = start(script, "--output", str(tmp_path / "out"), "--how", "deaf")
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    while "saving" not in process.stderr.readline():
        pass
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == 130


def test_a_relative_output_is_refused_in_a_submitted_job(script: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "RAY_JOB_CONFIG_JSON_ENV_VAR": "{}"}
    process = start(script, "--output", "runs/one", env=environment, cwd=tmp_path)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 2 and "s3://my-bucket/runs/one" in error
    assert os.listdir(tmp_path) == []
    process = start(script, "--output", str(tmp_path / "out"), env=environment, cwd=tmp_path)
    process.communicate(timeout=60)
    assert process.returncode == 0


@dataclass(frozen=True)
class Model:
    encoder: str = ""
    encoder_weights: str = "imagenet"
    features: str = "none"
    judge: str = ""


@dataclass(frozen=True, kw_only=True)
class WithModel(JobConfig):
    input: str = "data"
    augment: str = "mild"
    model: str = ""
    inner: Model = field(default_factory=Model)


def test_every_path_becomes_absolute_also_in_nested_configs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/me")
    inner = Model("runs/vae", "none", "unet:runs/unet", "s3://bucket/judge")
    found = outputs.checked_output(
        WithModel(output="~/out", input="file:///a%20b", model="models:/unet@champion", inner=inner)
    )
    assert (found.output, found.input, found.model) == ("/home/me/out", "/a b", "models:/unet@champion")
    assert found.augment == "mild" and found.tracking == ""
    cwd = str(tmp_path)
    assert found.inner == Model(f"{cwd}/runs/vae", "none", f"unet:{cwd}/runs/unet", "s3://bucket/judge")
    for features in ("none", "vgg19", "vgg19:s3://bucket/vgg.pth"):
        config = WithModel(output="x", inner=Model(features=features, encoder_weights="w.pth"))
        assert outputs.checked_output(config).inner.features == features
        assert outputs.checked_output(config).inner.encoder_weights == f"{cwd}/w.pth"


def test_the_output_tells_how_it_was_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary-secret")
    config = JobConfig(output=str(tmp_path / "out"), seed=4)
    command.begin(config)
    from gaugan.config import from_plain

    info = storage.read_json(f"{config.output}/run.json")
    assert info["seed"] == 4 and info["versions"]["torch"] and info["command"] and info["git"]
    assert from_plain(JobConfig, info["config"]) == config
    for name in ("run.json", "config.yaml"):
        assert "canary-secret" not in storage.read_text(f"{config.output}/{name}")


def test_threads_are_shared_evenly_unless_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    assert JobConfig(output="x", num_workers=3).threads == 2
    assert JobConfig(output="x", num_workers=99).threads == 1
    assert JobConfig(output="x", cpus_per_worker=5).threads == 5


def test_too_little_room_or_memory_is_refused_with_both_figures(tmp_path: Path) -> None:
    command.check_room(str(tmp_path / "new"), 1, "checkpoints")
    command.check_room("s3://bucket/x", 2**60, "checkpoints")
    with pytest.raises(UserError, match="checkpoints needs about .* MB, .* MB are free"):
        command.check_room(str(tmp_path), 2**60, "checkpoints")
    with pytest.raises(UserError, match="lower --num-workers"):
        command.check_memory(2**60, "--num-workers")


def test_a_stop_knows_its_signal() -> None:
    stop = Stop()
    assert not stop() and stop.exit_code == 0
    stop._on_signal(signal.SIGTERM, None)
    assert stop() and stop.exit_code == 143


def test_the_failure_of_too_many_inputs_is_no_mistake_of_the_person() -> None:
    assert not issubclass(TooManyFailuresError, UserError)
