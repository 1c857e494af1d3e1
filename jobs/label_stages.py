"""Labelling on Ray Data: chunks flow through reading (CPU), the U-Net (a pool of actors) and writing (CPU).

A row of the Ray dataset is one chunk, so nothing depends on how Ray cuts blocks, and a killed actor, task or node costs
the chunks it held. Pictures are judged in our own code: Ray's reader stops at a bad one, or silently drops blocks.
"""

from __future__ import annotations

import logging
import pickle
import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from gaugan import labelling
from gaugan.config import from_plain, to_plain
from gaugan.errors import UserError
from gaugan.label_plan import Chunk, Item, LabelPlan, chunk_from_plain, chunk_to_plain
from gaugan.labels import ClassTable

MAX_BLOCKS = 4096
BLOCK_BYTES = 2**20
"""Blocks are closed beyond this size, so that a chunk moves on as soon as it is made."""
BUFFER_BYTES = 64 * 2**20
"""Room in the object store for each actor's waiting chunks (and once more for reading and writing)."""
ACTOR_MEMORY_BYTES = 1.5 * 2**30
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
        num_workers = num_workers or max(1, min(int((cpus - 1) // threads), by_memory))
    actor_cpus = min(float(threads), max(0.25, (cpus - 1) / num_workers))
    return Pool(num_workers, actor_cpus, *((1.0, 0.5) if cpus >= 8 else (0.5, 0.25)))


def read_row(row: Row, plan: Row) -> Row:
    """{shard, index, id, size, split} -> {chunk, pictures}: decoded."""
    chunk = chunk_from_plain(row)
    return _pack(chunk, labelling.read_chunk(chunk, from_plain(LabelPlan, plan)))


class LabelActor:
    """Holds a U-Net; adds the label maps."""

    def __init__(self, plan: Row) -> None:
        import torch

        from gaugan.segmenter import Segmenter

        self.plan = from_plain(LabelPlan, plan)
        torch.set_num_threads(self.plan.threads)
        torch.backends.cudnn.benchmark = False  # else the algorithm, and the last bits, depend on timing
        torch.backends.cudnn.deterministic = True
        self.segmenter = Segmenter.load(self.plan.model, device=self.plan.device, precision=self.plan.precision)
        self.segmenter.image_size = self.plan.segment_size
        if self.segmenter.checkpoint_hash != self.plan.model_hash:
            raise UserError(
                f"{self.plan.model}: changed since the run began (its hash is another); use another --output"
            )

    def __call__(self, row: Row) -> Row:
        chunk, pictures = _unpack(row)
        return _pack(chunk, labelling.label_chunk(pictures, self.segmenter))


def write_row(row: Row, plan: Row, classes: Row, output: str) -> Row:
    """Writes the chunk's file; the row becomes its tally."""
    chunk, pictures = _unpack(row)
    table = ClassTable.from_plain(classes)
    tally = labelling.write_chunk(chunk, pictures, from_plain(LabelPlan, plan), table, output)
    return {"shard": chunk.shard, "index": chunk.index, "codes": list(tally), "counts": list(tally.values())}


def merge(shard: int, items: list[Item], num_chunks: int, output: str, classes: Row) -> Row:
    """labelling.merge_shard, as a Ray task."""
    return labelling.merge_shard(shard, items, num_chunks, output, ClassTable.from_plain(classes))


def _pack(chunk: Chunk, pictures: list[labelling.Picture]) -> Row:
    # Pickled by us: pictures of different sizes have no column type, and Ray would try several before it gave up.
    return {"data": pickle.dumps((chunk, pictures), protocol=5)}


def _unpack(row: Row) -> tuple[Chunk, list[labelling.Picture]]:
    chunk, pictures = pickle.loads(row["data"])  # noqa: S301 - made by _pack in the stage before
    return chunk, pictures


def run_stages(
    work: list[Chunk], plan: LabelPlan, classes: ClassTable, output: str, pool: Pool, should_stop: Callable[[], bool]
) -> Iterator[Row | None]:
    """Labels the chunks; yields each one's tally {shard, index, codes, counts} as it is written, and None every POLL_S
    seconds without one. Ends early when `should_stop()`.
    """
    results: queue.SimpleQueue[Row | BaseException | None] = queue.SimpleQueue()
    stopped = threading.Event()

    def drain() -> None:
        try:
            for row in _dataset(work, plan, classes, output, pool).iter_rows():
                results.put(row)
                if stopped.is_set():
                    break
            results.put(None)
        except BaseException as error:
            results.put(error)

    threading.Thread(target=drain, name="label-stages", daemon=True).start()
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


def _dataset(work: list[Chunk], plan: LabelPlan, classes: ClassTable, output: str, pool: Pool) -> Any:
    """The lazy Ray dataset of the three stages."""
    import ray.data

    logging.getLogger("ray.data").setLevel(logging.ERROR)  # it tells of every start, end and missing progress bar
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.target_max_block_size = BLOCK_BYTES
    room = BUFFER_BYTES * (1 + pool.num_workers)
    limits = context.execution_options.resource_limits
    context.execution_options.resource_limits = limits.copy(object_store_memory=room)
    plain = to_plain(plan)
    rows = [chunk_to_plain(chunk) for chunk in work]
    source: Any = ray.data.from_items(rows, override_num_blocks=min(len(rows), MAX_BLOCKS))
    return (
        source.map(read_row, fn_kwargs={"plan": plain}, num_cpus=pool.read_cpus)
        .map(
            LabelActor,
            fn_constructor_kwargs={"plan": plain},
            compute=ray.data.ActorPoolStrategy(size=pool.num_workers),
            num_cpus=pool.actor_cpus,
            num_gpus=1 if plan.device == "cuda" else None,
        )
        .map(
            write_row,
            fn_kwargs={"plan": plain, "classes": classes.to_plain(), "output": output},
            num_cpus=pool.write_cpus,
        )
    )
