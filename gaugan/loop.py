"""The only training loop: fetch, step, report, sample, evaluate, save. It knows no system by name.

A step whose gradients were not finite is skipped by the system and counted here; MAX_SKIPPED in a row, or the same step
again after a resume, end the run as diverged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import nn

from gaugan import parallel

Batch = dict[str, torch.Tensor]
MAX_SKIPPED = 20


class System(Protocol):
    """What the loop and its hooks ask of a system."""

    best_metric: str
    """The key of `evaluate` to maximise."""
    networks: dict[str, nn.Module]

    def train_step(self, batch: Batch, step: int) -> dict[str, torch.Tensor]: ...
    def evaluate(self, batches: Iterator[Batch]) -> dict[str, float]: ...
    def sample(self, batch: Batch) -> torch.Tensor: ...
    def generate(self, batch: Batch) -> torch.Tensor: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any]) -> None: ...


@dataclass(frozen=True)
class Schedule:
    """When to do what; intervals in steps, None = never."""

    steps: int
    report_every: int = 50
    sample_every: int | None = None
    evaluate_every: int | None = None
    save_every: int | None = 500
    """None: at the end only."""


@dataclass(frozen=True)
class Hooks:
    """What happens at the marks; every hook gets the number of finished steps."""

    report: Callable[[int, dict[str, float]], None]
    sample: Callable[[int], None]
    evaluate: Callable[[int], None]
    save: Callable[[int], None]
    skipped: Callable[[int], bool] = lambda step: False
    """Called with a step that was skipped; True when it had been skipped in an earlier run as well."""
    should_stop: Callable[[], bool] = lambda: False


@dataclass(frozen=True)
class Outcome:
    """How a training ended."""

    status: str
    """finished, stopped (asked to) or diverged."""
    step: int
    """Finished steps."""


def step_seed(seed: int, step: int, rank: int) -> int:
    """The seed of all randomness inside one training step of one rank: nothing else need be saved to resume exactly."""
    return (seed * 1_000_003 + step * 8191 + rank * 127 + 1) % (2**63)


def is_time(done: int, every: int | None, last: int) -> bool:
    """True after every `every` steps and after the last one."""
    return every is not None and (done % every == 0 or done == last)


def train(
    system: System, batches: Iterator[Batch], schedule: Schedule, hooks: Hooks, *, seed: int, start: int = 0
) -> Outcome:
    """Trains from step `start` to `schedule.steps`. All ranks call it with the same arguments."""
    meter, in_a_row, rank = Meter(), 0, parallel.rank()
    for step in range(start, schedule.steps):
        batch = next(batches)
        torch.manual_seed(step_seed(seed, step, rank))
        metrics = system.train_step(batch, step)
        done = step + 1

        skipped = bool(metrics.get("skipped", 0))
        in_a_row = in_a_row + 1 if skipped else 0
        if skipped and (in_a_row >= MAX_SKIPPED or hooks.skipped(step)):
            return Outcome("diverged", step)
        meter.add(metrics, skipped)

        if is_time(done, schedule.report_every, schedule.steps):
            hooks.report(done, meter.take())
        if is_time(done, schedule.sample_every, schedule.steps):
            hooks.sample(done)
        if is_time(done, schedule.evaluate_every, schedule.steps):
            hooks.evaluate(done)
        stop = parallel.any_rank(hooks.should_stop())
        if stop or done == schedule.steps or is_time(done, schedule.save_every, schedule.steps):
            hooks.save(done)
        if stop and done < schedule.steps:
            return Outcome("stopped", done)
    return Outcome("finished", schedule.steps)


class Meter:
    """Means of the step metrics since the last report, kept on the device until asked for."""

    def __init__(self) -> None:
        self._sums: dict[str, torch.Tensor] = {}
        self._counts: dict[str, int] = {}

    def add(self, metrics: dict[str, torch.Tensor], skipped: bool) -> None:
        """Adds one step; a skipped step counts only in "skipped"."""
        for name, value in metrics.items():
            if not skipped or name == "skipped":
                self._sums[name] = self._sums.get(name, torch.zeros((), device=value.device)) + value.detach().float()
                self._counts[name] = self._counts.get(name, 0) + 1

    def take(self) -> dict[str, float]:
        """The means over the steps that had the metric ("skipped": the number), and starts anew."""
        values = {
            name: float(total) if name == "skipped" else float(total) / self._counts[name]
            for name, total in self._sums.items()
        }
        self._sums, self._counts = {}, {}
        return values
