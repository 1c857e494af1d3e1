"""Parquet files whose rows hold pictures: a column of bytes, or of {bytes, path} as Hugging Face writes them.

Listing reads ids and footers only. Rows are read in order, a few at a time, from a stream that each process keeps open:
memory holds some pages, never a row group.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from gaugan import storage
from gaugan.errors import UserError, in_one_sentence
from gaugan.images import ImageError

if TYPE_CHECKING:
    import pyarrow as pa

SUFFIXES = (".parquet",)
BYTES_COLUMNS = ("image", "bytes", "data", "picture", "img", "jpg", "png", "webp")
ID_COLUMNS = ("id", "key", "__key__", "path", "filename", "file_name", "name")
ROWS_AT_ONCE = 16
Place = list[Any]
Row = tuple[str, int, Place, str]
"""Id, estimated bytes, place, and "" (see archives.Member)."""


def rows(uri: str, bytes_column: str = "", id_column: str = "") -> Iterator[Row]:
    """The rows of a file, in order. Raises UserError when no column suits.

    bytes_column, id_column: "" = the first of the usual names; without an id column rows are numbered 00000000 ...
    """
    file = _open(uri)
    schema = file.schema_arrow
    column = _column(uri, schema, bytes_column, BYTES_COLUMNS, "--bytes-column", _holds_bytes)
    if not column:
        raise UserError(f"{uri}: no column of bytes among {', '.join(schema.names)}; name it with --bytes-column")
    names = _column(uri, schema, id_column, ID_COLUMNS, "--id-column", _holds_names)
    first = 0
    for group in range(file.num_row_groups):
        found = file.metadata.row_group(group)
        size = _group_bytes(found, column) // max(1, found.num_rows)
        ids: list[Any] = [None] * found.num_rows
        if names:
            ids = file.read_row_group(group, columns=[names]).column(names).to_pylist()
        for row, name in enumerate(ids):
            own = f"{first + row:08d}" if name is None else str(name)
            yield own, size, ["parquet", uri, column, group, row], ""
        first += found.num_rows


def read_row(place: Place, limit: int) -> bytes:
    """A row's bytes. Raises ImageError: too_large beyond `limit`, empty."""
    _, uri, column, group, row = place
    data = _cursor(uri, column).read(group, row)
    if len(data) > limit:
        raise ImageError("too_large", f"{len(data)} bytes; at most {limit} are read")
    return data


def _open(uri: str) -> Any:
    import pyarrow.parquet as pq

    fs, path = storage.filesystem(uri)
    try:
        return pq.ParquetFile(fs.open_input_file(path), buffer_size=2**20)
    except (OSError, ValueError) as error:
        if isinstance(error, FileNotFoundError):
            raise in_one_sentence(error, uri) from error
        raise UserError(f"{uri}: can't be read as a Parquet file: {error}") from error


def _column(uri: str, schema: pa.Schema, wanted: str, usual: tuple[str, ...], flag: str, suits: Any) -> str:
    if wanted:
        if wanted not in schema.names or not suits(schema.field(wanted).type):
            raise UserError(f"{flag} {wanted}: {uri} has no such column of that kind, but {', '.join(schema.names)}")
        return wanted
    return next((name for name in usual if name in schema.names and suits(schema.field(name).type)), "")


def _holds_bytes(kind: pa.DataType) -> bool:
    import pyarrow.types as types

    if types.is_struct(kind):
        return kind.get_field_index("bytes") >= 0 and _holds_bytes(kind.field("bytes").type)
    return types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind)


def _holds_names(kind: pa.DataType) -> bool:
    import pyarrow.types as types

    return types.is_string(kind) or types.is_large_string(kind) or types.is_integer(kind)


def _group_bytes(group: Any, column: str) -> int:
    """Uncompressed bytes of a column (and what is nested in it) in a row group."""
    chunks = [group.column(place) for place in range(group.num_columns)]
    return sum(chunk.total_uncompressed_size for chunk in chunks if chunk.path_in_schema.split(".")[0] == column)


class Cursor:
    """The rows of one file, a few at a time; going back within a row group begins it anew."""

    def __init__(self, uri: str, column: str) -> None:
        self.file, self.column, self.lock = _open(uri), column, threading.Lock()
        self.group, self.first = -1, 0
        self.batches: Iterator[Any] = iter(())
        self.values: Any = []

    def read(self, group: int, row: int) -> bytes:
        """Raises ImageError when the row holds nothing."""
        with self.lock:
            try:
                value = self._value(group, row)
            except BaseException:
                self.group = -1  # the stream may stand anywhere
                raise
        if isinstance(value, dict):
            value = value["bytes"]
        if not value:
            raise ImageError("empty", "the row holds no bytes")
        return bytes(value)

    def _value(self, group: int, row: int) -> Any:
        if group != self.group or row < self.first:
            self.batches = self.file.iter_batches(ROWS_AT_ONCE, row_groups=[group], columns=[self.column])
            self.group, self.first, self.values = group, 0, []
        while row >= self.first + len(self.values):
            self.first += len(self.values)
            self.values = next(self.batches).column(0)
        return self.values[row - self.first].as_py()


@functools.lru_cache(maxsize=2)
def _cursor(uri: str, column: str) -> Cursor:
    return Cursor(uri, column)
