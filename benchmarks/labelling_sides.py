"""The two sides that the label job is measured against, each a process of its own.

    limit    the optimised U-Net, argmax and confidences on tensors that lie ready: nothing read, decoded or written
    plain    a script as one would first write it: open, transform, infer, save, one picture at a time

    python benchmarks/labelling_sides.py --side limit --model UNET --pictures FOLDER --seconds 10

Prints "ready" when loaded and warm, waits for a line on stdin, works, and prints a JSON line {count, seconds}.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gaugan.config import parse

PRELOADED = 16


@dataclass(frozen=True)
class Config:
    """One side's task."""

    side: Literal["limit", "plain"]
    """Which one."""
    model: str
    """Checkpoint folder of the U-Net."""
    pictures: str
    """Folder of pictures of the U-Net's size."""
    seconds: float = 10.0
    """How long it works."""
    threads: int = 1
    """torch threads."""
    precision: Literal["fp32", "bf16"] = "bf16"
    """Of the limit; the plain script computes in fp32."""


def limit(config: Config) -> Callable[[int], None]:
    """Labels the n-th of a few preloaded tensors."""
    import torch

    from gaugan.images import decode_image, to_tensor
    from gaugan.segmenter import Segmenter, segmentation

    segmenter = Segmenter.load(config.model, precision=config.precision)
    files = sorted(Path(config.pictures).iterdir())[:PRELOADED]
    ready = [to_tensor(decode_image(file.read_bytes()))[None] for file in files]

    @torch.inference_mode()
    def label(number: int) -> None:
        segmentation(segmenter.probabilities(ready[number % len(ready)]))

    return label


def plain(config: Config) -> Callable[[int], None]:
    """Labels the n-th file and saves its label map."""
    import numpy as np
    import torch
    from PIL import Image

    from gaugan import checkpoint
    from gaugan.unet.networks import UNet

    saved = checkpoint.load(checkpoint.find(config.model))
    unet = UNet(
        saved.meta["config"]["version"], saved.classes.num_classes, tuple(saved.meta["config"]["widths"])
    ).eval()
    unet.load_state_dict(saved.state["networks"]["unet_ema"])
    files, output = sorted(Path(config.pictures).iterdir()), Path(tempfile.mkdtemp())

    def label(number: int) -> None:
        image = np.asarray(Image.open(files[number % len(files)]).convert("RGB"))
        x = torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float() / 127.5 - 1
        with torch.no_grad():
            answer = unet(x).argmax(1)[0].to(torch.uint8).numpy()
        Image.fromarray(answer).save(output / f"{number}.png")

    return label


def main(config: Config) -> None:
    """Works for the wanted time once stdin says so."""
    import torch

    torch.set_num_threads(config.threads)
    label = {"limit": limit, "plain": plain}[config.side](config)
    for number in range(3):
        label(number)
    print("ready", flush=True)
    sys.stdin.readline()
    start, count = time.perf_counter(), 0
    while time.perf_counter() - start < config.seconds:
        label(count)
        count += 1
    print(json.dumps({"count": count, "seconds": time.perf_counter() - start}), flush=True)


if __name__ == "__main__":
    main(parse(Config, description=__doc__ or ""))
