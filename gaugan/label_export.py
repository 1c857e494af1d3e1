"""What a labelling run is unsure of, written as labelme JSON and pictures, for people to correct.

    FOLDER/images/NAME.png|jpg    the picture as it is stored
    FOLDER/labelme/NAME.json      its label map as polygons (specks left out)
    FOLDER/exported.json          NAME -> id of the input, confidence

FOLDER is what jobs/import_annotations.py takes as --annotations: corrections flow back.
"""

from __future__ import annotations

import hashlib
import re
from typing import Any

from gaugan import storage
from gaugan.cleaning import remove_specks
from gaugan.label_plan import LabelPlan
from gaugan.label_rows import verdict
from gaugan.label_statistics import Row, labelled_rows
from gaugan.labelme_writer import write_labelme_polygons
from gaugan.labels import ClassTable, decode_label_map
from gaugan.polygons import polygons

NAME_LENGTH = 60


def export_labelme(
    folder: str, output: str, plan: LabelPlan, classes: ClassTable, finished: dict[int, dict[str, Any]]
) -> int:
    """Writes every picture whose verdict is review or reject, with one shard in memory at a time.

    A JSON file that is there already is left alone: it may hold corrections. Returns how many were written.
    """
    there = {entry.path for entry in storage.list_files(storage.join(folder, "labelme"))}
    exported, written = {}, 0
    for shard in sorted(finished):
        for row in labelled_rows(
            output, finished[shard], ["id", "image", "label_map", "confidence", "width", "height"]
        ):
            if verdict(row["confidence"], plan) != "accept":
                name = safe_name(row["id"])
                if f"{name}.json" not in there:
                    _export(folder, name, row, classes)
                    written += 1
                exported[name] = {"id": row["id"], "confidence": row["confidence"]}
    storage.write_json(storage.join(folder, "exported.json"), exported)
    return written


def _export(folder: str, name: str, row: Row, classes: ClassTable) -> None:
    picture = name + (".jpg" if row["image"].startswith(b"\xff\xd8\xff") else ".png")
    label_map, _ = remove_specks(decode_label_map(row["label_map"], classes))
    text = write_labelme_polygons(
        polygons(label_map), classes, f"../images/{picture}", (row["height"], row["width"]),
        f"labelled by a model, confidence {row['confidence']:.4f}: {row['id']}",
    )  # fmt: skip
    storage.write_bytes(storage.join(folder, "images", picture), row["image"])
    storage.write_text(storage.join(folder, "labelme", f"{name}.json"), text)


def safe_name(identity: str) -> str:
    """An id (a path, any characters) as a file name that stays unique."""
    stem = re.sub(r"[^A-Za-z0-9_-]+", "-", identity.rpartition(".")[0] or identity).strip("-")[-NAME_LENGTH:]
    return f"{stem}-{hashlib.sha256(identity.encode()).hexdigest()[:8]}"
