"""The dataset format: a folder of Parquet shards with picture and label map side by side, and a manifest.

    DATASET/manifest.json             written last: a folder without it is no dataset
    DATASET/pairs/part-00000.parquet  rows of `SCHEMA`, with one more column `instance_map` when the manifest says so

Pictures and label maps are stored as encoded files (PNG/JPEG bytes; palette PNG), so a shard is readable by anything.
"""

from __future__ import annotations

import functools
import hashlib
import io
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from gaugan import storage
from gaugan.errors import UserError, in_one_sentence
from gaugan.images import ImageError, decode_image
from gaugan.instances import decode_instance_map
from gaugan.label_counts import LabelCounts, for_manifest
from gaugan.labels import ClassTable, LabelMapError, decode_label_map

FORMAT_VERSION = 1
SPLITS = ("train", "held_out")
SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("image", pa.binary()),
        ("label_map", pa.binary()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("sha256", pa.string()),
        ("label_sha256", pa.string()),
        ("split", pa.string()),
        ("source_id", pa.string()),
        ("confidence", pa.float32()),
        ("provenance", pa.string()),
    ]
)
SCHEMA_WITH_INSTANCES = SCHEMA.append(pa.field("instance_map", pa.binary()))
"""A reader that knows nothing of the added column reads the others as before: the format keeps its version."""
LIGHT_COLUMNS = ["id", "split", "source_id", "confidence", "width", "height"]


@dataclass(frozen=True)
class Pair:
    """One row: a picture, its label map (same size) and where they come from."""

    id: str
    image: bytes
    """Encoded picture."""
    label_map: bytes
    """Encoded palette PNG of class ids."""
    width: int
    height: int
    split: str = "train"
    source_id: str = ""
    """The source picture: augmented copies share it, and never cross the split."""
    confidence: float | None = None
    """Mean winning probability of the segmenter (0..1); None for labels made by people."""
    provenance: str = "{}"
    """JSON: who made the labels, and how."""
    instance_map: bytes | None = None
    """Encoded by gaugan.instances; all rows of a dataset have one, or none has."""

    def row(self) -> dict[str, Any]:
        """The Parquet row, with content hashes."""
        digests = {"sha256": hashlib.sha256(self.image), "label_sha256": hashlib.sha256(self.label_map)}
        return {**asdict(self), **{name: digest.hexdigest() for name, digest in digests.items()}}


@dataclass(frozen=True)
class DecodedPair:
    """A row ready for use."""

    id: str
    image: np.ndarray
    """uint8 (H, W, 3) RGB."""
    label_map: np.ndarray
    """uint8 (H, W)."""
    confidence: float | None
    instance_map: np.ndarray | None = None
    """uint16 (H, W): a number per object."""

    @property
    def maps(self) -> list[np.ndarray]:
        """Label map and, if there is one, instance map: what is cut and turned together with the picture."""
        return [self.label_map] if self.instance_map is None else [self.label_map, self.instance_map]

    def changed(self, image: np.ndarray, maps: list[np.ndarray]) -> DecodedPair:
        """This pair with another picture and other `maps`."""
        return DecodedPair(self.id, image, maps[0], self.confidence, maps[1] if len(maps) > 1 else None)


def encode_shard(rows: list[dict[str, Any]], schema: pa.Schema = SCHEMA, row_group: int = 64) -> bytes:
    """Rows -> Parquet bytes; the same rows give the same bytes."""
    buffer = io.BytesIO()
    table = pa.Table.from_pylist(rows, schema=schema)
    pq.write_table(table, buffer, row_group_size=row_group, compression="zstd", use_dictionary=False)
    return buffer.getvalue()


class PairsWriter:
    """Writes a dataset; nothing is visible as a dataset before `finish`."""

    def __init__(self, uri: str, classes: ClassTable, rows_per_shard: int = 512, instance_maps: bool = False) -> None:
        if storage.exists(storage.join(uri, "manifest.json")):
            raise UserError(f"{uri}: holds a dataset already; choose another --output or remove it first")
        storage.remove(storage.join(uri, "pairs"))  # left over from a run that never finished
        self.uri, self.classes, self.rows_per_shard, self.instance_maps = uri, classes, rows_per_shard, instance_maps
        self._rows: list[dict[str, Any]] = []
        self._shards: list[dict[str, Any]] = []
        self._counts = dict.fromkeys(SPLITS, 0)
        self._ids: set[str] = set()
        self._labels = LabelCounts()

    def add(self, pair: Pair) -> None:
        """Appends one row. Raises UserError for an id that is there already, and for ids that are no class."""
        if pair.split not in SPLITS:
            raise ValueError(f"split {pair.split!r} of {pair.id!r}: allowed are {SPLITS}")
        if pair.id in self._ids:
            raise UserError(f"{self.uri}: two pairs have the id {pair.id!r}; ids must be unique")
        if self.instance_maps != (pair.instance_map is not None):
            raise ValueError(f"{pair.id}: all rows of a dataset have an instance map, or none has")
        self._ids.add(pair.id)
        try:
            self._labels.add(decode_label_map(pair.label_map, self.classes))
        except LabelMapError as error:
            raise UserError(f"pair {pair.id!r}: {error.message}") from error
        self._rows.append(pair.row())
        self._counts[pair.split] += 1
        if len(self._rows) == self.rows_per_shard:
            self._flush()

    def finish(self, extra: dict[str, Any] | None = None) -> dict[str, Any]:
        """Writes the last shard and then the manifest (returned)."""
        self._flush()
        known = {"instance_maps": self.instance_maps, "label_audit": for_manifest(self._labels, self.classes)}
        return write_manifest(self.uri, self.classes, self._shards, self._counts, {**known, **(extra or {})})

    def _flush(self) -> None:
        if not self._rows:
            return
        path = f"pairs/part-{len(self._shards):05d}.parquet"
        data = encode_shard(self._rows, SCHEMA_WITH_INSTANCES if self.instance_maps else SCHEMA)
        storage.write_bytes(storage.join(self.uri, path), data)
        digest = hashlib.sha256(data).hexdigest()
        self._shards.append({"path": path, "rows": len(self._rows), "bytes": len(data), "sha256": digest})
        self._rows = []


def write_manifest(
    uri: str,
    classes: ClassTable,
    shards: list[dict[str, Any]],
    counts: dict[str, int],
    extra: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Makes the folder a dataset. `shards`: {path, rows, sha256} each; `extra` is kept under its own keys."""
    manifest = {
        "format": "pairs",
        "format_version": FORMAT_VERSION,
        "classes": classes.to_plain(),
        "classes_hash": classes.hash,
        "rows": sum(shard["rows"] for shard in shards),
        "splits": counts,
        "shards": shards,
        **(extra or {}),
    }
    storage.write_json(storage.join(uri, "manifest.json"), manifest)
    return manifest


class Pairs:
    """Reads a dataset. Light columns are held in memory, pictures are read row group by row group and cached."""

    def __init__(self, uri: str, manifest: dict[str, Any], cached_groups: int = 20) -> None:
        self.uri, self.manifest = uri, manifest
        self.classes = ClassTable.from_plain(manifest["classes"], source=uri)
        self._rows: dict[str, list[tuple[int, int, int]]] = {split: [] for split in SPLITS}
        self._light: dict[str, list[dict[str, Any]]] = {split: [] for split in SPLITS}
        self._read_group = functools.lru_cache(maxsize=cached_groups)(self._read_group_uncached)
        for shard in range(len(manifest["shards"])):
            self._index_shard(shard)

    @staticmethod
    def open(uri: str, classes: ClassTable | None = None) -> Pairs:
        """Opens a dataset; refused when it is none, of a newer format, or of another class table than `classes`."""
        uri = storage.absolute(uri)
        try:
            manifest = storage.read_json(storage.join(uri, "manifest.json"))
        except (OSError, ValueError) as error:
            what = "it has no manifest.json" if isinstance(error, FileNotFoundError) else f"its manifest.json: {error}"
            raise UserError(
                f"{uri}: no dataset there ({what}); make one with jobs/import_annotations.py or jobs/label_dataset.py"
            ) from error
        if not isinstance(manifest, dict) or manifest.get("format") != "pairs":
            raise UserError(f"{uri}: manifest.json is not that of a dataset of pairs")
        if manifest.get("format_version") != FORMAT_VERSION:
            version = manifest.get("format_version")
            newer = isinstance(version, int) and version > FORMAT_VERSION
            advice = "a newer suite wrote it: update this one" if newer else "import the data again"
            raise UserError(f"{uri}: dataset format {version}, this suite reads {FORMAT_VERSION}; {advice}")
        if missing := {"classes", "shards"} - set(manifest):
            raise UserError(f"{uri}: manifest.json lacks {', '.join(sorted(missing))}; import the data again")
        pairs = Pairs(uri, manifest)
        if classes is not None and pairs.classes.hash != classes.hash:
            raise UserError(
                f"{uri}: class table {pairs.classes.name!r} ({pairs.classes.hash}) differs from {classes.name!r} "
                f"({classes.hash}); use data and models of one class table"
            )
        return pairs

    @property
    def has_instances(self) -> bool:
        """True when every row has an instance map."""
        return bool(self.manifest.get("instance_maps"))

    @property
    def hash(self) -> str:
        """16 hex digits that name the content: the hashes of all shards, in order, and the class table."""
        digests = [shard["sha256"] for shard in self.manifest["shards"]]
        return hashlib.sha256("".join([self.classes.hash, *digests]).encode()).hexdigest()[:16]

    def num(self, split: str) -> int:
        """How many rows a split has."""
        return len(self._rows[split])

    def ids(self, split: str) -> list[str]:
        """The ids of a split, in reading order."""
        return [row["id"] for row in self._light[split]]

    def light(self, split: str) -> list[dict[str, Any]]:
        """id, split, source_id, confidence, width, height of every row."""
        return self._light[split]

    def groups(self, split: str) -> list[list[int]]:
        """Row numbers of a split, grouped as they lie on storage (rows of one group are read together)."""
        groups: dict[tuple[int, int], list[int]] = {}
        for index, (shard, group, _) in enumerate(self._rows[split]):
            groups.setdefault((shard, group), []).append(index)
        return list(groups.values())

    def read(self, split: str, index: int) -> DecodedPair:
        """Row `index` of a split, decoded. Raises UserError that names the row when its files can't be used."""
        row = self.encoded(split, index)
        try:
            image, label_map = decode_image(row["image"]), decode_label_map(row["label_map"], self.classes)
            instance_map = decode_instance_map(row["instance_map"]) if self.has_instances else None
        except (ImageError, LabelMapError) as error:
            raise UserError(f"{self.uri}: pair {row['id']!r}: {error.message}") from error
        if image.shape[:2] != label_map.shape:
            sizes = f"picture {image.shape[:2]}, label map {label_map.shape}"
            raise UserError(f"{self.uri}: pair {row['id']!r}: both must have one size (height, width): {sizes}")
        if instance_map is not None and instance_map.shape != label_map.shape:
            sizes = f"label map {label_map.shape}, instance map {instance_map.shape}"
            raise UserError(f"{self.uri}: pair {row['id']!r}: both must have one size (height, width): {sizes}")
        return DecodedPair(row["id"], image, label_map, row["confidence"], instance_map)

    def stored_label_maps(self) -> Iterator[tuple[str, bytes]]:
        """(id, PNG bytes) of every row of both splits; nothing else is read."""
        for shard in range(len(self.manifest["shards"])):
            with self._open_shard(shard) as file:
                for batch in file.iter_batches(batch_size=64, columns=["id", "label_map"]):
                    yield from zip(batch["id"].to_pylist(), batch["label_map"].to_pylist(), strict=True)

    def encoded(self, split: str, index: int) -> dict[str, Any]:
        """Row `index` of a split as it is stored: id, image, label_map, confidence (and instance_map)."""
        shard, group, place = self._rows[split][index]
        return self._read_group(shard, group)[place]

    def _open_shard(self, shard: int) -> pq.ParquetFile:
        uri = storage.join(self.uri, self.manifest["shards"][shard]["path"])
        fs, path = storage.filesystem(uri)
        try:
            return pq.ParquetFile(fs.open_input_file(path))
        except (OSError, pa.ArrowException) as error:
            reason = in_one_sentence(error, uri)
            raise UserError(f"{uri}: missing or damaged ({reason}); import the data again") from error

    def _index_shard(self, shard: int) -> None:
        with self._open_shard(shard) as file:
            for group in range(file.num_row_groups):
                for place, row in enumerate(file.read_row_group(group, columns=LIGHT_COLUMNS).to_pylist()):
                    self._rows[row["split"]].append((shard, group, place))
                    self._light[row["split"]].append(row)

    def _read_group_uncached(self, shard: int, group: int) -> list[dict[str, Any]]:
        with self._open_shard(shard) as file:
            columns = ["id", "image", "label_map", "confidence"] + ["instance_map"] * self.has_instances
            return file.read_row_group(group, columns=columns).to_pylist()


def split_by_source(source_ids: Iterable[str], held_out: float, seed: int = 0) -> dict[str, str]:
    """source id -> "train" or "held_out".

    Sources are ordered by a seeded hash and the first round(held_out * n) are held out: the same names and seed give
    the same split on every machine, whatever the order of the files. At least one on each side when 0 < held_out < 1.
    """
    names = sorted(set(source_ids), key=lambda source: hashlib.sha256(f"{seed}:{source}".encode()).hexdigest())
    count = round(held_out * len(names))
    if 0 < held_out < 1 and len(names) > 1:
        count = min(max(count, 1), len(names) - 1)
    return {source: "held_out" if place < count else "train" for place, source in enumerate(names)}


def provenance(**fields: Any) -> str:
    """The JSON text of the provenance column, keys sorted."""
    return json.dumps(fields, sort_keys=True)
