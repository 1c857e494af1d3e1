"""Labelling on Ray Data: chunks flow through reading (CPU), the U-Net (a pool of actors) and writing (CPU).

Where there is nothing to overlap (no GPU, and the files at hand) the three are one stage. A row of the Ray dataset is
one chunk, so nothing depends on how Ray cuts blocks, and a killed actor, task or node costs the chunks it held.
Pictures are judged in our own code: Ray's reader stops at a bad one, or silently drops blocks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

from gaugan import label_shards, labelling, reading, storage
from gaugan.config import from_plain, to_plain
from gaugan.errors import UserError
from gaugan.heap import keep_freed_memory
from gaugan.label_plan import Chunk, LabelPlan, chunk_from_plain, chunk_to_plain
from gaugan.labels import ClassTable
from jobs.stages import MAX_BLOCKS, Pool, Row, delivered, pack, passed, quiet_context, stream

if TYPE_CHECKING:
    from gaugan.segmenter import Segmenter

Pictures = tuple[Chunk, list[reading.Picture]]
READ_RETRIES = 64
"""Each crash of a decoder costs a retry of its task, in which that chunk's pictures are decoded in a child process."""


def read_row(row: Row, plan: Row, output: str) -> Row:
    """A row of chunk_to_plain -> packed `Pictures`, decoded."""
    return passed(pack(chunk_from_plain(row)), lambda chunk: _read(chunk, from_plain(LabelPlan, plan), output))


def _read(chunk: Chunk, plan: LabelPlan, output: str) -> Pictures:
    trace = label_shards.staged_uri(output, chunk.shard, chunk.index).removesuffix(".parquet") + ".begun"
    return chunk, reading.read_chunk(chunk, plan, trace)


class LabelActor:
    """Holds a U-Net; adds the label maps."""

    def __init__(self, plan: Row) -> None:
        self.plan = from_plain(LabelPlan, plan)
        self.segmenter: Segmenter | None = None
        """Loaded for the first chunk: what a constructor refuses would come out of Ray with traces, not as one line."""

    def __call__(self, row: Row) -> Row:
        return passed(row, self._label)

    def _label(self, content: Pictures) -> Pictures:
        chunk, pictures = content
        self.segmenter = self.segmenter or _load_segmenter(self.plan)
        return chunk, labelling.label_chunk(pictures, self.segmenter, self.plan)


def _load_segmenter(plan: LabelPlan) -> Segmenter:
    """The plan's U-Net, made to repeat its answers. Raises UserError when it is not the one, or can't be here."""
    import torch

    from gaugan.segmenter import Segmenter

    torch.set_num_threads(plan.threads)
    keep_freed_memory()
    torch.backends.cudnn.benchmark = False  # else the algorithm, and the last bits, depend on timing
    torch.backends.cudnn.deterministic = True
    segmenter = Segmenter.load(
        plan.model, device=plan.device, precision=plan.precision, mirror=plan.mirror, batch_size=plan.inference_batch
    )
    segmenter.image_size = plan.segment_size
    if plan.precision == "bf16" and segmenter.dtype != torch.bfloat16:
        raise UserError(
            "--precision bf16: this machine's processor or GPU does not compute it, its labels would differ from "
            "those of machines that do; use such machines only, or fp32 with another --output"
        )
    if segmenter.checkpoint_hash != plan.model_hash:
        raise UserError(f"{plan.model}: changed since the run began (its hash is another); use another --output")
    return segmenter


class WholeLabelActor(LabelActor):
    """Reads, labels and writes: nothing travels between processes when all of it is work for one CPU."""

    def __init__(self, plan: Row, classes: Row, output: str) -> None:
        super().__init__(plan)
        self.classes, self.output = ClassTable.from_plain(classes), output

    def __call__(self, row: Row) -> Row:
        return passed(pack(chunk_from_plain(row)), self._whole)

    def _whole(self, chunk: Chunk) -> Row:
        content = self._label(_read(chunk, self.plan, self.output))
        return _write(content, self.plan, self.classes, self.output)


def write_row(row: Row, plan: Row, classes: Row, output: str) -> Row:
    """Writes the chunk's file; packed `Pictures` become their tally."""
    table = ClassTable.from_plain(classes)
    return passed(row, lambda content: _write(content, from_plain(LabelPlan, plan), table, output))


def _write(content: Pictures, plan: LabelPlan, classes: ClassTable, output: str) -> Row:
    chunk, pictures = content
    tally: Counter[str] = label_shards.write_chunk(chunk, pictures, plan, classes, output)
    return {"shard": chunk.shard, "index": chunk.index, "codes": list(tally), "counts": list(tally.values())}


def run_stages(
    work: Iterable[Chunk],
    num_chunks: int,
    plan: LabelPlan,
    classes: ClassTable,
    output: str,
    pool: Pool,
    should_stop: Callable[[], bool],
) -> Iterator[Row | None]:
    """Labels the chunks; yields each one's tally {shard, index, codes, counts} as it is written, and None every half
    second without one. Ends early when `should_stop()`. Raises UserError where a stage does.
    """
    blocks = _blocks(work, num_chunks)
    return delivered(stream(lambda: _dataset(blocks, plan, classes, output, pool), should_stop))


def _blocks(work: Iterable[Chunk], num_chunks: int) -> list[Any]:
    """The chunks as the tables of up to MAX_BLOCKS blocks; as objects they exist for one block at a time."""
    import pyarrow as pa

    rest, size = iter(work), -(-num_chunks // MAX_BLOCKS)
    parts = iter(lambda: [chunk_to_plain(chunk) for chunk in islice(rest, size)], [])
    return [pa.Table.from_pylist(part) for part in parts]


def _dataset(blocks: list[Any], plan: LabelPlan, classes: ClassTable, output: str, pool: Pool) -> Any:
    """The lazy Ray dataset: three stages that overlap, or one where there is nothing to wait for."""
    import ray.data

    quiet_context(pool)
    plain, place = to_plain(plan), {"classes": classes.to_plain(), "output": output}
    source: Any = ray.data.from_arrow(blocks)
    actors = {"compute": ray.data.ActorPoolStrategy(size=pool.num_workers), "num_cpus": pool.actor_cpus}
    if plan.device == "cpu" and storage.is_local(plan.input) and storage.is_local(output):
        return source.map(WholeLabelActor, fn_constructor_kwargs={"plan": plain, **place}, **actors)
    return (
        source.map(
            read_row, fn_kwargs={"plan": plain, "output": output}, num_cpus=pool.read_cpus, max_retries=READ_RETRIES
        )
        .map(LabelActor, fn_constructor_kwargs={"plan": plain}, num_gpus=1 if plan.device == "cuda" else None, **actors)
        .map(write_row, fn_kwargs={"plan": plain, **place}, num_cpus=pool.write_cpus)
    )
