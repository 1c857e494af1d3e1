"""Paints a folder of label maps, or a dataset of pairs, and makes a page to look at.

    python jobs/generate.py --model GAUGAN_RUN --input LABEL_MAPS --output PAINTINGS
    python jobs/generate.py --model GAUGAN_RUN --input PAIRS --split held_out --style own --output PAINTINGS

A bad file becomes a row with a reason, never an error. Stop it or kill it at any time: the same command continues, also
with another number of workers, and what is painted is not painted again.

    OUTPUT/pictures/NAME.png     the paintings
    OUTPUT/gallery/index.html    label map, real picture (when there is one), paintings
    OUTPUT/outcomes/             of every input: id, uri, status (painted | refused | skipped), code, message, sha256,
                                 width, height, note, styles, pictures, picture_sha256, strip, areas
    OUTPUT/stats.json, plan.json, inputs.parquet, config.yaml, run.json
"""

from __future__ import annotations

import dataclasses
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Literal

from gaugan import paint_plan, painting, storage
from gaugan.errors import UserError
from gaugan.labels import ClassTable
from gaugan.paint_plan import Item, PaintPlan
from gaugan.pairs import Pairs
from gaugan.progress import Progress
from gaugan.style_choice import StyleChoice, absolute_sources, check_sources
from jobs.command import STOP, JobConfig, TooManyFailuresError, begin, check_room, run, start_ray
from jobs.recorded import recorded
from jobs.tracking import Tracker, resolve_model, within_reach

LINE_EVERY_S = 5.0
BYTES_PER_PIXEL = 3


@dataclass(frozen=True, kw_only=True)
class Config(JobConfig):
    """Flags of jobs/generate.py."""

    input: str
    """Folder or s3:// prefix of label maps (PNG), or a dataset of pairs."""
    model: str
    """The generator: a run folder, a checkpoint, or models:/gaugan@champion."""
    choice: StyleChoice = field(default_factory=StyleChoice)
    images: str = ""
    """Folder of real pictures of the same names, to be shown beside the paintings (a dataset of pairs has its own)."""
    instances: str = ""
    """Folder of instance maps of the same names, for a generator with instance edges (a dataset has its own)."""
    split: Literal["held_out", "train", "all"] = "held_out"
    """Of a dataset of pairs."""
    num_workers: int = 0
    """Generators at work; 0 = one per GPU, or as many as the CPUs and the memory carry."""
    fit: Literal["squeeze", "crop"] = "squeeze"
    """How label maps of another shape get the generator's: the whole map squeezed, or its largest centred piece."""
    batch_size: int = 8
    """Label maps per unit of work."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """bf16 is faster where processor or GPU has it."""
    gallery: int = 200
    """Label maps on the page, evenly spread over all."""
    max_failure_rate: float = 0.2
    """Exit code 3 when a larger share of the label maps was refused; the result is complete all the same."""
    max_pixels: int = 50_000_000
    """Larger files are refused before they are decoded."""
    limit: int | None = None
    """Only the first so many inputs, in the order of their names."""

    def __post_init__(self) -> None:
        if self.num_workers < 0:
            raise UserError(f"--num-workers {self.num_workers}: 0 (decide by the machine) or more")
        if self.seed < 0:
            raise UserError(f"--seed {self.seed}: must be 0 or more")
        if not 0.0 <= self.max_failure_rate <= 1.0:
            raise UserError(f"--max-failure-rate {self.max_failure_rate}: expected a share between 0 and 1")
        for name in ("batch_size", "max_pixels", "limit", "gallery"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise UserError(f"--{name.replace('_', '-')} {getattr(self, name)}: must be at least 1")

    @property
    def threads(self) -> int:
        """Of one generator."""
        return self.cpus_per_worker or 1


def main(config: Config) -> dict[str, Any]:
    """Paints what is not painted yet; returns the content of stats.json ({} after a stop or a dry run)."""
    plan, classes, items = prepare(config)
    print(f"{len(items)} inputs, {plan.style.per_picture} painting(s) each, model {plan.model_hash}, {plan.device}")
    if config.dry_run:
        return {}
    height, width = plan.image_size
    check_room(config.output, len(items) * plan.style.per_picture * height * width * BYTES_PER_PIXEL, "the paintings")
    plan = dataclasses.replace(plan, model=within_reach(config.model, plan.model, config.output))
    plan, items = paint_plan.settle(config.output, plan, items)
    begin(config)
    started = time.monotonic()
    with recorded(config, "generate") as tracker:
        painted_now = _paint(config, plan, classes, items)
        if STOP():
            return {}
        stats = finish(config, plan, classes, tracker, painted_now, time.monotonic() - started)
    if stats["failure_rate"] > config.max_failure_rate:
        raise TooManyFailuresError(
            f"{stats['refused']} of {stats['refused'] + stats['painted']} label maps were refused ({stats['codes']}), "
            f"more than --max-failure-rate {config.max_failure_rate:g}; the rest is painted, reasons are in "
            f"{storage.join(config.output, 'gallery', 'index.html')}"
        )
    return stats


def prepare(config: Config) -> tuple[PaintPlan, ClassTable, list[Item]]:
    """Checks model, input and style, and decides the plan. Nothing is written."""
    from gaugan import checkpoint

    if (config.output + "/").startswith(config.input.rstrip("/") + "/"):
        raise UserError(f"--output {config.output}: lies inside --input, and would be read as label maps next time")
    model = checkpoint.find(resolve_model(config.model, config.tracking), "--model")
    meta = checkpoint.read_meta(model)
    if meta["system"] != "spade":
        raise UserError(f"--model {config.model}: a checkpoint of system {meta['system']!r}; painting needs a spade")
    choice = absolute_sources(config.choice)
    if meta["config"].get("style") == "none" and choice != StyleChoice():
        raise UserError(f"--model {config.model}: was trained without styles (style=none); leave the style flags out")
    check_sources(choice)
    classes = ClassTable.from_plain(meta["classes"], source=model)
    items, has_real, has_instances = _list(config, classes)
    if meta["config"].get("instance_edges") and not has_instances:
        print("note: no instance maps for a generator with instance edges: it gets the borders between classes instead")
    height, width = meta["image_size"]
    plan = PaintPlan(
        input=config.input,
        model=model,
        model_hash=checkpoint.Checkpoint(model, meta, {}).hash,
        classes_hash=classes.hash,
        image_size=(height, width),
        style=choice,
        seed=config.seed,
        mode="fixed" if config.fit == "squeeze" else "fit",
        has_real=has_real,
        max_pixels=config.max_pixels,
        device="cuda" if config.use_gpu else "cpu",
        precision=config.precision,
        gallery=config.gallery,
        num_inputs=len(items),
        inputs_sha256=paint_plan.inputs_sha256(items),
        batch_size=config.batch_size,
        threads=config.threads,
    )
    return plan, classes, items


def _list(config: Config, classes: ClassTable) -> tuple[list[Item], bool, bool]:
    """The inputs, and whether there are real pictures and instance maps among them."""
    if not storage.exists(storage.join(config.input, "manifest.json")):
        items = paint_plan.list_folder(config.input, config.images, config.instances, config.limit)
        alone = sum(not item.instance_uri for item in items)
        if config.instances and alone:
            print(f"note: {alone} of {len(items)} inputs have no instance map; the borders between classes stand in")
        return items, any(item.image_uri for item in items), any(item.instance_uri for item in items)
    if config.images or config.instances:
        raise UserError("--images and --instances belong to a folder of label maps; a dataset of pairs has its own")
    pairs = Pairs.open(config.input, classes)
    return paint_plan.list_pairs(pairs, config.split, config.limit), True, pairs.has_instances


def _paint(config: Config, plan: PaintPlan, classes: ClassTable, items: list[Item]) -> int:
    """Runs the stages over all missing chunks; returns how many inputs were done now."""
    if storage.exists(painting.outcomes_uri(config.output)):
        print(f"{config.output}: all {len(items)} inputs are done", flush=True)
        return 0
    chunks, staged = list(paint_plan.chunks(plan, items)), painting.staged_chunks(config.output)
    work = [chunk for chunk in chunks if chunk.index not in staged]
    todo = sum(len(chunk.items) for chunk in work)
    if todo < len(items):
        print(f"continues {config.output}: {len(items) - todo} of {len(items)} inputs are done", flush=True)
    if work:
        done = _run(config, plan, classes, work, len(items) - todo)
        if STOP():
            print(f"{done} of {len(items)} inputs are done and kept")
            return todo
    painting.merge_outcomes(config.output, len(chunks))
    return todo


def _run(config: Config, plan: PaintPlan, classes: ClassTable, work: list[paint_plan.Chunk], done: int) -> int:
    start_ray(config)
    from jobs.generate_stages import run_stages
    from jobs.stages import share_machine

    pool = share_machine(config.num_workers, plan.threads, config.use_gpu)
    print(f"{pool.num_workers} generators on {plan.device}", flush=True)
    progress, last, tally = Progress(plan.num_inputs, done, unit="label map"), time.monotonic(), Counter[str]()
    for counts in run_stages(work, plan, classes, config.output, pool, STOP):
        if counts is not None:
            tally.update(counts)
            done += counts.total()
        if time.monotonic() - last >= LINE_EVERY_S:
            last = time.monotonic()
            bad = ", ".join(f"{code} {count}" for code, count in sorted(tally.items()) if code != "painted")
            print(progress.line(done, bad), flush=True)
    return done


def finish(
    config: Config, plan: PaintPlan, classes: ClassTable, tracker: Tracker, painted_now: int, seconds: float
) -> dict[str, Any]:
    """Writes the page and stats.json; returns the statistics."""
    from gaugan.painting_report import statistics, write_page

    rows = painting.read_outcomes(config.output)
    if len(rows) != plan.num_inputs:
        raise RuntimeError(f"{config.output}: {len(rows)} outcome rows for {plan.num_inputs} inputs; must never happen")
    speed = {"painted_now": painted_now, "seconds": round(seconds, 1)}
    stats = {**statistics(rows), **speed}
    page = write_page(config.output, plan, classes, rows, stats)
    storage.write_json(storage.join(config.output, "stats.json"), stats)
    storage.remove(storage.join(config.output, ".work"))
    tracker.log_metrics({name: stats[name] for name in ("painted", "refused", "skipped", "pictures", "failure_rate")})
    tracker.log_artifact(storage.join(config.output, "stats.json"))
    reasons = "".join(f", {code} {count}" for code, count in stats["codes"].items())
    print(f"{stats['painted']} painted ({stats['pictures']} pictures), {stats['refused']} refused{reasons}")
    print(f"look at {page}", flush=True)
    return stats


if __name__ == "__main__":
    run(main, Config)
