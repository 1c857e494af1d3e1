"""Labels a dataset anew by several U-Nets together: the pseudo-labels of the best segmenter in docs/segmenter.md.

    python benchmarks/averaged_labels.py --input labelled_1 --models unet_128 unet_256 --output labelled_2

Probabilities (mirror averaged, each U-Net at its own size) are averaged, multiplied by (class share)^--share-power, and
the largest wins; specks are removed, and pixels under --ignore-below become 255. The shares are those of --shares, a
dataset of annotated pairs. One process; about a second per picture and three U-Nets. Prints one JSON line last.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gaugan.config import parse

if TYPE_CHECKING:
    from gaugan.pairs import Pairs
    from gaugan.segmenter import Segmenter


@dataclass(frozen=True)
class Config:
    """What is labelled by whom."""

    input: str
    """Dataset whose pictures get other labels."""
    models: tuple[str, ...]
    """U-Net runs or checkpoints; one that is named twice counts twice."""
    shares: str
    """Annotated pairs, for the share of each class."""
    output: str
    """The new dataset."""
    share_power: float = 0.25
    """U-Nets trained with class weights find rare classes too often; 0 = leave that."""
    ignore_below: float = 0.0
    """Pixels that the winner has a smaller probability of become 255."""


def main(config: Config) -> None:
    """Writes the dataset."""
    from gaugan.pairs import Pairs, PairsWriter
    from gaugan.progress import Progress
    from gaugan.segmenter import Segmenter

    pairs = Pairs.open(config.input)
    factors = shares(Pairs.open(config.shares, pairs.classes)) ** config.share_power
    loaded = {model: Segmenter.load(model, mirror=True, precision="bf16") for model in set(config.models)}
    segmenters = [loaded[model] for model in config.models]
    writer, ignored = PairsWriter(config.output, pairs.classes), []
    rows = [(split, index) for split in ("train", "held_out") for index in range(pairs.num(split))]
    progress = Progress(len(rows), unit="picture")
    for place, (pair, share) in enumerate(labelled(pairs, rows, segmenters, factors, config.ignore_below), start=1):
        writer.add(pair)
        ignored.append(share)
        progress.tell(place)
    writer.finish({"made_by": "averaged_labels", "models": list(config.models), "share_power": config.share_power})
    print(json.dumps({"pictures": len(rows), "ignored": round(float(np.mean(ignored)), 4)}))


def shares(pairs: Pairs) -> np.ndarray:
    """(C,) share of each class among the training pixels that are not ignored."""
    counts = np.zeros(256)
    for index in range(pairs.num("train")):
        counts += np.bincount(pairs.read("train", index).label_map.ravel(), minlength=256)
    counts = counts[: pairs.classes.num_classes]
    return counts / counts.sum()


def labelled(
    pairs: Pairs, rows: list[tuple[str, int]], segmenters: list[Segmenter], factors: np.ndarray, ignore_below: float
) -> Iterator[tuple]:
    """(new pair, share of ignored pixels) of each row."""
    from gaugan.cleaning import remove_specks
    from gaugan.labels import IGNORE, encode_label_map
    from gaugan.pairs import Pair

    for split, index in rows:
        picture, encoded = pairs.read(split, index), pairs.encoded(split, index)["image"]
        mean = np.mean([probabilities(segmenter, picture.image) for segmenter in segmenters], axis=0)
        weighted = mean * factors[:, None, None]
        confidence = weighted.max(0) / weighted.sum(0)
        label_map, _ = remove_specks(weighted.argmax(0).astype(np.uint8))
        label_map = np.where(confidence < ignore_below, IGNORE, label_map).astype(np.uint8)
        height, width = label_map.shape
        pair = Pair(
            picture.id, encoded, encode_label_map(label_map, pairs.classes), width, height, split, picture.id,
            float(confidence.mean()),
        )  # fmt: skip
        yield pair, float((confidence < ignore_below).mean())


def probabilities(segmenter: Segmenter, image: np.ndarray) -> np.ndarray:
    """uint8 (H, W, 3) -> float32 (C, H, W)."""
    import torch

    from gaugan.images import to_tensor
    from gaugan.segmenter import fit, unfit

    with torch.inference_mode():
        answer = segmenter.probabilities(fit(to_tensor(image)[None], segmenter.image_size))
        return unfit(answer, image.shape[:2])[0].cpu().numpy()


if __name__ == "__main__":
    main(parse(Config))
