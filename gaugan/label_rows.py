"""The rows of a labelling run: what is told of every input, and what waits between two stages.

An outcome row's columns are public: new ones come at the end. The verdict on a label map: `accept`; `review` below
--min-confidence (kept for training, shown first, exported for people); `reject` below --reject-confidence (kept in
OUTPUT/rejected, not among the training pairs).
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np
import pyarrow as pa

from gaugan.cleaning import remove_specks
from gaugan.images import resize_label_map
from gaugan.label_plan import LabelPlan
from gaugan.labels import ClassTable, encode_label_map
from gaugan.metrics import survey
from gaugan.pairs import Pair, provenance
from gaugan.reading import Picture

OUTCOMES = pa.schema(
    [
        ("id", pa.string()),  # path below the input root, with extension
        ("uri", pa.string()),
        ("status", pa.string()),  # labelled | refused | skipped
        ("code", pa.string()),  # why not labelled: see docs/labelling.md; "" else
        ("message", pa.string()),
        ("sha256", pa.string()),  # of the input file; "" when it was not read
        ("label_sha256", pa.string()),  # of the label map's PNG
        ("width", pa.int32()),  # of the upright input; null when not known
        ("height", pa.int32()),
        ("confidence", pa.float64()),  # mean largest probability, 4 decimals; null when not labelled
        ("note", pa.string()),  # "animated": its first frame was used; "review", "rejected": the verdict
        ("picture_hash", pa.string()),  # of what it looks like: near duplicates differ in few bits; "" when not decoded
        ("verdict", pa.string()),  # accept | review | reject; "" when not labelled
        ("entropy", pa.float64()),  # mean, in units of ln(number of classes), 4 decimals; null when not labelled
        ("specks", pa.int32()),  # before any removal; null when not labelled
    ]
)
STAGED = pa.schema(
    [
        *OUTCOMES,
        ("image", pa.binary()),
        ("label_map", pa.binary()),
        ("stored_width", pa.int32()),
        ("stored_height", pa.int32()),
        ("split", pa.string()),
        ("provenance", pa.string()),
        ("id_counts", pa.list_(pa.int64())),  # the label map's pixels of each id 0..255
    ]
)
VERDICTS = ("accept", "review", "reject")
NOTES = {"accept": "", "review": "review", "reject": "rejected"}
PNG_LEVEL = 3
"""Of label maps: a third of level 6's time for a third more bytes, which are few beside the picture's."""


def verdict(confidence: float, plan: LabelPlan) -> str:
    """What becomes of a label map of this confidence."""
    if confidence < plan.reject_confidence:
        return "reject"
    return "review" if confidence < plan.min_confidence else "accept"


def staged_row(picture: Picture, plan: LabelPlan, classes: ClassTable) -> dict[str, Any]:
    """One row of STAGED."""
    row = {
        "id": picture.item.id, "uri": picture.uri, "status": picture.status, "code": picture.code,
        "message": picture.message, "sha256": picture.sha256, "label_sha256": "", "width": picture.width,
        "height": picture.height, "confidence": picture.confidence, "note": picture.note, "split": picture.item.split,
        "picture_hash": picture.picture_hash, "verdict": "",
    }  # fmt: skip
    if picture.label_map is None or picture.confidence is None:
        return row
    label_map, specks, id_counts = _finished_map(picture.label_map, plan, picture.stored_size)
    data, judged = encode_label_map(label_map, classes, PNG_LEVEL), verdict(picture.confidence, plan)
    return row | {
        "label_sha256": hashlib.sha256(data).hexdigest(),
        "note": "; ".join(filter(None, [picture.note, NOTES[judged]])),
        "verdict": judged,
        "entropy": picture.entropy,
        "specks": specks,
        "image": picture.image,
        "label_map": data,
        "stored_height": picture.stored_size[0],
        "stored_width": picture.stored_size[1],
        "id_counts": id_counts,
        "provenance": provenance(
            by="label_dataset", model=plan.model_hash, entropy=picture.entropy, review=judged == "review",
            areas=_areas(id_counts, classes), specks=specks, size=[picture.height, picture.width],
            **(json.loads(picture.item.tags) if picture.item.tags else {}),
        ),
    }  # fmt: skip


def _finished_map(label_map: np.ndarray, plan: LabelPlan, size: tuple[int, int]) -> tuple[np.ndarray, int, np.ndarray]:
    """The label map as it is stored, how many specks it had, and its pixels of each id."""
    specks, id_counts = survey(label_map)
    found = label_map
    if plan.remove_specks and specks:
        found, _ = remove_specks(found)
    found = resize_label_map(found, size)
    if found is not label_map:
        id_counts = np.bincount(found.reshape(-1), minlength=256)
    return found, specks, id_counts


def _areas(id_counts: np.ndarray, classes: ClassTable) -> list[float]:
    """Each class's share of the picture, in the order of the ids, 4 decimals."""
    return [round(float(share), 4) for share in id_counts[: classes.num_classes] / id_counts.sum()]


def pair_of(row: dict[str, Any]) -> Pair:
    """The pair of a labelled row of STAGED."""
    return Pair(
        row["id"], row["image"], row["label_map"], row["stored_width"], row["stored_height"], row["split"],
        source_id=row["id"], confidence=row["confidence"], provenance=row["provenance"],
    )  # fmt: skip
