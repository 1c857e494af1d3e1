"""The part of a sweep that is Ray Tune's: which values come next, who is stopped early (ASHA), who crashed.

ASHA: Li et al. 2020, "A System for Massively Parallel Hyperparameter Tuning", arXiv 1810.05934.
Ray Tune's own experiment state is thrown away; the records in SWEEP/trials are what a rerun continues from.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import ray.tune
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search import Searcher
from ray.tune.search.optuna import OptunaSearch

from gaugan import storage
from jobs.command import STOP
from jobs.tracking import NullTracker, Tracker, open_run
from jobs.training import Wire, attended
from tune import search_spaces, trials
from tune.search_spaces import Distribution, Space
from tune.trials import DONE, FAILED, FINISHED, RUNNING, STOPPED_EARLY, Record, Setup

STOP_GRACE_S = 15.0
"""Trials that have not saved and ended so long after a stop are ended by force."""


@dataclass(frozen=True)
class Budget:
    """How much is tried, and how."""

    trials: int
    max_concurrent: int
    grace_steps: int
    reduction_factor: int
    algorithm: str
    """random or optuna."""
    baseline: bool
    """Trial 0 has the base config's own values."""
    seed: int


def run(
    setup: Setup, space: Space, budget: Budget, tracker: Tracker, *, changed: Callable[[], Any], train: trials.Train
) -> None:
    """Runs all trials that are not done; returns when they are, or soon after a stop. Calls `changed` after each."""
    os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"  # the ledger writes and prints what matters
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"
    os.environ["TUNE_DISABLE_STRICT_METRIC_CHECKING"] = "1"  # a trial that is stopped at once has measured nothing
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    wire: Any = ray.remote(Wire).options(num_cpus=0, max_concurrency=8).remote()
    ledger = Ledger(setup, tracker, changed)
    proposals = Proposals(setup, space, budget, ledger)
    scratch = storage.join(setup.output, ".ray")
    trainable = ray.tune.with_parameters(trials.trial, setup=setup, train=train, wire=wire)
    tuner = ray.tune.Tuner(
        ray.tune.with_resources(trainable, _resources(setup)),
        tune_config=ray.tune.TuneConfig(
            metric=setup.metric,
            mode=setup.mode,
            num_samples=budget.trials,
            max_concurrent_trials=budget.max_concurrent,
            search_alg=proposals,
            scheduler=ASHAScheduler(
                max_t=setup.steps,
                grace_period=budget.grace_steps,
                reduction_factor=budget.reduction_factor,
                stop_last_trials=False,
            ),
            reuse_actors=True,  # the next trial needs no new process, no import of torch
        ),
        run_config=ray.tune.RunConfig(
            name=f"attempt-{time.time_ns():x}",
            storage_path=scratch,
            verbose=0,
            stop=StopAll(),
            failure_config=ray.tune.FailureConfig(max_failures=1),
            callbacks=[ledger],
        ),
    )
    try:
        attended(tuner.fit, wire)
    finally:
        ledger.close()
        storage.remove(scratch)


def _resources(setup: Setup) -> dict[str, float]:
    """A trial trains in its own process, or leaves the cores to its workers (Tune wants some request)."""
    if setup.num_workers > 1:
        return {"CPU": 0, "memory": 2**20}
    return {"CPU": setup.threads, **({"GPU": 1} if setup.use_gpu else {})}


class StopAll(ray.tune.Stopper):
    """Ends every trial STOP_GRACE_S after a stop was asked for."""

    def __init__(self) -> None:
        self._asked: float | None = None

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        if STOP() and self._asked is None:
            self._asked = time.monotonic()
        return self._asked is not None and time.monotonic() - self._asked > STOP_GRACE_S


class Proposals(Searcher):
    """Numbers the trials and gives each its values: the recorded ones first, then new ones."""

    def __init__(self, setup: Setup, space: Space, budget: Budget, ledger: Ledger) -> None:
        super().__init__(metric=setup.metric, mode=setup.mode)
        self._setup, self._space, self._budget, self._ledger = setup, space, budget, ledger
        self._count = 0
        self._optuna = _optuna(setup, space, budget) if budget.algorithm == "optuna" else None
        self._asked: set[str] = set()

    def suggest(self, trial_id: str) -> Any:
        if STOP() or self._count >= self._budget.trials:
            return Searcher.FINISHED
        number, self._count = self._count, self._count + 1
        proposed = self._propose(trial_id, number)
        record = trials.read(self._setup.output, number) or Record(number, proposed)
        if record.status == FAILED:
            record.status, record.message = RUNNING, ""
        self._ledger.begin(trial_id, record)
        return {"trial": number, "values": record.values}

    def _propose(self, trial_id: str, number: int) -> dict[str, Any]:
        if self._budget.baseline and number == 0:
            return search_spaces.current(self._space, self._setup.base)
        if self._optuna is None:
            return search_spaces.sample(self._space, self._budget.seed, number)
        self._asked.add(trial_id)
        return dict(self._optuna.suggest(trial_id) or {})

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        if self._optuna is not None and trial_id in self._asked and self._metric in result:
            self._optuna.on_trial_result(trial_id, result)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        if self._optuna is not None and trial_id in self._asked:
            self._optuna.on_trial_complete(trial_id, result, error)

    def save(self, checkpoint_path: str) -> None:
        Path(checkpoint_path).touch()  # nothing of ours: a rerun reads the records

    def restore(self, checkpoint_path: str) -> None:
        raise NotImplementedError("a sweep is continued by its own command")

    def __reduce__(self) -> Any:
        return Searcher, (self._metric, self._mode)  # Ray Tune stores a copy that nobody reads


def _optuna(setup: Setup, space: Space, budget: Budget) -> OptunaSearch:
    """Optuna's TPE, told the recorded trials' values in their order."""
    first = 1 if budget.baseline else 0
    known = [record.values for record in trials.read_all(setup.output) if record.number >= first]
    seed = budget.seed * 1_000_003 + len(known)  # else a continued search would draw the first values once more
    domains = {path: _domain(distribution) for path, distribution in space.items()}
    return OptunaSearch(domains, points_to_evaluate=known or None, metric=setup.metric, mode=setup.mode, seed=seed)


def _domain(distribution: Distribution) -> Any:
    low, high = distribution.low, distribution.high
    if distribution.kind == "choice":
        return ray.tune.choice(list(distribution.values))
    if distribution.kind == "randint":
        return ray.tune.randint(int(low), int(high) + 1)
    return ray.tune.uniform(low, high) if distribution.kind == "uniform" else ray.tune.loguniform(low, high)


class Ledger(ray.tune.Callback):
    """Keeps the trials' records and their MLflow rows; the only writer of trial.json."""

    def __init__(self, setup: Setup, tracker: Tracker, changed: Callable[[], Any]) -> None:
        self._setup, self._tracker, self._changed = setup, tracker, changed
        self._records: dict[str, Record] = {}
        self._rows: dict[str, Tracker] = {}

    def begin(self, trial_id: str, record: Record) -> None:
        """A trial was given its values."""
        self._records[trial_id] = record
        trials.write(self._setup.output, record)
        self._rows[trial_id] = self._row(record) if record.status not in DONE else NullTracker()

    def _row(self, record: Record) -> Tracker:
        parent = self._tracker.reference()
        if not parent:
            return NullTracker()
        from mlflow import MlflowClient

        name = f"trial {record.number:03d}"
        folder = trials.folder(self._setup.output, record.number)
        row = open_run(parent["uri"], folder, "trial", record.values, name)
        if row.reference():
            client = MlflowClient(tracking_uri=parent["uri"])
            client.set_tag(row.reference()["run_id"], "mlflow.parentRunId", parent["run_id"])
        return row

    def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: dict[str, Any], **info: Any) -> None:
        values = {name: value for name, value in result.items() if name.startswith("held_out/")}
        if values:
            self._note(trial.trial_id, int(result["training_iteration"]), values)

    def _note(self, trial_id: str, step: int, values: dict[str, float]) -> None:
        record, metric = self._records[trial_id], self._setup.metric
        if record.status in DONE or not record.add(step, values):
            return
        trials.write(self._setup.output, record)
        self._rows[trial_id].log_metrics(values, step)
        print(f"trial {record.number:03d}  step {step}/{self._setup.steps}  {metric} {values[metric]:.4g}", flush=True)

    def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        record = self._records[trial.trial_id]
        reached = record.reports[-1]["step"] if record.reports else 0
        if reached >= self._setup.steps:
            self._end(trial.trial_id, FINISHED)
        elif not STOP():
            self._end(trial.trial_id, STOPPED_EARLY)

    def on_trial_recover(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        print(f"trial {self._records[trial.trial_id].number:03d}  tried once more: {_last_line(trial)}", flush=True)

    def on_trial_error(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        if not STOP():
            storage.write_text(storage.join(self._folder(trial.trial_id), "error.txt"), _error(trial))
            self._end(trial.trial_id, FAILED, _last_line(trial))

    def _folder(self, trial_id: str) -> str:
        return trials.folder(self._setup.output, self._records[trial_id].number)

    def _end(self, trial_id: str, status: str, message: str = "") -> None:
        record = self._records[trial_id]
        if record.status in DONE:
            return
        record.status, record.message = status, message
        trials.write(self._setup.output, record)
        print(f"trial {record.number:03d}  {status.replace('_', ' ')} {message}".rstrip(), flush=True)
        self._rows[trial_id].finish("FAILED" if status == FAILED else "FINISHED")
        self._changed()

    def close(self) -> None:
        """Marks the rows of trials that a stop has left unfinished."""
        for trial_id, record in self._records.items():
            if record.status == RUNNING:
                self._rows[trial_id].finish("KILLED")

    def __reduce__(self) -> Any:
        return ray.tune.Callback, ()  # Ray Tune stores a copy that nobody reads


def _error(trial: Any) -> str:
    """The tracebacks of a trial's attempts, as Ray Tune keeps them on the driver's disk."""
    return Path(trial.error_file).read_text() if trial.error_file else "its process died\n"


def _last_line(trial: Any) -> str:
    return _error(trial).strip().splitlines()[-1].strip()[:200]
