"""The SPADE generator painting one picture: our render plan against the network as published.

    python benchmarks/generator.py --size 512 [--dtype bf16] [--labels portrait|coco|noise] [--label-dir DIR]
    python benchmarks/generator.py --size 512 --device cuda --dtype bf16 --reference channels_last|compiled

Both sides have the same weights (statistics calibrated), z and label maps, a new map for each pair, and take turns in
one process. The reference (benchmarks/spade_reference.py) is eager float32 NCHW in evaluation mode and divides by the
spectral norm in every pass, as the published code does when it tests (--fold-reference: divided out beforehand).
Ours starts from class ids: windows, tables and painting are all timed. Window rows known from an earlier map are
computed anew (--reuse: taken again, as a server does). Peak memory: of a process per side.
Prints one JSON line last.
"""

from __future__ import annotations

import json
import math
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.pairs_of_runs import measure_peak, median_figures, peak_of_side, take_turns
from gaugan.config import parse

if TYPE_CHECKING:
    from torch import Tensor

    from gaugan.spade.networks import Generator


@dataclass(frozen=True)
class Config:
    """What is measured."""

    size: int = 512
    """Side of the picture in pixels."""
    dtype: Literal["fp32", "bf16"] = "fp32"
    """Of our feature maps and convolutions."""
    reference: Literal["published", "channels_last", "compiled"] = "published"
    """published: eager float32 NCHW; channels_last: eager in --dtype (autocast); compiled: that by torch.compile."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Where both sides compute."""
    labels: Literal["portrait", "coco", "noise"] = "portrait"
    """Drawn portraits (7 classes), COCO-Stuff files (183), or 7 classes at random in every pixel."""
    label_dir: str = ""
    """Folder with label PNGs for --labels coco; empty = synthetic ragged regions."""
    upsampling: Literal["normal", "more", "most"] = "normal"
    """As of the generator."""
    ngf: int = 64
    """Width of the generator."""
    pairs: int = 3
    """How often each side paints."""
    threads: int = 0
    """torch threads; 0 = all cores."""
    reuse: bool = False
    """Ours may take rows of windows known from the label maps before."""
    fold_reference: bool = False
    """The reference's spectral norms are divided out beforehand."""
    side: Literal["both", "reference", "ours"] = "both"
    """One side alone prints its peak memory only."""


def make_generator(config: Config, num_classes: int, label_map: Tensor) -> Generator:
    """Seeded weights that behave like trained ones: gamma and beta of visible size, calibrated running statistics."""
    import torch

    from gaugan.nn import power_iteration, recalibrate
    from gaugan.spade.label_pyramid import LabelPyramid
    from gaugan.spade.modulation import Spade
    from gaugan.spade.networks import Generator

    torch.manual_seed(0)
    generator = Generator(num_classes, (config.size, config.size), ngf=config.ngf, upsampling=config.upsampling)
    power_iteration(generator, 15)
    for module in generator.modules():
        if isinstance(module, Spade):
            module.mlp_gamma.weight.data *= 3
            module.mlp_beta.weight.data *= 3
    z = torch.randn(2, 256)
    labels = LabelPyramid.from_ids(label_map.expand(2, -1, -1), num_classes)
    with torch.no_grad():
        recalibrate(generator, (generator(labels, z) for _ in range(1)))
    return generator


def measure_side(config: Config, maps: list[Tensor], num_classes: int) -> dict[str, float]:
    """The peak memory of painting with one side alone."""
    import torch

    reference, ours = make_sides(config, maps, num_classes)
    with torch.no_grad():
        side = reference if config.side == "reference" else ours
        return {"peak_mb": round(measure_peak(lambda: side(0), config.device), 1)}


def make_sides(config: Config, maps: list[Tensor], num_classes: int) -> tuple[Any, Any]:
    """(reference, ours): functions from the number of a pair to the picture. With --side the other one is None."""
    import torch

    from benchmarks.spade_reference import ReferenceGenerator
    from gaugan.labels import onehot
    from gaugan.nn import fold_spectral_norm
    from gaugan.spade.label_pyramid import LabelPyramid
    from gaugan.spade.render import RenderPlan

    generator = make_generator(config, num_classes, maps[0]).to(config.device)
    maps = [label_map.to(config.device) for label_map in maps]
    styles = torch.randn(len(maps), 1, 256, generator=torch.Generator().manual_seed(1)).to(config.device)
    dtype = torch.bfloat16 if config.dtype == "bf16" else torch.float32
    plan = None if config.side == "reference" else RenderPlan(generator, dtype)

    def ours(number: int) -> Tensor:
        assert plan is not None
        if not config.reuse:
            plan.forget()
        return plan.paint(plan.prepare(LabelPyramid.from_ids(maps[number], num_classes)), styles[number])

    if config.side == "ours":
        del generator
        return None, ours
    if config.fold_reference:
        fold_spectral_norm(generator)
    network: Any = ReferenceGenerator(generator).eval()
    given = [onehot(label_map, num_classes) for label_map in maps]
    if config.reference != "published":
        network.to(memory_format=torch.channels_last)
    if config.reference == "compiled":
        network = torch.compile(network)

    def reference(number: int) -> Tensor:
        mixed = config.reference != "published" and dtype != torch.float32
        with torch.autocast(config.device, dtype, enabled=mixed):
            return network(given[number], styles[number]).float()

    return reference, ours


def main(config: Config) -> dict[str, Any]:
    """Measures, prints and returns the figures."""
    import torch

    from benchmarks.label_maps import make_label_maps
    from gaugan.native import compile_seconds

    torch.set_num_threads(config.threads or os.cpu_count() or 1)
    maps, num_classes, source = make_label_maps(config.labels, config.size, config.pairs + 1, config.label_dir)
    if config.side != "both":
        figures: dict[str, Any] = measure_side(config, maps, num_classes)
        print(json.dumps(figures))
        return figures
    compiled_s = compile_seconds()
    reference, ours = make_sides(config, maps, num_classes)
    with torch.no_grad():
        for side in (reference, ours):
            side(config.pairs)  # first calls choose algorithms and touch memory (and compile)
        slow, fast = take_turns(reference, ours, config.pairs, config.device)
    differences = [(a - b) for (_, a), (_, b) in zip(slow, fast, strict=True)]
    error = max(float(d.square().mean()) for d in differences)
    figures = median_figures(slow, fast) | {
        "max_abs_diff": max(float(d.abs().max()) for d in differences),
        "max_diff_of_range": max(float(d.abs().max()) for d in differences) / 2,
        "psnr_db": round(10 * math.log10(4 / max(error, 1e-20)), 1),
        "peak_mb_reference": peak_of_side("reference"),
        "peak_mb_ours": peak_of_side("ours"),
        "labels": source,
        "reference": config.reference,
        "device": torch.cuda.get_device_name() if config.device == "cuda" else "cpu",
        "compile_seconds": round(compiled_s, 2),
        "threads": torch.get_num_threads(),
    }
    print(json.dumps(figures))
    return figures


if __name__ == "__main__":
    main(parse(Config, description=__doc__ or ""))
