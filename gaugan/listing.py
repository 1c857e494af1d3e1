"""The inputs of a labelling run, in columns: a million of them are about 100 MB, not a million objects.

Order and split are functions of the ids, and ids are unique: the same files give the same listing on every machine.
"""

from __future__ import annotations

import hashlib
import io
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from gaugan.sources import Found

ROWS_AT_ONCE = 65_536
TWO_FROM = 4
"""So many inputs are enough to hold out two: one alone can't be measured on, as paintings are compared with others."""
INPUTS = pa.schema(
    [
        ("id", pa.large_string()),
        ("size", pa.int64()),
        ("split", pa.large_string()),
        ("place", pa.large_string()),
        ("tags", pa.large_string()),
        ("refusal", pa.large_string()),
    ]
)


@dataclass(frozen=True, slots=True)
class Item:
    """One input."""

    id: str
    """Path below the input root, with extension."""
    size: int
    """Bytes; 0 when not known."""
    split: str
    place: str = ""
    """Where its bytes are, see gaugan.sources; "" = the file ROOT/id."""
    tags: str = ""
    """What its metadata says, for the provenance."""
    refusal: str = ""
    """ "CODE: REASON" when it is decided already that it will not be labelled."""


class Listing(Sequence[Item]):
    """Items over the columns of INPUTS."""

    def __init__(self, table: pa.Table) -> None:
        self.table = table

    @staticmethod
    def of(items: Iterable[Item]) -> Listing:
        """The columns of some items."""
        rest = iter(items)
        tables = []
        while part := list(islice(rest, ROWS_AT_ONCE)):
            columns = {name: [getattr(item, name) for item in part] for name in INPUTS.names}
            tables.append(pa.table(columns, schema=INPUTS))
        return Listing(pa.concat_tables(tables) if tables else INPUTS.empty_table())

    @staticmethod
    def decode(data: bytes) -> Listing:
        """From the bytes of `encode`; files of older versions lack the last columns."""
        table = pq.read_table(io.BytesIO(data))
        for name in INPUTS.names[table.num_columns :]:
            table = table.append_column(name, pa.array([""] * len(table), pa.large_string()))
        return Listing(table.cast(INPUTS))

    def encode(self) -> bytes:
        """As a Parquet file."""
        buffer = io.BytesIO()
        pq.write_table(self.table, buffer, compression="zstd", row_group_size=ROWS_AT_ONCE)
        return buffer.getvalue()

    def __len__(self) -> int:
        return int(self.table.num_rows)

    @overload
    def __getitem__(self, key: int) -> Item: ...
    @overload
    def __getitem__(self, key: slice) -> Listing: ...
    def __getitem__(self, key: int | slice) -> Item | Listing:
        if isinstance(key, slice):
            start, stop, step = key.indices(len(self))
            assert step == 1, "a listing is cut, not thinned"
            return Listing(self.table.slice(start, max(0, stop - start)))
        return next(iter(Listing(self.table.slice(range(len(self))[key], 1))))

    def __iter__(self) -> Iterator[Item]:
        for batch in self.table.to_batches(ROWS_AT_ONCE):
            yield from map(Item, *(column.to_pylist() for column in batch.columns))

    @property
    def num_bytes(self) -> int:
        """Of this listing in memory."""
        return int(self.table.nbytes)

    def capped_bytes(self, largest: int) -> int:
        """The sum of the inputs' sizes, each counted as `largest` at most."""
        return int(pc.sum(pc.min_element_wise(self.table.column("size"), largest)).as_py() or 0)


def make_listing(found: Iterable[Found], limit: int | None, held_out: float, seed: int, in_order: bool) -> Listing:
    """What a source found -> a listing: ids made unique, sorted by id (unless in_order), cut at `limit`, split."""
    table = _table(found)
    ids = _unique(table.column("id"))
    table = table.set_column(0, "id", ids)
    if not in_order:
        table = table.take(pc.sort_indices(ids))
    table = table.slice(0, limit)
    splits = _splits(table.column("id"), held_out, seed)
    empty = pa.repeat(pa.scalar("", pa.large_string()), len(table))
    columns = [table.column("id"), table.column("size"), splits, table.column("place"), empty, table.column("refusal")]
    return Listing(pa.table(columns, schema=INPUTS).combine_chunks())


def _table(found: Iterable[Found]) -> pa.Table:
    schema = pa.schema([INPUTS.field(name) for name in ("id", "size", "place", "refusal")])
    rest, tables = iter(found), []
    while part := list(islice(rest, ROWS_AT_ONCE)):
        tables.append(pa.table([[getattr(one, name) for one in part] for name in schema.names], schema=schema))
    return pa.concat_tables(tables) if tables else schema.empty_table()


def _unique(ids: pa.ChunkedArray) -> pa.ChunkedArray:
    """The second "a.png" becomes "a.png#2": archives and lists may hold a name twice, and each is an input."""
    if pc.count_distinct(ids).as_py() == len(ids):
        return ids
    names = ids.to_pylist()
    taken, seen = set(names), Counter[str]()
    for place, name in enumerate(names):
        seen[name] += 1
        if seen[name] > 1:
            names[place] = _free_name(name, seen, taken)
    return pa.chunked_array([pa.array(names, pa.large_string())])


def _free_name(name: str, seen: Counter[str], taken: set[str]) -> str:
    while (other := f"{name}#{seen[name]}") in taken:
        seen[name] += 1
    taken.add(other)
    return other


def _splits(ids: pa.ChunkedArray, held_out: float, seed: int) -> pa.Array:
    """The rule of pairs.split_by_source, in columns; but of TWO_FROM inputs and more at least two are held out."""
    count = round(held_out * len(ids))
    if 0 < held_out < 1 and len(ids) > 1:
        count = min(max(count, 1 if len(ids) < TWO_FROM else 2), len(ids) - 1)
    order = np.argsort(_hashes(ids, f"{seed}:"), kind="stable")
    is_held_out = np.zeros(len(ids), dtype=bool)
    is_held_out[order[:count]] = True
    held, other = (pa.scalar(name, pa.large_string()) for name in ("held_out", "train"))
    return pc.if_else(pa.array(is_held_out), held, other)


def _hashes(ids: pa.ChunkedArray, salt: str = "") -> np.ndarray:
    """uint64 (N): the first 8 bytes of sha256(salt + id)."""
    prefix = hashlib.sha256(salt.encode())

    def digest(name: str) -> bytes:
        state = prefix.copy()
        state.update(name.encode())
        return state.digest()[:8]

    data = b"".join(digest(name) for batch in ids.chunks for name in batch.to_pylist())
    return np.frombuffer(data, dtype=">u8").astype(np.uint64)


def listing_sha256(items: Sequence[Item]) -> str:
    """The identity of a listing: ids and sizes."""
    digest = hashlib.sha256()
    for item in items:
        digest.update(f"{item.id}\0{item.size}\n".encode())
    return digest.hexdigest()


class Shards(Mapping[int, list[Item]]):
    """Shard number -> its inputs; shards without inputs are left out.

    By the hash of the id, sorted by id. With in_order, runs of `rows_per_shard` neighbours in the order of the listing.
    """

    def __init__(self, items: Sequence[Item], num_shards: int, rows_per_shard: int, in_order: bool) -> None:
        table = (items if isinstance(items, Listing) else Listing.of(items)).table
        if in_order:
            numbers = np.arange(len(table)) // rows_per_shard
        else:
            table = table.take(pc.sort_indices(table.column("id")))
            numbers = (_hashes(table.column("id")) % np.uint64(num_shards)).astype(np.int64)
            order = np.argsort(numbers, kind="stable")
            table, numbers = table.take(pa.array(order)), numbers[order]
        self.table = table.combine_chunks()
        present, starts = np.unique(numbers, return_index=True)
        ends = [*starts[1:].tolist(), len(table)]
        self.ranges = dict(zip(present.tolist(), zip(starts.tolist(), ends, strict=True), strict=True))

    def __getitem__(self, shard: int) -> list[Item]:
        start, end = self.ranges[shard]
        return list(Listing(self.table.slice(start, end - start)))

    def __iter__(self) -> Iterator[int]:
        return iter(self.ranges)

    def __len__(self) -> int:
        return len(self.ranges)

    def size(self, shard: int) -> int:
        """Its number of inputs."""
        start, end = self.ranges[shard]
        return end - start


def columns_of(items: Sequence[Item]) -> dict[str, list[Any]]:
    """Column name -> values, of a few items."""
    return {name: [getattr(item, name) for item in items] for name in INPUTS.names}
