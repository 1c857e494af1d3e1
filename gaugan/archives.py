"""Zip and tar archives as folders of files: listed once, then read member by member, nothing is unpacked to disk.

A member's place says where its bytes lie in the archive, so reading one needs no directory of the others. Declared
sizes are never trusted: unpacking ends at the limit. Zip: stored and deflate. Tar: plain, .gz, .bz2, .xz, .zst; a
compressed tar has no way in but from its start, so each process keeps its stream open and members are read in order.
"""

from __future__ import annotations

import functools
import io
import tarfile
import threading
import zipfile
import zlib
from collections.abc import Iterator
from typing import Any

from gaugan import storage
from gaugan.images import ImageError
from gaugan.patience import patiently

ZIP = (".zip",)
TAR = (".tar",)
COMPRESSED_TAR = {
    ".tar.gz": "gzip", ".tgz": "gzip", ".tar.bz2": "bz2", ".tbz2": "bz2", ".tar.xz": "xz", ".txz": "xz",
    ".tar.zst": "zstd", ".tzst": "zstd",
}  # fmt: skip
SUFFIXES = (*ZIP, *TAR, *COMPRESSED_TAR)
LOCAL_HEADER_BYTES = 30
MAX_READ_BYTES = 64 * 2**20
"""At most so much is read at once while listing: the long-name records of a tar could ask for any amount."""
Place = list[Any]
Member = tuple[str, int, Place, str]
"""Name in the archive, bytes unpacked, place, and "CODE: REASON" when it can't be read."""


def suffix(uri: str) -> str:
    """The archive suffix of a URI, or ""."""
    return next((end for end in SUFFIXES if uri.lower().endswith(end)), "")


def is_in_order(uri: str) -> bool:
    """True for archives that can only be read from their start."""
    return suffix(uri) in COMPRESSED_TAR


def members(uri: str) -> Iterator[Member]:
    """The files in an archive, in its order; folders are left out.

    A damaged archive yields what it gives, then a nameless member with the reason; only a missing one is an error.
    """
    listing = _zip_members if suffix(uri) in ZIP else _tar_members
    try:
        yield from listing(uri)
    except FileNotFoundError:
        raise
    except Exception as error:  # of zipfile, tarfile, struct, the decompressors: whatever hostile bytes can provoke
        if "AWS Error" in str(error):  # the store's fault, not the archive's: another run may list it
            raise
        yield "", 0, [], f"corrupt: the archive can't be listed to its end: {error}"


def read_member(place: Place, limit: int) -> bytes:
    """A member's bytes. Raises ImageError: too_large beyond `limit`, corrupt, unsupported_format."""
    return _read_zipped(place, limit) if place[0] == "zip" else _read_tarred(place, limit)


def safe_name(name: str) -> bool:
    """Whether a member's name stays below the folder it would be unpacked to."""
    parts = name.replace("\\", "/").split("/")
    return bool(name) and not name.startswith(("/", "\\")) and ".." not in parts and ":" not in parts[0]


def _refusal(name: str) -> str:
    return "" if safe_name(name) else "unsafe_name: the name in the archive leads out of it"


def _zip_members(uri: str) -> Iterator[Member]:
    fs, path = storage.filesystem(uri)
    with fs.open_input_file(path) as file, zipfile.ZipFile(PatientFile(file)) as archive:
        for info in archive.infolist():
            if info.is_dir():
                continue
            place = ["zip", uri, info.header_offset, info.compress_size, info.file_size, info.compress_type, info.CRC]
            refusal = _refusal(info.filename)
            if info.flag_bits & 1:
                refusal = refusal or "unreadable: the member is encrypted"
            yield info.filename, info.file_size, place, refusal


def _read_zipped(place: Place, limit: int) -> bytes:
    _, uri, offset, packed_bytes, size, method, checksum = place
    if size > limit or packed_bytes > limit:
        raise ImageError("too_large", f"{max(size, packed_bytes)} bytes; at most {limit} are read")
    if method not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ImageError("unsupported_format", f"zip compression method {method}; pack with deflate or without any")
    fs, path = storage.filesystem(uri)
    with fs.open_input_file(path) as file:
        header = file.read_at(LOCAL_HEADER_BYTES, offset)
        if header[:4] != b"PK\x03\x04":
            raise ImageError("corrupt", "the archive has no member where its directory says")
        extra_bytes = int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
        data: bytes = file.read_at(packed_bytes, offset + LOCAL_HEADER_BYTES + extra_bytes)
    if method == zipfile.ZIP_DEFLATED:
        try:
            data = zlib.decompressobj(-15).decompress(data, size + 1)
        except zlib.error as error:
            raise ImageError("corrupt", f"the archive member can't be unpacked: {error}") from error
    if len(data) != size or zlib.crc32(data) != checksum:
        raise ImageError("corrupt", "the archive member is not what the archive's directory says (size or checksum)")
    return data


class ForwardStream(io.RawIOBase):
    """A stream that knows its position and can skip ahead, never back; no read is larger than MAX_READ_BYTES."""

    def __init__(self, stream: Any) -> None:
        self.stream, self.position = stream, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.position

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= MAX_READ_BYTES:
            raise OSError(f"a record of {size} bytes in the archive; at most {MAX_READ_BYTES} are read")
        parts = []
        while size > 0 and (part := self.stream.read(min(size, 2**20))):
            parts.append(part)
            size -= len(part)
            self.position += len(part)
        return b"".join(parts)

    def seek(self, target: int, whence: int = io.SEEK_SET) -> int:
        if whence != io.SEEK_SET or target < self.position:
            raise OSError("this stream can't go back")
        while self.position < target and self.read(min(target - self.position, 2**20)):
            pass
        return self.position


class PatientFile:
    """A file of pyarrow at any place, read again where the store was busy: directories are read in small pieces."""

    def __init__(self, file: Any) -> None:
        self.file, self.position = file, 0

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.position

    def seek(self, target: int, whence: int = io.SEEK_SET) -> int:
        place = target + {io.SEEK_SET: 0, io.SEEK_CUR: self.position, io.SEEK_END: self.file.size()}[whence]
        if place < 0:
            raise OSError(f"there is nothing at {place}")
        self.position = place
        return place

    def read(self, size: int = -1) -> bytes:
        left = max(0, self.file.size() - self.position)
        size = left if size < 0 else min(size, left)
        data: bytes = patiently(lambda: self.file.read_at(size, self.position))
        self.position += len(data)
        return data


class BoundedFile(ForwardStream):
    """A file that can be read at any place, with the same limit for one read."""

    def seek(self, target: int, whence: int = io.SEEK_SET) -> int:
        self.position = self.stream.seek(target, whence)
        return self.position


def _open_tar(uri: str) -> ForwardStream:
    fs, path = storage.filesystem(uri)
    if not is_in_order(uri):
        return BoundedFile(PatientFile(fs.open_input_file(path)))
    compression = COMPRESSED_TAR[suffix(uri)]
    return ForwardStream(fs.open_input_stream(path, compression=None if compression == "xz" else compression))


def _tar_stream(uri: str) -> ForwardStream:
    stream = _open_tar(uri)
    if COMPRESSED_TAR.get(suffix(uri)) == "xz":
        import lzma

        return ForwardStream(lzma.LZMAFile(stream.stream))
    return stream


def _tar_members(uri: str) -> Iterator[Member]:
    stream = _tar_stream(uri)
    with tarfile.open(fileobj=stream, mode="r:", errors="surrogateescape") as archive:
        while (info := archive.next()) is not None:
            archive.members = []  # type: ignore[attr-defined]  # else it remembers them all
            if info.isdir():
                continue
            name = info.name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
            refusal = _refusal(name)
            if not info.isfile():
                refusal = refusal or "other_file: a link or device in the archive, not a file"
            elif info.issparse():
                refusal = refusal or "unreadable: a sparse file in the archive"
            yield name, info.size if info.isfile() else 0, ["tar", uri, info.offset_data, info.size], refusal


def _read_tarred(place: Place, limit: int) -> bytes:
    _, uri, offset, size = place
    if size > limit:
        raise ImageError("too_large", f"{size} bytes; at most {limit} are read")
    if is_in_order(uri):
        data = _cursor(uri).read(offset, size)
    else:
        fs, path = storage.filesystem(uri)
        with fs.open_input_file(path) as file:
            data = file.read_at(size, offset)
    if len(data) != size:
        raise ImageError("truncated", "the archive ends within this member")
    return data


class Cursor:
    """An open compressed tar, kept where it was last read; going back begins anew."""

    def __init__(self, uri: str) -> None:
        self.uri, self.stream, self.lock = uri, _tar_stream(uri), threading.Lock()

    def read(self, offset: int, size: int) -> bytes:
        """Raises ImageError, or OSError, when the compressed data is damaged."""
        with self.lock:
            if offset < self.stream.position:
                self.stream = _tar_stream(self.uri)
            try:
                self.stream.seek(offset)
                return self.stream.read(size)
            except Exception as error:
                self.stream = _tar_stream(self.uri)
                if isinstance(error, OSError):  # perhaps the network's: worth another attempt
                    raise
                raise ImageError("corrupt", f"the archive is damaged before or within this member: {error}") from error


@functools.lru_cache(maxsize=4)
def _cursor(uri: str) -> Cursor:
    return Cursor(uri)
