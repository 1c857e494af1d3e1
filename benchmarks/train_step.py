"""A full GAN training step of SPADE (G and D, feature matching, no perceptual loss): ours against the plain way.

    python benchmarks/train_step.py --size 256 [--mode fast|faithful|both] [--device cuda --dtype bf16]

Both sides are a SpadeSystem in one precision with the same weights, z, batch, spectral state and mode, and take turns
in one process. The reference convolves every pixel (benchmarks/spade_reference.py), in NCHW (channels-last on a GPU)
with the library's convolutions, and judges fake and real in one pass, as the published code does; both sides use the
same fused Adam and the same spectral norm. max_rel_loss_diff: of the loss terms of the first step. Prints one JSON
line last.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.pairs_of_runs import measure_peak, median_figures, peak_of_side, take_turns
from gaugan.config import parse

if TYPE_CHECKING:
    from torch import Tensor

    from gaugan.spade.system import SpadeSystem


@dataclass(frozen=True)
class Config:
    """What is measured."""

    size: int = 256
    """Side of the pictures in pixels."""
    batch: int = 2
    """Pictures per step."""
    mode: Literal["fast", "faithful", "both"] = "both"
    """As of the training; both sides use the same."""
    dtype: Literal["fp32", "bf16"] = "fp32"
    """Arithmetic of both sides."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Where both sides compute."""
    ngf: int = 64
    """Width of the generator; the discriminator has the same."""
    pairs: int = 3
    """How many steps each side takes, after one that is not timed."""
    threads: int = 0
    """torch threads; 0 = all cores."""
    memory: bool = True
    """Also measure the peak memory of each side, in a process of its own."""
    side: Literal["both", "reference", "ours"] = "both"
    """One side alone prints its peak memory only."""


def make_systems(config: Config) -> tuple[SpadeSystem, SpadeSystem]:
    """(reference, ours) with equal weights."""
    import torch

    from benchmarks.spade_reference import ReferenceGenerator
    from gaugan.labels import PORTRAIT_CLASSES
    from gaugan.spade.config import SpadeConfig
    from gaugan.spade.objective import Outputs
    from gaugan.spade.system import Batch, SpadeSystem

    layout = torch.channels_last if config.device == "cuda" else torch.contiguous_format

    class ReferenceSystem(SpadeSystem):
        """The plain way: NCHW, every pixel convolved, fake and real judged in one pass."""

        def make_plain(self) -> ReferenceSystem:
            for network in self.networks.values():
                network.to(memory_format=layout)
            self.G = ReferenceGenerator(self.G).to(memory_format=layout)  # type: ignore[arg-type]
            return self

        def _inputs(self, batch: Batch) -> tuple[Tensor, Tensor]:
            labels, image = super()._inputs(batch)
            return labels.contiguous(memory_format=layout), image.contiguous(memory_format=layout)

        def _judge_both(self, labels: Tensor, fake: Tensor, image: Tensor) -> tuple[Outputs, Outputs]:
            both = self.D(torch.cat([labels, labels]), torch.cat([fake, image]))
            half = len(fake)
            return [[x[:half] for x in scale] for scale in both], [[x[half:] for x in scale] for scale in both]

    def make(kind: type[SpadeSystem]) -> SpadeSystem:
        torch.manual_seed(0)
        mode = "fast" if config.mode == "both" else config.mode
        settings = SpadeConfig(style="joint_vae", precision=config.dtype, mode=mode, ngf=config.ngf, ndf=config.ngf)
        size = (config.size, config.size)
        return kind(settings, classes=PORTRAIT_CLASSES, image_size=size, device=torch.device(config.device))

    reference = ReferenceSystem if config.side != "ours" else None
    slow = make(reference).make_plain() if reference else None  # type: ignore[attr-defined]
    return slow, make(SpadeSystem) if config.side != "reference" else None  # type: ignore[return-value]


def make_batch(config: Config) -> dict[str, Tensor]:
    """Drawn portraits with their label maps."""
    import numpy as np
    import torch

    from gaugan.images import to_tensor
    from gaugan.portraits import draw_portrait

    pairs = [draw_portrait(seed, config.size) for seed in range(config.batch)]
    label_map = torch.from_numpy(np.stack([ids for _, ids in pairs]).astype(np.int64))
    batch = {"image": to_tensor(np.stack([image for image, _ in pairs])), "label_map": label_map}
    return {name: tensor.to(config.device) for name, tensor in batch.items()}


def step(system: SpadeSystem, batch: dict[str, Tensor], number: int) -> dict[str, float]:
    """One training step with the randomness of that number: the loss terms."""
    import torch

    torch.manual_seed(number)
    return {name: float(value) for name, value in system.train_step(batch, number).items()}


def measure_mode(config: Config) -> dict[str, Any]:
    """Figures of one mode."""
    slow_system, fast_system = make_systems(config)
    batch = make_batch(config)
    first = [step(system, batch, 0) for system in (slow_system, fast_system)]
    slow, fast = take_turns(
        lambda k: step(slow_system, batch, k + 1),
        lambda k: step(fast_system, batch, k + 1),
        config.pairs,
        config.device,
    )
    wrong = max(abs(first[0][name] - first[1][name]) / max(abs(first[0][name]), 1e-8) for name in first[0])
    return median_figures(slow, fast) | {"max_rel_loss_diff": wrong}


def main(config: Config) -> dict[str, Any]:
    """Measures, prints and returns the figures; the speedup is that of the slower mode."""
    import torch

    torch.set_num_threads(config.threads or os.cpu_count() or 1)
    if config.side != "both":
        batch = make_batch(config)
        system = next(system for system in make_systems(config) if system is not None)
        step(system, batch, 0)
        figures: dict[str, Any] = {"peak_mb": round(measure_peak(lambda: step(system, batch, 1), config.device), 1)}
        print(json.dumps(figures))
        return figures
    modes = ["fast", "faithful"] if config.mode == "both" else [config.mode]
    by_mode = {mode: measure_mode(replace(config, mode=mode)) for mode in modes}  # type: ignore[arg-type]
    figures = dict(min(by_mode.values(), key=lambda found: found["speedup"]))
    figures["max_rel_loss_diff"] = max(found["max_rel_loss_diff"] for found in by_mode.values())
    if config.memory:
        figures |= {f"peak_mb_{side}": peak_of_side(side) for side in ("reference", "ours")}
    figures |= {"by_mode": by_mode, "threads": torch.get_num_threads()}
    figures["device"] = torch.cuda.get_device_name() if config.device == "cuda" else "cpu"
    print(json.dumps(figures))
    return figures


if __name__ == "__main__":
    main(parse(Config, description=__doc__ or ""))
