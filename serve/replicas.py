"""The processes that hold the models: the generator (with its queue and its swaps) and the segmenter."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from serve.backend import ModelCard, Painted, PaintJob, Segmented
from serve.models import ModelSource
from serve.queueing import WorkQueue
from serve.shared_state import RayStore, Watch
from serve.switch import LOADED, State, identity, read_state

if TYPE_CHECKING:
    from gaugan.painter import Painter
    from gaugan.segmenter import Segmentation

LOOK_EVERY_S = 1.0
STUCK_AFTER_S = 600.0

Result = TypeVar("Result")

log = logging.getLogger("serve")


@dataclass(frozen=True)
class PainterOptions:
    """How a replica paints."""

    cpus: int
    use_gpu: bool
    max_batch_size: int
    max_queued: int
    max_wait_s: float


class PainterReplica:
    """Holds one generator; ready when its warm-up picture is painted. Follows the shared state to another model."""

    def __init__(self, started_with: ModelSource, options: PainterOptions) -> None:
        import torch

        torch.set_num_threads(options.cpus)
        self.device = "cuda" if options.use_gpu else "cpu"
        app_name, replica_id = _place()
        self.store, self.started_with = RayStore(app_name), started_with
        self.queue: WorkQueue[PaintJob, tuple[np.ndarray, ModelCard]] = WorkQueue(
            self._paint,
            max_batch_size=options.max_batch_size,
            max_waiting=options.max_queued,
            max_wait_s=options.max_wait_s,
        )
        self.key = LOADED + replica_id
        state = read_state(self.store, started_with)
        self.source = state.current
        self.loaded = on_a_passing_thread(lambda: load_painter(state.current, self.device))
        self._report(state)
        self.generation = state.generation
        self.watch = Watch(self.look, LOOK_EVERY_S)

    def __del__(self) -> None:
        watch = getattr(self, "watch", None)
        if watch is not None:
            watch.stop()
            self.store.delete(self.key)

    def describe(self) -> ModelCard:
        return self.loaded[1]

    async def paint(self, jobs: list[PaintJob]) -> Painted:
        """One picture per job, all by one model. Raises QueueFull when the wait would be too long."""
        served = await self.queue.serve(jobs)
        pictures, cards = [one[0] for one in served.answers], [one[1] for one in served.answers]
        if cards[0] != cards[-1]:  # the model changed between two of the pictures
            served = await self.queue.serve(jobs)
            pictures, cards = [one[0] for one in served.answers], [one[1] for one in served.answers]
        return Painted(pictures, cards[0], served.queue_s, served.compute_s, served.batch_size)

    def check_health(self) -> None:
        """Serve replaces the replica when this raises."""
        begun = self.queue.begun
        if begun and time.monotonic() - begun > STUCK_AFTER_S:
            raise RuntimeError(f"one picture has been painted for more than {STUCK_AFTER_S:g} s")

    def look(self) -> None:
        """Loads the model that the shared state names, beside the one in use, then uses it."""
        state = read_state(self.store, self.started_with)
        if state.generation == self.generation and identity(state.current) == identity(self.source):
            return
        try:
            if identity(state.current) != identity(self.source):
                self.loaded = on_a_passing_thread(lambda: load_painter(state.current, self.device))
                self.source = state.current
            self._report(state)
        except Exception as error:
            log.exception("the model %s can't be loaded; the old one stays", state.current.uri)
            self._report(state, f"{type(error).__name__}: {error}")
        self.generation = state.generation

    def _report(self, state: State, error: str = "") -> None:
        self.store.put(self.key, {"generation": state.generation, "error": error})

    def _paint(self, job: PaintJob) -> tuple[np.ndarray, ModelCard]:
        painter, card = self.loaded
        return paint_one(painter, job), card


def _place() -> tuple[str, str]:
    """(name of the application, id of this replica)."""
    import ray.serve

    context = ray.serve.get_replica_context()
    return context.app_name, str(context.replica_id.unique_id)


def on_a_passing_thread(work: Callable[[], Result]) -> Result:
    """What `work` returns or raises. Its thread ends with it, and so do the threads that torch made for it.

    OpenMP keeps a team of threads for each thread that ever computed. When all teams together have more threads than
    there are cores, theirs go to sleep at every barrier instead of spinning for a moment: a picture of 256 px then
    takes a thousand more context switches and 20 ms longer. So only the thread that paints may stay.
    """
    with ThreadPoolExecutor(1, "passing") as thread:
        return thread.submit(work).result()


def load_painter(source: ModelSource, device: str) -> tuple[Painter, ModelCard]:
    """A generator that has painted its warm-up picture."""
    from gaugan.painter import Painter

    painter = Painter.load(source.checkpoint_uri(), device=device)
    card = ModelCard(
        name=source.name,
        version=source.version,
        checkpoint_hash=painter.checkpoint_hash,
        image_size=painter.image_size,
        classes=painter.classes.to_plain(),
        device=device,
        has_style=painter.has_style,
    )
    paint_one(painter, PaintJob(np.zeros(painter.image_size, dtype=np.uint8), seed=0))
    return painter, card


def paint_one(painter: Painter, job: PaintJob) -> np.ndarray:
    """uint8 (H, W, 3). Alone in its pass: its bytes never depend on who else is painted in the same moment."""
    return painter.paint(
        job.label_map[None],
        seeds=[job.seed],
        styles=None if job.style is None else [job.style],
        styles2=None if job.style2 is None else [job.style2],
        blend=job.blend,
    )[0]


class SegmenterReplica:
    """Holds one U-Net; ready when it has seen a warm-up picture."""

    def __init__(self, source: ModelSource, cpus: int) -> None:
        import torch

        from gaugan.segmenter import Segmenter

        torch.set_num_threads(cpus)
        self.thread = ThreadPoolExecutor(1, "segment")  # one picture uses all cores of the replica
        self.segmenter = on_a_passing_thread(lambda: Segmenter.load(source.checkpoint_uri(), device="cpu"))
        self.card = ModelCard(
            name=source.name,
            version=source.version,
            checkpoint_hash=self.segmenter.checkpoint_hash,
            image_size=self.segmenter.image_size,
            classes=self.segmenter.classes.to_plain(),
            device="cpu",
            has_style=False,
        )
        self.thread.submit(self._segment, np.zeros((*self.segmenter.image_size, 3), dtype=np.uint8)).result()

    def describe(self) -> ModelCard:
        return self.card

    async def segment(self, picture: np.ndarray) -> Segmented:
        """uint8 (h, w, 3) -> its label map, alone in its pass, so that the answer depends on nothing else."""
        found = await asyncio.get_running_loop().run_in_executor(self.thread, self._segment, picture)
        return Segmented(found.label_map, found.confidence)

    def _segment(self, picture: np.ndarray) -> Segmentation:
        return self.segmenter.segment([picture])[0]
