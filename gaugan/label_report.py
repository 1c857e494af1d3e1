"""What came out of a labelling run: counts that must add up, statistics, and a page to look at, least sure first.

Read shard by shard: memory holds the statistics, the ids of the pictures to show, and one shard.
"""

from __future__ import annotations

import heapq
import io
import json
import zlib
from array import array
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from gaugan import storage
from gaugan.images import decode_image, grid
from gaugan.label_audit import LabelCounts, for_manifest
from gaugan.label_plan import LabelPlan
from gaugan.labelling import part_uri
from gaugan.labels import ClassTable, decode_label_map
from gaugan.near_duplicates import count_near_duplicates
from gaugan.pairs import SPLITS, write_manifest
from gaugan.report import Page, Strip, label_strip

BINS = 100
WORST, SAMPLED, REFUSED_SHOWN = 60, 24, 200
SHEET_ROWS = 24
DUPLICATES_COUNTED = 5_000_000
"""Beyond so many pictures, equal files are no longer looked for: the hashes would fill the memory."""
Row = dict[str, Any]
Shown = tuple[float, str, int]
"""Sort key, id, shard."""


@dataclass
class Statistics:
    """Sums over all outcome rows."""

    statuses: Counter[str] = field(default_factory=Counter)
    codes: Counter[str] = field(default_factory=Counter)
    review: int = 0
    duplicates: int = 0
    """Pictures whose file is byte by byte equal to an earlier one's."""
    confidence_sum: float = 0.0
    histogram: np.ndarray = field(default_factory=lambda: np.zeros(BINS, dtype=np.int64))
    area_sum: np.ndarray | None = None
    present: np.ndarray | None = None
    """How many pictures show each class at all."""
    worst: list[Shown] = field(default_factory=list)
    sampled: list[Shown] = field(default_factory=list)
    refused: list[Row] = field(default_factory=list)
    _hashes: set[bytes] = field(default_factory=set)
    _looks: array[int] = field(default_factory=lambda: array("Q"))
    """The picture hashes."""

    @property
    def labelled(self) -> int:
        return self.statuses["labelled"]

    @property
    def failure_rate(self) -> float:
        """Refused among labelled and refused; skipped files are no pictures."""
        return self.statuses["refused"] / max(1, self.labelled + self.statuses["refused"])

    def add(self, row: Row, shard: int) -> None:
        """One outcome row."""
        self.statuses[row["status"]] += 1
        if row["code"]:
            self.codes[row["code"]] += 1
        if row["status"] == "refused" and len(self.refused) < REFUSED_SHOWN:
            self.refused.append(row)
        if row["status"] == "labelled":
            self._add_labelled(row, shard)

    def _add_labelled(self, row: Row, shard: int) -> None:
        confidence = row["confidence"]
        self.review += "review" in row["note"]
        self.confidence_sum += confidence
        self.histogram[min(BINS - 1, int(confidence * BINS))] += 1
        _keep_smallest(self.worst, (confidence, row["id"], shard), WORST)
        _keep_smallest(self.sampled, (float(zlib.crc32(row["id"].encode())), row["id"], shard), SAMPLED)
        if len(self._hashes) < DUPLICATES_COUNTED:
            digest = bytes.fromhex(row["sha256"][:32])
            self.duplicates += digest in self._hashes
            self._hashes.add(digest)
        if row.get("picture_hash"):  # shards of an older version have none
            self._looks.append(int(row["picture_hash"], 16))

    def add_areas(self, shares: np.ndarray) -> None:
        """(N, C) shares of N pictures."""
        total, seen = shares.sum(axis=0), (shares > 0).sum(axis=0)
        self.area_sum = total if self.area_sum is None else self.area_sum + total
        self.present = seen if self.present is None else self.present + seen

    def to_plain(self, classes: ClassTable) -> dict[str, Any]:
        """The content of stats.json (without the speed, which the job adds)."""
        count = max(1, self.labelled)
        area = np.zeros(classes.num_classes) if self.area_sum is None else self.area_sum / count
        present = np.zeros(classes.num_classes) if self.present is None else self.present / count
        return {
            "inputs": sum(self.statuses.values()),
            "labelled": self.labelled,
            "refused": self.statuses["refused"],
            "skipped": self.statuses["skipped"],
            "codes": dict(self.codes.most_common()),
            "failure_rate": round(self.failure_rate, 6),
            "review": self.review,
            "duplicates": self.duplicates,
            "near_duplicates": count_near_duplicates(np.array(self._looks, dtype=np.uint64)),
            "confidence": {"mean": round(self.confidence_sum / count, 4), "histogram": self.histogram.tolist()},
            "class_share": {name: round(float(v), 5) for name, v in zip(classes.names, area, strict=True)},
            "class_present": {name: round(float(v), 5) for name, v in zip(classes.names, present, strict=True)},
        }


def _keep_smallest(kept: list[Shown], candidate: Shown, count: int) -> None:
    """Keeps the `count` smallest in a heap of negated keys (its top is the largest kept)."""
    item = (-candidate[0], candidate[1], candidate[2])
    if len(kept) < count:
        heapq.heappush(kept, item)
    else:
        heapq.heappushpop(kept, item)


def collect(output: str, shards: dict[int, dict[str, Any]]) -> Statistics:
    """Reads all outcome rows (and the areas beside the pairs) of the finished shards."""
    statistics = Statistics()
    for shard in sorted(shards):
        for row in _read(part_uri(output, "outcomes", shard)):
            statistics.add(row, shard)
        if shards[shard]["pairs"]:
            rows = _read(part_uri(output, "pairs", shard), columns=["provenance"])
            statistics.add_areas(np.array([json.loads(row["provenance"])["areas"] for row in rows]))
    return statistics


def _read(uri: str, **options: Any) -> list[Row]:
    rows: list[Row] = pq.read_table(io.BytesIO(storage.read_bytes(uri)), **options).to_pylist()
    return rows


def write_result(
    output: str, plan: LabelPlan, classes: ClassTable, finished: dict[int, dict[str, Any]], speed: dict[str, float]
) -> tuple[dict[str, Any], str]:
    """Checks that every input has its row, then writes report, stats.json and, last, manifest.json.

    finished: shard -> summary, of all shards; speed: numbers of this invocation, added to the statistics.
    Returns the statistics and the page's URI.
    """
    rows = sum(summary["rows"] for summary in finished.values())
    if rows != plan.num_inputs:
        raise RuntimeError(f"{output}: {rows} outcome rows for {plan.num_inputs} inputs; this must never happen")
    statistics = collect(output, finished)
    splits = Counter(dict.fromkeys(SPLITS, 0))
    for summary in finished.values():
        splits.update(summary["splits"])
    stats = {**statistics.to_plain(classes), "splits": dict(splits), **speed}
    page = write_report(output, plan, classes, statistics)
    storage.write_json(storage.join(output, "stats.json"), stats)
    files = [
        {"path": f"pairs/part-{shard:05d}.parquet", "rows": summary["pairs"], "sha256": summary["pairs_sha256"]}
        for shard, summary in sorted(finished.items())
        if summary["pairs"]
    ]
    maker = {"system": "unet", "model": plan.model, "model_hash": plan.model_hash}
    write_manifest(output, classes, files, dict(splits), {"labelled_by": maker, **_label_audit(classes, finished)})
    return stats, page


def _label_audit(classes: ClassTable, finished: dict[int, dict[str, Any]]) -> dict[str, Any]:
    """The manifest's "label_audit"; {} when a shard stems from a version that did not count."""
    if not all("labels" in summary for summary in finished.values()):
        return {}
    # In the order of the shards, not of their ends: the manifest's bytes are the same for any number of workers.
    shards = sorted(finished.items())
    counts = sum((LabelCounts.from_plain(each["labels"]) for _, each in shards), LabelCounts())
    sizes = {f"pairs/part-{number:05d}.parquet": each["pairs_bytes"] for number, each in shards if each["pairs"]}
    return {"label_audit": for_manifest(counts, classes, sizes)}


def write_report(output: str, plan: LabelPlan, classes: ClassTable, statistics: Statistics) -> str:
    """OUTPUT/report/index.html with its pictures; returns its URI."""
    stats = statistics.to_plain(classes)
    page = Page(
        storage.join(output, "report"),
        "Labelled pictures",
        f"{plan.input} labelled by {plan.model} (model {plan.model_hash}, classes {plan.classes_hash})",
    )
    page.facts(
        {
            "inputs": stats["inputs"],
            "labelled": stats["labelled"],
            "refused": stats["refused"],
            "skipped (no pictures)": stats["skipped"],
            "mean confidence": stats["confidence"]["mean"],
            f"to review (below {plan.min_confidence:g})": stats["review"],
            "byte-identical copies": stats["duplicates"],
            "look like an earlier one": stats["near_duplicates"],
        }
    )
    _show_statistics(page, stats, classes)
    _show_pictures(page, output, plan, classes, statistics)
    _show_refused(page, stats, statistics)
    return page.save()


def _show_statistics(page: Page, stats: dict[str, Any], classes: ClassTable) -> None:
    if not stats["labelled"]:
        return
    counts = stats["confidence"]["histogram"]
    first = next(place for place, count in enumerate(counts) if count)
    page.heading("Confidence", "Mean over a picture's pixels of the U-Net's largest class probability.")
    page.histogram(counts[first:], first / BINS, 1.0)
    page.heading("Classes", "Mean share of the area, in percent; in brackets, how many pictures show the class.")
    names = [f"{name} ({100 * share:.0f} %)" for name, share in stats["class_present"].items()]
    values = dict(zip(names, (100 * share for share in stats["class_share"].values()), strict=True))
    page.bars(values, classes.colours, form="{:.1f}")


def _show_pictures(page: Page, output: str, plan: LabelPlan, classes: ClassTable, statistics: Statistics) -> None:
    note = "Picture, label map, overlay. If these are usable, so is the rest; if not, annotate some of them by hand."
    sections = [
        ("Least sure first", note, statistics.worst, "worst"),
        ("A fair sample", "Drawn by the hash of the name.", statistics.sampled, "sample"),
    ]
    for title, note, shown, name in sections:
        if not shown:
            continue
        page.heading(title, note)
        page.legend(classes)
        order = [(key, shard) for _, key, shard in sorted(shown, reverse=True)]
        strips, sheet = [], []
        for place, (row, picture) in enumerate(_strips(output, order, classes)):
            path = page.picture(f"{name}-{place:03d}", picture)
            low = row["confidence"] < plan.min_confidence
            strips.append(Strip(path, row["id"], f"{row['confidence']:.3f}", warn=low))
            sheet.append(picture)
        page.sheet(strips)
        page.picture(f"sheet-{name}", grid(sheet[:SHEET_ROWS], columns=2))


def _strips(output: str, order: list[tuple[str, int]], classes: ClassTable) -> Iterator[tuple[Row, np.ndarray]]:
    """(pairs row, picture | label map | overlay) of each (id, shard), one shard in memory at a time."""
    drawn: dict[str, tuple[Row, np.ndarray]] = {}
    for shard in sorted({shard for _, shard in order}):
        wanted = {key for key, place in order if place == shard}
        columns = ["id", "image", "label_map", "confidence"]
        for row in _read(part_uri(output, "pairs", shard), columns=columns, filters=[("id", "in", wanted)]):
            image, label_map = decode_image(row.pop("image")), decode_label_map(row.pop("label_map"), classes)
            drawn[row["id"]] = row, label_strip(image, label_map, classes)
    for key, _ in order:
        yield drawn[key]


def _show_refused(page: Page, stats: dict[str, Any], statistics: Statistics) -> None:
    if not stats["codes"]:
        return
    page.heading("Not labelled", f"By reason; below, the first {len(statistics.refused)} refused files.")
    page.bars({code: float(count) for code, count in stats["codes"].items()}, form="{:,.0f}")
    rows = [(row["id"], row["code"], row["message"]) for row in statistics.refused]
    if rows:
        page.table(["file", "code", "reason"], rows)
