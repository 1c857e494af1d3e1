"""How well a U-Net labels annotated pictures, at their own size: numbers per class, and the worst pictures first."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gaugan import metrics
from gaugan.cleaning import remove_specks
from gaugan.labels import ClassTable, colourise
from gaugan.pairs import DecodedPair
from gaugan.report import Page, Strip, letterbox, overlay, strip
from gaugan.segmenter import Segmenter

SHOWN, SIDE_PX = 24, 192


@dataclass
class LabelScores:
    """Sums over pictures."""

    counts: np.ndarray
    """(C, C) confusion of all pixels."""
    specks: list[tuple[int, int]] = field(default_factory=list)
    """(in the answer, in the annotation) of each picture."""
    confidences: list[float] = field(default_factory=list)
    pictures: list[tuple[float, DecodedPair, np.ndarray]] = field(default_factory=list)
    """(own mIoU, pair, answer), the worst first, at most SHOWN."""

    @staticmethod
    def empty(num_classes: int) -> LabelScores:
        """Before the first picture."""
        return LabelScores(np.zeros((num_classes, num_classes), dtype=np.int64))

    def summary(self, names: tuple[str, ...]) -> dict[str, float]:
        """miou, pixel_accuracy, iou_<class>, specks, specks_true, confidence; pixels of all pictures pooled."""
        mine, true = np.mean(self.specks, axis=0)
        scores = metrics.label_scores(self.counts, names)
        return scores | {
            "specks": float(mine), "specks_true": float(true), "confidence": float(np.mean(self.confidences)),
        }  # fmt: skip

    def add(self, segmenter: Segmenter, pair: DecodedPair, *, clean: bool) -> None:
        """Labels one picture and compares, at the picture's own size; `clean` removes specks first."""
        answer = segmenter.segment([pair.image])[0]
        label_map = remove_specks(answer.label_map)[0] if clean else answer.label_map
        counts = metrics.confusion(pair.label_map, label_map, len(self.counts))
        self.counts += counts
        self.specks.append((metrics.num_specks(label_map), metrics.num_specks(pair.label_map)))
        self.confidences.append(answer.confidence)
        own = float(np.nanmean(metrics.iou(counts)))
        self.pictures = sorted([*self.pictures, (own, pair, label_map)], key=lambda entry: entry[0])[:SHOWN]


def write_page(uri: str, about: dict[str, Any], scores: LabelScores, classes: ClassTable) -> str:
    """URI/index.html: numbers, IoU by class, what is taken for what, the worst pictures; returns its URI."""
    summary = scores.summary(classes.names)
    page = Page(uri, "How well the U-Net labels", f"{about['model']} on {about['data']}")
    page.facts({name: summary[name] for name in ("miou", "pixel_accuracy", "specks", "specks_true", "confidence")})
    page.heading("IoU by class", "Pixels of all pictures together.")
    page.bars({name: summary.get(f"iou_{name}", 0.0) for name in classes.names}, classes.colours, full=1.0)
    page.heading("What is taken for what", "Rows: annotated as; columns: labelled as; per cent of the row's pixels.")
    shares = 100 * scores.counts / np.maximum(scores.counts.sum(1, keepdims=True), 1)
    rows = [[name, *(round(float(v), 1) for v in row)] for name, row in zip(classes.names, shares, strict=True)]
    page.table(["", *classes.names], rows)
    page.heading(
        "Worst first", "Picture, annotation, answer, answer over the picture; the number is the picture's mIoU."
    )
    page.legend(classes)
    strips = []
    for place, (own, pair, label_map) in enumerate(scores.pictures):
        row = [pair.image, colourise(pair.label_map, classes), colourise(label_map, classes)]
        sheet = strip([letterbox(one, SIDE_PX) for one in [*row, overlay(pair.image, label_map, classes)]])
        strips.append(Strip(page.picture(f"worst-{place:03d}", sheet), pair.id, f"{own:.3f}"))
    page.sheet(strips, width_px=560)
    return page.save()
