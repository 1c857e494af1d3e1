"""How well a generator paints held-out label maps: does the picture show what the map says, does it look like the real
pictures, does the seed change it, does it take over a style. Real pictures (the ceiling) and flat colours (the floor)
are measured beside it by the same code.

Protocol after Park et al. 2019 (SPADE, arXiv 1903.07291): a fixed segmenter labels the painted pictures, its label maps
are compared with those that were painted. `Evaluator.measure` works on a few rows at a time and its results add up, so
rows may be shared out to any number of machines; `summarise` makes the numbers.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from gaugan import metrics
from gaugan.labels import IGNORE, ClassTable, colourise
from gaugan.pairs import DecodedPair
from gaugan.preprocess import Preprocess
from gaugan.report import strip

KINDS = ("real", "painted", "own_style", "mean_colour")
"""What is judged: the real pictures; pictures with a random style; with the style of the real picture; flat colours."""
MIN_SHARE = 0.01
"""Classes that cover less than this share of a picture have no style of their own."""
WORST = 12
EXPLAINED = {
    "miou": "mean IoU of the judge's label maps against the given ones, all pixels pooled, all at the "
    "painter's size; real pictures are the ceiling",
    "pixel_accuracy": "share of the pixels (ignored ones left out) at which they agree",
    "frechet_unet": "Frechet distance to the held-out pictures in pooled features of the judge's encoder, not FID, "
    "comparable only with the same judge and number of pictures. In the column real: training pictures against "
    "held-out ones",
    "kernel_unet": "kernel distance (unbiased, cubic) in the same features; needs fewer pictures; about 0 when alike",
    "fid": "Frechet Inception distance (torch-fidelity's Inception) to the real held-out pictures",
    "kid": "kernel Inception distance",
    "diversity_pixels": "root mean square difference (0..1) of pictures of one label map with different seeds",
    "diversity_unet": "the same in the judge's pooled features",
    "style_own": "distance of colours (mean and spread of R, G, B per class, 0..1) between a picture and its own label "
    "map painted in its own style",
    "style_transfer": "the same between a reference picture and another label map painted in the reference's style",
    "style_random": "the same between that reference and the label map painted in a random style",
    "style_fidelity": "1 - style_transfer / style_random: 1 = colours taken over exactly, 0 = reference ignored",
    "reconstruction_l1": "mean absolute difference (0..1) between a picture and its repainting in its own style",
}
"""What the keys of metrics.json mean."""
FeatureFunction = Callable[[np.ndarray], np.ndarray]
"""uint8 (N, H, W, 3) -> float (N, D)."""


class Paints(Protocol):
    """gaugan.painter.Painter, as far as it is used here."""

    classes: ClassTable
    image_size: tuple[int, int]

    @property
    def has_style(self) -> bool: ...
    def paint(
        self, label_maps: np.ndarray, seeds: Any = None, styles: Any = None, *, instance_maps: Any = None
    ) -> np.ndarray: ...


class Judges(Protocol):
    """gaugan.segmenter.Segmenter, as far as it is used here."""

    def segment(self, images: Sequence[np.ndarray]) -> list[Any]: ...


@dataclass
class Part:
    """The measurements of some rows; parts add up."""

    confusion: dict[str, np.ndarray] = field(default_factory=dict)
    """Kind -> (C, C) pixel counts."""
    features: dict[str, list[np.ndarray]] = field(default_factory=dict)
    """"FEATURES/KIND" -> (N, D) blocks."""
    values: dict[str, list[float]] = field(default_factory=dict)
    """Name -> one value per row."""
    gallery: list[tuple[str, str, np.ndarray]] = field(default_factory=list)
    """(id, number, strip of pictures)."""
    worst: list[tuple[float, str, np.ndarray]] = field(default_factory=list)
    """(pixel accuracy, id, strip), the WORST lowest."""
    rows: int = 0

    def __add__(self, other: Part) -> Part:
        joined = Part(rows=self.rows + other.rows)
        for name in {*self.confusion, *other.confusion}:
            found = [part.confusion[name] for part in (self, other) if name in part.confusion]
            joined.confusion[name] = np.sum(found, axis=0)
        for name in {*self.features, *other.features}:
            joined.features[name] = self.features.get(name, []) + other.features.get(name, [])
        for name in {*self.values, *other.values}:
            joined.values[name] = self.values.get(name, []) + other.values.get(name, [])
        joined.gallery = self.gallery + other.gallery
        joined.worst = sorted(self.worst + other.worst, key=lambda entry: entry[:2])[:WORST]
        return joined


def add(parts: Sequence[Part]) -> Part:
    """All parts together."""
    return functools.reduce(operator.add, parts, Part())


class Evaluator:
    """Measures rows of a dataset with one painter and one judge."""

    def __init__(
        self,
        painter: Paints,
        judge: Judges,
        features: dict[str, FeatureFunction],
        mean_colours: np.ndarray,
        seeds: int = 4,
        first_seed: int = 0,
    ) -> None:
        """features: name ("unet", "inception") -> feature function; mean_colours: from the function of that name;
        seeds: how many pictures of each label map in random styles.
        """
        self.painter, self.judge, self.features = painter, judge, features
        self.mean_colours, self.seeds, self.first_seed = mean_colours, seeds, first_seed

    def measure(
        self, pairs: Sequence[DecodedPair], references: Sequence[DecodedPair], first_row: int, gallery: Sequence[int]
    ) -> Part:
        """pairs: rows first_row, first_row + 1, ... of the dataset; references: for each, another row as a style;
        gallery: numbers of the rows whose pictures are kept.

        The seeds of a row depend on its number only, not on how rows are shared out.
        """
        fit = Preprocess(self.painter.image_size)
        pairs = [pair.changed(*fit.scale(pair.image, pair.maps)) for pair in pairs]
        real = np.stack([pair.image for pair in pairs])
        label_maps = np.stack([pair.label_map for pair in pairs])
        paint = functools.partial(self.painter.paint, label_maps, instance_maps=_instance_maps(pairs))
        random = self._paint_seeds(paint, len(pairs), first_row)  # (N, K, H, W, 3)
        shown = {"real": real, "painted": random[:, 0], "mean_colour": self.mean_colours[label_maps]}
        part = Part(rows=len(pairs))
        if self.painter.has_style:
            shown["own_style"] = paint(styles=list(real))
            transferred = paint(styles=[reference.image for reference in references])
            self._measure_style(part, shown, transferred, label_maps, references)
        predicted = {kind: self._judge(part, kind, images, label_maps) for kind, images in shown.items()}
        self._measure_features(part, shown, random)
        kept = [first_row + row in gallery for row in range(len(pairs))]
        self._collect_pictures(part, pairs, label_maps, shown, random, predicted["painted"], kept)
        return part

    def _paint_seeds(self, paint: Callable[..., np.ndarray], num_rows: int, first_row: int) -> np.ndarray:
        """(N, K, H, W, 3), each with a seed of its own."""
        painted = []
        for place in range(self.seeds if self.painter.has_style else 1):
            seeds = [self.first_seed + (first_row + row) * self.seeds + place for row in range(num_rows)]
            painted.append(paint(seeds=seeds))
        return np.stack(painted, axis=1)

    def _judge(self, part: Part, kind: str, images: np.ndarray, label_maps: np.ndarray) -> list[np.ndarray]:
        answers = [answer.label_map for answer in self.judge.segment(list(images))]
        num_classes = self.painter.classes.num_classes
        pairs = zip(label_maps, answers, strict=True)
        part.confusion[kind] = np.sum([metrics.confusion(given, seen, num_classes) for given, seen in pairs], axis=0)
        return answers

    def _measure_features(self, part: Part, shown: dict[str, np.ndarray], random: np.ndarray) -> None:
        count = random.shape[1]
        for name, function in self.features.items():
            for kind, images in shown.items():
                part.features[f"{name}/{kind}"] = [function(images)]
            if count > 1 and name == "unet":
                rows = np.stack([function(row) for row in random])  # (N, K, D)
                part.values["diversity_unet"] = [metrics.diversity(row[None]) for row in rows]
        if count > 1:
            part.values["diversity_pixels"] = [metrics.diversity(row[None] / 255.0) for row in random]

    def _measure_style(
        self,
        part: Part,
        shown: dict[str, np.ndarray],
        transferred: np.ndarray,
        label_maps: np.ndarray,
        references: Sequence[DecodedPair],
    ) -> None:
        """transferred: (N, H, W, 3), each label map painted in the style of its reference."""
        colours = functools.partial(colour_statistics, num_classes=self.painter.classes.num_classes)
        for row, label_map in enumerate(label_maps):
            own = colours(shown["real"][row], label_map)
            other = colours(references[row].image, references[row].label_map)
            distances = {
                "style_own": colour_distance(own, colours(shown["own_style"][row], label_map)),
                "style_random": colour_distance(other, colours(shown["painted"][row], label_map)),
                "style_transfer": colour_distance(other, colours(transferred[row], label_map)),
            }
            for name, value in distances.items():
                part.values.setdefault(name, []).append(value)
        difference = np.abs(shown["real"].astype(np.float32) - shown["own_style"]).mean(axis=(1, 2, 3)) / 255
        part.values["reconstruction_l1"] = [float(value) for value in difference]

    def _collect_pictures(
        self,
        part: Part,
        pairs: Sequence[DecodedPair],
        label_maps: np.ndarray,
        shown: dict[str, np.ndarray],
        random: np.ndarray,
        predicted: list[np.ndarray],
        kept: list[bool],
    ) -> None:
        """Strips: label map, real, own style, random styles; and label map, painted, what the judge saw in it."""
        table = self.painter.classes
        for row, pair in enumerate(pairs):
            coloured = colourise(label_maps[row], table)
            known = label_maps[row] != IGNORE
            accuracy = float((predicted[row] == label_maps[row])[known].mean()) if known.any() else 1.0
            if kept[row]:
                own = [shown["own_style"][row]] if "own_style" in shown else []
                pictures = strip([coloured, shown["real"][row], *own, *random[row]])
                part.gallery.append((pair.id, f"{accuracy:.3f}", pictures))
            seen = strip([coloured, shown["painted"][row], colourise(predicted[row], table)])
            part.worst.append((accuracy, pair.id, seen))
        part.worst = sorted(part.worst, key=lambda entry: entry[:2])[:WORST]


def _instance_maps(pairs: Sequence[DecodedPair]) -> np.ndarray | None:
    """(N, H, W), or None for a dataset without: then the painter takes the borders between classes."""
    found = [pair.instance_map for pair in pairs if pair.instance_map is not None]
    return np.stack(found) if found else None


def mean_colours(pairs: Sequence[DecodedPair], num_classes: int) -> np.ndarray:
    """The mean colour of each class over some pictures: uint8 (256, 3), to be indexed by class ids (255 = grey)."""
    totals, counts = np.zeros((256, 3)), np.zeros(256)
    for pair in pairs:
        ids = pair.label_map.reshape(-1)
        counts += np.bincount(ids, minlength=256)
        for channel in range(3):
            totals[:, channel] += np.bincount(ids, weights=pair.image[..., channel].reshape(-1), minlength=256)
    means = np.where(counts[:, None] > 0, totals / np.maximum(counts, 1)[:, None], 128.0)
    means[num_classes:] = 128.0
    return means.round().astype(np.uint8)


def colour_statistics(image: np.ndarray, label_map: np.ndarray, num_classes: int) -> np.ndarray:
    """(C, 7): of each class its share of the picture, then mean and standard deviation of R, G, B (0..1)."""
    statistics = np.zeros((num_classes, 7))
    for number in range(num_classes):
        pixels = image[label_map == number] / 255.0
        if len(pixels):
            statistics[number] = [len(pixels) / label_map.size, *pixels.mean(axis=0), *pixels.std(axis=0)]
    return statistics


def colour_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Between two `colour_statistics`: the 2-Wasserstein distance of normal fits per channel, root mean square over
    channels and over the classes that both show (weighted by the smaller share). NaN when they share no class.
    """
    weights = np.minimum(a[:, 0], b[:, 0])
    weights[weights < MIN_SHARE] = 0
    if weights.sum() == 0:
        return float("nan")
    squares = (a[:, 1:] - b[:, 1:]) ** 2  # means, then deviations
    per_class = (squares[:, :3] + squares[:, 3:]).mean(axis=1)
    return float(np.sqrt((weights * per_class).sum() / weights.sum()))


def summarise(part: Part, classes: ClassTable, training_features: dict[str, np.ndarray]) -> dict[str, Any]:
    """The numbers of metrics.json: {kind: {miou, ...}} and the averages; `EXPLAINED` says what they mean.

    training_features: name -> (M, D) features of real training pictures, for the distance that even real pictures have.
    """
    summary: dict[str, Any] = {"pictures": part.rows}
    for kind in [kind for kind in KINDS if kind in part.confusion]:
        scores = metrics.label_scores(part.confusion[kind], classes.names)
        for name in {key.split("/")[0] for key in part.features}:
            reference = np.concatenate(part.features[f"{name}/real"])
            same = np.concatenate(part.features[f"{name}/{kind}"])
            measured = training_features.get(name) if kind == "real" else same
            scores |= _distances(name, measured, reference)
        summary[kind] = {key: round(value, 5) for key, value in scores.items()}
    for name, values in sorted(part.values.items()):
        summary[name] = round(float(np.nanmean(values)), 5) if not np.isnan(values).all() else None
    if summary.get("style_random"):
        summary["style_fidelity"] = round(1 - summary["style_transfer"] / summary["style_random"], 5)
    return summary


def _distances(name: str, measured: np.ndarray | None, reference: np.ndarray) -> dict[str, float]:
    if measured is None or min(len(measured), len(reference)) < 2:
        return {}
    names = ("fid", "kid") if name == "inception" else (f"frechet_{name}", f"kernel_{name}")
    return {
        names[0]: metrics.frechet_distance(measured, reference),
        names[1]: metrics.kernel_distance(measured, reference),
    }
