"""Sums over the outcome rows of a labelling run, and which pictures are worth showing.

Read shard by shard: memory holds the sums, the ids of the pictures to show, and one shard.
"""

from __future__ import annotations

import hashlib
import heapq
import io
import json
import zlib
from array import array
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from gaugan import storage
from gaugan.label_rows import VERDICTS
from gaugan.label_shards import SHARDS_AT_ONCE, part_uri
from gaugan.labels import ClassTable
from gaugan.near_duplicates import count_near_duplicates
from gaugan.patience import ahead, patiently

BINS = 100
SPECK_BINS = (0, 1, 2, 4, 8, 16, 32, 64, 128)
"""Lower ends of the columns of the speck histogram."""
WORST, SAMPLED, REFUSED_SHOWN = 60, 24, 20
"""Pictures in the sheets; refused files of each code."""
Row = dict[str, Any]
Shown = tuple[float, str, int]
"""Sort key, id, shard."""


@dataclass
class Statistics:
    """Sums over all outcome rows."""

    statuses: Counter[str] = field(default_factory=Counter)
    codes: Counter[str] = field(default_factory=Counter)
    verdicts: Counter[str] = field(default_factory=Counter)
    sums: Counter[str] = field(default_factory=Counter)
    """Of confidence, entropy and specks."""
    confidences: np.ndarray = field(default_factory=lambda: np.zeros(BINS, dtype=np.int64))
    entropies: np.ndarray = field(default_factory=lambda: np.zeros(BINS, dtype=np.int64))
    specks: np.ndarray = field(default_factory=lambda: np.zeros(len(SPECK_BINS), dtype=np.int64))
    area_sum: np.ndarray | None = None
    present: np.ndarray | None = None
    """How many pictures show each class at all."""
    worst: list[Shown] = field(default_factory=list)
    sampled: list[Shown] = field(default_factory=list)
    refused: dict[str, list[Row]] = field(default_factory=dict)
    """Code -> the first refused rows."""
    outcomes: list[Row] = field(default_factory=list)
    """{path, rows, sha256} of each outcomes file, for the manifest."""
    _digests: array[int] = field(default_factory=lambda: array("Q"))
    """The first 64 bits of the files' hashes."""
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
        if row["status"] == "refused" and self.codes[row["code"]] <= REFUSED_SHOWN:
            self.refused.setdefault(row["code"], []).append(row)
        if row["status"] == "labelled":
            self._add_labelled(row, shard)

    def _add_labelled(self, row: Row, shard: int) -> None:
        self.verdicts[row["verdict"]] += 1
        self.sums.update({name: row[name] for name in ("confidence", "entropy", "specks")})
        self.confidences[min(BINS - 1, int(row["confidence"] * BINS))] += 1
        self.entropies[min(BINS - 1, int(row["entropy"] * BINS))] += 1
        self.specks[np.searchsorted(SPECK_BINS, row["specks"], side="right") - 1] += 1
        _keep_smallest(self.worst, (row["confidence"], row["id"], shard), WORST)
        _keep_smallest(self.sampled, (float(zlib.crc32(row["id"].encode())), row["id"], shard), SAMPLED)
        self._digests.append(int(row["sha256"][:16], 16))
        if row["picture_hash"]:
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
        mean = {name: round(self.sums[name] / count, 4) for name in ("confidence", "entropy", "specks")}
        return {
            "inputs": sum(self.statuses.values()),
            "labelled": self.labelled,
            "refused": self.statuses["refused"],
            "skipped": self.statuses["skipped"],
            "codes": dict(self.codes.most_common()),
            "failure_rate": round(self.failure_rate, 6),
            **{name: self.verdicts[name] for name in VERDICTS},
            "duplicates": len(self._digests) - len(np.unique(np.array(self._digests, dtype=np.uint64))),
            "near_duplicates": count_near_duplicates(np.array(self._looks, dtype=np.uint64)),
            "confidence": {"mean": mean["confidence"], "histogram": self.confidences.tolist()},
            "entropy": {"mean": mean["entropy"], "histogram": self.entropies.tolist()},
            "specks": {"mean": mean["specks"], "from": list(SPECK_BINS), "histogram": self.specks.tolist()},
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
    """Reads all outcome rows (and the areas beside the label maps) of the finished shards."""
    statistics, order = Statistics(), sorted(shards)

    def look(shard: int) -> tuple[bytes, list[list[float]]]:
        labelled = labelled_rows(output, shards[shard], ["provenance"])
        areas = [json.loads(row["provenance"])["areas"] for row in labelled]
        return storage.read_bytes(part_uri(output, "outcomes", shard)), areas

    for shard, (data, areas) in zip(order, ahead(look, order, SHARDS_AT_ONCE), strict=True):
        rows, path = pq.read_table(io.BytesIO(data)).to_pylist(), part_uri("", "outcomes", shard).lstrip("/")
        statistics.outcomes.append({"path": path, "rows": len(rows), "sha256": hashlib.sha256(data).hexdigest()})
        for row in rows:
            statistics.add(row, shard)
        if areas:
            statistics.add_areas(np.array(areas))
    return statistics


def read_rows(uri: str, **options: Any) -> list[Row]:
    """A Parquet file's rows; of the columns that are asked for, no other bytes are fetched."""
    fs, path = storage.filesystem(uri)

    def read() -> list[Row]:
        with fs.open_input_file(path) as file:
            rows: list[Row] = pq.read_table(file, **options).to_pylist()
        return rows

    return patiently(read)


def labelled_rows(output: str, summary: dict[str, Any], columns: list[str], **options: Any) -> list[Row]:
    """The rows of a finished shard's label maps, those of the pairs and the rejected ones."""
    rows = []
    for kind in ("pairs", "rejected"):
        if summary[kind]:
            rows += read_rows(part_uri(output, kind, summary["shard"]), columns=columns, **options)
    for row in rows:
        if "confidence" in row:
            row["confidence"] = round(row["confidence"], 4)  # as in the outcomes: pairs keep it in 32 bits
    return rows
