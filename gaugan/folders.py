"""Plain folders in and out of datasets: images/NAME.jpg beside label_maps/NAME.png (palette PNG of class ids)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any

from gaugan import storage
from gaugan.errors import UserError
from gaugan.images import SUFFIXES, ImageError, decode_image, file_kind
from gaugan.labels import ClassTable, LabelMapError, decode_label_map, encode_label_map
from gaugan.pairs import SPLITS, Pair, Pairs, PairsWriter, split_by_source


def export_folder(uri: str, folder: str, splits: Sequence[str] = SPLITS) -> int:
    """Writes a dataset as plain folders SPLIT/images/ID and SPLIT/label_maps/ID.png; returns the number of pairs.

    Raises UserError when an id would leave the folder, or two ids differ only in their extension.
    """
    pairs = Pairs.open(uri)
    rows = [(split, index, pairs.ids(split)[index]) for split in splits for index in range(pairs.num(split))]
    stems = [f"{split}/{_stem(name)}" for split, _, name in rows]
    for stem, (_, _, name) in zip(stems, rows, strict=True):
        if ".." in PurePosixPath(stem).parts or name.startswith("/"):
            raise UserError(f"{uri}: the id {name!r} leads out of the folder; it is not exported")
    if len(set(stems)) < len(stems):
        twice = sorted(stem for stem in set(stems) if stems.count(stem) > 1)
        raise UserError(
            f"{uri}: several ids would be exported as {twice[0]!r}; ids must differ without their extension"
        )
    for split, index, name in rows:
        row = pairs.encoded(split, index)
        kind = file_kind(row["image"])
        suffix = ".jpg" if kind == "JPEG" else f".{kind.lower() or 'bin'}"
        storage.write_bytes(storage.join(folder, split, "images", _stem(name) + suffix), row["image"])
        storage.write_bytes(storage.join(folder, split, "label_maps", _stem(name) + ".png"), row["label_map"])
    return len(rows)


def import_folder(
    folder: str, uri: str, classes: ClassTable, *, held_out: float = 0.1, seed: int = 0, provenance: str = "{}"
) -> dict[str, Any]:
    """Makes a dataset of a folder with images/ and label_maps/, paired by path without extension; returns the manifest.

    Raises UserError that lists pictures and label maps without a partner, and for a file that can't be used.
    """
    pictures = _by_stem(storage.join(folder, "images"), SUFFIXES)
    label_maps = _by_stem(storage.join(folder, "label_maps"), (".png",))
    alone = sorted(f"images/{stem}" for stem in pictures.keys() - label_maps.keys())
    alone += sorted(f"label_maps/{stem}" for stem in label_maps.keys() - pictures.keys())
    if alone or not pictures:
        shown = ", ".join(alone[:10]) + (f" and {len(alone) - 10} more" if len(alone) > 10 else "")
        wanted = "images/NAME.png (or .jpg ...) and label_maps/NAME.png"
        raise UserError(f"{folder}: expected {wanted}; without a partner: {shown or 'all, there are none'}")
    sides = split_by_source(pictures, held_out, seed)
    writer = PairsWriter(uri, classes)
    for stem, picture in pictures.items():
        image, label_map = storage.read_bytes(picture.uri), storage.read_bytes(label_maps[stem].uri)
        try:
            height, width = decode_image(image).shape[:2]
            ids = decode_label_map(label_map, classes)
        except (ImageError, LabelMapError) as error:
            raise UserError(f"{folder}: {stem}: {error.message}") from error
        if ids.shape != (height, width):
            sizes = f"picture {width}x{height}, label map {ids.shape[1]}x{ids.shape[0]}"
            raise UserError(f"{folder}: {stem}: both must have one size: {sizes}")
        encoded = encode_label_map(ids, classes)
        writer.add(Pair(picture.path, image, encoded, width, height, sides[stem], stem, None, provenance))
    return writer.finish({"held_out": held_out, "seed": seed})


def _by_stem(folder: str, suffixes: Sequence[str]) -> dict[str, storage.Entry]:
    found: dict[str, storage.Entry] = {}
    for entry in storage.list_files(folder, suffixes):
        other = found.setdefault(_stem(entry.path), entry)
        if other is not entry:
            raise UserError(f"{folder}: {other.path} and {entry.path} differ only in their extension; rename one")
    return found


def _stem(path: str) -> str:
    """A path without the extension of a picture."""
    suffix = PurePosixPath(path).suffix
    return path.removesuffix(suffix) if suffix.lower() in SUFFIXES else path
