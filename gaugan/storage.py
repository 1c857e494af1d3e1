"""The one door to files: a URI is a local path, file://..., s3://bucket/key or gs://bucket/key (pyarrow.fs underneath).

S3 is described by the environment only (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION, AWS_ENDPOINT_URL, and
ANONYMOUS below); `use_s3` sets what jobs take as flags. Requests that fail with 5xx, a reset or silence are repeated
with growing pauses. A write is seen whole or not at all: locally a temporary name and a rename, on S3 one upload.
Keys of object stores are taken as they are: blanks, '%' and '?' need no quoting (they do in file:// URIs).
"""

from __future__ import annotations

import contextlib
import errno
import functools
import json
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from gaugan.errors import UserError, in_one_sentence
from gaugan.patience import patiently

if TYPE_CHECKING:
    import pyarrow.fs

TEMPORARY = ".writing-"
"""Local files of this prefix are being written; listings leave them out."""
S3_ATTEMPTS = 8
S3_CONNECT_TIMEOUT_S = 10.0
S3_REQUEST_TIMEOUT_S = 20.0
"""Without a byte for so long a request counts as lost."""
ANONYMOUS = "GAUGAN_S3_ANONYMOUS"
"""Environment variable: public buckets that are read without credentials, separated by commas, or "all"."""


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
    return Path(os.path.abspath(expanded(uri)))


def expanded(uri: str) -> str:
    """A local URI as a path, perhaps still a relative one: "~" and file:// are resolved."""
    if uri.startswith("file://"):
        return unquote(uri.removeprefix("file://").removeprefix("localhost"))
    return os.path.expanduser(uri)


def absolute(uri: str) -> str:
    """A URI that means the same from any working directory."""
    return str(local_path(uri)) if is_local(uri) else uri.rstrip("/")


def join(uri: str, *parts: str) -> str:
    """The URI of something below a folder."""
    return "/".join([uri.rstrip("/"), *(part.strip("/") for part in parts if part.strip("/"))])


def name(uri: str) -> str:
    """The last part of a URI."""
    return uri.rstrip("/").rsplit("/", 1)[-1]


def parent(uri: str) -> str:
    """The URI of the folder that holds it; a bucket or "/" has none and is returned itself."""
    if is_local(uri):
        return str(local_path(uri).parent)
    scheme, _, rest = uri.rstrip("/").partition("://")
    return f"{scheme}://{rest.rpartition('/')[0] or rest}"


def filesystem(uri: str) -> tuple[pyarrow.fs.FileSystem, str]:
    """The pyarrow file system of a URI and the path inside it. Raises UserError for a scheme that is not supported."""
    import pyarrow.fs as pafs

    if is_local(uri):
        return pafs.LocalFileSystem(), str(local_path(uri))
    scheme, _, path = uri.partition("://")
    bucket = path.partition("/")[0]
    if scheme not in ("s3", "gs") or not bucket:
        raise UserError(f"{uri}: give a local path, file:///path, s3://bucket/key or gs://bucket/key")
    if scheme == "gs":
        return pafs.GcsFileSystem(), path.rstrip("/")
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL", "")
    return _s3(bucket, endpoint, is_anonymous(bucket)), path.rstrip("/")


def use_s3(endpoint: str = "", region: str = "", anonymous: Sequence[str] = ()) -> dict[str, str]:
    """Describes S3 for this process and those that it starts; "" and () leave the environment as it is.

    Returns the environment variables that were set, for processes elsewhere.
    """
    if endpoint and not endpoint.startswith(("http://", "https://")):
        raise UserError(f"--s3-endpoint {endpoint}: give the address with its scheme, such as http://{endpoint}")
    wanted = {"AWS_ENDPOINT_URL": endpoint, "AWS_REGION": region, ANONYMOUS: ",".join(anonymous)}
    given = {name: value for name, value in wanted.items() if value}
    os.environ.update(given)
    return given


def is_anonymous(bucket: str) -> bool:
    """True for a bucket that is read without credentials."""
    return bool({bucket, "all"} & set(os.environ.get(ANONYMOUS, "").split(",")))


@functools.lru_cache(maxsize=32)
def _s3(bucket: str, endpoint: str, anonymous: bool) -> pyarrow.fs.FileSystem:
    """One client per bucket (of one region), kept: making one asks the network."""
    import pyarrow.fs as pafs

    if endpoint:
        # Without this the SDK asks a metadata service that only exists on EC2, and waits seconds before it gives up.
        os.environ.setdefault("AWS_EC2_METADATA_DISABLED", "true")
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    scheme, _, host = endpoint.rpartition("://")
    return pafs.S3FileSystem(
        region=region or ("us-east-1" if endpoint else pafs.resolve_s3_region(bucket)),
        endpoint_override=host.rstrip("/") or None,
        scheme=scheme or "https",
        allow_delayed_open=True,  # small files in one request instead of three
        anonymous=anonymous,
        connect_timeout=S3_CONNECT_TIMEOUT_S,
        request_timeout=S3_REQUEST_TIMEOUT_S,
        retry_strategy=pafs.AwsStandardS3RetryStrategy(max_attempts=S3_ATTEMPTS),
    )


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
    """All files below a folder, sorted by path; `suffixes` (such as ".png", any case) filters. [] when it is missing.

    Links to folders are not followed (they may form a loop), links to files are.
    """
    wanted = tuple(suffix.lower() for suffix in suffixes) if suffixes else ("",)
    root = absolute(uri)
    entries = [
        Entry(join(root, path), path, size)
        for path, size in walk(uri, recursive)
        if f"/{path}".lower().endswith(wanted)
    ]
    return sorted(entries, key=lambda entry: entry.path)


def walk(uri: str, recursive: bool = True) -> Iterator[tuple[str, int]]:
    """(path below the folder, bytes) of every file, in no order: for millions of them. See `list_files`."""
    return _local_files(local_path(uri), recursive) if is_local(uri) else _remote_files(uri, recursive)


def _local_files(root: Path, recursive: bool) -> Iterator[tuple[str, int]]:
    def fail(error: OSError) -> None:
        if not isinstance(error, (FileNotFoundError, NotADirectoryError)):
            raise error

    for folder, folders, files in os.walk(root, onerror=fail):
        if not recursive:
            folders.clear()
        for file in files:
            path = os.path.join(folder, file)
            if file.startswith(TEMPORARY) or not os.path.isfile(path):
                continue
            relative = os.path.relpath(path, root).replace(os.sep, "/")
            try:
                relative.encode()
            except UnicodeEncodeError as error:
                raise UserError(f"{root}: the file name {os.fsencode(relative)!r} is not UTF-8; rename it") from error
            yield relative, os.path.getsize(path)


def _remote_files(uri: str, recursive: bool) -> Iterator[tuple[str, int]]:
    import pyarrow.fs as pafs

    fs, root = filesystem(uri)
    for info in fs.get_file_info(pafs.FileSelector(root, recursive=recursive, allow_not_found=True)):
        if info.type == pafs.FileType.File:
            yield info.path[len(root) + 1 :], info.size


def read_bytes(uri: str, limit: int | None = None) -> bytes:
    """The content of a file. Raises FileNotFoundError, or OSError when it is larger than `limit` bytes."""
    data = read_start(uri, None if limit is None else limit + 1)
    if limit is not None and len(data) > limit:
        raise OSError(f"{uri}: larger than {limit} bytes")
    return data


def write_bytes(uri: str, data: bytes) -> None:
    """Writes a file atomically, making its folder when needed. Raises UserError when the disk is full."""
    if is_local(uri):
        target = local_path(uri)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(TEMPORARY + uuid.uuid4().hex)
        try:
            temporary.write_bytes(data)
            os.replace(temporary, target)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            raise UserError(
                f"{uri}: no room for {len(data)} bytes on this disk; free some and run the command again"
            ) from error
        finally:
            temporary.unlink(missing_ok=True)
        return
    fs, path = filesystem(uri)
    with fs.open_output_stream(path, compression=None) as stream:
        stream.write(data)


def read_start(uri: str, size: int | None) -> bytes:
    """A file's first bytes, `size` at most; None = all.

    Raises FileNotFoundError and other OSErrors; what they say begins with the URI.
    """
    fs, path = filesystem(uri)

    def read() -> bytes:
        with fs.open_input_stream(path, compression=None) as stream:  # else a name in .gz is unpacked without limit
            data: bytes = stream.read(size)
        return data

    try:
        return patiently(read)
    except OSError as error:
        raise in_one_sentence(error, uri) from error


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
    """Removes a file, a link or a whole folder; nothing happens when it is missing. Refuses "/" and whole buckets."""
    import pyarrow.fs as pafs

    if parent(uri) == absolute(uri):
        raise UserError(f"{uri}: is never removed as a whole; name a folder below it")
    if is_local(uri):
        path = local_path(uri)
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
        return
    fs, key = filesystem(uri)
    kind = fs.get_file_info(key).type
    if kind == pafs.FileType.Directory:
        fs.delete_dir(key)
    elif kind == pafs.FileType.File:
        fs.delete_file(key)


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
