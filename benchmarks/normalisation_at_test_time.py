"""Does a painter paint worse when used than its previews in training? Batch norm's statistics decide.

    python benchmarks/normalisation_at_test_time.py --model RUN --input PAIRS --judge UNET_RUN --batch-size 4

Paints the held-out label maps, each in the style of its own picture, with one checkpoint in several ways: the generator
in training and the averaged one, each with the statistics of the batch (a preview), with the running ones of training
(what the published code does at test time) and with re-estimated ones (what ours are stored with). Prints a table and
one JSON line last: consistency (mIoU of the judge's labels), l1 to the real picture, mean distance from the preview;
and how far consistency and l1 differ from the preview of the same weights, as the 95 % interval of a paired bootstrap
over the pictures. That interval knows of other label maps only, not of other trainings.
"""

from __future__ import annotations

import copy
import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gaugan import metrics
from gaugan.config import parse

if TYPE_CHECKING:
    import torch
    from torch import nn


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
    calibration_sizes: tuple[int, ...] = (4, 16, 64)
    """Pictures per batch that statistics are re-estimated from."""
    calibration_pictures: int = 480
    """Pictures in all that they are re-estimated from; 16 = the least that a stopped run takes."""


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
        networks = variants(painting, pairs, config)
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


def variants(painting: Painting, pairs: Any, config: Config) -> dict[str, nn.Module]:
    """Name -> generator; previews are those in training mode."""
    raw, averaged = painting.generator("G"), painting.generator("G_ema", statistics="G")
    found = {}
    for name, network in (("in training", raw), ("averaged", averaged)):
        found[f"{name}, batch statistics"] = copy.deepcopy(network).train()
        found[f"{name}, running statistics"] = network
        for size in config.calibration_sizes:
            batches = training_batches(pairs, painting.loaded.image_size, size, config.calibration_pictures)
            found[f"{name}, re-estimated {size}"] = recalibrated(painting, copy.deepcopy(network), batches)
    found["averaged, as stored"] = painting.generator("G_ema")
    return found


def recalibrated(painting: Painting, network: nn.Module, batches: Iterator[dict[str, torch.Tensor]]) -> nn.Module:
    """The network with statistics averaged over training batches."""
    from gaugan.nn import recalibrate

    recalibrate(network, (None for batch in batches if painting.paint(network, batch) is not None))
    return network


def training_batches(
    pairs: Any, size: tuple[int, int], batch_size: int, pictures: int
) -> Iterator[dict[str, torch.Tensor]]:
    """So many training pictures in batches of that size."""
    from gaugan.batches import BatchSpec, batches

    return itertools.islice(batches(pairs, BatchSpec("train", size, batch_size)), pictures // batch_size)


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

    painted = {name: [painting.paint(network, batch) for batch in batches] for name, network in networks.items()}
    real = torch.cat([batch["image"] for batch in batches])
    label_maps = torch.cat([batch["label_map"] for batch in batches]).numpy()
    counts, distances = {}, {}
    for name, pictures in painted.items():
        seen = torch.cat([judge(picture) for picture in pictures]).numpy()
        pairs = zip(label_maps, seen, strict=True)
        counts[name] = np.stack([metrics.confusion(*pair, painting.loaded.classes.num_classes) for pair in pairs])
        distances[name] = (torch.cat(pictures) - real).abs().mean(dim=(1, 2, 3)).numpy()
    figures = {}
    for name, pictures in painted.items():
        preview = name.partition(",")[0] + ", batch statistics"
        scores = {"consistency": mean_iou(counts[name].sum(0)), "l1": float(distances[name].mean())}
        scores["from_preview"] = float((torch.cat(pictures) - torch.cat(painted[preview])).abs().mean())
        for kind, values, score in (("consistency", counts, mean_iou), ("l1", distances, float)):
            low, high = paired_interval(values[name], values[preview], score)
            scores |= {f"{kind}_gain_low": low, f"{kind}_gain_high": high}
        figures[name] = scores
    return figures


def mean_iou(counts: np.ndarray) -> float:
    """Of a confusion matrix (C, C), over the classes that occur."""
    return float(np.nanmean(metrics.iou(counts)))


def paired_interval(
    first: np.ndarray, second: np.ndarray, score: Callable[[Any], float], rounds: int = 2000
) -> tuple[float, float]:
    """The middle 95 % of score(first) - score(second) when the pictures are drawn anew with replacement (Efron 1979).

    first, second (N, ...): measurements of the same pictures; `score` takes their mean over pictures.
    """
    rng = np.random.default_rng(0)
    differences = []
    for _ in range(rounds):
        drawn = rng.integers(0, len(first), len(first))
        differences.append(score(first[drawn].mean(0)) - score(second[drawn].mean(0)))
    low, high = np.quantile(differences, [0.025, 0.975])
    return float(low), float(high)


if __name__ == "__main__":
    main(parse(Config, description=__doc__ or ""))
