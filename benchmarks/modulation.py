"""SPADE layers alone: a table per distinct label window against two convolutions over every pixel.

    python benchmarks/modulation.py [--size 512] [--growth]

Evaluation mode (with the statistics folded) and training (forward and backward), per layer of the generator, on one
drawn portrait; both sides take turns. --growth adds how cost grows with pixels, with distinct windows and with classes.
Prints one JSON line last; its speedup is the sum over the layers in evaluation.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.pairs_of_runs import measure_peak, median_figures, peak_of_side, take_turns
from gaugan.config import parse

if TYPE_CHECKING:
    from torch import Tensor

    from gaugan.spade.modulation import Spade


@dataclass(frozen=True)
class Config:
    """What is measured."""

    size: int = 512
    """Side of the label map; layers lie at size, size / 2, .. size / 16 with 64, 128, .. 1024 channels."""
    pairs: int = 3
    """How often each side computes each layer."""
    threads: int = 0
    """torch threads; 0 = all cores."""
    growth: bool = False
    """Also time one layer over pixels, windows and classes."""
    side: str = "both"
    """reference or ours: one side alone prints its peak memory only."""


def make_layer(channels: int, num_classes: int) -> tuple[Spade, Spade]:
    """(reference in NCHW, ours in channels-last) with equal weights and statistics."""
    import copy

    import torch

    from gaugan.spade.modulation import Spade, SpadeNorm

    torch.manual_seed(0)
    layer = Spade(channels, num_classes, norm=SpadeNorm.parse("spadebatch3x3"))
    norm = layer.param_free_norm
    assert isinstance(norm, torch.nn.BatchNorm2d) and norm.running_mean is not None and norm.running_var is not None
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.5, 2.0)
    return layer, copy.deepcopy(layer).to(memory_format=torch.channels_last)


def compare(
    label_map: Tensor, channels: int, num_classes: int, pairs: int, *, training: bool = False
) -> dict[str, Any]:
    """Figures of one layer at the size of the label map (1, h, w)."""
    import torch
    import torch.nn.functional as F

    from gaugan.labels import onehot
    from gaugan.spade.label_pyramid import LabelPyramid

    slow_layer, fast_layer = make_layer(channels, num_classes)
    x = torch.randn(1, channels, *label_map.shape[1:], requires_grad=training)
    fast_x = x.detach().contiguous(memory_format=torch.channels_last).requires_grad_(training)
    labels = onehot(label_map, num_classes)
    for layer in (slow_layer, fast_layer):
        layer.train(training)

    def finish(y: Tensor) -> Tensor:
        if training:
            y.square().mean().backward()
        return y.detach()

    def reference(_: int) -> Tensor:
        return finish(F.leaky_relu(slow_layer.reference(x, LabelPyramid(labels)), 0.2))

    def ours(_: int) -> Tensor:
        return finish(fast_layer(fast_x, LabelPyramid.from_ids(label_map, num_classes), slope=0.2))

    with torch.set_grad_enabled(training):
        difference = float((reference(0) - ours(0)).abs().max())
        slow, fast = take_turns(reference, ours, pairs)
    return median_figures(slow, fast) | {"max_abs_diff": difference}


def measure_growth(config: Config) -> list[dict[str, Any]]:
    """One layer of 64 channels in evaluation: over pixels, over distinct windows, over classes."""
    import torch

    from benchmarks.label_maps import make_label_maps
    from gaugan.spade.windows import find_windows

    cases: list[tuple[str, Tensor, int]] = []
    for size in (64, 128, 256, 512, 1024):
        maps, classes, _ = make_label_maps("portrait", size, 1)
        cases.append((f"{size} px portrait", maps[0], classes))
    for block in (64, 32, 16, 8, 4, 2, 1):
        coarse = torch.randint(0, 7, (1, 256 // block, 256 // block), generator=torch.Generator().manual_seed(0))
        cases.append((f"256 px, blocks of {block}", coarse.repeat_interleave(block, 1).repeat_interleave(block, 2), 7))
    for classes in (2, 7, 32, 128, 183):
        coarse = torch.randint(0, classes, (1, 16, 16), generator=torch.Generator().manual_seed(0))
        cases.append((f"256 px, {classes} classes", coarse.repeat_interleave(16, 1).repeat_interleave(16, 2), classes))
    rows = []
    for name, label_map, classes in cases:
        with torch.no_grad():
            windows = find_windows(label_map, classes, 3)
            found = compare(label_map, 64, classes, config.pairs)
        assert windows is not None
        rows.append({"case": name, "windows": len(windows.parts), "hidden_windows": len(windows.hidden)} | found)
        print(rows[-1], flush=True)
    return rows


def main(config: Config) -> dict[str, Any]:
    """Measures, prints and returns the figures."""
    import torch

    from benchmarks.label_maps import make_label_maps

    torch.set_num_threads(config.threads or os.cpu_count() or 1)
    maps, classes, _ = make_label_maps("portrait", config.size, 1)
    if config.side != "both":
        figures: dict[str, Any] = {"peak_mb": round(measure_peak(lambda: run_side(config, maps[0], classes)), 1)}
        print(json.dumps(figures))
        return figures
    layers = []
    for level in range(5):
        label_map = maps[0][:, :: 2**level, :: 2**level].contiguous()
        for training in (False, True):
            found = compare(label_map, 64 << level, classes, config.pairs, training=training)
            layers.append({"px": config.size >> level, "channels": 64 << level, "training": training} | found)
            print(layers[-1], flush=True)
    evaluation = [layer for layer in layers if not layer["training"]]
    seconds = {
        f"seconds_{side}": round(sum(layer[f"seconds_{side}"] for layer in evaluation), 4)
        for side in ("reference", "ours")
    }
    figures = {
        "speedup": round(seconds["seconds_reference"] / seconds["seconds_ours"], 3),
        "speedup_training": round(statistics.median(layer["speedup"] for layer in layers if layer["training"]), 3),
        "max_abs_diff": max(layer["max_abs_diff"] for layer in layers),
        **seconds,
        **{f"peak_mb_{side}": peak_of_side(side) for side in ("reference", "ours")},
        "threads": torch.get_num_threads(),
    }
    if config.growth:
        figures["growth"] = measure_growth(config)
    print(json.dumps(figures))
    return figures


def run_side(config: Config, label_map: Tensor, classes: int) -> None:
    """The largest layer in evaluation, one side alone."""
    import torch

    from gaugan.labels import onehot
    from gaugan.spade.label_pyramid import LabelPyramid

    slow_layer, fast_layer = make_layer(64, classes)
    x = torch.randn(1, 64, *label_map.shape[1:])
    with torch.no_grad():
        if config.side == "reference":
            slow_layer.eval().reference(x, LabelPyramid(onehot(label_map, classes)))
        else:
            x = x.contiguous(memory_format=torch.channels_last)
            fast_layer.eval()(x, LabelPyramid.from_ids(label_map, classes), slope=0.2)


if __name__ == "__main__":
    main(parse(Config, description=__doc__ or ""))
