"""Does a painter paint worse when used than its previews in training? Batch norm's statistics decide.

    python benchmarks/normalisation_at_test_time.py --model RUN --input PAIRS --judge UNET_RUN --batch-size 4

Paints the held-out label maps, each in the style of its own picture, with one checkpoint in several ways: the generator
in training and the averaged one, each with the statistics of the batch (a preview), with the running ones of training
(what the published code does at test time) and with re-estimated ones (what ours are stored with). Prints a table and
one JSON line last: consistency (mIoU of the judge's labels), l1 to the real picture, mean distance from the preview.
"""

from __future__ import annotations

import copy
import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gaugan.config import parse

if TYPE_CHECKING:
    import torch
    from torch import nn

CALIBRATION_BATCHES = 30


@dataclass(frozen=True)
class Config:
    """What is measured."""

    model: str
    """A spade run or checkpoint, with its generator in training."""
    input: str
    """The dataset that it was trained on."""
    judge: str
    """A U-Net that labels the painted pictures."""
    batch_size: int = 16
    """That of the training: previews take their statistics from so many pictures."""


def main(config: Config) -> dict[str, dict[str, float]]:
    """Prints the figures; returns them by variant."""
    import torch

    from gaugan import checkpoint
    from gaugan.config import from_plain
    from gaugan.pairs import Pairs
    from gaugan.spade.config import SpadeConfig
    from gaugan.spade.style import style_from_networks
    from gaugan.systems import load_judge

    loaded = checkpoint.load(checkpoint.find(config.model))
    spade = from_plain(SpadeConfig, loaded.meta["config"], source=config.model)
    pairs = Pairs.open(config.input, loaded.classes)
    painting = Painting(spade, loaded, style_from_networks(loaded.state["networks"]) if spade.style != "none" else None)
    judge = load_judge(config.judge, loaded.classes, torch.device("cpu"))
    with torch.no_grad():
        networks = variants(painting, lambda: training_batches(pairs, loaded.image_size, config.batch_size))
        figures = measure(painting, networks, held_out(pairs, loaded.image_size, config.batch_size), judge)
    for name, row in figures.items():
        print(f"{name:<34}" + "  ".join(f"{key} {value:.4f}" for key, value in row.items()))
    step = loaded.meta["step"]
    print(json.dumps({"benchmark": "normalisation_at_test_time", "step": step, "batch": config.batch_size, **figures}))
    return figures


@dataclass(frozen=True)
class Painting:
    """A checkpoint and how its generators are fed."""

    config: Any
    loaded: Any
    style: Any

    def generator(self, weights: str, statistics: str = "") -> nn.Module:
        """One of the checkpoint's generators, with its own or another's buffers."""
        from gaugan.spade.build import build_generator

        networks = self.loaded.state["networks"]
        network = build_generator(self.config, self.loaded.classes.num_classes, self.loaded.image_size)
        network.load_state_dict(networks[weights])
        if statistics:
            buffers = dict(network.named_buffers())
            network.load_state_dict({**networks[weights], **{name: networks[statistics][name] for name in buffers}})
        return network.eval()

    def paint(self, network: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """Each label map in the mean style of its picture."""
        from gaugan.spade.build import encode_labels

        instances = batch["instance_map"] if self.config.instance_edges else None
        dontcare = self.config.dontcare_channel
        classes = self.loaded.classes.num_classes
        labels = encode_labels(batch["label_map"], classes, dontcare=dontcare, instance_map=instances)
        return network(labels, None if self.style is None else self.style.encode(batch["image"])[0])


def variants(painting: Painting, batches: Any) -> dict[str, nn.Module]:
    """Name -> generator; previews are those in training mode."""
    raw, averaged = painting.generator("G"), painting.generator("G_ema", statistics="G")
    found = {}
    for name, network in (("in training", raw), ("averaged", averaged)):
        found[f"{name}, batch statistics"] = copy.deepcopy(network).train()
        found[f"{name}, running statistics"] = network
        found[f"{name}, re-estimated"] = recalibrated(painting, copy.deepcopy(network), batches())
    found["averaged, as stored"] = painting.generator("G_ema")
    return found


def recalibrated(painting: Painting, network: nn.Module, batches: Iterator[dict[str, torch.Tensor]]) -> nn.Module:
    """The network with statistics averaged over training batches."""
    from gaugan.nn import recalibrate

    recalibrate(network, (None for batch in batches if painting.paint(network, batch) is not None))
    return network


def training_batches(pairs: Any, size: tuple[int, int], batch_size: int) -> Iterator[dict[str, torch.Tensor]]:
    """The batches that a training re-estimates statistics from."""
    from gaugan.batches import BatchSpec, batches

    return itertools.islice(batches(pairs, BatchSpec("train", size, batch_size)), CALIBRATION_BATCHES)


def held_out(pairs: Any, size: tuple[int, int], batch_size: int) -> list[dict[str, torch.Tensor]]:
    """Whole batches only: the statistics of a smaller one would be another preview's."""
    from gaugan.batches import BatchSpec, whole_split

    found = list(whole_split(pairs, BatchSpec("held_out", size, batch_size)))
    return [batch for batch in found if len(batch["image"]) == batch_size]


def measure(
    painting: Painting, networks: dict[str, nn.Module], batches: list[dict[str, torch.Tensor]], judge: Any
) -> dict[str, dict[str, float]]:
    """The figures of every variant."""
    import torch

    from gaugan import metrics

    classes = painting.loaded.classes
    painted = {name: [painting.paint(network, batch) for batch in batches] for name, network in networks.items()}
    figures = {}
    for name, pictures in painted.items():
        preview = painted[name.partition(",")[0] + ", batch statistics"]
        label_map = torch.cat([batch["label_map"] for batch in batches]).numpy()
        seen = torch.cat([judge(picture) for picture in pictures]).numpy()
        counts = metrics.confusion(label_map, seen, classes.num_classes)
        real = torch.cat([batch["image"] for batch in batches])
        figures[name] = {
            "consistency": metrics.label_scores(counts, classes.names)["miou"],
            "l1": float((torch.cat(pictures) - real).abs().mean()),
            "from_preview": float((torch.cat(pictures) - torch.cat(preview)).abs().mean()),
        }
    return figures


if __name__ == "__main__":
    main(parse(Config, description=__doc__ or ""))
