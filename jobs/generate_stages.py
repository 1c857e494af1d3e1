"""Painting on Ray Data: chunks flow through reading (CPU), the generator (a pool of actors) and writing (CPU)."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from typing import Any

from gaugan import painting
from gaugan.config import from_plain, to_plain
from gaugan.errors import UserError
from gaugan.labels import ClassTable
from gaugan.paint_plan import Chunk, PaintPlan, chunk_from_plain, chunk_to_plain
from jobs.stages import MAX_BLOCKS, Pool, Row, quiet_context, stream


def read_row(row: Row, plan: Row, classes: Row) -> Row:
    """{index, id, uri, ...} -> {chunk, sheets}: decoded."""
    chunk = chunk_from_plain(row)
    return _pack(chunk, painting.read_chunk(chunk, from_plain(PaintPlan, plan), ClassTable.from_plain(classes)))


class PaintActor:
    """Holds a generator and the chosen styles; adds the paintings."""

    def __init__(self, plan: Row) -> None:
        import torch

        from gaugan.painter import Painter
        from gaugan.style_choice import Styles

        settings = from_plain(PaintPlan, plan)
        torch.set_num_threads(settings.threads)
        torch.backends.cudnn.benchmark = False  # else the algorithm, and the last bits, depend on timing
        torch.backends.cudnn.deterministic = True
        self.painter = Painter.load(settings.model, settings.device, settings.precision)  # type: ignore[arg-type]
        if self.painter.checkpoint_hash != settings.model_hash:
            raise UserError(f"{settings.model}: changed since the run began; use another --output")
        self.styles = Styles(settings.style, self.painter, settings.seed)

    def __call__(self, row: Row) -> Row:
        chunk, sheets = _unpack(row)
        return _pack(chunk, painting.paint_chunk(sheets, self.painter, self.styles))


def write_row(row: Row, plan: Row, classes: Row, output: str) -> Row:
    """Writes the chunk's files; the row becomes its tally."""
    chunk, sheets = _unpack(row)
    table = ClassTable.from_plain(classes)
    tally = painting.write_chunk(chunk, sheets, from_plain(PaintPlan, plan), table, output)
    return {"index": chunk.index, "codes": list(tally), "counts": list(tally.values())}


def _pack(chunk: Chunk, sheets: list[painting.Sheet]) -> Row:
    return {"data": pickle.dumps((chunk, sheets), protocol=5)}


def _unpack(row: Row) -> tuple[Chunk, list[painting.Sheet]]:
    chunk, sheets = pickle.loads(row["data"])  # noqa: S301 - made by _pack in the stage before
    return chunk, sheets


def run_stages(
    work: list[Chunk], plan: PaintPlan, classes: ClassTable, output: str, pool: Pool, should_stop: Callable[[], bool]
) -> Iterator[Row | None]:
    """Paints the chunks; yields each one's tally as it is written, and None every half second without one."""
    return stream(lambda: _dataset(work, plan, classes, output, pool), should_stop)


def _dataset(work: list[Chunk], plan: PaintPlan, classes: ClassTable, output: str, pool: Pool) -> Any:
    """The lazy Ray dataset of the three stages."""
    import ray.data

    quiet_context(pool)
    plain, table = to_plain(plan), classes.to_plain()
    rows = [chunk_to_plain(chunk) for chunk in work]
    source: Any = ray.data.from_items(rows, override_num_blocks=min(len(rows), MAX_BLOCKS))
    return (
        source.map(read_row, fn_kwargs={"plan": plain, "classes": table}, num_cpus=pool.read_cpus)
        .map(
            PaintActor,
            fn_constructor_kwargs={"plan": plain},
            compute=ray.data.ActorPoolStrategy(size=pool.num_workers),
            num_cpus=pool.actor_cpus,
            num_gpus=1 if plan.device == "cuda" else None,
        )
        .map(
            write_row, fn_kwargs={"plan": plain, "classes": table, "output": output}, num_cpus=pool.write_cpus
        )
    )  # fmt: skip
