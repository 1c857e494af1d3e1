"""Where pictures come from: one listing and one reading for folders, patterns, archives, Parquet files and lists.

    FOLDER, s3://bucket/prefix     every file below
    FOLDER/**/*.jpg                a pattern: * and ? within a name, ** across folders, [abc]
    FILE.zip, FILE.tar[.gz ...]    members of an archive; with a pattern (shards/*.tar) of several
    FILE.parquet                   rows with a column of bytes; with a pattern of several
    FILE.txt, FILE.lst             a list: one URI per line, relative ones below the list's own folder

An input found is an id, which is unique and the same on every machine, and a place, which says where its bytes are.
"""

from __future__ import annotations

import functools
import io
import json
import os
import posixpath
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote_to_bytes

from gaugan import archives, picture_tables, storage
from gaugan.errors import UserError
from gaugan.images import ImageError

LISTS = (".txt", ".lst", ".list")
CONTAINERS = (*archives.SUFFIXES, *picture_tables.SUFFIXES)


@dataclass(frozen=True, slots=True)
class Found:
    """One input."""

    id: str
    size: int
    """Bytes; 0 when they are not known beforehand."""
    place: str = ""
    """Where the bytes are: "" = the file ROOT/id, else JSON."""
    refusal: str = ""
    """ "CODE: REASON" when it is clear already that it can't be read."""


@dataclass(frozen=True)
class Source:
    """What --input names."""

    uri: str
    recursive: bool = True
    bytes_column: str = ""
    id_column: str = ""

    @functools.cached_property
    def pattern(self) -> str:
        """The part from the first wildcard's folder on, or ""; a name that exists is never taken for a pattern."""
        if not re.search(r"[*?[]", self.uri) or storage.exists(self.uri):
            return ""
        parts = self.uri.split("/")
        first = next(place for place, part in enumerate(parts) if re.search(r"[*?[]", part))
        return "/".join(parts[first:])

    @functools.cached_property
    def root(self) -> str:
        """The folder that ids are relative to (of a single file: the file's)."""
        if pattern := self.pattern:
            return self.uri.removesuffix(pattern).rstrip("/") or "/"
        return storage.parent(self.uri) if _is_file(self.uri) else self.uri

    def would_take(self, folder: str) -> bool:
        """True when files written to `folder`, or below it, would be inputs the next time; never for a single file."""
        if (not self.pattern and _is_file(self.uri)) or not (folder + "/").startswith(self.root.rstrip("/") + "/"):
            return False
        inside = [part for part in folder[len(self.root.rstrip("/")) :].split("/") if part]
        if not self.pattern:
            return self.recursive or not inside
        parts = self.pattern.split("/")
        if "**" in self.pattern:
            return True  # it may cross any folder
        if len(inside) >= len(parts):
            return False
        return all(_regex(part).fullmatch(name) for part, name in zip(parts, inside, strict=False))

    @property
    def is_table(self) -> bool:
        """True for rows of Parquet files."""
        return self.uri.lower().endswith(picture_tables.SUFFIXES)

    @property
    def in_order(self) -> bool:
        """True when inputs can only be read one after the other: neighbours then stay together."""
        return self.is_table or archives.is_in_order(self.uri)

    def find(self) -> Iterator[Found]:
        """Every input once; ids may still repeat. Files whose name or folder begins with "." are left out.

        Raises UserError when a single file is of no kind that holds pictures, or a list can't be read.
        """
        if pattern := self.pattern:
            yield from self._matching(pattern)
        elif not _is_file(self.uri):
            yield from _files(self.uri, self.recursive)
        elif self.uri.lower().endswith(CONTAINERS):
            yield from self._contained(self.uri, "")
        elif self.uri.lower().endswith(LISTS):
            yield from _listed(self.uri)
        else:
            kinds = ", ".join((*CONTAINERS, *LISTS))
            raise UserError(f"--input {self.uri}: one file; give a folder, a pattern, or a file of one kind of {kinds}")

    def _matching(self, pattern: str) -> Iterator[Found]:
        wanted = _regex(pattern)
        files = (found for found in _files(self.root, "/" in pattern or "**" in pattern) if wanted.fullmatch(found.id))
        if not pattern.lower().endswith(CONTAINERS):
            yield from files
            return
        for found in sorted(files, key=lambda found: found.id):  # few; their order may become that of the shards
            yield from self._contained(_uri(self.root, found), found.id + "/")

    def _contained(self, uri: str, prefix: str) -> Iterator[Found]:
        is_table = uri.lower().endswith(picture_tables.SUFFIXES)
        rows = picture_tables.rows(uri, self.bytes_column, self.id_column) if is_table else archives.members(uri)
        for name, size, place, refusal in rows:
            if not is_table:
                name = name.removeprefix("./")  # as "tar cf x.tar ." writes them
                if _is_hidden(name):
                    continue
            own = prefix + name if name else prefix.rstrip("/") or storage.name(uri)
            yield Found(own, size, json.dumps(place) if place else "", refusal)


def read(root: str, id: str, place: str, limit: int) -> bytes:
    """An input's bytes. Raises ImageError (too_large beyond `limit`, damaged members), FileNotFoundError, OSError."""
    where = json.loads(place) if place else ["file", storage.join(root, id)]
    if where[0] == "file":
        return _read_file(where[1], limit)
    return picture_tables.read_row(where, limit) if where[0] == "parquet" else archives.read_member(where, limit)


def _read_file(uri: str, limit: int) -> bytes:
    if storage.is_local(uri):
        path: Any = uri
        if uri.startswith("file://"):
            path = os.fsdecode(unquote_to_bytes(uri.removeprefix("file://")))  # the name need not be UTF-8
        with open(path, "rb") as file:
            data = file.read(limit + 1)
    else:
        data = storage.read_start(uri, limit + 1)
    if len(data) > limit:
        raise ImageError("too_large", f"more than {limit} bytes; larger files are not read")
    return data


def uri_of(root: str, id: str, place: str) -> str:
    """For people: where an input is; members and rows stand behind a "#"."""
    if not place:
        return storage.join(root, id)
    kind, uri = json.loads(place)[:2]
    relative = uri[len(root.rstrip("/")) + 1 :] + "/"
    return str(uri) if kind == "file" else f"{uri}#{id.removeprefix(relative)}"


def _is_file(uri: str) -> bool:
    return storage.exists(uri) and not storage.is_folder(uri)


def _uri(root: str, found: Found) -> str:
    return uri_of(root, found.id, found.place)


def _files(root: str, recursive: bool) -> Iterator[Found]:
    if not storage.is_local(root):
        for path, size in storage.walk(root, recursive):
            if not _is_hidden(path):
                yield Found(path, size)
    elif storage.local_path(root).is_dir():
        yield from _walk(str(storage.local_path(root)), "", recursive)


def _is_hidden(path: str) -> bool:
    """Whether it, or a folder on its way, has a name that begins with "."; also what macOS adds to its zip files."""
    return any(part.startswith(".") and part not in (".", "..") for part in path.split("/"))


def _walk(folder: str, prefix: str, recursive: bool) -> Iterator[Found]:
    """Files below a local folder, sorted within it. Links to folders are not followed (they may form a loop)."""
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            if entry.name.startswith("."):
                continue
            if entry.is_dir(follow_symlinks=False):
                if recursive:
                    yield from _walk(entry.path, f"{prefix}{entry.name}/", recursive)
            elif entry.is_file():
                yield _local(entry.path, prefix + entry.name, entry.stat().st_size)
            elif entry.is_symlink() and not os.path.exists(entry.path):
                yield _local(entry.path, prefix + entry.name, 0)  # leads nowhere: an outcome of its own, "missing"


def _local(path: str, name: str, size: int) -> Found:
    """A file whose name is not UTF-8 gets a readable id, and its place says the true name."""
    try:
        name.encode()
        return Found(name, size)
    except UnicodeEncodeError:
        readable = os.fsencode(name).decode("utf-8", "backslashreplace")
        return Found(readable, size, json.dumps(["file", "file://" + quote(os.fsencode(path))]))


def _regex(pattern: str) -> re.Pattern[str]:
    """A path pattern as a regular expression: ** crosses folders, * and ? do not."""
    words = {"**/": "(?:[^/]+/)*", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    parts = re.findall(r"\*\*/|\*\*|\*|\?|\[[!^]?\]?[^\]]*\]|.", pattern, re.DOTALL)
    return re.compile("".join(words.get(part) or _set_or_letter(part) for part in parts), re.DOTALL)


def _set_or_letter(part: str) -> str:
    if len(part) == 1:
        return re.escape(part)
    body, negated = part[1:-1], part[1] in "!^"
    inner = re.sub(r"([\\\[\]^&~|])", r"\\\1", body[negated:])
    return f"[{'^' * negated}{inner}]"


def _listed(uri: str) -> Iterator[Found]:
    """The lines of a list file; empty ones and those that begin with "#" are left out."""
    folder = storage.parent(uri)
    try:
        for line in io.TextIOWrapper(io.BytesIO(storage.read_bytes(uri)), "utf-8", newline="\n"):
            name = line.rstrip("\r\n")
            if name.strip() and not name.startswith("#"):
                yield _from_line(name, folder)
    except UnicodeDecodeError as error:
        raise UserError(f"--input {uri}: is not a list of URIs (not UTF-8 text)") from error


def _from_line(line: str, folder: str) -> Found:
    if "://" not in line and not line.startswith("/"):
        line = (
            posixpath.normpath(storage.join(folder, line)) if storage.is_local(folder) else storage.join(folder, line)
        )
    target: Any = storage.absolute(line)
    size = storage.local_path(target).stat().st_size if _is_local_file(target) else 0
    inside = target.startswith(storage.absolute(folder).rstrip("/") + "/")
    id = target[len(storage.absolute(folder).rstrip("/")) + 1 :] if inside else target.partition("://")[2] or target
    return Found(id.lstrip("/"), size, json.dumps(["file", target]))


def _is_local_file(uri: str) -> bool:
    return storage.is_local(uri) and storage.local_path(uri).is_file()
