"""tune/sweep.py with a toy in the painter's place: the search itself, crashes, stops, and going on."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tune_toys
import yaml
from tiny_models import write_pairs

from gaugan import storage
from gaugan.config import from_plain
from gaugan.errors import UserError
from gaugan.spade.config import SpadeConfig
from jobs.command import TooManyFailuresError
from jobs.tracking import NullTracker
from jobs.train_gaugan import TrainGauGAN
from tune import sweep, trials

ROOT = Path(__file__).parent.parent
SPACE = "spade.lambda_feat: {distribution: loguniform, low: 2.0, high: 40.0}\n"


def flags(tmp_path: Path, **changes: object) -> sweep.SweepConfig:
    tmp_path.mkdir(exist_ok=True)
    (tmp_path / "space.yaml").write_text(SPACE)
    known = tmp_path / "base.yaml"
    base = str(known) if known.exists() else tune_toys.write_base(tmp_path)
    given = {
        "base": base,
        "search": str(tmp_path / "space.yaml"),
        "output": str(tmp_path / "sweep"),
        "steps": 20,
        "evaluate_every": 5,
        "cpus_per_worker": 1,
        "metric": "style_effect",
        "tracking": "none",
        **changes,
    }
    return from_plain(sweep.SweepConfig, given)


@pytest.fixture(scope="module")
def toys(ray_local: None) -> None:
    """Worker processes don't see this folder: the toy travels to them by value."""
    import ray.cloudpickle

    ray.cloudpickle.register_pickle_by_value(tune_toys)


def worked_steps(config: sweep.SweepConfig, number: int) -> list[int]:
    lines = Path(trials.folder(config.output, number), "steps.txt").read_text().splitlines()
    return [int(line.split()[0]) for line in lines]


@pytest.mark.ray
def test_a_crashing_trial_is_tried_twice_and_the_others_go_on_then_a_rerun_only_does_what_is_missing(
    tmp_path: Path, toys: None
) -> None:
    config = flags(tmp_path, trials=3, tracking=f"sqlite:///{tmp_path}/mlflow.db")
    result = sweep.main(config, tune_toys.crashing_train)
    records = trials.read_all(config.output)
    assert [record.status for record in records][:2] == ["finished", "failed"]
    assert records[2].status in trials.DONE and (tmp_path / "sweep/trials/002/killed").exists()
    assert "no such luck" in records[1].message
    assert len(list((tmp_path / "sweep/trials/001").glob("tried-*"))) == 2
    assert records[0].values == {"spade.lambda_feat": 10.0}  # the base's own

    best = from_plain(TrainGauGAN, yaml.safe_load(Path(result["best"]).read_text()))
    assert best.steps == 1234 and not best.dry_run and best.spade.lambda_feat == result["rows"][0]["spade.lambda_feat"]
    assert (tmp_path / "sweep/samples.png").exists() and not (tmp_path / "sweep/.ray").exists()
    check_rows_in_mlflow(f"sqlite:///{tmp_path}/mlflow.db")

    again = sweep.main(config, tune_toys.toy_train)
    assert {row["status"] for row in again["rows"]} <= {"finished", "stopped_early"}
    assert worked_steps(config, 0) == list(range(1, 21))  # finished in the first round, not redone
    assert trials.read_all(config.output)[0] == records[0]


def check_rows_in_mlflow(uri: str) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("gaugan")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    (parent,) = [run for run in runs if run.info.run_name == "sweep: sweep"]
    rows = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    assert sorted(run.info.status for run in rows) == ["FAILED", "FINISHED", "FINISHED"]
    assert all("spade.lambda_feat" in run.data.params for run in rows)
    assert any("held_out/style_effect" in run.data.metrics for run in rows)


@pytest.mark.ray
def test_hopeless_trials_are_stopped_early_and_optuna_never_proposes_the_same_twice(tmp_path: Path, toys: None) -> None:
    config = flags(tmp_path, trials=4, max_concurrent=1, search_algorithm="optuna")
    sweep.main(config, tune_toys.toy_train)
    more = flags(tmp_path, trials=7, max_concurrent=1, search_algorithm="optuna")
    result = sweep.main(more, tune_toys.toy_train)
    stopped = [int(row["trial"]) for row in result["rows"] if row["status"] == "stopped_early"]
    assert stopped and all(len(worked_steps(more, number)) < 20 for number in stopped)
    assert len({row["spade.lambda_feat"] for row in result["rows"]}) == 7
    assert result["rows"][0]["status"] == "finished"


def test_a_sweep_of_nothing_but_failures_says_so(tmp_path: Path) -> None:
    config = flags(tmp_path, trials=1)
    trials.write(config.output, trials.Record(0, {"spade.lambda_feat": 10.0}, trials.FAILED, "out of luck"))
    with pytest.raises(TooManyFailuresError, match="all 1 trials failed.*out of luck"):
        sweep._conclude(sweep.make_setup(config, sweep.read_base(config)), NullTracker())


@pytest.mark.ray
def test_sigterm_ends_the_sweep_in_time_and_the_same_command_goes_on(tmp_path: Path, toys: None) -> None:
    config = flags(tmp_path, trials=2, max_concurrent=2)
    words = {"base": config.base, "search": config.search, "output": config.output, "steps": 20, "evaluate-every": 5}
    words |= {"trials": 2, "metric": "style_effect", "cpus-per-worker": 1, "tracking": "none"}
    command = [sys.executable, str(ROOT / "tests/tune_toys.py"), *(f"--{key}={value}" for key, value in words.items())]
    slow = {**os.environ, "TOY_STEP_S": "0.5", "RAY_AUTH_MODE": "disabled"}
    process = subprocess.Popen(command, cwd=ROOT, env=slow, stdout=subprocess.PIPE, text=True)
    steps = Path(config.output, "trials/000/steps.txt")
    deadline = time.monotonic() + 90
    while not (steps.exists() and len(steps.read_text().splitlines()) >= 2):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    asked = time.monotonic()
    output, _ = process.communicate(timeout=60)
    assert time.monotonic() - asked < 30
    assert process.returncode == 143 and "Continue with:" in output
    assert trials.read(config.output, 0).status == trials.RUNNING  # type: ignore[union-attr]

    sweep.main(config, tune_toys.toy_train)
    assert {record.status for record in trials.read_all(config.output)} <= set(trials.DONE)
    assert worked_steps(config, 0) == list(range(1, 21))  # no step was done twice


def test_what_cannot_work_is_refused_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--base .*missing.yaml"):
        sweep.main(flags(tmp_path / "a", base="missing.yaml"))
    with pytest.raises(UserError, match="spade.judge"):
        sweep.main(flags(tmp_path / "b", metric=""))
    with pytest.raises(UserError, match="--evaluate-every 50: allowed are 0 to --steps"):
        flags(tmp_path / "c", evaluate_every=50)
    with pytest.raises(UserError, match="--trials 0"):
        flags(tmp_path / "d", trials=0)
    with pytest.raises(UserError, match="--batch-size 16 must be a multiple of --num-workers 3"):
        sweep.main(flags(tmp_path / "e", num_workers=3, dry_run=True))
    spade = SpadeConfig(style="none", features="vgg18")
    with pytest.raises(UserError, match="--features vgg18: no such features"):
        sweep.main(flags(tmp_path / "f", base=tune_toys.write_base(tmp_path / "f", spade=spade), dry_run=True))


def test_data_that_hold_nothing_out_are_refused_since_no_trial_could_be_judged(tmp_path: Path) -> None:
    data = write_pairs(tmp_path / "pairs", train=2, held_out=0)
    with pytest.raises(UserError, match="holds no pictures out"):
        sweep.main(flags(tmp_path / "a", base=tune_toys.write_base(tmp_path / "a", input=data), dry_run=True))


def test_a_metric_that_is_not_measured_is_refused_at_once_with_those_that_are(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--metric nonsense: is not measured; choose one of g_gan, .*l1, style_effect"):
        sweep.main(flags(tmp_path, metric="nonsense", dry_run=True))
    for metric in ("l1", "held_out/l1"):
        assert sweep.main(flags(tmp_path, metric=metric, dry_run=True))["status"] == "dry-run"


def test_less_of_a_loss_is_better_and_more_of_everything_else_unless_told(tmp_path: Path) -> None:
    for metric, mode in (("l1", "min"), ("held_out/g_feat", "min"), ("d_real", "min"), ("style_effect", "max")):
        config = flags(tmp_path, metric=metric)
        assert sweep.make_setup(config, sweep.read_base(config)).mode == mode
    config = flags(tmp_path, metric="l1", mode="max")
    assert sweep.make_setup(config, sweep.read_base(config)).mode == "max"


def test_a_picture_is_no_base_config(tmp_path: Path) -> None:
    (tmp_path / "base.png").write_bytes(b"\x89PNG\r\n")
    with pytest.raises(UserError, match="--base .*base.png"):
        sweep.main(flags(tmp_path, base=str(tmp_path / "base.png")))


def test_a_sweep_on_gpus_that_a_private_ray_can_never_get_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(sweep, "start_ray", lambda config: None)
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 4.0, "GPU": 1.0})
    config = flags(tmp_path, use_gpu=True, num_workers=2)
    with pytest.raises(UserError, match="--use-gpu --num-workers 2: .* this machine has 1; lower --num-workers to 1"):
        sweep.main(config)
    assert not Path(config.output).exists()


def test_trials_with_other_settings_are_not_mixed_into_a_sweep(tmp_path: Path) -> None:
    config = flags(tmp_path)
    space = sweep.search_spaces.load(config.search)
    setup = sweep.make_setup(config, sweep.read_base(config))
    sweep.check_fingerprint(setup, space)
    storage.write_json(f"{config.output}/sweep.json", sweep.fingerprint(setup, space))
    sweep.check_fingerprint(setup, space)
    other = flags(tmp_path, steps=30)
    with pytest.raises(UserError, match="another steps"):
        sweep.check_fingerprint(sweep.make_setup(other, sweep.read_base(other)), space)


def test_a_dry_run_writes_nothing_and_shows_values(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = flags(tmp_path, dry_run=True, trials=2)
    assert sweep.main(config)["status"] == "dry-run"
    assert "trial 000: {'spade.lambda_feat': 10.0}" in capsys.readouterr().out
    assert not Path(config.output).exists()
