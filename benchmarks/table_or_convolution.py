"""Where a table per distinct window starts to pay: both ways of every SPADE layer timed, and the choice judged.

    python benchmarks/table_or_convolution.py [--threads 2] [--repeats 5]

For each resolution of a 256 px generator and label maps from coarse blocks to noise, painting (modulation and the
convolution behind it, `render.Step`) and training (forward and backward of a `Spade`) are timed with a table and
without. From where the two take the same time come the constants of `gaugan/spade/tables.py`. `regret` is the time of
what `is_cheaper` chooses over the time of the better way, both summed over all cases. Prints one JSON line last.
"""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from gaugan.config import parse

if TYPE_CHECKING:
    from torch import Tensor

    from gaugan.spade.label_pyramid import LabelPyramid

LEVELS = ((16, 1024), (32, 1024), (64, 512), (128, 256), (256, 128))
"""(side in pixels, channels) of the generator's layers."""
SHARES = (0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 1.0)
"""Of the pixels that are random: the more, the more distinct windows."""
HIDDEN, TAPS, CLASSES = 128, 9, 7
ALWAYS, NEVER = 1e9, 0.0


@dataclass(frozen=True)
class Config:
    """What is measured."""

    threads: int = 0
    """torch threads; 0 = all cores."""
    repeats: int = 5
    """How often each way is timed; the median counts."""
    training: bool = True
    """Also time forward and backward."""


@dataclass(frozen=True)
class Case:
    """Both ways of one layer on one label map."""

    way: str
    pixels: int
    channels: int
    hidden_windows: int
    windows: int
    table_s: float
    convolution_s: float
    chosen: str


@contextlib.contextmanager
def cost_of_convolutions(cost: float | None) -> Iterator[None]:
    """All convolutions cost that much for a while: ALWAYS tables, NEVER tables; None = as measured."""
    from gaugan.spade import tables

    kept = dict(tables.CONVOLUTION)
    if cost is not None:
        tables.CONVOLUTION.update(dict.fromkeys(kept, cost))
    try:
        yield
    finally:
        tables.CONVOLUTION.update(kept)


def make_maps(count: int, side: int, share: float) -> Tensor:
    """int64 (count, side, side): a few large regions, `share` of whose pixels are random."""
    import torch

    generator = torch.Generator().manual_seed(0)
    coarse = torch.randint(0, CLASSES, (count, 4, 4), generator=generator)
    ids = coarse.repeat_interleave(side // 4, 1).repeat_interleave(side // 4, 2)
    # Rows of noise, not sprinkled pixels: a single odd pixel alone makes 25 new windows.
    rows = round(share * side)
    ids[:, :rows] = torch.randint(0, CLASSES, (count, rows, side), generator=generator)
    return ids


def painting_layer(side: int, channels: int) -> Callable[[LabelPyramid], Any]:
    """One `Step` of a render plan: from labels to the convolution's output."""
    import torch
    from torch import nn

    from gaugan.spade.modulation import Spade, SpadeNorm
    from gaugan.spade.render import Memory, Prepared, Step

    torch.manual_seed(0)
    spade = Spade(channels, CLASSES, norm=SpadeNorm.parse("spadebatch3x3"), hidden=HIDDEN).eval()
    step = Step(spade, nn.Conv2d(channels, channels // 2, 3, padding=1), (side, side), 0.2, torch.float32)
    memory = Memory(torch.float32, torch.device("cpu"))
    x = torch.randn(1, channels, side, side).contiguous(memory_format=torch.channels_last)

    def paint(labels: LabelPyramid) -> None:
        with torch.inference_mode():
            memory.give(step.run(x, Prepared(labels, {step: step.table(labels)}), memory))

    return paint


def training_layer(side: int, channels: int) -> Callable[[LabelPyramid], Any]:
    """Forward and backward of a `Spade`."""
    import torch

    from gaugan.spade.modulation import Spade, SpadeNorm

    torch.manual_seed(0)
    spade = Spade(channels, CLASSES, norm=SpadeNorm.parse("spadebatch3x3"), hidden=HIDDEN)
    spade = spade.to(memory_format=torch.channels_last)
    x = torch.randn(2, channels, side, side).contiguous(memory_format=torch.channels_last).requires_grad_()
    return lambda labels: spade(x, labels, slope=0.2).square().mean().backward()


def time_both(layer: Callable[[LabelPyramid], Any], label_map: Tensor, repeats: int) -> tuple[float, float]:
    """Median seconds (with a table, without), taking turns; finding the windows counts for neither."""
    from gaugan.spade.label_pyramid import LabelPyramid

    seconds: dict[float, list[float]] = {ALWAYS: [], NEVER: []}
    labels = {way: LabelPyramid.from_ids(label_map, CLASSES) for way in seconds}
    for number in range(repeats + 1):
        for way, found in seconds.items():
            with cost_of_convolutions(way):
                start = time.perf_counter()
                layer(labels[way])
                if number:
                    found.append(time.perf_counter() - start)
    return statistics.median(seconds[ALWAYS]), statistics.median(seconds[NEVER])


def measure(way: str, side: int, channels: int, share: float, repeats: int) -> Case:
    """One case; `way` is "rendering" or "training"."""
    import torch

    from gaugan.spade.label_pyramid import LabelPyramid
    from gaugan.spade.windows import find_windows

    training = way == "training"
    label_map = make_maps(2 if training else 1, side, share)
    layer = (training_layer if training else painting_layer)(side, channels)
    table_s, convolution_s = time_both(layer, label_map, repeats)
    windows = find_windows(label_map, CLASSES + 1, 3, ALWAYS)
    assert windows is not None
    with torch.set_grad_enabled(training):
        labels = LabelPyramid.from_ids(label_map, CLASSES)
        chosen = labels.windows((side, side), 3, HIDDEN, training=training) is not None
    return Case(
        way, label_map.numel(), channels, len(windows.hidden), len(windows.parts),
        table_s, convolution_s, "table" if chosen else "convolution",
    )  # fmt: skip


def main(config: Config) -> dict[str, Any]:
    """Measures, prints and returns the figures."""
    import torch

    torch.set_num_threads(config.threads or os.cpu_count() or 1)
    cases = []
    for way in ("rendering", "training") if config.training else ("rendering",):
        for side, channels in LEVELS:
            for share in SHARES:
                case = measure(way, side, channels, share, config.repeats)
                cases.append(case)
                print(
                    f"{way:<10} {side:>4} px {channels:>5} channels, {case.windows:>6} windows "
                    f"({case.windows / case.pixels:.3f}), {case.hidden_windows:>6} hidden: "
                    f"table {1e3 * case.table_s:8.2f} ms, convolution {1e3 * case.convolution_s:8.2f} ms, "
                    f"takes the {case.chosen}",
                    flush=True,
                )
    best = sum(min(case.table_s, case.convolution_s) for case in cases)
    chosen = sum(case.table_s if case.chosen == "table" else case.convolution_s for case in cases)
    figures = {
        "regret": round(chosen / best, 4),
        "regret_always_table": round(sum(case.table_s for case in cases) / best, 3),
        "regret_always_convolution": round(sum(case.convolution_s for case in cases) / best, 3),
        "wrong": sum((c.table_s < c.convolution_s) != (c.chosen == "table") for c in cases),
        "cases": len(cases),
        "threads": torch.get_num_threads(),
    }
    print(json.dumps(figures))
    return figures


if __name__ == "__main__":
    main(parse(Config, description=__doc__ or ""))
