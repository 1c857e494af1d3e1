"""U-Net v3 inference at 512 px: the segmenter's fast path against the same network in plain eager fp32 NCHW.

    python benchmarks/unet_inference.py [--model URI] [--threads 2]

Without a model the network is first trained for a few steps on drawn portraits: random weights give flat answers, for
which agreement means little. Both sides take turns; in its turn a side labels all the pictures, after one that warms up
caches and memory and is not timed, as in a labelling run. Medians.
Prints one JSON line last: speedup (plain / fast time), agreement (share of pixels with the same label).
"""

from __future__ import annotations

import json
import os
import statistics
import time
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gaugan.config import parse

if TYPE_CHECKING:
    from gaugan.segmenter import Segmenter


@dataclass(frozen=True)
class Config:
    """What is measured."""

    model: str = ""
    """URI of a U-Net checkpoint; empty = train one for `train_steps` on drawn portraits."""
    size: int = 512
    """Side of the pictures in pixels."""
    pictures: int = 6
    """Drawn portraits to label."""
    rounds: int = 3
    """Times that each side labels each picture."""
    threads: int = 0
    """torch threads; 0 = all cores."""
    train_steps: int = 40
    """Steps of the short training, at 128 px."""


def train_briefly(steps: int) -> tuple[Segmenter, Segmenter]:
    """(plain, fast) segmenters around one U-Net v3 that has learnt from drawn portraits for a few steps."""
    import numpy as np
    import torch

    from gaugan.images import to_tensor
    from gaugan.labels import PORTRAIT_CLASSES
    from gaugan.portraits import draw_portrait
    from gaugan.segmenter import Segmenter
    from gaugan.unet.system import UNetConfig, UNetSystem

    torch.manual_seed(0)
    pairs = [draw_portrait(seed, 128) for seed in range(32)]
    image, label_map = (
        to_tensor(np.stack([p[0] for p in pairs])),
        torch.from_numpy(np.stack([p[1] for p in pairs])).long(),
    )
    config = UNetConfig(encoder_weights="none", warmup_steps=5, decay_steps=steps, half_size_share=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # random weights are the point here
        system = UNetSystem(config, classes=PORTRAIT_CLASSES, image_size=(128, 128), device=torch.device("cpu"))
    for step in range(steps):
        rows = slice(step % 4 * 8, step % 4 * 8 + 8)
        system.train_step({"image": image[rows], "label_map": label_map[rows]}, step)
    system.unet.eval()
    return tuple(Segmenter(system.unet, PORTRAIT_CLASSES, (512, 512), fast=fast) for fast in (False, True))  # type: ignore[return-value]


def main(config: Config) -> dict[str, float]:
    """Measures, prints and returns the figures."""
    import torch

    from gaugan.images import to_tensor
    from gaugan.portraits import draw_portrait
    from gaugan.segmenter import Segmenter

    torch.set_num_threads(config.threads or os.cpu_count() or 1)
    if config.model:
        plain, fast = (Segmenter.load(config.model, fast=fast) for fast in (False, True))
    else:
        plain, fast = train_briefly(config.train_steps)
    images = [to_tensor(draw_portrait(1000 + seed, config.size)[0])[None] for seed in range(config.pictures)]
    for side in (plain, fast):
        side.probabilities(images[0])  # first calls allocate and choose kernels
    seconds: dict[str, list[float]] = {"plain": [], "fast": []}
    same = []
    for _ in range(config.rounds):
        answers: dict[str, list[torch.Tensor]] = {"plain": [], "fast": []}
        for name, side in (("plain", plain), ("fast", fast)):
            side.probabilities(images[0])
            for image in images:
                start = time.perf_counter()
                answers[name].append(side.probabilities(image).max(1).indices)
                seconds[name].append(time.perf_counter() - start)
        same += [(one == other).float().mean().item() for one, other in zip(*answers.values(), strict=True)]
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    figures = {
        "speedup": round(medians["plain"] / medians["fast"], 2),
        "agreement": round(statistics.mean(same), 5),
        "plain_s": round(medians["plain"], 4),
        "fast_s": round(medians["fast"], 4),
        "threads": torch.get_num_threads(),
        "bf16": fast.dtype == torch.bfloat16,
    }
    print(json.dumps(figures))
    return figures


if __name__ == "__main__":
    main(parse(Config, description=__doc__ or ""))
