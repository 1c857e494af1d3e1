"""One trial of a sweep: a training run with some values replaced, in a folder of its own. Ray Tune calls `trial`.

    SWEEP/trials/003/trial.json   number, values, status, everything it reported (written by the sweep's driver alone)
    SWEEP/trials/003/...          the run folder of gaugan.training: config.yaml, checkpoints/, best.json, samples/

A trial with one worker trains right here, in the process that Ray Tune starts for it; with more it fits a TorchTrainer.
A trial that begins again first repeats what it reported, so that the scheduler and the search know it, then trains on.
"""

from __future__ import annotations

import dataclasses
import json
import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from gaugan import storage
from gaugan.config import from_plain, to_plain, to_yaml
from gaugan.errors import UserError
from gaugan.plan import TrainingPlan
from jobs.train_gaugan import TrainGauGAN
from tune import search_spaces

Report = Callable[[int, dict[str, float]], None]
Train = Callable[[TrainGauGAN, Report, Callable[[], bool]], dict[str, Any]]
SYSTEM = "spade"
RUNNING, FINISHED, STOPPED_EARLY, FAILED = "running", "finished", "stopped_early", "failed"
DONE = (FINISHED, STOPPED_EARLY)
POLL_S = 1.0


@dataclass
class Record:
    """What is known of a trial."""

    number: int
    values: dict[str, Any]
    status: str = RUNNING
    message: str = ""
    """Why it failed."""
    reports: list[dict[str, Any]] = field(default_factory=list)
    """{"step", "held_out/...": value}, ascending by step."""

    def add(self, step: int, values: dict[str, float]) -> bool:
        """Keeps a report; False when this step was known already (it is replaced)."""
        known = len(self.reports)
        kept = [line for line in self.reports if line["step"] != step]
        self.reports = sorted([*kept, {"step": step, **values}], key=lambda line: line["step"])
        return len(self.reports) > known

    def best(self, metric: str, mode: str) -> dict[str, Any] | None:
        """The report with the best value of `metric`, or None."""
        sign = 1.0 if mode == "max" else -1.0
        lines = [line for line in self.reports if math.isfinite(line.get(metric, math.nan))]
        return max(lines, key=lambda line: sign * line[metric], default=None)


@dataclass(frozen=True)
class Setup:
    """What all trials of a sweep share."""

    output: str
    """The sweep's folder."""
    base: TrainGauGAN
    steps: int
    evaluate_every: int
    metric: str
    """With its prefix: held_out/NAME."""
    mode: str
    num_workers: int
    threads: int
    use_gpu: bool

    def fingerprint(self) -> dict[str, Any]:
        """The settings under which trials can be compared."""
        base = to_plain(dataclasses.replace(self.base, output=""))
        return {
            "base": base,
            "steps": self.steps,
            "evaluate_every": self.evaluate_every,
            "metric": self.metric,
            "mode": self.mode,
        }

    def job(self, number: int, values: dict[str, Any]) -> TrainGauGAN:
        """The training job of one trial."""
        shared = {"num_workers": self.num_workers, "cpus_per_worker": self.threads, "use_gpu": self.use_gpu}
        job = dataclasses.replace(
            self.base,
            output=folder(self.output, number),
            tracking="none",
            steps=self.steps,
            evaluate_every=self.evaluate_every,
            sample_every=self.evaluate_every,
            save_every=self.evaluate_every,
            keep=1,
            **shared,  # type: ignore[arg-type]
        )
        return search_spaces.apply(job, values)


def folder(output: str, number: int) -> str:
    """The run folder of a trial."""
    return storage.join(output, "trials", f"{number:03d}")


def write(output: str, record: Record) -> None:
    """Saves a trial's record."""
    storage.write_json(storage.join(folder(output, record.number), "trial.json"), to_plain(record))


def read(output: str, number: int) -> Record | None:
    """A trial's record, or None before its beginning."""
    uri = storage.join(folder(output, number), "trial.json")
    return from_plain(Record, storage.read_json(uri), uri) if storage.exists(uri) else None


def read_all(output: str) -> list[Record]:
    """The records of all trials begun so far, by number."""
    files = storage.list_files(storage.join(output, "trials"), suffixes=["/trial.json"])
    numbers = sorted(int(entry.path.split("/")[0]) for entry in files if entry.path.count("/") == 1)
    return [record for number in numbers if (record := read(output, number))]


def trial(config: dict[str, Any], setup: Setup, train: Train, wire: Any) -> None:
    """What Ray Tune runs. `config`: {"trial": number, "values": {path: value}}; `wire`: a jobs.training.Wire.

    Raises on a failed or diverged run: Ray Tune tries once more, and the run resumes from its newest checkpoint.
    """
    from jobs.training import stop_watch

    number, values = config["trial"], config["values"]
    reporter = Reporter(setup)
    record = read(setup.output, number)
    for line in record.reports if record else []:
        reporter.tell(line["step"], {name: value for name, value in line.items() if name != "step"})
    if record and record.status in DONE:
        return
    should_stop = stop_watch(wire)
    job = setup.job(number, values)
    storage.write_text(storage.join(job.output, "config.yaml"), to_yaml(job))
    outcome = train(job, reporter, should_stop)
    if outcome["status"] == "diverged":
        raise RuntimeError(f"diverged at step {outcome['step']}: gradients were not finite")
    reporter.flush()


class Reporter:
    """Passes held-out measurements on to Ray Tune, which may end the trial inside such a call (by SystemExit).

    The last step's measurement waits for `flush`, so that the scheduler never ends a trial before its last checkpoint.
    """

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self._last: tuple[int, dict[str, float]] | None = None

    def __call__(self, step: int, values: dict[str, float]) -> None:
        held_out = {name: value for name, value in values.items() if name.startswith("held_out/")}
        if not held_out:
            return
        if self.setup.metric not in held_out:
            raise UserError(f"--metric {self.setup.metric}: was not measured; there are {', '.join(sorted(held_out))}")
        if step >= self.setup.steps:
            self._last = step, held_out
        else:
            self.tell(step, held_out)

    def flush(self) -> None:
        """Tells the measurement of the last step."""
        if self._last:
            self.tell(*self._last)

    def tell(self, step: int, values: dict[str, float]) -> None:
        """One report; Tune's clock is the number of steps, and a value that is not finite counts as the worst."""
        import ray.tune

        worst = -math.inf if self.setup.mode == "max" else math.inf
        value = values[self.setup.metric]
        judged = {**values, self.setup.metric: value if math.isfinite(value) else worst}
        ray.tune.report({**judged, "training_iteration": step})


def train(job: TrainGauGAN, report: Report, should_stop: Callable[[], bool]) -> dict[str, Any]:
    """Trains one trial with the loop that every training job uses."""
    plan = job.plan(SYSTEM, job.spade)
    if job.num_workers > 1:
        return _train_on_workers(job, plan, report, should_stop)
    import torch

    from gaugan.training import run_training

    torch.set_num_threads(job.threads)
    return run_training(plan, report, should_stop)


def _train_on_workers(
    job: TrainGauGAN, plan: TrainingPlan, report: Report, should_stop: Callable[[], bool]
) -> dict[str, Any]:
    """The same as a nested TorchTrainer; its measurements are read from metrics.jsonl, the source of truth."""
    from jobs.command import STOP
    from jobs.tracking import NullTracker
    from jobs.training import fit

    outcome: dict[str, Any] = {}

    def target() -> None:
        try:
            outcome["value"] = fit(plan, NullTracker(), num_workers=job.num_workers, threads=job.threads)
        except BaseException as error:
            outcome["error"] = error

    thread = threading.Thread(target=target, name="trial", daemon=True)
    thread.start()
    told = 0
    try:
        while thread.is_alive():
            time.sleep(POLL_S)
            if should_stop():
                STOP.event.set()
            told = _tell_new_lines(plan.output, told, report)
        _tell_new_lines(plan.output, told, report)
    finally:  # the scheduler may end this trial inside a report: its workers then save and end as well
        STOP.event.set()
        thread.join()
        STOP.event.clear()
    if "error" in outcome:
        raise outcome["error"]
    return outcome["value"]


def _tell_new_lines(run_uri: str, told: int, report: Report) -> int:
    """Reports the measurements after step `told`; returns the last step that was told."""
    uri = storage.join(run_uri, "metrics.jsonl")
    text = storage.read_text(uri) if storage.exists(uri) else ""
    for line in text.splitlines(keepends=True):
        if not line.endswith("\n"):
            break  # still being written
        values = json.loads(line)
        held_out = {name: value for name, value in values.items() if name.startswith("held_out/")}
        if held_out and values["step"] > told:
            told = values["step"]
            report(told, held_out)
    return told
