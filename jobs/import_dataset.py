"""A public dataset, or folders of your own -> a dataset of pairs.

    python jobs/import_dataset.py --layout coco --root COCO_STUFF --output PAIRS
    python jobs/import_dataset.py --layout custom --image-dir IMAGES --label-dir LABELS --classes YAML --output PAIRS

The layouts are those of the published SPADE code (docs/data.md). Every label map is read and counted: ids outside the
class table, files without a partner, wrong sizes, RGB or 16-bit label maps are all reported together, with file, value
and pixel, and then no dataset is written. --dry-run only checks and counts.
"""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from gaugan import images, labels, pairs, storage
from gaugan.errors import UserError
from gaugan.label_counts import DontCare, LabelCounts, problem_list, table
from gaugan.layouts import LAYOUTS, Layout, Search, Triple, find_triples
from gaugan.progress import Progress
from gaugan.report import label_strip
from gaugan.triples import Rules, prepare
from jobs.command import STOP, JobConfig, begin, check_room, run
from jobs.in_order import AHEAD, in_order
from jobs.recorded import recorded_import

SHEET_PICTURES, SHEET_SIDE_PX = 16, 192
ROWS_PER_SHARD = 256
LINE_EVERY = 500
PUBLISHED = "--style none --features vgg19"
LABEL_MAP_SHARE = 1.3
"""Disk use: the pictures as they are and, beside each, its maps."""


@dataclass(frozen=True, kw_only=True)
class Config(JobConfig):
    """Flags of jobs/import_dataset.py."""

    layout: Literal["coco", "ade20k", "cityscapes", "facades", "custom"]
    """How the files lie; see docs/data.md."""
    root: str = ""
    """Folder (or s3:// prefix) of the dataset; for custom, what the other folders are relative to, if given."""
    image_dir: str = ""
    """custom: folder of the pictures."""
    label_dir: str = ""
    """custom: folder of the label maps, PNG files of the same names."""
    instance_dir: str = ""
    """custom: folder of instance maps, PNG files of the same names; "" = none."""
    classes: str = ""
    """Class table: coco, ade20k, cityscapes, facades or a YAML file; "" = the layout's own."""
    num_classes: int | None = None
    """Instead of --classes: so many nameless classes."""
    dontcare: DontCare | None = None
    """What 255 in a label map is: error, ignore (no class) or extra (a class of its own, for --dontcare-channel); unset
    = extra for coco and ade20k, error for the others, as published."""
    instances: bool = True
    """Take the instance maps, where the layout has them."""
    portraits: bool = True
    """coco: take the train_*_portrait folders as well, if there."""
    short_side: int | None = None
    """Store larger pictures reduced to this shorter side; None = as they are."""
    held_out: float = 0.1
    """custom: share of the pictures that is kept for measuring; the other layouts have a val part."""
    limit: int | None = None
    """Only the first so many pictures of each split."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.layout != "custom" and not self.root:
            raise UserError(f"--layout {self.layout} needs --root, the folder of the dataset")
        if self.layout != "custom" and (self.image_dir or self.label_dir or self.instance_dir):
            raise UserError(f"--image-dir, --label-dir, --instance-dir belong to --layout custom, not {self.layout}")
        if not 0.0 <= self.held_out < 1.0:
            raise UserError(f"--held-out {self.held_out}: expected a share of at least 0 and below 1")
        if self.classes and self.num_classes is not None:
            raise UserError("--classes and --num-classes: give one of them")
        for name, least in (("limit", 1), ("short_side", 8), ("num_classes", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise UserError(f"--{name.replace('_', '-')} {value}: must be at least {least}")


@dataclass
class Tally:
    """What the import has seen so far."""

    counts: LabelCounts
    problems: list[str]
    splits: Counter[str]
    sheet: list[np.ndarray]


def main(config: Config) -> dict[str, Any] | None:
    """Checks and writes in one pass; returns the manifest (None after --dry-run or a stop)."""
    layout = LAYOUTS[config.layout]
    rules = read_rules(config, layout)
    if storage.exists(storage.join(config.output, "manifest.json")):
        raise UserError(f"{config.output}: holds a dataset already; choose another --output or remove it first")
    triples = _limited(find_triples(config.layout, _search(config, layout)), config.limit)
    print(f"{len(triples)} pictures with label maps, classes {rules.classes.name} ({rules.classes.hash})", flush=True)
    if config.dry_run:
        tally = _walk(config, triples, rules, writer=None)
        _conclude(config, rules, tally)
        return None
    num_bytes = sum(t.image.size + t.label_map.size + (t.instance_map.size if t.instance_map else 0) for t in triples)
    check_room(config.output, int(LABEL_MAP_SHARE * num_bytes), "the dataset")
    begin(config)
    writer = pairs.PairsWriter(
        config.output, rules.classes, ROWS_PER_SHARD, instance_maps=triples[0].instance_map is not None
    )

    def write() -> dict[str, Any] | None:
        tally = _walk(config, triples, rules, writer)
        if STOP():
            return None
        _conclude(config, rules, tally)
        return _finish(config, layout, rules, writer, tally)

    return recorded_import(config, "import_dataset", write)


def read_rules(config: Config, layout: Layout) -> Rules:
    """The class table and how the files' ids map to it."""
    if config.num_classes is not None:
        names = tuple(f"class {number}" for number in range(config.num_classes))
        colours = tuple(labels.distinct_colours(config.num_classes))
        classes = labels.ClassTable(names, colours, name="nameless")
    elif config.classes or layout.classes:
        classes = labels.ClassTable.load(config.classes or layout.classes)
    else:
        raise UserError("--layout custom needs --classes TABLE.yaml (or coco, ade20k, ...), or --num-classes N")
    return Rules(classes, config.dontcare or layout.dontcare, layout.shift, config.short_side, config.layout)


def _search(config: Config, layout: Layout) -> Search:
    return Search(
        config.root,
        config.image_dir,
        config.label_dir,
        config.instance_dir if config.instances else "",
        instances=layout.instances and config.instances,
        portraits=config.portraits,
        held_out=config.held_out,
        seed=config.seed,
    )


def _limited(triples: list[Triple], limit: int | None) -> list[Triple]:
    parts = [[triple for triple in triples if triple.split == split][:limit] for split in pairs.SPLITS]
    return [triple for part in parts for triple in part]


def _walk(config: Config, triples: list[Triple], rules: Rules, writer: pairs.PairsWriter | None) -> Tally:
    """Reads and checks every triple; writes rows as long as there is no problem."""
    tally = Tally(LabelCounts(), [], Counter(), [])
    progress = Progress(len(triples), unit="picture")
    shown = {len(triples) * k // SHEET_PICTURES for k in range(SHEET_PICTURES)}
    threads = config.num_workers * config.threads
    with ThreadPoolExecutor(threads) as pool:
        prepared = in_order(pool, lambda triple: prepare(triple, rules), triples, AHEAD * threads)
        for place, found in enumerate(prepared):
            if STOP():
                break
            tally.problems += found.problems
            if found.label_map is not None:
                tally.counts.add(found.label_map)
            if found.pair is not None and found.image is not None and found.label_map is not None:
                tally.splits[found.pair.split] += 1
                if place in shown:
                    tally.sheet.append(label_strip(found.image, found.label_map, rules.classes, SHEET_SIDE_PX))
                if writer is not None and not tally.problems:
                    writer.add(found.pair)
            if (place + 1) % LINE_EVERY == 0:
                print(progress.line(place + 1, f"{len(tally.problems)} problems"), flush=True)
    return tally


def _conclude(config: Config, rules: Rules, tally: Tally) -> None:
    """Prints the histogram; raises UserError listing the problems, if there are any."""
    print("\n".join(table(tally.counts, rules.classes)), flush=True)
    if tally.problems:
        where = config.root or config.label_dir
        title = f"{where}: {len(tally.problems)} problem(s), no dataset was written"
        raise UserError(problem_list(title, tally.problems))
    counts = ", ".join(f"{tally.splits[split]} {split}" for split in pairs.SPLITS)
    print(f"{counts}; 255 in label maps: {rules.dontcare}")
    if not tally.splits["held_out"]:
        print("note: nothing is held out (no val part): training measures nothing, and its last checkpoint counts")


def _finish(config: Config, layout: Layout, rules: Rules, writer: pairs.PairsWriter, tally: Tally) -> dict[str, Any]:
    sheet_uri = storage.join(config.output, "contact_sheet.png")
    storage.write_bytes(sheet_uri, images.encode_png(images.grid(tally.sheet, columns=2)))
    manifest = writer.finish({"made_by": "import_dataset", "layout": config.layout, "dontcare": rules.dontcare})
    extra = " --dontcare-channel" * (rules.dontcare == "extra") + " --instance-edges" * writer.instance_maps
    command = f"python jobs/train_gaugan.py --input {config.output} --output RUN {layout.training} {PUBLISHED}{extra}"
    print(f"dataset: {config.output}\nlook at: {sheet_uri}\ntrain as published: {command}", flush=True)
    return manifest


if __name__ == "__main__":
    run(main, Config)
