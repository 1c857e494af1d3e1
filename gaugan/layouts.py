"""How public datasets lie on disk: five layouts, each found as a list of picture, label map and instance map.

The layouts are those of the published SPADE code (Park et al. 2019, arXiv:1903.07291). Files are paired by name, never
by their order; what has no partner is an error that lists it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from gaugan import storage
from gaugan.errors import UserError
from gaugan.label_counts import DontCare, problem_list
from gaugan.pairs import split_by_source
from gaugan.storage import Entry

PICTURES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".tif", ".tiff", ".webp")
"""Files that count as pictures, whether they can then be read or are refused by name."""
FOLDERS = {"train": "train", "val": "held_out"}
"""The published phases -> our splits."""


@dataclass(frozen=True)
class Layout:
    """What the published code assumes of a dataset."""

    classes: str
    """A name of gaugan.labels.NAMED_TABLES; "" = must be given."""
    dontcare: DontCare
    """What 255 is, unless told otherwise."""
    instances: bool
    """Has instance maps."""
    training: str
    """The published training size, as flags of ours."""
    shift: int = 0
    """The files' ids are so much higher than the class table's, and what falls below 0 is unknown."""


CROP_286 = "--preprocess resize_and_crop --load-size 286 --image-size 256 --augment flip"
LAYOUTS = {
    "coco": Layout("coco", "extra", instances=True, training=CROP_286),
    "ade20k": Layout("ade20k", "extra", instances=False, training=CROP_286, shift=1),
    "cityscapes": Layout(
        "cityscapes", "error", instances=True,
        training="--preprocess fixed --image-size 256 512 --augment flip --upsampling more",
    ),
    "facades": Layout("facades", "error", instances=False, training=CROP_286),
    "custom": Layout("", "error", instances=True, training=CROP_286),
}  # fmt: skip


@dataclass(frozen=True)
class Triple:
    """One picture with its label map and perhaps its instance map."""

    id: str
    """Path of the picture below the root: unique."""
    split: str
    image: Entry
    label_map: Entry
    instance_map: Entry | None = None

    @property
    def source_id(self) -> str:
        return _stem(self.id)


@dataclass(frozen=True)
class Search:
    """Where to look, beyond the layout's name."""

    root: str = ""
    image_dir: str = ""
    label_dir: str = ""
    instance_dir: str = ""
    instances: bool = True
    """False: instance maps are left aside."""
    portraits: bool = True
    """coco: also the train_*_portrait folders."""
    held_out: float = 0.1
    """custom: share of the pictures that is kept for measuring."""
    seed: int = 0


def find_triples(layout: str, search: Search) -> list[Triple]:
    """All pictures of a dataset with their maps: training first, each split in natural order (2 before 10).

    Raises UserError for missing folders and files without a partner.
    """
    triples = FINDERS[layout](search)
    return sorted(triples, key=lambda triple: (triple.split != "train", _natural(triple.id)))


def _find_train_val(search: Search, has_instances: bool, portraits: bool) -> list[Triple]:
    """coco and facades: {train,val}_{img,label[,inst]}, and for coco train_{img,label,inst}_portrait."""
    found: list[Triple] = []
    for phase, split in FOLDERS.items():
        for suffix in ["", "_portrait"] if portraits and phase == "train" else [""]:
            names = [f"{phase}_{kind}{suffix}" for kind in ("img", "label", "inst")[: 2 + has_instances]]
            folders = [storage.join(search.root, name) for name in names]
            if not any(storage.is_folder(folder) for folder in folders):
                continue
            image, label_map, *instances = (_by_stem(folder) for folder in folders)
            found += _paired(split, f"{names[0]}/", names, image, label_map, instances[0] if instances else None)
    if not found:
        wanted = "train_img/ and train_label/ (and val_img/, val_label/)"
        raise UserError(f"--root {search.root}: no pictures there; expected {wanted} with files of equal names")
    return found


def _find_ade20k(search: Search) -> list[Triple]:
    """Any tree of NAME_train_*.jpg and .png: the picture is the JPEG, the label map the PNG of the same name."""
    entries = storage.list_files(search.root, PICTURES)
    found: list[Triple] = []
    for phase, split in FOLDERS.items():
        mine = [entry for entry in entries if f"_{phase}_" in storage.name(entry.path)]
        pictures = [entry for entry in mine if entry.path.lower().endswith((".jpg", ".jpeg"))]
        maps = [entry for entry in mine if entry.path.lower().endswith(".png")]
        tables = [_unique(part, search.root, _name_stem) for part in (pictures, maps)]
        found += _paired(split, "", ["pictures (.jpg)", "label maps (.png)"], *tables)
    if not found:
        raise UserError(f"--root {search.root}: no files named ..._train_... or ..._val_... (.jpg and .png) below it")
    return found


def _find_cityscapes(search: Search) -> list[Triple]:
    """leftImg8bit/PHASE/CITY/*_leftImg8bit.png, gtFine/PHASE/CITY/*_gtFine_{labelIds,instanceIds}.png."""
    found: list[Triple] = []
    for phase, split in FOLDERS.items():
        pictures = storage.list_files(storage.join(search.root, "leftImg8bit", phase), PICTURES)
        fine = storage.list_files(storage.join(search.root, "gtFine", phase), (".png",))
        kinds = ["labelIds", "instanceIds"][: 1 + search.instances]
        parts = [pictures, *([e for e in fine if e.path.endswith(f"_{kind}.png")] for kind in kinds)]
        names = [f"leftImg8bit/{phase}", *(f"gtFine/{phase}/*_{kind}.png" for kind in kinds)]
        tables = [_unique(part, search.root, _city_key) for part in parts]
        found += _paired(split, f"leftImg8bit/{phase}/", names, *tables)
    if not found:
        wanted = "leftImg8bit/train/CITY/*.png and gtFine/train/CITY/*_labelIds.png"
        raise UserError(f"--root {search.root}: no pictures there; expected {wanted}")
    return found


def _find_custom(search: Search) -> list[Triple]:
    """Two or three folders of the user's own; a share of the pictures is held out."""
    if not search.image_dir or not search.label_dir:
        raise UserError(
            "--layout custom needs --image-dir and --label-dir (and --instance-dir, if there are such maps)"
        )
    folders = [search.image_dir, search.label_dir, *([search.instance_dir] if search.instance_dir else [])]
    if search.root:  # folders may be told relative to it
        folders = [f if "://" in f or f.startswith("/") else storage.join(search.root, f) for f in folders]
    for folder in folders:
        if not storage.is_folder(folder):
            raise UserError(f"{folder}: no such folder")
    image, label_map, *instances = (_by_stem(folder) for folder in folders)
    found = _paired("train", "", folders, image, label_map, instances[0] if instances else None)
    if not found:
        raise UserError(f"{search.image_dir}: no pictures in it")
    sides = split_by_source((triple.source_id for triple in found), search.held_out, search.seed)
    return [replace(triple, split=sides[triple.source_id]) for triple in found]


FINDERS: dict[str, Callable[[Search], list[Triple]]] = {
    "coco": lambda search: _find_train_val(search, search.instances, search.portraits),
    "ade20k": _find_ade20k,
    "cityscapes": _find_cityscapes,
    "facades": lambda search: _find_train_val(search, has_instances=False, portraits=False),
    "custom": _find_custom,
}


def _paired(
    split: str,
    prefix: str,
    names: list[str],
    images: dict[str, Entry],
    label_maps: dict[str, Entry],
    instance_maps: dict[str, Entry] | None = None,
) -> list[Triple]:
    """Joins files of equal keys; raises UserError listing every file that lacks one of its partners."""
    tables = [images, label_maps] + ([instance_maps] if instance_maps is not None else [])
    complete = set.intersection(*(set(table) for table in tables))
    alone = []
    for table in tables:
        for key in sorted(table.keys() - complete, key=_natural):
            missing = [name for name, other in zip(names, tables, strict=False) if key not in other]
            alone.append(f"{table[key].uri}: no file of that name in {' and in '.join(missing)}")
    if alone:
        advice = "pictures and maps must have equal names; --no-instances leaves instance maps aside"
        raise UserError(problem_list(f"{len(alone)} file(s) without a partner ({advice})", alone))
    instances = instance_maps or {}
    return [
        Triple(prefix + image.path, split, image, label_maps[key], instances.get(key)) for key, image in images.items()
    ]


def _by_stem(folder: str) -> dict[str, Entry]:
    return _unique(storage.list_files(folder, PICTURES), folder, lambda entry: _stem(entry.path))


def _unique(entries: Iterable[Entry], where: str, key: Callable[[Entry], str]) -> dict[str, Entry]:
    found: dict[str, Entry] = {}
    for entry in entries:
        other = found.setdefault(key(entry), entry)
        if other is not entry:
            raise UserError(f"{where}: {other.path} and {entry.path} are both named {key(entry)!r}; rename one")
    return found


def _stem(path: str) -> str:
    return path.removesuffix(PurePosixPath(path).suffix)


def _name_stem(entry: Entry) -> str:
    return _stem(storage.name(entry.path))


def _city_key(entry: Entry) -> str:
    """CITY_SEQUENCE_FRAME: the first three parts of a Cityscapes name."""
    return "_".join(storage.name(entry.path).split("_")[:3])


def _natural(text: str) -> list[tuple[int, int, str]]:
    """Sorts numbers by value: a2 before a10."""
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in re.split(r"(\d+)", text) if part]
