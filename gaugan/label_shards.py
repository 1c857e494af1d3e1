"""The files of a labelling run: chunks that wait, shards that stand, and shards that are taken apart again.

OUTPUT/.work/SHARD/CHUNK.parquet    a written chunk; kept.parquet: what a retry does not do again
OUTPUT/pairs/part-SHARD.parquet     the training pairs
OUTPUT/rejected/part-SHARD.parquet  label maps below --reject-confidence, in the same form
OUTPUT/outcomes/part-SHARD.parquet  a row per input; written last: it marks the shard as finished
"""

from __future__ import annotations

import hashlib
import io
import json
from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from gaugan import storage
from gaugan.label_counts import LabelCounts
from gaugan.label_plan import Chunk, LabelPlan
from gaugan.label_rows import OUTCOMES, STAGED, pair_of, staged_row
from gaugan.labels import ClassTable, read_ids
from gaugan.listing import Item
from gaugan.pairs import encode_shard
from gaugan.patience import ahead, patiently
from gaugan.reading import Picture

KEPT = "kept"
SHARDS_AT_ONCE = 16
"""Finished shards that are looked at together: an object store answers slowly, but many at once."""


def write_chunk(
    chunk: Chunk, pictures: list[Picture], plan: LabelPlan, classes: ClassTable, output: str
) -> Counter[str]:
    """Writes the chunk's file; returns how many pictures have each status or code."""
    rows = [staged_row(picture, plan, classes) for picture in pictures]
    _write_staged(rows, staged_uri(output, chunk.shard, chunk.index))
    return Counter(picture.code or picture.status for picture in pictures)


def _write_staged(rows: list[dict[str, Any]], uri: str) -> None:
    _write_table(pa.Table.from_pylist(rows, schema=STAGED), uri, "none")


def _write_table(table: pa.Table, uri: str, compression: str) -> None:
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression=compression, use_dictionary=False)
    storage.write_bytes(uri, buffer.getvalue())


def _read_table(uri: str, **options: Any) -> pa.Table:
    return pq.read_table(io.BytesIO(storage.read_bytes(uri)), **options)


def staged_uri(output: str, shard: int, index: int | str) -> str:
    """Where a chunk waits until its shard is complete; index: its number, or KEPT."""
    name = index if isinstance(index, str) else f"{index:05d}"
    return storage.join(output, ".work", f"{shard:05d}", f"{name}.parquet")


def part_uri(output: str, kind: str, shard: int) -> str:
    """The file of a finished shard; kind: pairs, rejected or outcomes."""
    return storage.join(output, kind, f"part-{shard:05d}.parquet")


def merge_shard(shard: int, items: Sequence[Item], pieces: Sequence[int | str], output: str) -> dict[str, Any]:
    """Joins a shard's pieces (chunk numbers, and KEPT after a retry); the outcomes file comes last and marks the shard
    as finished. Returns its summary.

    items: of the shard, sorted by id.
    """
    staged = pa.concat_tables([_read_table(staged_uri(output, shard, piece)) for piece in pieces])
    outcomes = staged.select(OUTCOMES.names).sort_by("id")  # without the pictures, which Arrow can't join beyond 2 GiB
    ids = outcomes.column("id").to_pylist()
    if ids != [item.id for item in items]:
        raise RuntimeError(f"shard {shard}: {len(ids)} outcome rows for {len(items)} inputs; this must never happen")
    labelled = [row for row in staged.to_pylist() if row["status"] == "labelled"]
    labelled.sort(key=lambda row: row["id"])
    rows = [row for row in labelled if row["verdict"] != "reject"]
    rejected = [row for row in labelled if row["verdict"] == "reject"]
    pairs = encode_shard([pair_of(row).row() for row in rows])
    if rows:
        storage.write_bytes(part_uri(output, "pairs", shard), pairs)
    if rejected:
        storage.write_bytes(part_uri(output, "rejected", shard), encode_shard([pair_of(row).row() for row in rejected]))
    labels = LabelCounts()
    for row in rows:
        labels.add_counts(np.array(row["id_counts"], dtype=np.int64))
    summary = {
        "shard": shard,
        "rows": len(ids),
        "pairs": len(rows),
        "rejected": len(rejected),
        "pairs_sha256": hashlib.sha256(pairs).hexdigest() if rows else "",
        "pairs_bytes": len(pairs),
        "labels": labels.to_plain(),
        "splits": Counter(row["split"] for row in rows),
    }
    outcomes = outcomes.replace_schema_metadata({"summary": json.dumps(summary, sort_keys=True)})
    _write_table(outcomes, part_uri(output, "outcomes", shard), "zstd")
    return summary


def finished_shards(output: str) -> dict[int, dict[str, Any]]:
    """Shard -> summary of the shards whose outcomes file stands."""
    entries = storage.list_files(storage.join(output, "outcomes"), suffixes=[".parquet"])
    return {each["shard"]: each for each in ahead(_summary, entries, SHARDS_AT_ONCE)}


def _summary(entry: storage.Entry) -> dict[str, Any]:
    fs, path = storage.filesystem(entry.uri)

    def read() -> dict[str, Any]:
        with fs.open_input_file(path) as file:
            summary: dict[str, Any] = json.loads(pq.read_schema(file).metadata[b"summary"])
        return summary

    return patiently(read)


def staged_pieces(output: str) -> dict[int, set[int | str]]:
    """Shard -> its pieces that wait: chunk numbers, and KEPT after a retry."""
    found: dict[int, set[int | str]] = {}
    for entry in storage.list_files(storage.join(output, ".work"), suffixes=[".parquet"]):
        shard, _, name = entry.path.removesuffix(".parquet").partition("/")
        found.setdefault(int(shard), set()).add(name if name == KEPT else int(name))
    return found


def kept_ids(output: str, shard: int) -> set[str]:
    """The ids of a shard that a retry does not do again."""
    return set(_read_table(staged_uri(output, shard, KEPT), columns=["id"]).column("id").to_pylist())


def forget_refused(output: str, shard: int, index: int, codes: Collection[str]) -> int:
    """Removes a waiting chunk that holds rows refused with one of the codes (all, when empty); how many it had."""
    uri = staged_uri(output, shard, index)
    count = _num_refused(_read_table(uri, columns=["status", "code"]), codes)
    if count:
        storage.remove(uri)
    return count


def reopen(output: str, shard: int, codes: Collection[str], classes: ClassTable) -> int:
    """Takes a finished shard apart if it has rows refused with one of the codes (all, when empty): they are gone, the
    others wait in kept.parquet, and the shard counts as unfinished. Returns how many are to be done again.

    Killed at any point it leaves the shard finished as before, or open with everything that is kept.
    """
    outcomes = _read_table(part_uri(output, "outcomes", shard))
    count = _num_refused(outcomes, codes)
    if count:
        storage.remove(storage.join(output, ".work", f"{shard:05d}"))  # left over, and numbered otherwise
        pairs = _stored_pairs(output, shard, classes)
        rows = [row | pairs.get(row["id"], {"split": ""}) for row in outcomes.to_pylist() if not _is_due(row, codes)]
        _write_staged(rows, staged_uri(output, shard, KEPT))
        storage.remove(part_uri(output, "outcomes", shard))
    return count


def _is_due(row: dict[str, Any], codes: Collection[str]) -> bool:
    return row["status"] == "refused" and (not codes or row["code"] in codes)


def _num_refused(table: pa.Table, codes: Collection[str]) -> int:
    return sum(_is_due(row, codes) for row in table.select(["status", "code"]).to_pylist())


def _stored_pairs(output: str, shard: int, classes: ClassTable) -> dict[str, dict[str, Any]]:
    """Id -> what STAGED holds beyond the outcome row, of a shard's labelled pictures."""
    found = {}
    for kind in ("pairs", "rejected"):
        uri = part_uri(output, kind, shard)
        for row in _read_table(uri).to_pylist() if storage.exists(uri) else ():
            found[row["id"]] = {
                "image": row["image"], "label_map": row["label_map"], "stored_width": row["width"],
                "stored_height": row["height"], "split": row["split"], "provenance": row["provenance"],
                "id_counts": np.bincount(read_ids(row["label_map"], classes).reshape(-1), minlength=256),
            }  # fmt: skip
    return found
