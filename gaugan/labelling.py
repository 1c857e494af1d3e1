"""From a chunk of inputs to finished files, step by step; each step is a plain function and may run on any machine.

    read_chunk     CPU    bytes -> decoded picture, or a refusal with a code (gaugan/reading.py)
    label_chunk    U-Net  picture -> label map, confidence
    write_chunk    CPU    -> OUTPUT/.work/SHARD/CHUNK.parquet
    merge_shard    CPU    -> OUTPUT/pairs/part-SHARD.parquet, OUTPUT/outcomes/part-SHARD.parquet

All files are written whole or not at all and hold no times or run ids: doing a step twice writes the same bytes.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from gaugan import storage
from gaugan.cleaning import remove_specks
from gaugan.images import resize_label_map
from gaugan.label_audit import scan
from gaugan.label_plan import Chunk, LabelPlan
from gaugan.labels import ClassTable, encode_label_map
from gaugan.listing import Item
from gaugan.metrics import num_specks
from gaugan.pairs import Pair, encode_shard, provenance
from gaugan.reading import Picture

if TYPE_CHECKING:
    from gaugan.segmenter import Segmenter

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
        ("note", pa.string()),  # "animated": its first frame was used; "review": confidence below --min-confidence
        ("picture_hash", pa.string()),  # of what it looks like: near duplicates differ in few bits; "" when not decoded
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
    ]
)


def label_chunk(pictures: list[Picture], segmenter: Segmenter) -> list[Picture]:
    """Adds label map, confidence and entropy, in place."""
    good = [picture for picture in pictures if picture.pixels is not None]
    answers = segmenter.segment([picture.pixels for picture in good if picture.pixels is not None])
    for picture, answer in zip(good, answers, strict=True):
        picture.label_map, picture.pixels = answer.label_map, None
        picture.confidence, picture.entropy = round(answer.confidence, 4), round(answer.entropy, 4)
    return pictures


def write_chunk(
    chunk: Chunk, pictures: list[Picture], plan: LabelPlan, classes: ClassTable, output: str
) -> Counter[str]:
    """Writes the chunk's file; returns how many pictures have each status or code."""
    rows = [staged_row(picture, plan, classes) for picture in pictures]
    table = pa.Table.from_pylist(rows, schema=STAGED)
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="none", use_dictionary=False)
    storage.write_bytes(staged_uri(output, chunk.shard, chunk.index), buffer.getvalue())
    return Counter(picture.code or picture.status for picture in pictures)


def staged_uri(output: str, shard: int, index: int) -> str:
    """Where a chunk waits until its shard is complete."""
    return storage.join(output, ".work", f"{shard:05d}", f"{index:05d}.parquet")


def staged_row(picture: Picture, plan: LabelPlan, classes: ClassTable) -> dict[str, Any]:
    """One row of STAGED."""
    row = {
        "id": picture.item.id, "uri": picture.uri, "status": picture.status, "code": picture.code,
        "message": picture.message, "sha256": picture.sha256, "label_sha256": "", "width": picture.width,
        "height": picture.height, "confidence": picture.confidence, "note": picture.note, "split": picture.item.split,
        "picture_hash": picture.picture_hash,
    }  # fmt: skip
    if picture.label_map is None or picture.confidence is None:
        return row
    specks = num_specks(picture.label_map)
    if plan.remove_specks:
        picture.label_map, _ = remove_specks(picture.label_map)
    label_map = resize_label_map(picture.label_map, picture.stored_size)
    data = encode_label_map(label_map, classes)
    review = ["review"] if picture.confidence < plan.min_confidence else []
    return row | {
        "label_sha256": hashlib.sha256(data).hexdigest(),
        "note": "; ".join([picture.note] * bool(picture.note) + review),
        "image": picture.image,
        "label_map": data,
        "stored_height": picture.stored_size[0],
        "stored_width": picture.stored_size[1],
        "provenance": provenance(
            by="label_dataset", model=plan.model_hash, entropy=picture.entropy, review=bool(review),
            areas=areas(label_map, classes), specks=specks, size=[picture.height, picture.width],
            **(json.loads(picture.item.tags) if picture.item.tags else {}),
        ),
    }  # fmt: skip


def areas(label_map: np.ndarray, classes: ClassTable) -> list[float]:
    """Each class's share of the picture, in the order of the ids, 4 decimals."""
    counts = np.bincount(label_map.reshape(-1), minlength=256)[: classes.num_classes]
    return [round(float(share), 4) for share in counts / label_map.size]


def part_uri(output: str, kind: str, shard: int) -> str:
    """The file of a finished shard; kind: pairs or outcomes."""
    return storage.join(output, kind, f"part-{shard:05d}.parquet")


def merge_shard(shard: int, items: Sequence[Item], num_chunks: int, output: str, classes: ClassTable) -> dict[str, Any]:
    """Joins a shard's chunks; the outcomes file comes last and marks the shard as finished. Returns its summary.

    items: of the shard, sorted by id.
    """
    tables = [
        pq.read_table(io.BytesIO(storage.read_bytes(staged_uri(output, shard, index)))) for index in range(num_chunks)
    ]
    staged = pa.concat_tables(tables).sort_by("id")
    ids = staged.column("id").to_pylist()
    if ids != [item.id for item in items]:
        raise RuntimeError(f"shard {shard}: {len(ids)} outcome rows for {len(items)} inputs; this must never happen")
    rows = [row for row in staged.to_pylist() if row["status"] == "labelled"]
    pairs = encode_shard([_pair(row).row() for row in rows])
    if rows:
        storage.write_bytes(part_uri(output, "pairs", shard), pairs)
    summary = {
        "shard": shard,
        "rows": len(ids),
        "pairs": len(rows),
        "pairs_sha256": hashlib.sha256(pairs).hexdigest() if rows else "",
        "pairs_bytes": len(pairs),
        "labels": scan(((row["id"], row["label_map"]) for row in rows), classes)[0].to_plain(),
        "splits": Counter(row["split"] for row in rows),
    }
    outcomes = staged.select(OUTCOMES.names).replace_schema_metadata({"summary": json.dumps(summary, sort_keys=True)})
    buffer = io.BytesIO()
    pq.write_table(outcomes, buffer, compression="zstd", use_dictionary=False)
    storage.write_bytes(part_uri(output, "outcomes", shard), buffer.getvalue())
    return summary


def _pair(row: dict[str, Any]) -> Pair:
    return Pair(
        row["id"], row["image"], row["label_map"], row["stored_width"], row["stored_height"], row["split"],
        source_id=row["id"], confidence=row["confidence"], provenance=row["provenance"],
    )  # fmt: skip


def finished_shards(output: str) -> dict[int, dict[str, Any]]:
    """Shard -> summary of the shards whose outcomes file stands."""
    found = {}
    for entry in storage.list_files(storage.join(output, "outcomes"), suffixes=[".parquet"]):
        fs, path = storage.filesystem(entry.uri)
        with fs.open_input_file(path) as file:
            summary = json.loads(pq.read_schema(file).metadata[b"summary"])
        found[summary["shard"]] = summary
    return found


def staged_chunks(output: str) -> set[tuple[int, int]]:
    """(shard, index) of the chunks that wait."""
    entries = storage.list_files(storage.join(output, ".work"), suffixes=[".parquet"])
    parts = [entry.path.removesuffix(".parquet").split("/") for entry in entries]
    return {(int(shard), int(index)) for shard, index in parts}
