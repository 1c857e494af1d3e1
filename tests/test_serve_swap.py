"""Changing the served model: the gate, the switch, back again, and what happens when something fails."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models
from serve_models import save_generator

from gaugan import labels
from gaugan.errors import UserError
from gaugan.labels import ClassTable
from serve import switch as switching
from serve.models import ModelSource
from serve.problems import Problem
from serve.quality import compare, examine, gate_label_maps
from serve.shared_state import DictStore
from serve.switch import LOADED, LOCK, Switch, identity, read_state

A, B, C = (ModelSource(f"/models/{name}", "gaugan", f"v{number}") for number, name in enumerate("abc", 1))
SOURCES = {source.uri: source for source in (A, B, C)}
PASSED = {"passed": True, "reasons": []}


class World:
    """A switch over a store, with one replica that follows the shared state as the real ones do."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(switching, "POLL_S", 0.005)
        self.store = DictStore()
        self.report: dict[str, Any] = PASSED
        self.unloadable: set[str] = set()
        self.alias = A
        self.served = A
        self.switch = Switch(self.store, A, resolve=self.resolve, examine=self.examine, count_replicas=lambda: 1)

    def resolve(self, uri: str) -> ModelSource:
        if uri == "alias":
            return self.alias
        if uri not in SOURCES:
            raise UserError(f"{uri}: nothing there")
        return SOURCES[uri]

    async def examine(self, current: ModelSource, wanted: ModelSource) -> dict[str, Any]:
        await asyncio.sleep(0.01)
        return self.report

    async def replica(self) -> None:
        generation = 0
        while True:
            state = read_state(self.store, A)
            if state.generation != generation:
                generation, error = state.generation, ""
                if state.current.uri in self.unloadable:
                    error = "out of memory"
                else:
                    self.served = state.current
                self.store.put(LOADED + "r", {"generation": generation, "error": error})
            await asyncio.sleep(0.002)

    def run(self, *calls: Any) -> list[Any]:
        """Each call begun and finished, one after the other."""

        async def all_calls() -> list[Any]:
            replica = asyncio.create_task(self.replica())
            answers = []
            for call in calls:
                answers.append(await call())
                while self.store.get(LOCK) is not None:
                    await asyncio.sleep(0.002)
            replica.cancel()
            return answers

        return asyncio.run(all_calls())


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return World(monkeypatch)


def test_a_model_that_passes_is_served_and_the_one_before_is_remembered(world: World) -> None:
    world.run(lambda: world.switch.swap(B.uri))
    state = world.switch.state()
    assert world.served == state.current == B and state.previous == A
    assert state.task is not None and (state.task.step, state.task.report) == ("done", PASSED)


def test_a_model_that_the_gate_refuses_is_never_served(world: World) -> None:
    world.report = {"passed": False, "reasons": ["its pictures are flat"]}
    world.run(lambda: world.switch.swap(B.uri))
    state = world.switch.state()
    assert world.served == state.current == A and state.generation == 0
    assert state.task is not None and (state.task.step, state.task.reason) == ("refused", "its pictures are flat")


def test_a_model_that_no_replica_can_load_is_taken_back(world: World) -> None:
    world.unloadable.add(B.uri)
    world.run(lambda: world.switch.swap(B.uri))
    state = world.switch.state()
    assert world.served == state.current == A and identity(B) in state.rejected
    assert state.task is not None and (state.task.step, state.task.reason) == ("failed", "out of memory")


def test_rollback_serves_the_model_before_without_the_gate(world: World) -> None:
    world.run(lambda: world.switch.swap(B.uri))
    world.report = {"passed": False, "reasons": ["asked"]}
    world.run(world.switch.rollback)
    state = world.switch.state()
    assert world.served == state.current == A and state.previous == B and identity(B) in state.rejected


def test_rollback_needs_a_model_before(world: World) -> None:
    with pytest.raises(Problem) as caught:
        world.run(world.switch.rollback)
    assert caught.value.code == "no_previous_model"


def test_an_alias_is_followed_but_not_to_a_model_that_was_rolled_back(world: World) -> None:
    follow = lambda: world.switch.follow("alias")  # noqa: E731
    world.run(follow)
    assert world.served == A
    world.alias = B
    world.run(follow)
    assert world.served == B
    world.run(world.switch.rollback, follow)
    assert world.served == A
    world.alias = C
    world.run(follow)
    assert world.served == C


def test_only_one_change_at_a_time(world: World) -> None:
    async def twice() -> str:
        await world.switch.swap(B.uri)
        with pytest.raises(Problem) as caught:
            await world.switch.swap(C.uri)
        return caught.value.code

    assert world.run(twice) == ["swap_running"]
    assert world.served == B


def test_the_lock_of_a_process_that_died_is_taken_over(world: World) -> None:
    world.store.put(LOCK, {"owner": "dead", "beat": 0.0})
    world.run(lambda: world.switch.swap(B.uri))
    assert world.served == B


def test_an_unknown_model_is_a_problem_of_the_request(world: World) -> None:
    with pytest.raises(Problem) as caught:
        world.run(lambda: world.switch.swap("/nowhere"))
    assert caught.value.code == "unknown_model" and "/nowhere" in caught.value.detail


def test_a_gate_that_breaks_leaves_the_old_model(world: World) -> None:
    async def broken(current: ModelSource, wanted: ModelSource) -> dict[str, Any]:
        raise RuntimeError("segmentation fault")

    world.switch._examine = broken
    world.run(lambda: world.switch.swap(B.uri))
    state = world.switch.state()
    assert world.served == A and state.task is not None and "segmentation fault" in state.task.reason
    assert world.store.get(LOCK) is None


def test_a_server_that_is_started_with_another_model_forgets_the_swaps(world: World) -> None:
    world.run(lambda: world.switch.swap(B.uri))
    assert read_state(world.store, A).current == B
    assert read_state(world.store, C).current == C


def test_gate_passes_a_sister_model_and_refuses_a_broken_one(tmp_path: Path) -> None:
    good, sister = (save_spade(tmp_path / str(scale), scale) for scale in (1.0, 1.05))
    report = examine(good, sister, None)
    assert report["passed"], report
    broken = save_spade(tmp_path / "broken", 0.0)
    report = examine(good, broken, None)
    assert not report["passed"] and "its pictures are flat" in report["reasons"]


def save_spade(folder: Path, scale: float) -> ModelSource:
    """A tiny generator whose last convolution is multiplied by `scale`."""
    return ModelSource(tiny_models.rescale_last_layer(tiny_models.save_spade(folder), scale), "gaugan", f"{scale}")


def test_gate_refuses_another_class_table_and_another_size(tmp_path: Path) -> None:
    other = ClassTable(("a", "b"), ((0, 0, 0), (9, 9, 9)), name="other")
    uris = {
        "served": save_generator(str(tmp_path / "served")),
        "table": save_generator(str(tmp_path / "table"), classes=other),
        "size": save_generator(str(tmp_path / "size"), size=(32, 32)),
    }
    sources = {name: ModelSource(uri, "gaugan", "1") for name, uri in uris.items()}
    with pytest.raises(UserError, match="class table 'other'"):
        examine(sources["served"], sources["table"], None)
    with pytest.raises(UserError, match="32x32"):
        examine(sources["served"], sources["size"], None)


def test_comparison_names_what_is_wrong() -> None:
    rng = np.random.default_rng(0)
    old = rng.integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)
    assert compare(old, old)["passed"]
    assert compare(old, 255 - old, (0.9, 0.9))["difference"] > 0.35
    assert compare(old, np.repeat(old[:1], 3, axis=0))["reasons"] == ["its pictures hardly follow the label map"]
    assert compare(old, old, (0.9, 0.8))["reasons"][0].startswith("the segmenter recognises less")
    assert compare(old, old, (0.9, 0.87))["passed"]


def test_gate_label_maps_come_from_a_folder_or_are_made_for_any_class_table(tmp_path: Path) -> None:
    table = ClassTable(("a", "b", "c"), ((0, 0, 0), (9, 9, 9), (99, 9, 9)), name="other")
    made = gate_label_maps(table, (24, 16))
    assert all(one.shape == (24, 16) and one.max() <= 2 for one in made)
    assert len({one.tobytes() for one in made}) == len(made)
    (tmp_path / "m.png").write_bytes(labels.encode_label_map(np.full((5, 5), 2, np.uint8), table))
    (given,) = gate_label_maps(table, (24, 16), str(tmp_path))
    assert given.shape == (24, 16) and (given == 2).all()
    with pytest.raises(UserError, match="--gate-maps"):
        gate_label_maps(table, (24, 16), str(tmp_path / "empty"))
