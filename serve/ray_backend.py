"""The `Backend` of the API over Ray Serve's handles; Serve's exceptions become problems."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
from ray.exceptions import RayActorError, RayTaskError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError
from ray.serve.handle import DeploymentHandle

from serve.backend import ModelCard, Painted, PaintJob, Segmented
from serve.problems import Problem
from serve.queueing import QueueFull

RETRY_AFTER_S = 1
READY_TIMEOUT_S = 5.0
DEAD = (RayActorError, DeploymentUnavailableError)
TRIES = 2
"""Painting can be repeated: a request whose replica dies goes to another one."""


class RayBackend:
    """Handles to the deployments of the models."""

    def __init__(self, painter: DeploymentHandle, segmenter: DeploymentHandle | None) -> None:
        self.painter, self.segmenter = painter, segmenter
        self._cards: dict[str, ModelCard] = {}

    async def paint(self, jobs: list[PaintJob]) -> Painted:
        painted: Painted = await self._ask("painter", self.painter.paint, jobs)
        self._cards["painter"] = painted.card
        return painted

    async def segment(self, picture: np.ndarray) -> Segmented:
        assert self.segmenter is not None
        return await self._ask("segmenter", self.segmenter.segment, picture)

    async def painter_card(self, fresh: bool = False) -> ModelCard:
        return await self._card("painter", self.painter, fresh)

    async def segmenter_card(self) -> ModelCard | None:
        return None if self.segmenter is None else await self._card("segmenter", self.segmenter, fresh=False)

    def forget_cards(self) -> None:
        """After a change of the model."""
        self._cards.clear()

    async def _card(self, name: str, handle: DeploymentHandle, fresh: bool) -> ModelCard:
        if fresh or name not in self._cards:
            response = handle.describe.remote()
            try:
                self._cards[name] = await asyncio.wait_for(_answer(response), READY_TIMEOUT_S)
            except (TimeoutError, BackPressureError, *DEAD) as error:
                raise Problem(
                    "not_ready", f"The {name} does not answer yet; try again.", retry_after_s=RETRY_AFTER_S
                ) from error
        return self._cards[name]

    async def _ask(self, name: str, method: DeploymentHandle, argument: Any) -> Any:
        for attempt in range(1, TRIES + 1):
            try:
                return await _answer(method.remote(argument))
            except (BackPressureError, QueueFull) as error:
                wait_s = getattr(error, "retry_after_s", RETRY_AFTER_S)
                raise Problem("busy", "Too many pictures are waiting; try again.", retry_after_s=wait_s) from error
            except DEAD as error:
                if attempt == TRIES:
                    detail = f"The {name} is restarting; try again."
                    raise Problem("not_ready", detail, retry_after_s=RETRY_AFTER_S) from error
        raise AssertionError("unreachable")


async def _answer(response: Any) -> Any:
    """Waits; when the waiting is given up, the replica is told. A remote exception is raised as what it is."""
    try:
        return await response
    except asyncio.CancelledError:
        response.cancel()
        raise
    except RayTaskError as error:
        if isinstance(error.cause, QueueFull):
            raise error.cause from error
        raise
