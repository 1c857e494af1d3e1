"""The surest labels of a labelling run as a dataset of its own: what a U-Net learns from in the next round."""

from __future__ import annotations

import hashlib
from typing import Any

from gaugan import storage
from gaugan.label_plan import LabelPlan
from gaugan.label_rows import verdict
from gaugan.label_statistics import labelled_rows
from gaugan.labels import ClassTable
from gaugan.pairs import Pair, PairsWriter

MOST = 20_000
"""Pairs that are taken: more teach a U-Net little, and copies of a million pictures would fill the disk."""
COLUMNS = ["id", "image", "label_map", "width", "height", "split", "source_id", "confidence", "provenance"]


def write_accepted(
    uri: str, output: str, plan: LabelPlan, classes: ClassTable, finished: dict[int, dict[str, Any]], most: int = MOST
) -> int:
    """Copies the training pairs with the verdict accept, drawn by the hash of their ids when there are more than
    `most`; returns their number. A dataset that stands is left as it is.
    """
    manifest = storage.join(uri, "manifest.json")
    if storage.exists(manifest):
        return int(storage.read_json(manifest)["rows"])
    candidates = sum(summary["splits"].get("train", 0) for summary in finished.values())
    share, count = most / max(1, candidates), 0
    writer = PairsWriter(uri, classes)
    for shard in sorted(finished):
        for row in labelled_rows(output, finished[shard], COLUMNS):
            if row["split"] == "train" and verdict(row["confidence"], plan) == "accept" and _place(row["id"]) < share:
                writer.add(Pair(**row))
                count += 1
    writer.finish({"labelled_by": {"model_hash": plan.model_hash}})
    return count


def _place(identity: str) -> float:
    """A number in [0, 1) that depends on the id alone."""
    return int.from_bytes(hashlib.sha256(identity.encode()).digest()[:6], "big") / 2**48
