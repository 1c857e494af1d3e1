"""The one door to files: a URI is a local path, file://..., or s3://bucket/key (pyarrow.fs underneath).

Credentials and endpoint of S3 come from the environment only (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION,
AWS_ENDPOINT_URL). A write is seen whole or not at all: locally a temporary name and a rename, on S3 one object upload.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow.fs


@dataclass(frozen=True)
class Entry:
    """One file below a folder."""

    uri: str
    path: str
    """Relative to the listed folder, with '/' between the parts."""
    size: int
    """Bytes."""


def is_local(uri: str) -> bool:
    """True for plain paths and file:// URIs."""
    return "://" not in uri or uri.startswith("file://")


def local_path(uri: str) -> Path:
    """The absolute pathlib form of a local URI."""
    return Path(os.path.abspath(os.path.expanduser(uri.removeprefix("file://"))))


def absolute(uri: str) -> str:
    """A URI that means the same from any working directory."""
    return str(local_path(uri)) if is_local(uri) else uri.rstrip("/")


def join(uri: str, *parts: str) -> str:
    """The URI of something below a folder."""
    return "/".join([uri.rstrip("/"), *(part.strip("/") for part in parts)])


def name(uri: str) -> str:
    """The last part of a URI."""
    return uri.rstrip("/").rsplit("/", 1)[-1]


def parent(uri: str) -> str:
    """The URI of the folder that holds it."""
    return absolute(uri).rsplit("/", 1)[0]


def filesystem(uri: str) -> tuple[pyarrow.fs.FileSystem, str]:
    """The pyarrow file system of a URI and the path inside it."""
    import pyarrow.fs as pafs

    if is_local(uri):
        return pafs.LocalFileSystem(), str(local_path(uri))
    _name_instance_of_s3()
    return pafs.FileSystem.from_uri(uri)


def _name_instance_of_s3() -> None:
    # Without this the SDK asks a metadata service that only exists on EC2, and waits for seconds before it gives up.
    if "AWS_ENDPOINT_URL" in os.environ:
        os.environ.setdefault("AWS_EC2_METADATA_DISABLED", "true")


def exists(uri: str) -> bool:
    """True when a file, or a folder with something in it, is there."""
    import pyarrow.fs as pafs

    fs, path = filesystem(uri)
    return fs.get_file_info(path).type != pafs.FileType.NotFound


def is_folder(uri: str) -> bool:
    """True when the URI names a folder (on S3: a prefix with objects)."""
    import pyarrow.fs as pafs

    fs, path = filesystem(uri)
    return fs.get_file_info(path).type == pafs.FileType.Directory


def list_files(uri: str, suffixes: Sequence[str] | None = None, recursive: bool = True) -> list[Entry]:
    """All files below a folder, sorted by path; `suffixes` (such as ".png", any case) filters. [] when it is missing."""
    import pyarrow.fs as pafs

    fs, root = filesystem(uri)
    infos = fs.get_file_info(pafs.FileSelector(root, recursive=recursive, allow_not_found=True))
    wanted = tuple(suffix.lower() for suffix in suffixes) if suffixes else ("",)
    entries = []
    for info in infos:
        if info.type == pafs.FileType.File and info.path.lower().endswith(wanted):
            path = info.path[len(root.rstrip("/")) + 1 :]
            entries.append(Entry(join(absolute(uri), path), path, info.size))
    return sorted(entries, key=lambda entry: entry.path)


def read_bytes(uri: str, limit: int | None = None) -> bytes:
    """The content of a file. Raises FileNotFoundError, or OSError when it is larger than `limit` bytes."""
    fs, path = filesystem(uri)
    with fs.open_input_stream(path) as stream:
        data: bytes = stream.read() if limit is None else stream.read(limit + 1)
    if limit is not None and len(data) > limit:
        raise OSError(f"{uri}: larger than {limit} bytes")
    return data


def write_bytes(uri: str, data: bytes) -> None:
    """Writes a file atomically, making its folder when needed."""
    if is_local(uri):
        target = local_path(uri)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.tmp")
        try:
            temporary.write_bytes(data)
            os.replace(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)
        return
    fs, path = filesystem(uri)
    with fs.open_output_stream(path) as stream:
        stream.write(data)


def read_text(uri: str) -> str:
    """A UTF-8 file's text."""
    return read_bytes(uri).decode("utf-8")


def write_text(uri: str, text: str) -> None:
    """Writes a UTF-8 file atomically."""
    write_bytes(uri, text.encode("utf-8"))


def read_json(uri: str) -> Any:
    """A JSON file's content."""
    return json.loads(read_bytes(uri))


def write_json(uri: str, value: Any) -> None:
    """Writes a JSON file atomically, indented, keys in the given order."""
    write_text(uri, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def make_folder(uri: str) -> None:
    """Makes a local folder; object stores need none."""
    if is_local(uri):
        local_path(uri).mkdir(parents=True, exist_ok=True)


def remove(uri: str) -> None:
    """Removes a file or a whole folder; nothing happens when it is missing."""
    import pyarrow.fs as pafs

    fs, path = filesystem(uri)
    kind = fs.get_file_info(path).type
    if kind == pafs.FileType.Directory:
        fs.delete_dir(path)
    elif kind == pafs.FileType.File:
        fs.delete_file(path)


def upload_folder(local: str | Path, uri: str, last: str | None = None) -> None:
    """Copies a local folder to a URI; the file named `last`, if any, is written after all others (a commit marker)."""
    files = list_files(str(local))
    for entry in sorted(files, key=lambda entry: entry.path == last):
        write_bytes(join(uri, entry.path), Path(entry.uri).read_bytes())


@contextlib.contextmanager
def local_copy(uri: str) -> Iterator[Path]:
    """A local path with the content of a file or folder: the thing itself when local, else a temporary copy."""
    if is_local(uri):
        yield local_path(uri)
        return
    with tempfile.TemporaryDirectory() as folder:
        if is_folder(uri):
            for entry in list_files(uri):
                target = Path(folder, entry.path)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(read_bytes(entry.uri))
            yield Path(folder)
        else:
            target = Path(folder, name(uri))
            target.write_bytes(read_bytes(uri))
            yield target


def free_bytes(uri: str) -> int | None:
    """Free bytes on the disk that would hold `uri`; None for object stores."""
    if not is_local(uri):
        return None
    folder = local_path(uri)
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free
