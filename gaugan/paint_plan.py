"""What a painting run does, decided before it begins: which label maps, in which styles, by which generator.

    OUTPUT/plan.json        the decisions; a rerun must agree with it
    OUTPUT/inputs.parquet   the listing, one row per input, which defines the run

Inputs are the rows of a dataset of pairs, or the files of a folder; they are cut into chunks of `batch_size` in the
order of their ids, so every picture is a function of plan and input, whatever the number of machines or restarts.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import PurePosixPath

import pyarrow as pa
import pyarrow.parquet as pq

from gaugan import storage
from gaugan.config import from_plain, to_plain
from gaugan.errors import UserError
from gaugan.images import SUFFIXES
from gaugan.pairs import SPLITS, Pairs
from gaugan.preprocess import Mode
from gaugan.style_choice import StyleChoice

FORMAT_VERSION = 1
INPUTS = pa.schema(
    [
        ("place", pa.int64()),
        *((name, pa.string()) for name in ("id", "uri", "split", "image_uri", "instance_uri", "name")),
    ]
)


@dataclass(frozen=True)
class Item:
    """One label map to be painted."""

    place: int
    """Its number in the listing: styles that differ by picture are drawn by it."""
    id: str
    """Path below the input folder, or the pair's id."""
    uri: str
    """Of the file; of a pair: of its dataset."""
    split: str = ""
    """Of a pair; "" for a file."""
    image_uri: str = ""
    """Of the real picture that belongs to a file; "" = none (a pair brings its own)."""
    instance_uri: str = ""
    name: str = ""
    """What its paintings are called, without extension; "" when the id would lead out of the output folder."""


@dataclass(frozen=True, kw_only=True)
class PaintPlan:
    """The decisions of a painting run."""

    format_version: int = FORMAT_VERSION
    input: str
    model: str
    """Checkpoint folder of the generator."""
    model_hash: str
    classes_hash: str
    image_size: tuple[int, int]
    """Height, width of the paintings: the generator's."""
    style: StyleChoice
    seed: int
    mode: Mode
    """How label maps get that size: gaugan.preprocess."""
    has_real: bool
    """Real pictures are there to be shown."""
    max_pixels: int
    device: str
    precision: str
    gallery: int
    """So many label maps are shown on the page."""
    num_inputs: int
    inputs_sha256: str
    batch_size: int
    threads: int

    @property
    def shown(self) -> frozenset[int]:
        """Places of the inputs on the page, evenly spread."""
        count = min(self.gallery, self.num_inputs)
        return frozenset(self.num_inputs * k // count for k in range(count))


ADOPTED = ("batch_size", "threads", "model", "gallery")
"""A rerun takes these from plan.json whatever its flags say."""


@dataclass(frozen=True)
class Chunk:
    """The unit of work."""

    index: int
    items: tuple[Item, ...]


def list_pairs(pairs: Pairs, split: str, limit: int | None) -> list[Item]:
    """The rows of a dataset; split: one of SPLITS, or "all"."""
    splits = SPLITS if split == "all" else (split,)
    rows = [(row["id"], each) for each in splits for row in pairs.light(each)]
    if not rows:
        raise UserError(f"--input {pairs.uri}: split {split!r} is empty; give --split train or all")
    rows = sorted(rows)[:limit]
    names = _names([name for name, _ in rows])
    return [Item(place, name, pairs.uri, each, name=names[name]) for place, (name, each) in enumerate(rows)]


def list_folder(uri: str, images: str, instances: str, limit: int | None) -> list[Item]:
    """Every file below a folder but hidden ones, with the picture and the instance map of the same name, if any.

    Raises UserError when there is none, or when a folder of pictures or instance maps has none of these names.
    """
    entries = [e for e in storage.list_files(uri) if not any(part.startswith(".") for part in e.path.split("/"))]
    if not entries:
        raise UserError(f"--input {uri}: no files there; give a folder of label maps (PNG) or a dataset of pairs")
    entries = entries[:limit]
    stems = [_stem(entry.path) for entry in entries]
    pictures = _partners("--images", images, stems)
    instance_maps = _partners("--instances", instances, stems)
    names = _names([entry.path for entry in entries])
    return [
        Item(
            place, e.path, e.uri, image_uri=pictures.get(_stem(e.path), ""),
            instance_uri=instance_maps.get(_stem(e.path), ""), name=names[e.path],
        )
        for place, e in enumerate(entries)
    ]  # fmt: skip


def _partners(flag: str, folder: str, stems: list[str]) -> dict[str, str]:
    """Name without extension -> file; some of the label maps must be among them."""
    if not folder:
        return {}
    if not storage.is_folder(folder):
        raise UserError(f"{flag} {folder}: no such folder")
    found = {_stem(entry.path): entry.uri for entry in storage.list_files(folder, SUFFIXES)}
    if found.keys().isdisjoint(stems):
        raise UserError(
            f"{flag} {folder}: {len(found)} pictures, none with the name of a label map (such as {stems[0]!r}); "
            "names must be equal but for the extension"
        )
    return found


def _stem(path: str) -> str:
    suffix = PurePosixPath(path).suffix
    return path.removesuffix(suffix) if suffix.lower() in SUFFIXES else path


def _names(ids: list[str]) -> dict[str, str]:
    """id -> name of its paintings: without extension, unless two ids differ in nothing else."""
    stems = [_stem(name) for name in ids]
    twice = {stem for stem in stems if stems.count(stem) > 1} if len(set(stems)) < len(stems) else set()
    names = {name: name if stem in twice else stem for name, stem in zip(ids, stems, strict=True)}
    return {name: "" if _leads_out(name) else short for name, short in names.items()}


def _leads_out(name: str) -> bool:
    return name.startswith("/") or "\0" in name or ".." in PurePosixPath(name).parts


def inputs_sha256(items: list[Item]) -> str:
    """The identity of a listing."""
    digest = hashlib.sha256()
    for item in items:
        digest.update("\0".join(map(str, asdict(item).values())).encode() + b"\n")
    return digest.hexdigest()


def settle(output: str, plan: PaintPlan, items: list[Item]) -> tuple[PaintPlan, list[Item]]:
    """Begins a run, or continues the one that OUTPUT holds: returns its plan and its inputs.

    Raises UserError, with both values and the way out, when that run has other settings or inputs.
    """
    uri = storage.join(output, "plan.json")
    if not storage.exists(uri):
        buffer = io.BytesIO()
        pq.write_table(pa.Table.from_pylist([asdict(item) for item in items], schema=INPUTS), buffer)
        storage.write_bytes(storage.join(output, "inputs.parquet"), buffer.getvalue())
        storage.write_json(uri, to_plain(plan))
        return plan, items
    data = storage.read_json(uri)
    if data.get("format_version", 0) > FORMAT_VERSION:
        raise UserError(f"{uri}: written by a newer version; update this suite, or use another --output")
    there = from_plain(PaintPlan, data, source=uri)
    names = [field.name for field in dataclasses.fields(PaintPlan) if field.name not in ADOPTED]
    different = [name for name in names if getattr(there, name) != getattr(plan, name)]
    if different:
        values = [f"{name}: {getattr(there, name)} there, {getattr(plan, name)} now" for name in different]
        raise UserError(
            f"--output {output} holds a painting run with other settings ({'; '.join(values)}). "
            "Give the same input, model and style to continue it, or another --output to begin a new one"
        )
    rows = pq.read_table(io.BytesIO(storage.read_bytes(storage.join(output, "inputs.parquet")))).to_pylist()
    return there, [Item(**row) for row in rows]


def chunks(plan: PaintPlan, items: list[Item]) -> Iterator[Chunk]:
    """All units of work, in order."""
    for index, start in enumerate(range(0, len(items), plan.batch_size)):
        yield Chunk(index, tuple(items[start : start + plan.batch_size]))
