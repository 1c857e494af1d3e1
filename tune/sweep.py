"""Searches the painter's loss weights: many short trainings with other values, the hopeless ones stopped early (ASHA).

    python jobs/train_gaugan.py --input PAIRS --output RUN ... --dry-run > base.yaml
    python tune/sweep.py --base base.yaml --output SWEEP --trials 16 --steps 2000
    python jobs/train_gaugan.py --config SWEEP/best.yaml

The judge is a held-out measurement, never the weighted loss. The same command again continues a stopped sweep: finished
trials are not redone, unfinished ones go on from their checkpoints, failed ones are tried again; --trials may grow.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from gaugan import storage
from gaugan.config import from_plain, to_plain
from gaugan.errors import UserError
from gaugan.spade.config import better_direction, held_out_metrics
from jobs.command import (
    STOP,
    JobConfig,
    TooManyFailuresError,
    begin,
    run,
    start_ray,
)
from jobs.outputs import checked_output
from jobs.resources import Workers, check_resources
from jobs.tracking import Tracker, open_run
from jobs.train_gaugan import TrainGauGAN
from tune import leaderboard, search_spaces, trials
from tune.search_spaces import Space
from tune.trials import Setup


@dataclass(frozen=True, kw_only=True)
class SweepConfig(JobConfig):
    """Flags of tune/sweep.py; --num-workers, --cpus-per-worker and --use-gpu are each trial's."""

    base: str
    """config.yaml of a train_gaugan run (its --dry-run prints one): data, sizes and everything that is not searched."""
    search: str = ""
    """YAML of the search space; unset = tune/loss_weights.yaml."""
    trials: int = 16
    """Trials in all."""
    steps: int = 2000
    """Optimiser steps of a trial that is not stopped early."""
    evaluate_every: int = 0
    """Steps between a trial's measurements; 0 = a tenth of --steps."""
    max_concurrent: int = 2
    """Trials at the same time."""
    grace_steps: int = 0
    """No trial is stopped early before so many steps; 0 = a quarter of --steps."""
    reduction_factor: int = 3
    """At each mark (grace_steps, then this factor apart) about one trial of so many goes on."""
    search_algorithm: Literal["random", "optuna"] = "random"
    """random: independent draws, the same for the same --seed; optuna: TPE, learns from the trials before."""
    metric: str = ""
    """Held-out measurement to judge by; unset = the system's own (consistency_miou, which needs spade.judge)."""
    mode: Literal["", "max", "min"] = ""
    """Whether more or less of it is better; unset = less of l1 and of losses, more of all others."""
    baseline: bool = True
    """Trial 0 runs the base config's own values."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("trials", "steps", "max_concurrent"):
            if getattr(self, name) < 1:
                raise UserError(f"--{name.replace('_', '-')} {getattr(self, name)}: must be at least 1")
        if self.reduction_factor < 2:
            raise UserError(f"--reduction-factor {self.reduction_factor}: must be at least 2")
        for name in ("evaluate_every", "grace_steps"):
            if not 0 <= getattr(self, name) <= self.steps:
                flag = f"--{name.replace('_', '-')}"
                raise UserError(f"{flag} {getattr(self, name)}: allowed are 0 to --steps ({self.steps})")

    @property
    def threads(self) -> int:
        """CPU cores, and torch threads, of one worker of one trial."""
        return self.cpus_per_worker or max(1, (os.cpu_count() or 1) // (self.num_workers * self.max_concurrent))


def main(config: SweepConfig, train: trials.Train = trials.train) -> dict[str, Any]:
    """Runs the sweep to its end or to a stop; returns {"status", "rows", "best": URI of best.yaml, "" without one}.

    `train` is what a trial runs. Raises UserError before anything starts when base, space and metric don't fit
    together, and TooManyFailuresError when every trial failed.
    """
    base = read_base(config)
    search = config.search or str(Path(__file__).with_name("loss_weights.yaml"))
    space = search_spaces.load(search)
    search_spaces.check(space, base, f"--search {search}")
    setup = make_setup(config, base)
    check_trials(config, setup)
    if config.dry_run:
        for number in range(min(config.trials, 5)):
            first = config.baseline and number == 0
            values = search_spaces.current(space, base) if first else search_spaces.sample(space, config.seed, number)
            print(f"trial {number:03d}: {values}")
        return {"status": "dry-run", "rows": [], "best": ""}
    check_fingerprint(setup, space)
    is_over = sum(record.status in trials.DONE for record in trials.read_all(config.output)) >= config.trials
    if not is_over:
        start_ray(config)  # before anything imports ray
        check_resources(Workers(config.num_workers, config.threads, config.use_gpu))  # of one trial: others can wait
    begin(config)
    storage.write_json(storage.join(config.output, "sweep.json"), fingerprint(setup, space))
    tracker = open_run(config.tracking, config.output, "sweep", config)
    if not is_over:
        _search(config, setup, space, tracker, train)
    return _conclude(setup, tracker)


def read_base(config: SweepConfig) -> TrainGauGAN:
    """The base job with absolute paths; UserError when it can't be read."""
    try:
        data = yaml.safe_load(storage.read_text(config.base))
    except OSError as error:
        raise UserError(f"--base {error}; jobs/train_gaugan.py ... --dry-run prints one") from error
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"--base {config.base}: {error}") from error
    if isinstance(data, dict):
        # The base's own output is not touched, and a base that its --dry-run printed says dry_run.
        data |= {"output": storage.join(config.output, "trials"), "dry_run": False}
    return checked_output(from_plain(TrainGauGAN, data or {}, source=f"--base {config.base}"))


def check_trials(config: SweepConfig, setup: Setup) -> None:
    """What every trial would refuse, refused once: UserError when data, models, sizes or the metric don't fit."""
    from gaugan.pairs import Pairs
    from gaugan.systems import check_models

    job = setup.job(0, {})
    pairs = Pairs.open(job.input)
    if not pairs.num("held_out"):
        raise UserError(f"{job.input}: holds no pictures out to judge trials by; import it with --held-out above 0")
    classes = pairs.classes
    check_models(job.spade, classes, job.plan(trials.SYSTEM, job.spade).image_size)
    known = held_out_metrics(job.spade, classes.names)
    metric = config.metric.removeprefix("held_out/")
    if metric and metric not in known:
        raise UserError(f"--metric {metric}: is not measured; choose one of {', '.join(known)}")


def make_setup(config: SweepConfig, base: TrainGauGAN) -> Setup:
    """What the trials share; UserError when the metric needs what the base lacks."""
    from gaugan.systems import SYSTEMS

    metric = config.metric.removeprefix("held_out/") or SYSTEMS[trials.SYSTEM].best_metric
    if metric.startswith("consistency") and not base.spade.judge:
        raise UserError(
            f"--metric {metric}: is measured by a judge; set spade.judge in {config.base} to a U-Net run, "
            "or give another --metric, such as l1"
        )
    return Setup(
        output=config.output,
        base=base,
        steps=config.steps,
        evaluate_every=config.evaluate_every or max(1, config.steps // 10),
        metric=f"held_out/{metric}",
        mode=config.mode or better_direction(metric),
        num_workers=config.num_workers,
        threads=config.threads,
        use_gpu=config.use_gpu,
    )


def fingerprint(setup: Setup, space: Space) -> dict[str, Any]:
    """The content of sweep.json: the settings under which trials can be compared."""
    return {**setup.fingerprint(), "space": to_plain(space)}


def check_fingerprint(setup: Setup, space: Space) -> None:
    """Refuses to mix trials that can't be compared in one folder."""
    uri = storage.join(setup.output, "sweep.json")
    now = fingerprint(setup, space)
    known = storage.read_json(uri) if storage.exists(uri) else now
    different = [name for name in now if known.get(name) != now[name]]
    if different:
        raise UserError(
            f"{setup.output} holds a sweep with another {', '.join(different)} (see {uri}). Use the same settings to "
            "continue it, or another --output to begin a new one"
        )


def _search(config: SweepConfig, setup: Setup, space: Space, tracker: Tracker, train: trials.Train) -> None:
    from tune.search import Budget
    from tune.search import run as run_trials

    budget = Budget(
        trials=config.trials,
        max_concurrent=config.max_concurrent,
        grace_steps=config.grace_steps or max(1, config.steps // 4),
        reduction_factor=config.reduction_factor,
        algorithm=config.search_algorithm,
        baseline=config.baseline,
        seed=config.seed,
    )
    run_trials(setup, space, budget, tracker, changed=lambda: leaderboard.write(setup), train=train)


def _conclude(setup: Setup, tracker: Tracker) -> dict[str, Any]:
    """Writes the results, logs them, prints the table."""
    table = leaderboard.write(setup)
    best, sheet = leaderboard.write_best(setup), leaderboard.write_sheet(setup)
    for uri in (
        storage.join(setup.output, "leaderboard.csv"),
        storage.join(setup.output, "leaderboard.md"),
        best,
        sheet,
    ):
        if uri and storage.exists(uri):
            tracker.log_artifact(uri)
    if best:
        tracker.log_metrics({setup.metric: float(table[0][setup.metric])})
    stopped = STOP()
    failed = [row for row in table if row["status"] == trials.FAILED]
    all_failed = bool(table) and len(failed) == len(table)
    tracker.finish("KILLED" if stopped else "FAILED" if all_failed else "FINISHED")
    if table:
        print(leaderboard.markdown(table), end="")
    if all_failed and not stopped:
        raise TooManyFailuresError(f"all {len(table)} trials failed; the first: {failed[0]['message']}")
    if best:
        print(f"best: trial {table[0]['trial']}; train it in full with\n  python jobs/train_gaugan.py --config {best}")
    return {"status": "stopped" if stopped else "finished", "rows": table, "best": best}


if __name__ == "__main__":
    run(main, SweepConfig)
