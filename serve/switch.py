"""Changing the served model under load: check it, let every replica load it beside the old one, switch.

The state is one JSON object in the shared store; painter replicas look at it every second (serve/replicas.py), load
what it names, paint a warm-up picture with it and only then let go of the old model. When one of them can't, all go
back. Steps of a swap, told by GET /v1/admin/model: checking, switching, done | refused | failed.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from gaugan.config import from_plain, to_plain
from gaugan.errors import UserError
from serve.models import ModelSource
from serve.problems import Problem
from serve.shared_state import Store

STATE, LOCK, LOADED = "model", "swap-lock", "loaded/"
BEAT_S, DEAD_AFTER_S = 2.0, 20.0
LOAD_TIMEOUT_S = 180.0
POLL_S = 0.25


@dataclass(frozen=True)
class Task:
    """The last swap that was asked for."""

    wanted: str
    step: Literal["checking", "switching", "done", "refused", "failed"]
    """refused: the gate said no."""
    reason: str = ""
    report: dict[str, Any] = field(default_factory=dict)
    """What the quality gate measured."""
    id: str = ""


@dataclass(frozen=True)
class State:
    """Which model is served."""

    configured: str
    """What the server was started with; a state of another start is not used."""
    current: ModelSource
    previous: ModelSource | None = None
    generation: int = 0
    """Grows with every change, so that replicas can tell what they have loaded."""
    rejected: tuple[str, ...] = ()
    """Versions that were rolled back or refused: an alias that names them is not followed."""
    task: Task | None = None


def read_state(store: Store, started_with: ModelSource) -> State:
    """The shared state, or a new one when the server was started with another model since."""
    plain = store.get(STATE)
    if plain is not None and plain.get("configured") == identity(started_with):
        return from_plain(State, plain, source="shared state")
    return State(configured=identity(started_with), current=started_with)


def identity(source: ModelSource) -> str:
    """Names the exact version behind an alias."""
    return f"{source.name} {source.version.partition('@')[0]} {source.uri}"


class Switch:
    """One per ingress replica; a lock in the store lets only one of them change the model at a time."""

    def __init__(
        self,
        store: Store,
        started_with: ModelSource,
        *,
        resolve: Callable[[str], ModelSource],
        examine: Callable[[ModelSource, ModelSource], Awaitable[dict[str, Any]]],
        count_replicas: Callable[[], int],
    ) -> None:
        """`resolve` blocks and raises UserError; `examine` answers the gate's report or raises."""
        self.store, self.started_with = store, started_with
        self._resolve, self._examine, self._count_replicas = resolve, examine, count_replicas
        self._running: set[asyncio.Task[None]] = set()

    def state(self) -> State:
        """As every process sees it; a swap whose process died counts as failed."""
        state = read_state(self.store, self.started_with)
        if state.task is not None and state.task.step in ("checking", "switching") and self._is_idle():
            return replace(state, task=replace(state.task, step="failed", reason="the process that ran it died"))
        return state

    async def swap(self, uri: str) -> State:
        """Begins to serve the model of `uri`, if it passes the gate. Raises Problem swap_running or unknown_model."""
        try:
            source = await asyncio.to_thread(self._resolve, uri)
        except UserError as error:
            raise Problem("unknown_model", f"{error}.") from error
        self._begin(uri, source, examined=True)
        return self.state()

    async def rollback(self) -> State:
        """Begins to go back to the model before, which needs no gate. Raises Problem no_previous_model."""
        state = self.state()
        if state.previous is None:
            raise Problem("no_previous_model", "The served model has not been changed since the server was started.")
        self._begin(state.previous.uri, state.previous, examined=False)
        return self.state()

    async def follow(self, uri: str) -> None:
        """Swaps when the alias `uri` names another version now, but never to a rejected one; returns when done."""
        source = await asyncio.to_thread(self._resolve, uri)
        state = self.state()
        known = {identity(state.current), *state.rejected}
        if identity(source) not in known and self._is_idle():
            await self._begin(uri, source, examined=True)

    def _begin(self, uri: str, source: ModelSource, *, examined: bool) -> asyncio.Task[None]:
        owner = uuid.uuid4().hex
        if not self._lock(owner):
            raise Problem("swap_running", "The model is being changed already; see GET /v1/admin/model.")
        task = Task(uri, "checking" if examined else "switching", id=owner)
        self._write(task=task)
        running = asyncio.create_task(self._work(owner, source, examined))
        self._running.add(running)
        running.add_done_callback(self._running.discard)
        return running

    async def _work(self, owner: str, source: ModelSource, examined: bool) -> None:
        beat = asyncio.create_task(self._beat(owner))
        before = self.state()
        assert before.task is not None
        task = before.task
        try:
            if examined:
                report = await self._examine(before.current, source)
                task = replace(task, report=report)
                if not report["passed"]:
                    task = replace(task, step="refused", reason="; ".join(report["reasons"]))
                    self._write(task=task, rejected=(*before.rejected, identity(source)))
                    return
            task = replace(task, step="switching")
            rejected = before.rejected if examined else (*before.rejected, identity(before.current))
            rejected = tuple(one for one in rejected if one != identity(source))
            moved = self._write(
                task=task,
                current=source,
                previous=before.current,
                generation=before.generation + 1,
                rejected=rejected,
            )
            problem = await self._all_loaded(moved.generation)
            if problem:
                back = {"current": before.current, "previous": before.previous, "generation": moved.generation + 1}
                rejected = (*before.rejected, identity(source))
                self._write(task=replace(task, step="failed", reason=problem), rejected=rejected, **back)
                return
            self._write(task=replace(task, step="done"))
        except Exception as error:  # whatever happens is told to who asks, and the lock is given back
            reason = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
            self._write(task=replace(task, step="failed", reason=reason[:2000]))
        finally:
            beat.cancel()
            self.store.delete(LOCK)

    async def _all_loaded(self, generation: int) -> str:
        """ "" once every running replica has loaded it, else the reason of the first that could not."""
        deadline = time.monotonic() + LOAD_TIMEOUT_S
        while time.monotonic() < deadline:
            reports = [self.store.get(key) or {} for key in self.store.keys(LOADED)]
            mine = [report for report in reports if report.get("generation") == generation]
            errors = [report["error"] for report in mine if report.get("error")]
            if errors:
                return str(errors[0])
            if mine and len(mine) >= await asyncio.to_thread(self._count_replicas):
                return ""
            await asyncio.sleep(POLL_S)
        return f"not every replica had loaded it after {LOAD_TIMEOUT_S:g} s"

    def _write(self, **changes: Any) -> State:
        state = replace(read_state(self.store, self.started_with), **changes)
        self.store.put(STATE, to_plain(state))
        return state

    def _lock(self, owner: str) -> bool:
        if not self._is_idle():
            return False
        if self.store.get(LOCK) is not None:
            self.store.delete(LOCK)  # its owner died
        return self.store.put_new(LOCK, {"owner": owner, "beat": time.time()})

    def _is_idle(self) -> bool:
        held = self.store.get(LOCK)
        return held is None or time.time() - held["beat"] > DEAD_AFTER_S

    async def _beat(self, owner: str) -> None:
        while True:
            await asyncio.sleep(BEAT_S)
            self.store.put(LOCK, {"owner": owner, "beat": time.time()})
