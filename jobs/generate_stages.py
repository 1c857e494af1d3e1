"""Painting on Ray Data: chunks flow through reading (CPU), the generator (a pool of actors) and writing (CPU)."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from gaugan import painting
from gaugan.errors import UserError
from gaugan.labels import ClassTable
from gaugan.paint_plan import Chunk, PaintPlan
from jobs.stages import MAX_BLOCKS, Pool, Row, delivered, pack, passed, quiet_context, stream

if TYPE_CHECKING:
    from gaugan.painter import Painter
    from gaugan.style_choice import Styles

Tally = Counter[str]
"""How many inputs of a chunk have each status or code."""


def read_row(row: Row, plan: PaintPlan, classes: ClassTable) -> Row:
    """Chunk -> chunk, sheets: decoded."""
    return passed(row, lambda chunk: (chunk, painting.read_chunk(chunk, plan, classes)))


class PaintActor:
    """Holds a generator and the chosen styles; adds the paintings."""

    def __init__(self, plan: PaintPlan) -> None:
        import torch

        self.plan = plan
        torch.set_num_threads(plan.threads)
        torch.backends.cudnn.benchmark = False  # else the algorithm, and the last bits, depend on timing
        torch.backends.cudnn.deterministic = True

    @functools.cached_property
    def studio(self) -> tuple[Painter, Styles]:
        """Loaded with the first chunk: what goes wrong in a constructor, Ray tells as the death of an actor."""
        from gaugan.painter import Painter
        from gaugan.style_choice import Styles

        plan = self.plan
        painter = Painter.load(plan.model, plan.device, plan.precision)  # type: ignore[arg-type]
        if painter.checkpoint_hash != plan.model_hash:
            raise UserError(f"{plan.model}: changed since the run began; use another --output")
        return painter, Styles(plan.style, painter, plan.seed)

    def __call__(self, row: Row) -> Row:
        return passed(row, lambda content: (content[0], painting.paint_chunk(content[1], *self.studio)))


def write_row(row: Row, plan: PaintPlan, classes: ClassTable, output: str) -> Row:
    """Writes the chunk's files; what remains is its tally."""
    return passed(row, lambda content: painting.write_chunk(content[0], content[1], plan, classes, output))


def run_stages(
    work: list[Chunk], plan: PaintPlan, classes: ClassTable, output: str, pool: Pool, should_stop: Callable[[], bool]
) -> Iterator[Tally | None]:
    """Paints the chunks; yields each one's tally as it is written, and None every half second without one."""
    return delivered(stream(lambda: _dataset(work, plan, classes, output, pool), should_stop))


def _dataset(work: list[Chunk], plan: PaintPlan, classes: ClassTable, output: str, pool: Pool) -> Any:
    """The lazy Ray dataset of the three stages."""
    import ray.data

    quiet_context(pool)
    rows = [pack(chunk) for chunk in work]
    source: Any = ray.data.from_items(rows, override_num_blocks=min(len(rows), MAX_BLOCKS))
    return (
        source.map(read_row, fn_kwargs={"plan": plan, "classes": classes}, num_cpus=pool.read_cpus)
        .map(
            PaintActor,
            fn_constructor_kwargs={"plan": plan},
            compute=ray.data.ActorPoolStrategy(size=pool.num_workers),
            num_cpus=pool.actor_cpus,
            num_gpus=1 if plan.device == "cuda" else None,
        )
        .map(
            write_row, fn_kwargs={"plan": plan, "classes": classes, "output": output}, num_cpus=pool.write_cpus
        )
    )  # fmt: skip
