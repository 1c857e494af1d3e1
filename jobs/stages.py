"""What the Ray Data jobs share: a fair share of the machine, and results that can be waited for."""

from __future__ import annotations

import logging
import pickle
import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from gaugan.errors import UserError

MAX_BLOCKS = 4096
BLOCK_BYTES = 2**20
"""Blocks are closed beyond this size, so that a chunk moves on as soon as it is made."""
BUFFER_BYTES = 64 * 2**20
"""Room in the object store for each actor's waiting chunks (and once more for reading and writing)."""
ACTOR_MEMORY_BYTES = 1.5 * 2**30
READING_SHARE = 0.12
"""Of the CPUs, promised to reading and writing: about what they take at 512 px. The U-Nets' processes are as many as
fit all CPUs; who has work gets the time.
"""
POLL_S = 0.5
Row = dict[str, Any]


@dataclass(frozen=True)
class Pool:
    """How the machine is shared."""

    num_workers: int
    """Actors that hold a U-Net."""
    actor_cpus: float
    read_cpus: float
    write_cpus: float


def share_machine(num_workers: int, threads: int, use_gpu: bool) -> Pool:
    """Actors and CPU shares from the cluster's resources; num_workers 0 = as many as there is room for.

    Something is always left for reading and writing: a pool of actors that holds every CPU would wait forever.
    """
    import ray

    resources = ray.cluster_resources()
    cpus = resources.get("CPU", 1.0)
    if use_gpu:
        gpus = int(resources.get("GPU", 0))
        if gpus < max(1, num_workers):
            raise UserError(f"--use-gpu --num-workers {num_workers}: this machine or cluster has {gpus} GPUs")
        num_workers = num_workers or gpus
    else:
        by_memory = int(resources.get("memory", 4 * ACTOR_MEMORY_BYTES) // ACTOR_MEMORY_BYTES)
        num_workers = num_workers or max(1, min(int(cpus // threads), by_memory))
    actor_cpus = min(float(threads), max(0.25, (cpus - max(1.0, READING_SHARE * cpus)) / num_workers))
    return Pool(num_workers, actor_cpus, *((1.0, 0.5) if cpus >= 8 else (0.5, 0.25)))


def quiet_context(pool: Pool) -> None:
    """Ray Data's settings for this process: no progress bars, small blocks, bounded room in the object store."""
    import ray.data

    logging.getLogger("ray.data").setLevel(logging.ERROR)  # it tells of every start, end and missing progress bar
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.target_max_block_size = BLOCK_BYTES
    room = BUFFER_BYTES * (1 + pool.num_workers)
    limits = context.execution_options.resource_limits
    context.execution_options.resource_limits = limits.copy(object_store_memory=room)


def stream(make_dataset: Callable[[], Any], should_stop: Callable[[], bool]) -> Iterator[Row | None]:
    """The rows of a lazy Ray dataset as they come, and None every POLL_S seconds without one.

    Ends early when `should_stop()`; errors come out at their place.
    """
    results: queue.SimpleQueue[Row | BaseException | None] = queue.SimpleQueue()
    stopped = threading.Event()

    def drain() -> None:
        try:
            for row in make_dataset().iter_rows():
                results.put(row)
                if stopped.is_set():
                    break
            results.put(None)
        except BaseException as error:
            results.put(error)

    threading.Thread(target=drain, name="stages", daemon=True).start()
    try:
        while not should_stop():
            try:
                row = results.get(timeout=POLL_S)
            except queue.Empty:
                yield None
                continue
            if row is None:
                return
            if isinstance(row, BaseException):
                raise row
            yield row
    finally:
        stopped.set()


@dataclass(frozen=True)
class Mistake:
    """A UserError on its way through the stages: raised there, Ray would make another exception of it, with traces."""

    message: str


def pack(content: Any) -> Row:
    """Anything as a row of Ray Data, which Arrow needn't understand."""
    return {"data": pickle.dumps(content, protocol=5)}


def passed(row: Row, work: Callable[[Any], Any]) -> Row:
    """A packed row with `work` done on its content. A UserError becomes a Mistake, which later stages hand on."""
    content = pickle.loads(row["data"])  # noqa: S301 - made by `pack` in the stage before
    if not isinstance(content, Mistake):
        try:
            content = work(content)
        except UserError as error:
            content = Mistake(str(error))
    return pack(content)


def delivered(rows: Iterator[Row | None]) -> Iterator[Any]:
    """The contents of packed rows, None as it is; raises the first Mistake as the UserError that it was."""
    for row in rows:
        content = None if row is None else pickle.loads(row["data"])  # noqa: S301 - made by `pack`
        if isinstance(content, Mistake):
            raise UserError(content.message)
        yield content
