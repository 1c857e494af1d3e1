"""labelme annotations -> a dataset of annotated pairs.

python jobs/import_annotations.py --annotations DATA --output DATASET --augment-to 3200

DATA holds labelme JSON (versions 3 to 6) and its pictures, or sibling folders `labelme/` and `images/`. Everything is
checked first; all problems are reported together and nothing is written until there are none. Beside the dataset:
contact_sheet.png (picture, label map, overlay) to look at, report.json with notes and hidden shapes per file.
"""

from __future__ import annotations

import difflib
import hashlib
import os
import shlex
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import tyro

from gaugan import images, labels, pairs, storage
from gaugan.annotations import (
    AnnotationError,
    find_annotations,
    paint_annotation,
    rasterise,
    read_labelme,
    read_picture,
    unknown_labels,
)
from gaugan.augment import augment_pair, preset
from gaugan.errors import UserError
from gaugan.progress import Progress
from gaugan.report import label_strip
from gaugan.shapes import class_ids
from jobs.command import STOP, JobConfig, begin, check_room, run
from jobs.import_summary import MAX_REPORTED, Checked, shares, summary
from jobs.in_order import AHEAD, in_order
from jobs.recorded import recorded_import

SHEET_ROWS, SHEET_SIDE_PX = 12, 192
BYTES_PER_PIXEL = 2
"""Disk use of a stored pair, PNG picture and label map together; photographs at worst."""


@dataclass(frozen=True, kw_only=True)
class Config(JobConfig):
    """Flags of jobs/import_annotations.py."""

    annotations: str
    """Folder (or s3:// prefix) with labelme JSON and its pictures, or with sibling folders labelme/ and images/."""
    classes: str = ""
    """Class table YAML; "" = the built-in portrait classes."""
    map: tyro.conf.UseAppendAction[tuple[tuple[str, ...], ...]] = ()
    """Labels to rename, old=new, such as --map nose=face neck=skin; new is a class name or __ignore__."""
    unknown: Literal["error", "ignore"] = "error"
    """Labels that are no class: "error" refuses them, "ignore" makes their pixels 255, which no loss counts."""
    z_order: str = ""
    """Paint by class instead of list order, lowest first: background,clothes,skin,face,hair,mouth,eye."""
    image_size: tuple[int, ...] = ()
    """Crop centrally and resize to this: one number for a square, or height and width; empty = keep each size."""
    held_out: float = 0.2
    """Share of the source pictures that is kept for validation and never augmented."""
    augment_to: int | None = None
    """Number of training pairs to reach with augmented copies, such as 3200; None = no copies."""
    augmentation: Literal["mild", "strong"] = "mild"
    """How far the copies are changed (rotation, mirror, scale, shift, warp, colour)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.0 <= self.held_out < 1.0:
            raise UserError(f"--held-out {self.held_out}: expected a share of at least 0 and below 1")
        if len(self.image_size) > 2 or any(side < 8 for side in self.image_size):
            raise UserError(f"--image-size {self.image_size}: expected one or two numbers (height, width) from 8 up")

    @property
    def size(self) -> tuple[int, int] | None:
        """(height, width) of the stored pairs; None = as annotated."""
        return (self.image_size[0], self.image_size[-1]) if self.image_size else None


@dataclass(frozen=True)
class Rules:
    """How labels become ids."""

    table: labels.ClassTable
    name_to_id: dict[str, int]
    z_order: list[int] | None
    unknown_id: int | None


def main(config: Config, checked: list[Checked] | None = None) -> dict[str, Any] | None:
    """Checks everything, then writes the dataset; returns its manifest (None after --dry-run or a stop).

    `checked`: what `check_all` found, when it was asked before.
    """
    rules = read_rules(config)
    if storage.exists(storage.join(config.output, "manifest.json")):
        raise UserError(f"{config.output}: holds a dataset already; choose another --output or remove it first")
    checked = check_all(config) if checked is None else checked
    train = [item for item in checked if item.split == "train"]
    num_copies = count_copies(config, len(train))
    print(summary(checked, rules.table, num_copies), flush=True)
    if config.dry_run:
        return None
    sizes = [config.size] if config.size else [item.size for item in checked]
    num_pixels = max(height * width for height, width in sizes)
    check_room(config.output, (len(checked) + num_copies) * num_pixels * BYTES_PER_PIXEL, "the dataset")
    begin(config)
    rows = [(item, 0) for item in checked]
    rows += [(train[k % len(train)], 1 + k // len(train)) for k in range(num_copies)]
    one_thread = _one_torch_thread if num_copies else None  # torch takes seconds to import
    with ThreadPoolExecutor(config.num_workers * config.threads, initializer=one_thread) as pool:
        return recorded_import(config, "import_annotations", lambda: write_dataset(pool, rows, config, rules))


def check_all(config: Config) -> list[Checked]:
    """Every file of the folder with its split. Raises one UserError with all that is wrong in it; writes nothing."""
    rules, entries = read_rules(config), _find(config)
    progress, checked = Progress(len(entries), unit="annotation"), []
    threads = config.num_workers * config.threads
    with ThreadPoolExecutor(threads) as pool:
        for item in in_order(pool, lambda entry: check(entry, config, rules), entries, AHEAD * threads):
            checked.append(item)
            progress.tell(len(checked), "checked")
    _refuse_problems(checked, config, rules)
    assign_splits(checked, config)
    return checked


def read_rules(config: Config) -> Rules:
    """The class table and how the labels of the files map to it."""
    table = labels.ClassTable.load(config.classes)
    renames = {}
    for entry in (word for group in config.map for words in group for word in words.split(",")):
        old, separator, new = entry.partition("=")
        if not (old and separator and new):
            raise UserError(f"--map {entry}: expected old=new, such as nose=face")
        renames[old.strip()] = new.strip()
    order = [name.strip() for name in config.z_order.split(",") if name.strip()]
    wrong = [name for name in order if name not in table.ids]
    if wrong:
        raise UserError(f"--z-order: {wrong[0]!r} is no class; choose from {', '.join(table.names)}")
    unknown_id = labels.IGNORE if config.unknown == "ignore" else None
    name_to_id = class_ids(table, renames)
    return Rules(table, name_to_id, [table.ids[name] for name in order] or None, unknown_id)


def check(entry: storage.Entry, config: Config, rules: Rules) -> Checked:
    """Reads and paints one file, keeping only numbers and complaints."""
    found = Checked(path=entry.path, uri=entry.uri)
    problems: list[str] = []
    try:
        annotation = read_labelme(entry.uri, config.annotations)
        if rules.unknown_id is None:
            found.unknown = tuple(unknown_labels(annotation, rules.name_to_id))
        image, note = read_picture(annotation)
        found.size, found.notes = (image.shape[0], image.shape[1]), [note] if note else []
        found.picture_hash = hashlib.sha256(image.tobytes()).hexdigest()
        painting = paint_annotation(
            annotation, rules.name_to_id, rules.z_order, size=found.size, unknown_id=labels.IGNORE
        )
        found.num_pixels = np.bincount(painting.label_map.ravel(), minlength=256)
        found.notes += [f"hidden: {shape.label} ({shape.kind}) has no visible pixel" for shape in painting.hidden]
        found.notes += ["AI prompt points are not painted"] * any(s.kind == "points" for s in annotation.shapes)
        found.notes += ["no shapes: all background"] * (not annotation.shapes)
    except AnnotationError as error:
        problems += error.problems
    found.problems = tuple(problems)
    return found


def assign_splits(checked: list[Checked], config: Config) -> None:
    """Sets source_id and split; files whose pictures have equal pixels share a source, so none crosses the split."""
    first: dict[str, Checked] = {}
    for item in checked:
        source = first.setdefault(item.picture_hash, item)
        item.source_id = source.stem
        if source is not item:
            item.notes.append(f"same picture as {source.path}")
    split = pairs.split_by_source([item.source_id for item in checked], config.held_out, config.seed)
    for item in checked:
        item.split = split[item.source_id]


def count_copies(config: Config, num_train: int) -> int:
    """How many augmented copies bring the training split to --augment-to."""
    if config.augment_to is None:
        return 0
    if num_train == 0:
        raise UserError(f"--augment-to {config.augment_to}: the training split is empty; lower --held-out")
    if config.augment_to < num_train:
        raise UserError(
            f"--augment-to {config.augment_to}: the training split has {num_train} pairs already; give at least that"
        )
    return config.augment_to - num_train


def write_dataset(
    pool: ThreadPoolExecutor, rows: list[tuple[Checked, int]], config: Config, rules: Rules
) -> dict[str, Any] | None:
    """Writes rows of (source, copy number; 0 = the original), sheet and report; the manifest comes last."""
    writer = pairs.PairsWriter(config.output, rules.table)
    originals = [item for item, copy in rows if copy == 0]
    picked = _spread(range(len(originals)), SHEET_ROWS) + _spread(range(len(originals), len(rows)), SHEET_ROWS // 2)
    sheet: list[np.ndarray] = []
    progress = Progress(len(rows), unit="pair")
    made = in_order(pool, lambda row: make_pair(*row, config, rules), rows, AHEAD * config.num_workers * config.threads)
    for place, (pair, image, label_map) in enumerate(made):
        if STOP():
            return None
        writer.add(pair)
        progress.tell(place + 1, "written")
        if place in picked:
            sheet.append(label_strip(image, label_map, rules.table, SHEET_SIDE_PX))
    sheet_uri = storage.join(config.output, "contact_sheet.png")
    storage.write_bytes(sheet_uri, images.encode_png(images.grid(sheet, columns=2)))
    class_shares = shares(originals, rules.table)
    report = {"class_shares": class_shares, "notes": {item.path: item.notes for item in originals if item.notes}}
    storage.write_json(storage.join(config.output, "report.json"), report)
    augmentation = asdict(preset(config.augmentation)) if config.augment_to else None
    extra = {"made_by": "import_annotations", "seed": config.seed, "class_shares": class_shares}
    manifest = writer.finish({**extra, "augmentation": augmentation})
    print(f"dataset: {config.output}\nlook at: {sheet_uri}", flush=True)
    return manifest


def make_pair(item: Checked, copy: int, config: Config, rules: Rules) -> tuple[pairs.Pair, np.ndarray, np.ndarray]:
    """One row of the dataset, and its pixels. Copy k of a source is a pure function of (seed, source, k)."""
    annotation = read_labelme(item.uri, config.annotations)
    image, _ = read_picture(annotation)
    size = (image.shape[0], image.shape[1])
    label_map = rasterise(annotation, rules.name_to_id, rules.z_order, size=size, unknown_id=rules.unknown_id)
    if config.size:
        image, label_map = images.fit_pair(image, label_map, config.size)
    origin: dict[str, Any] = {"labels": "annotated", "file": item.path}
    if copy:
        rng = np.random.default_rng([config.seed, copy, *hashlib.sha256(item.stem.encode()).digest()[:8]])
        image, label_map = augment_pair(image, label_map, preset(config.augmentation), rng)
        origin |= {"augmentation": config.augmentation, "copy": copy, "seed": config.seed}
    pair = pairs.Pair(
        id=f"{item.stem}~{copy:04d}.png" if copy else f"{item.stem}.png",
        image=images.encode_png(image),
        label_map=labels.encode_label_map(label_map, rules.table),
        width=image.shape[1],
        height=image.shape[0],
        split=item.split,
        source_id=item.source_id,
        provenance=pairs.provenance(**origin),
    )
    return pair, image, label_map


def _find(config: Config) -> list[storage.Entry]:
    if not storage.is_folder(config.annotations):
        raise UserError(f"--annotations {config.annotations}: no such folder")
    below_output = storage.absolute(config.output) + "/"
    entries = [e for e in find_annotations(config.annotations) if not e.uri.startswith(below_output)]
    if not entries:
        raise UserError(f"--annotations {config.annotations}: no .json file in it; expected labelme JSON and pictures")
    return entries


def _refuse_problems(checked: list[Checked], config: Config, rules: Rules) -> None:
    """Raises one UserError with all problems of the folder: unknown labels gathered by label, then file by file."""
    num_shapes = Counter(label for item in checked for label in item.unknown)
    problems = []
    for label, count in num_shapes.most_common():
        files = [item.path for item in checked if label in item.unknown]
        close = difflib.get_close_matches(label.strip().lower(), rules.table.names, n=1, cutoff=0.75) or ["CLASS"]
        problems.append(
            f"label {label!r} is no class: {count} x in {len(files)} files, first {files[0]}; rename it with "
            f"--map {shlex.quote(label)}={close[0]}, or give --unknown ignore"
        )
    problems += [problem for item in checked for problem in item.problems]
    problems += _same_names(checked)
    if not problems:
        return
    lines = [f"{len(problems)} problem(s) in {config.annotations}; nothing was written:", *problems[:MAX_REPORTED]]
    lines += [f"... and {len(problems) - MAX_REPORTED} more"] * (len(problems) > MAX_REPORTED)
    lines += [f"the classes are {', '.join(rules.table.names)}"] * bool(num_shapes)
    raise UserError("\n  ".join(lines))


def _same_names(checked: list[Checked]) -> list[str]:
    """A pair's id is its JSON's path without the ending: a.json and a.JSON would be one."""
    paths = defaultdict(list)
    for item in checked:
        paths[os.path.splitext(item.path)[0]].append(item.path)
    return [
        f"{' and '.join(same)}: differ in their ending only; rename one" for same in paths.values() if len(same) > 1
    ]


def _spread(places: range, count: int) -> list[int]:
    """Up to `count` members, evenly spaced."""
    return [places[len(places) * k // min(count, len(places))] for k in range(min(count, len(places)))]


def _one_torch_thread() -> None:
    import torch

    torch.set_num_threads(1)  # the pool's threads share the cores already


if __name__ == "__main__":
    run(main, Config)
