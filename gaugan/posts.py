"""What an image board knows of its posts: ratings and tags, joined to pictures by the number in their names.

Danbooru's dumps are JSON lines, one post each: `id`, `rating`, and `tags` (names, or {name, ...}) or `tag_string`.
Their pictures lie in buckets, original/0123/4567123.jpg: the folder is id mod 1000, the name is the post's id.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from gaugan import storage
from gaugan.errors import UserError
from gaugan.listing import INPUTS, Listing
from gaugan.sources import Source, uri_of

SUFFIXES = (".json", ".jsonl", ".ndjson")
COMPRESSED = {"": None, ".gz": "gzip", ".zst": "zstd", ".bz2": "bz2"}


def add_metadata(listing: Listing, uri: str, ratings: tuple[str, ...]) -> Listing:
    """Fills `tags` (JSON: rating, tags) of the inputs that have a post.

    uri: a JSON-lines file (.json, .jsonl, also .gz), a folder or a pattern of such. ratings: inputs of other ratings,
    or of none, get a refusal; () = all pass. Raises UserError naming file and line when one is not a post.
    """
    numbers = np.array([_post_number(item.id) for item in listing], dtype=np.int64)
    order = np.argsort(numbers, kind="stable")
    ranked = numbers[order]
    texts = np.full(len(listing), "", dtype=object)
    allowed = np.zeros(len(listing), dtype=bool)
    why: dict[int, str] = {}
    for post, where in _posts(uri):
        number = _number(post.get("id"), where)
        places = order[np.searchsorted(ranked, number) : np.searchsorted(ranked, number, side="right")]
        if len(places):
            rating = str(post.get("rating") or "")[:1]
            texts[places] = json.dumps({"rating": rating, "tags": _tag_names(post)}, ensure_ascii=False)
            allowed[places] = rating in ratings
            why.update({} if rating in ratings else dict.fromkeys(places.tolist(), rating))
    if not texts.any():
        raise UserError(f"--metadata {uri}: none of its posts is among the inputs; names should be POSTID.jpg")
    table = listing.table.set_column(INPUTS.get_field_index("tags"), "tags", pa.array(texts, pa.large_string()))
    return _refuse(Listing(table), allowed, why, ratings) if ratings else Listing(table)


def _refuse(listing: Listing, allowed: np.ndarray, why: dict[int, str], ratings: tuple[str, ...]) -> Listing:
    reasons = listing.table.column("refusal").to_pylist()
    for place in np.flatnonzero(~allowed).tolist():
        found = f"its rating is {why[place]}" if place in why else "no metadata, so its rating is not known"
        reasons[place] = reasons[place] or f"filtered_rating: {found}; --ratings {' '.join(ratings)}"
    column = pa.array(reasons, pa.large_string())
    return Listing(listing.table.set_column(INPUTS.get_field_index("refusal"), "refusal", column))


def _post_number(id: str) -> int:
    stem = id.rsplit("/", 1)[-1].partition(".")[0]
    return int(stem) if stem.isascii() and stem.isdigit() and len(stem) < 18 else -1


def _number(value: Any, where: str) -> int:
    try:
        return int(value)
    except (TypeError, ValueError) as error:
        raise UserError(f"{where}: a post without a number as its id ({value!r})") from error


def _tag_names(post: dict[str, Any]) -> str:
    """Names with blanks between them, as in the dump."""
    tags = post.get("tag_string") or post.get("tags") or ""
    if isinstance(tags, str):
        return tags
    return " ".join(str(tag.get("name", "")) if isinstance(tag, dict) else str(tag) for tag in tags)


def _posts(uri: str) -> Iterator[tuple[dict[str, Any], str]]:
    """Each post of each file, and "URI line N"."""
    for file in _files(uri):
        for number, line in enumerate(_lines(file), start=1):
            if not line.strip():
                continue
            where = f"--metadata {file} line {number}"
            try:
                post = json.loads(line)
            except ValueError as error:
                raise UserError(f"{where}: not JSON, one post per line ({error})") from error
            if not isinstance(post, dict):
                raise UserError(f"{where}: expected a post such as {{'id': 1, 'rating': 'g'}}, found {line[:40]!r}")
            yield post, where


def _files(uri: str) -> list[str]:
    ends = tuple(suffix + extra for suffix in SUFFIXES for extra in COMPRESSED)
    if storage.exists(uri) and not storage.is_folder(uri):
        return [uri]
    source = Source(uri)
    found = sorted(uri_of(source.root, one.id, one.place) for one in source.find() if one.id.lower().endswith(ends))
    if not found:
        raise UserError(f"--metadata {uri}: no files of posts there ({', '.join(SUFFIXES)}, also .gz)")
    return found


def _lines(uri: str) -> Iterator[str]:
    fs, path = storage.filesystem(uri)
    compression = next(kind for end, kind in reversed(COMPRESSED.items()) if path.endswith(end))
    with fs.open_input_stream(path, compression=compression) as stream:
        yield from io.TextIOWrapper(stream, "utf-8", newline="\n")
