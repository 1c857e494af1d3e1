"""Runs of the toy system, and what they leave."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from toys import SIZE, TOY, ToySystem

from gaugan import checkpoint, storage
from gaugan.plan import TrainingPlan
from gaugan.systems import SYSTEMS


def install_toy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes "toy" a system for one test."""
    monkeypatch.setitem(SYSTEMS, "toy", TOY)
    monkeypatch.setattr(ToySystem, "bad_steps", set())
    monkeypatch.setattr(ToySystem, "scores", {})


def toy_plan(data: str, folder: Path) -> TrainingPlan:
    """A run of 24 steps into FOLDER/run."""
    return TrainingPlan(
        system="toy",
        config={},
        data=data,
        output=str(folder / "run"),
        image_size=SIZE,
        batch_size=4,
        steps=24,
        seed=3,
        augment="mild",
        report_every=4,
        sample_every=8,
        evaluate_every=8,
        save_every=6,
        keep=2,
    )


def stop_after(asked: int) -> Callable[[], bool]:
    """True from the `asked`-th question on; the loop asks once per step."""
    counter = iter(range(1, 10**6))
    return lambda: next(counter) >= asked


def state_of(uri: str) -> dict[str, torch.Tensor]:
    found = checkpoint.load(checkpoint.find(f"{uri}/last"), networks_only=False)
    optimiser = found.state["optimisers"]["toy"]["state"]
    moments = {f"{key}.{name}": value for key, values in optimiser.items() for name, value in values.items()}
    return {**found.state["networks"]["toy"], **moments, "seen": torch.tensor(found.state["extra"]["seen"])}


def same_state(first: str, second: str) -> bool:
    mine, theirs = state_of(first), state_of(second)
    return mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)


def lines(uri: str) -> list[dict]:
    return [json.loads(line) for line in storage.read_text(f"{uri}/metrics.jsonl").splitlines()]


def curve(uri: str, key: str) -> list[tuple[int, float]]:
    """(step, value) of every line that has the key."""
    return [(line["step"], line[key]) for line in lines(uri) if key in line]
