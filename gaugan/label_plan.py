"""What a labelling run does, decided before it begins: which inputs, in which units of work, by which model.

    OUTPUT/plan.json        the decisions; a rerun must agree with it
    OUTPUT/inputs.parquet   the listing, one row per input, which defines the run: later files need another output

An input belongs to a shard by the hash of its id; a shard's inputs, sorted by id, are cut into chunks of `batch_size`.
So every file of the result is a function of plan and pictures, whatever the number of machines or restarts.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from gaugan import storage
from gaugan.config import from_plain, to_plain
from gaugan.errors import UserError
from gaugan.listing import INPUTS, Item, Listing, Shards, columns_of, make_listing
from gaugan.posts import add_metadata
from gaugan.sources import Source

FORMAT_VERSION = 2
ROWS_PER_SHARD = 256
SHARD_BYTES = 128 * 2**20
"""Of pictures in a shard on average at most: a shard is put together in memory, and Arrow's columns end at 2 GiB."""


@dataclass(frozen=True, kw_only=True)
class LabelPlan:
    """The decisions of a labelling run."""

    format_version: int = FORMAT_VERSION
    input: str
    """Where the pictures are: see gaugan.sources."""
    root: str = ""
    """The folder that ids are relative to; "" = the input."""
    in_order: bool = False
    """The input can only be read from its start: shards are runs of neighbours, not drawn by hash."""
    model: str
    """Checkpoint folder of the U-Net."""
    model_hash: str
    classes_hash: str
    segment_size: tuple[int, int]
    """Height, width at which the U-Net works."""
    image_size: tuple[int, int] | None
    """Pictures are cropped and resized to this; None = kept as they are."""
    max_pixels: int
    min_side: int
    min_confidence: float
    """Label maps below it are to be reviewed."""
    reject_confidence: float = 0.0
    """Label maps below it are no training pairs."""
    held_out: float
    seed: int
    device: str
    """cpu or cuda: their answers differ in the last bits."""
    precision: str
    mirror: bool = False
    """Answers are averaged with those of the mirrored picture."""
    crop: Literal["none", "centre", "face"] = "none"
    skip_below: int | None = None
    """Pictures with a smaller side are skipped; so are those with a larger side above `skip_above` ..."""
    skip_above: int | None = None
    skip_aspect: float | None = None
    """... or with more than this many times as much of one side as of the other."""
    metadata: str = ""
    ratings: tuple[str, ...] = ()
    remove_specks: bool = False
    """Components too small to mean anything take the class around them."""
    recursive: bool
    limit: int | None
    num_inputs: int
    inputs_sha256: str
    batch_size: int
    inference_batch: int = 1
    """Pictures per pass of the U-Net, the last pass filled up: answers repeat bit by bit only for one number."""
    threads: int
    """Of each U-Net: answers repeat bit by bit only for one number of threads."""
    rows_per_shard: int = ROWS_PER_SHARD

    @property
    def base(self) -> str:
        """The folder that ids are relative to."""
        return self.root or self.input

    @property
    def num_shards(self) -> int:
        return max(1, -(-self.num_inputs // self.rows_per_shard))


ADOPTED = ("batch_size", "inference_batch", "threads", "rows_per_shard", "model")
"""A rerun takes these from plan.json whatever its flags say: they change no answer, or must not change."""
MEANT = {
    "model_hash": "the model that it was begun with (its folder is in plan.json)",
    "classes_hash": "a model of the same class table",
    "device": "a machine of the same kind of device, as answers of CPUs and GPUs differ in the last bits (--use-gpu)",
}
"""What the user has to give again, where the field's name does not say it."""
LISTING = ("num_inputs", "inputs_sha256")


@dataclass(frozen=True)
class Chunk:
    """The unit of work: up to `batch_size` inputs of one shard."""

    shard: int
    index: int
    items: tuple[Item, ...]


def list_inputs(
    source: Source,
    limit: int | None = None,
    held_out: float = 0.0,
    seed: int = 0,
    *,
    metadata: str = "",
    ratings: tuple[str, ...] = (),
) -> Listing:
    """Every input of the source, sorted by id (or in the source's own order, when it can only be read so).

    metadata, ratings: see `posts.add_metadata`. Raises UserError when there is none.
    """
    listing = make_listing(source.find(), limit, held_out, seed, source.in_order)
    if not len(listing):
        what = "no file matches this pattern" if source.pattern else "no files there"
        raise UserError(f"--input {source.uri}: {what}; give the folder or s3:// prefix that holds the pictures")
    return add_metadata(listing, metadata, ratings) if metadata else listing


def rows_per_shard(num_inputs: int, num_bytes: int) -> int:
    """How many of so many inputs, which take `num_bytes` in the dataset, one shard holds."""
    return max(1, min(ROWS_PER_SHARD, SHARD_BYTES * num_inputs // max(1, num_bytes)))


def settle(output: str, plan: LabelPlan, items: Sequence[Item]) -> tuple[LabelPlan, Sequence[Item], list[str]]:
    """Begins a run, or continues the one that OUTPUT holds: returns its plan, its inputs and notes for the user.

    Raises UserError, with both values and the way out, when the folder's run was made by another model or with other
    preprocessing.
    """
    if not check_resume(output, plan):
        listing = items if isinstance(items, Listing) else Listing.of(items)
        storage.write_bytes(storage.join(output, "inputs.parquet"), listing.encode())
        storage.write_json(storage.join(output, "plan.json"), to_plain(plan))
        return plan, items, []
    there = read_plan(output)
    notes = [] if plan.inputs_sha256 == there.inputs_sha256 else [_what_changed(read_inputs(output), items)]
    for name in ("batch_size", "inference_batch", "threads"):
        if getattr(there, name) != getattr(plan, name):
            notes.append(f"keeps {name} {getattr(there, name)} of the run that is continued (so that results repeat)")
    if there.model != plan.model and not storage.exists(storage.join(there.model, "meta.json")):
        notes.append(f"takes the model from {plan.model}, as it is gone from {there.model}")
        there = dataclasses.replace(there, model=plan.model)
    return there, read_inputs(output), notes


def read_plan(output: str) -> LabelPlan:
    """OUTPUT/plan.json."""
    uri = storage.join(output, "plan.json")
    data = storage.read_json(uri)
    version = data.get("format_version", 0)
    if version != FORMAT_VERSION:
        age, advice = ("a newer", "update this suite") if version > FORMAT_VERSION else ("an older", "finish it there")
        raise UserError(f"{uri}: the run was begun by {age} version of this suite; {advice}, or use another --output")
    return from_plain(LabelPlan, data, source=uri)


def check_resume(output: str, now: LabelPlan) -> bool:
    """True when OUTPUT holds a run that `now` continues, False when it can begin there.

    Raises UserError as `settle`. A run of other settings that has finished nothing yet is no obstacle: a mistake that
    was seen at once must not bind the folder.
    """
    if not storage.exists(storage.join(output, "plan.json")):
        if storage.exists(storage.join(output, "manifest.json")):
            raise UserError(f"--output {output}: holds another dataset already; choose another --output")
        return False
    there = read_plan(output)
    names = [field.name for field in dataclasses.fields(LabelPlan) if field.name not in (*ADOPTED, *LISTING)]
    different = [name for name in names if getattr(there, name) != getattr(now, name)]
    if different:
        if not any(storage.list_files(storage.join(output, part), [".parquet"]) for part in (".work", "outcomes")):
            return False
        values = [f"{name}: {getattr(there, name)} there, {getattr(now, name)} now" for name in different]
        same = "; ".join(MEANT[name] for name in different if name in MEANT) or "the same settings"
        raise UserError(
            f"--output {output} holds a labelling run with other settings ({'; '.join(values)}). "
            f"To continue it give {same}; to begin a new one, another --output"
        )
    return True


def _what_changed(there: Sequence[Item], now: Sequence[Item]) -> str:
    old, new = {item.id for item in there}, {item.id for item in now}
    added, gone = sorted(new - old), sorted(old - new)
    parts = [f"{len(added)} new files (such as {added[0]})"] if added else []
    parts += [f"{len(gone)} files are gone (such as {gone[0]})"] if gone else []
    what = " and ".join(parts) or "some files have another size"
    return f"the input folder has changed since this run began: {what}; new files need a run with another --output"


def read_inputs(output: str) -> Listing:
    """OUTPUT/inputs.parquet."""
    return Listing.decode(storage.read_bytes(storage.join(output, "inputs.parquet")))


def by_shard(plan: LabelPlan, items: Sequence[Item]) -> Shards:
    """Shard number -> its inputs."""
    return Shards(items, plan.num_shards, plan.rows_per_shard, plan.in_order)


def chunks(plan: LabelPlan, shard: int, items: list[Item]) -> Iterator[Chunk]:
    """The chunks of one shard."""
    for index, start in enumerate(range(0, len(items), plan.batch_size)):
        yield Chunk(shard, index, tuple(items[start : start + plan.batch_size]))


def chunk_to_plain(chunk: Chunk) -> dict[str, Any]:
    """For a Ray Data row."""
    return {"shard": chunk.shard, "index": chunk.index, **columns_of(chunk.items)}


def chunk_from_plain(row: dict[str, Any]) -> Chunk:
    """The inverse of `chunk_to_plain`."""
    columns = [map(int if name == "size" else str, row[name]) for name in INPUTS.names]
    return Chunk(int(row["shard"]), int(row["index"]), tuple(map(Item, *columns)))
