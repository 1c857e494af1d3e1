"""gaugan.loop: fetch, step, and the hooks at their marks."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch

from gaugan.loop import MAX_SKIPPED, Hooks, Meter, Outcome, Schedule, is_time, step_seed, train


class Counting:
    """A system that only notes what it sees; steps in `bad` are skipped."""

    def __init__(self, bad: Callable[[int], bool] = lambda step: False) -> None:
        self.bad, self.steps, self.random = bad, [], []  # type: ignore[var-annotated]

    def train_step(self, batch: dict[str, torch.Tensor], step: int) -> dict[str, torch.Tensor]:
        assert batch["n"] == step
        self.steps.append(step)
        self.random.append(float(torch.rand(())))
        skipped = self.bad(step)
        return {"loss": torch.tensor(torch.nan if skipped else float(step)), "skipped": torch.tensor(float(skipped))}


class Log:
    """Hooks that note what was called."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, int]] = []
        self.reports: list[dict[str, float]] = []
        self.skipped: list[int] = []

    def hooks(self, known: tuple[int, ...] = (), stop_at: int | None = None) -> Hooks:
        def note(name: str) -> Callable[[int], None]:
            return lambda step: self.calls.append((name, step))

        def report(step: int, values: dict[str, float]) -> None:
            self.calls.append(("report", step))
            self.reports.append(values)

        def skipped(step: int) -> bool:
            self.skipped.append(step)
            return step in known

        stops = iter(range(1, 10_000))
        return Hooks(
            report,
            note("sample"),
            note("evaluate"),
            note("save"),
            skipped,
            should_stop=lambda: stop_at is not None and next(stops) >= stop_at,
        )


def run(system: Counting, schedule: Schedule, hooks: Hooks, start: int = 0, seed: int = 0) -> Outcome:
    numbers = ({"n": torch.tensor(step)} for step in itertools.count(start))
    return train(system, numbers, schedule, hooks, seed=seed, start=start)  # type: ignore[arg-type]


def test_hooks_are_called_at_their_marks_and_at_the_end() -> None:
    log = Log()
    schedule = Schedule(steps=7, report_every=2, sample_every=3, evaluate_every=None, save_every=4)
    assert run(Counting(), schedule, log.hooks()) == Outcome("finished", 7)
    assert [step for name, step in log.calls if name == "report"] == [2, 4, 6, 7]
    assert [step for name, step in log.calls if name == "sample"] == [3, 6, 7]
    assert [step for name, step in log.calls if name == "save"] == [4, 7]
    assert not [name for name, _ in log.calls if name == "evaluate"]
    assert log.calls[-3:] == [("report", 7), ("sample", 7), ("save", 7)]


def test_the_end_is_saved_even_without_an_interval() -> None:
    log = Log()
    run(Counting(), Schedule(steps=3, report_every=9, save_every=None), log.hooks())
    assert log.calls == [("report", 3), ("save", 3)]


def test_reports_are_means_since_the_last_report() -> None:
    log = Log()
    run(Counting(), Schedule(steps=4, report_every=2), log.hooks())
    assert log.reports == [{"loss": 0.5, "skipped": 0}, {"loss": 2.5, "skipped": 0}]


def test_a_resumed_loop_does_the_same_steps_with_the_same_random_numbers() -> None:
    straight, resumed = Counting(), Counting()
    run(straight, Schedule(steps=9), Log().hooks(), seed=5)
    run(resumed, Schedule(steps=9), Log().hooks(), seed=5, start=4)
    assert resumed.steps == straight.steps[4:] == [4, 5, 6, 7, 8] and resumed.random == straight.random[4:]
    other = Counting()
    run(other, Schedule(steps=9), Log().hooks(), seed=6)
    assert not set(other.random) & set(straight.random)


def test_a_stop_saves_and_ends() -> None:
    log = Log()
    assert run(Counting(), Schedule(steps=9, save_every=None), log.hooks(stop_at=4)) == Outcome("stopped", 4)
    assert log.calls == [("save", 4)]
    log = Log()
    assert run(Counting(), Schedule(steps=4), log.hooks(stop_at=4)) == Outcome("finished", 4)
    assert log.calls.count(("save", 4)) == 1


def test_one_skipped_step_is_counted_and_leaves_the_means_alone() -> None:
    log = Log()
    assert run(Counting(lambda step: step == 1), Schedule(steps=4, report_every=4), log.hooks()).status == "finished"
    assert log.reports == [{"loss": (0 + 2 + 3) / 3, "skipped": 1}] and log.skipped == [1]


def test_too_many_skipped_in_a_row_end_the_run_without_saving() -> None:
    log = Log()
    system = Counting(lambda step: step >= 3)
    assert run(system, Schedule(steps=99, save_every=50), log.hooks()) == Outcome("diverged", 3 + MAX_SKIPPED - 1)
    assert not log.calls
    every_second = Counting(lambda step: step % 2 == 0)
    assert run(every_second, Schedule(steps=60, report_every=60), Log().hooks()).status == "finished"


def test_a_step_that_was_skipped_in_an_earlier_run_ends_the_run() -> None:
    assert run(Counting(lambda step: step == 5), Schedule(steps=9), Log().hooks(known=(5,))) == Outcome("diverged", 5)
    assert run(Counting(lambda step: step == 5), Schedule(steps=9), Log().hooks(known=(4,))).status == "finished"


def test_an_error_of_the_data_or_the_system_comes_out() -> None:
    def broken() -> Any:
        raise ValueError("damaged row")
        yield

    with pytest.raises(ValueError, match="damaged row"):
        train(Counting(), broken(), Schedule(steps=3), Log().hooks(), seed=0)  # type: ignore[arg-type]


def test_is_time() -> None:
    assert [done for done in range(1, 11) if is_time(done, 4, 10)] == [4, 8, 10]
    assert not is_time(10, None, 10)


def test_step_seeds_differ_between_seeds_steps_and_ranks() -> None:
    seeds = {step_seed(seed, step, rank) for seed in range(3) for step in range(2000) for rank in range(8)}
    assert len(seeds) == 3 * 2000 * 8 and all(0 <= seed < 2**63 for seed in seeds)


def test_a_meter_starts_anew_after_it_was_read() -> None:
    meter = Meter()
    meter.add({"loss": torch.tensor(2.0)}, False)
    assert meter.take() == {"loss": 2.0} and meter.take() == {}


def test_a_metric_that_only_some_steps_have_is_averaged_over_those() -> None:
    meter = Meter()
    for values in ({"g": torch.tensor(4.0), "d": torch.tensor(1.0)}, {"d": torch.tensor(3.0)}):
        meter.add(values | {"skipped": torch.tensor(0.0)}, False)
    meter.add({"g": torch.tensor(torch.nan), "skipped": torch.tensor(1.0)}, True)
    assert meter.take() == {"g": 4.0, "d": 2.0, "skipped": 1.0}
