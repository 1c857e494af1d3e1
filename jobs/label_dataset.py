"""Labels a folder of pictures with a U-Net: a dataset of pairs, and one outcome row per input.

python jobs/label_dataset.py --input PICTURES --model UNET_RUN --output DATASET

Reads from disk or s3://, decodes on CPUs, labels on a pool of U-Nets (GPUs with --use-gpu). A bad file becomes a row
with a reason, never an error. Stop it or kill it at any time: the same command continues, also with another number of
workers, and the result is the same byte for byte.

    OUTPUT/manifest.json, pairs/     the dataset; training jobs take OUTPUT as --input
    OUTPUT/outcomes/                 of every input: id, uri, status (labelled | refused | skipped), code, message,
                                     sha256, label_sha256, width, height, confidence, note, picture_hash
    OUTPUT/report/index.html         least sure first, statistics, what was refused and why
    OUTPUT/stats.json, plan.json, inputs.parquet, config.yaml, run.json
"""

from __future__ import annotations

import dataclasses
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from gaugan import label_plan, labelling, reading, storage
from gaugan.errors import UserError
from gaugan.label_plan import Chunk, LabelPlan
from gaugan.labels import ClassTable
from gaugan.listing import Item, Listing, Shards, listing_sha256
from gaugan.plan import square
from gaugan.progress import Progress
from gaugan.sources import Source
from jobs.command import STOP, JobConfig, TooManyFailuresError, begin, check_room, run, start_ray
from jobs.tracking import Tracker, open_run, resolve_model

MERGES_AT_ONCE = 4
LABEL_MAP_BYTES = 8 * 1024


@dataclass(frozen=True, kw_only=True)
class Config(JobConfig):
    """Flags of jobs/label_dataset.py."""

    input: str
    """Folder or s3:// prefix with pictures (PNG, JPEG, WebP, GIF); or a pattern (quoted: 'in/**/*.jpg'), a .zip or .tar
    archive, a .parquet file with a column of bytes, a .txt list of URIs. See docs/labelling.md."""
    model: str
    """The U-Net: a run folder, a checkpoint, or models:/unet@champion."""
    num_workers: int = 0
    """U-Nets at work; 0 = one per GPU, or as many as the CPUs and the memory carry."""
    image_size: tuple[int, ...] = ()
    """Crop centrally and resize to this: one number for a square, or height and width; empty = keep each size."""
    crop: Literal["none", "centre", "face"] = "none"
    """centre: cut each picture to its central square. face: to a square around the face that a first pass finds."""
    segment_size: tuple[int, ...] = ()
    """Size at which the U-Net works (multiples of 32); empty = its training size."""
    batch_size: int = 16
    """Pictures per unit of work."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """bf16 is faster where processor or GPU has it; labels then repeat bit by bit only on machines that have it."""
    mirror: bool = False
    """Average with the answer for the mirrored picture: better labels for twice the time."""
    remove_specks: bool = False
    """Let components under 0.02 % of the picture take the class around them; provenance keeps how many there were."""
    held_out: float = 0.05
    """Share of the pictures kept for measuring."""
    min_confidence: float = 0.8
    """Labels below this are kept, with the note "review"."""
    max_failure_rate: float = 0.2
    """Exit code 3 when a larger share of the pictures was refused; the result is complete all the same."""
    max_pixels: int = 100_000_000
    """Larger pictures are refused before they are decoded."""
    min_side: int = 16
    """Pictures with a smaller side are refused."""
    skip_below: int | None = None
    """Skip pictures with a side below so many pixels."""
    skip_above: int | None = None
    """Skip pictures with a side above so many pixels."""
    skip_aspect: float | None = None
    """Skip pictures of which one side is more than so many times the other."""
    metadata: str = ""
    """Danbooru's JSON lines (file, folder, pattern): ratings and tags of pictures named POSTID.jpg, kept with them."""
    ratings: tuple[str, ...] = ()
    """With --metadata: skip pictures of other ratings, for example --ratings g s."""
    bytes_column: str = ""
    """Of Parquet inputs; empty = image, bytes, data ..., whichever is there."""
    id_column: str = ""
    """Of Parquet inputs; empty = id, key, path ...; without one rows are numbered."""
    recursive: bool = True
    """Also the folders below."""
    limit: int | None = None
    """Only the first so many files, in the order of their names."""

    def __post_init__(self) -> None:
        if self.num_workers < 0:
            raise UserError(f"--num-workers {self.num_workers}: 0 (decide by the machine) or more")
        for name in ("held_out", "min_confidence", "max_failure_rate"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise UserError(f"--{name.replace('_', '-')} {getattr(self, name)}: expected a share between 0 and 1")
        for name in ("batch_size", "max_pixels", "min_side", "limit", "skip_below", "skip_above", "skip_aspect"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise UserError(f"--{name.replace('_', '-')} {getattr(self, name)}: must be at least 1")
        if self.segment_size and any(side % 32 for side in square(self.segment_size)):
            raise UserError(f"--segment-size {self.segment_size}: a U-Net needs multiples of 32, for example 256")
        if self.image_size and min(square(self.image_size)) < 8:
            raise UserError(f"--image-size {self.image_size}: each side needs at least 8 pixels")
        if self.crop != "none" and self.image_size and len(set(square(self.image_size))) > 1:
            raise UserError(
                f"--crop {self.crop}: gives squares, --image-size {self.image_size} is none; leave out --crop"
            )
        if self.ratings and not self.metadata:
            raise UserError("--ratings: needs --metadata, the file or folder that says each post's rating")

    @property
    def threads(self) -> int:
        """Of one U-Net: one thread each and more U-Nets is the fastest way to share a machine."""
        return self.cpus_per_worker or 1


@dataclass
class Job:
    """One invocation: what is left to do, and how far it is."""

    config: Config
    plan: LabelPlan
    classes: ClassTable
    shards: Shards
    finished: dict[int, dict[str, Any]]
    """Summaries of the shards that stand."""
    missing: dict[int, set[int]] = field(default_factory=dict)
    """Unfinished shard -> chunks that are not yet written."""
    tally: Counter[str] = field(default_factory=Counter)
    """Outcomes of this invocation."""
    merging: list[Any] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)

    def chunks(self, shard: int) -> list[Chunk]:
        return list(label_plan.chunks(self.plan, shard, self.shards[shard]))

    def num_chunks(self, shard: int) -> int:
        return -(-self.shards.size(shard) // self.plan.batch_size)

    def num_inputs(self, shard: int, chunks: set[int]) -> int:
        """In some of its chunks; the last one may be short."""
        last, batch_size = self.num_chunks(shard) - 1, self.plan.batch_size
        return len(chunks) * batch_size - (self.num_chunks(shard) * batch_size - self.shards.size(shard)) * (
            last in chunks
        )

    def work(self) -> Iterator[Chunk]:
        """The chunks to do, shard by shard, so that shards get complete one after the other."""
        for shard, wanted in self.missing.items():
            yield from (chunk for chunk in self.chunks(shard) if chunk.index in wanted)


def main(config: Config) -> dict[str, Any]:
    """Labels what is not labelled yet; returns the content of stats.json ({} after a stop or a dry run)."""
    plan, classes, items = prepare(config)
    if config.dry_run:
        print(f"{len(items)} inputs, {plan.num_shards} shards, model {plan.model_hash}, {plan.device} {plan.precision}")
        return {}
    check_room(config.output, _needed_bytes(items), "the dataset")
    plan, inputs, notes = label_plan.settle(config.output, _within_reach(config, plan), items)
    begin(config)
    for note in notes:
        print(f"note: {note}")
    job = _job(config, plan, classes, inputs)
    tracker = open_run(config.tracking, config.output, "label_dataset", config)
    try:
        _label(job)
    except BaseException:
        tracker.finish("FAILED")
        raise
    if STOP():
        done = sum(summary["rows"] for summary in job.finished.values())
        print(f"{done} of {plan.num_inputs} inputs are in finished shards; the chunks written beyond them are kept too")
        tracker.finish("KILLED")
        return {}
    stats = finish(job, tracker)
    if stats["failure_rate"] > config.max_failure_rate:
        raise TooManyFailuresError(
            f"{stats['refused']} of {stats['refused'] + stats['labelled']} pictures were refused "
            f"({_tallies(stats['codes'])}), more than --max-failure-rate {config.max_failure_rate:g}; the rest is in "
            f"{config.output}, reasons in {storage.join(config.output, 'report', 'index.html')}"
        )
    return stats


def prepare(config: Config) -> tuple[LabelPlan, ClassTable, Listing]:
    """Checks model and input, and decides the plan. Nothing is written."""
    from gaugan import checkpoint

    source = Source(config.input, config.recursive, config.bytes_column, config.id_column)
    if (config.output + "/").startswith(source.root.rstrip("/") + "/") and source.is_tree:
        raise UserError(f"--output {config.output}: lies inside --input, and would be read as pictures next time")
    model = checkpoint.find(resolve_model(config.model, config.tracking))
    meta = checkpoint.read_meta(model)
    if meta["system"] != "unet":
        raise UserError(f"--model {config.model}: a checkpoint of system {meta['system']!r}; labelling needs a unet")
    height, width = meta["image_size"]
    items = label_plan.list_inputs(
        source, config.limit, config.held_out, config.seed, metadata=config.metadata, ratings=config.ratings
    )
    classes = ClassTable.from_plain(meta["classes"], source=model)
    plan = LabelPlan(
        input=config.input,
        root=source.root if source.root != config.input else "",
        in_order=source.in_order,
        model=model,
        model_hash=checkpoint.Checkpoint(model, meta, {}).hash,
        classes_hash=classes.hash,
        segment_size=square(config.segment_size) if config.segment_size else (height, width),
        image_size=square(config.image_size) if config.image_size else None,
        crop=config.crop,
        skip_below=config.skip_below,
        skip_above=config.skip_above,
        skip_aspect=config.skip_aspect,
        metadata=config.metadata,
        ratings=config.ratings,
        max_pixels=config.max_pixels,
        min_side=config.min_side,
        min_confidence=config.min_confidence,
        held_out=config.held_out,
        seed=config.seed,
        device="cuda" if config.use_gpu else "cpu",
        precision=config.precision,
        mirror=config.mirror,
        remove_specks=config.remove_specks,
        recursive=config.recursive,
        limit=config.limit,
        num_inputs=len(items),
        inputs_sha256=listing_sha256(items),
        batch_size=config.batch_size,
        threads=config.threads,
        rows_per_shard=label_plan.ROWS_PER_SHARD,
    )
    return plan, classes, items


def _within_reach(config: Config, plan: LabelPlan) -> LabelPlan:
    """A model from a registry lies on this machine only: the other nodes, and a rerun, find its copy in the output."""
    if not config.model.startswith("models:/"):
        return plan
    copy = storage.join(config.output, "model")
    storage.upload_folder(plan.model, copy, last="meta.json")
    return dataclasses.replace(plan, model=copy)


def _needed_bytes(items: Sequence[Item]) -> int:
    return 2**20 + sum(min(item.size, reading.MAX_FILE_BYTES) + LABEL_MAP_BYTES for item in items)


def _job(config: Config, plan: LabelPlan, classes: ClassTable, items: Sequence[Item]) -> Job:
    """What an earlier invocation has finished is not done again."""
    job = Job(config, plan, classes, label_plan.by_shard(plan, items), labelling.finished_shards(config.output))
    staged = labelling.staged_chunks(config.output) if len(job.finished) < len(job.shards) else set()
    for shard in job.shards:
        if shard not in job.finished:
            job.missing[shard] = {index for index in range(job.num_chunks(shard)) if (shard, index) not in staged}
    return job


def _label(job: Job) -> None:
    """Runs the stages over all missing chunks, merges each shard as soon as it is complete."""
    todo = sum(job.num_inputs(shard, chunks) for shard, chunks in job.missing.items())
    done = job.plan.num_inputs - todo
    if done:
        print(f"continues {job.config.output}: {done} of {job.plan.num_inputs} inputs are done", flush=True)
    if not job.missing:
        return
    start_ray(job.config)
    from jobs.label_stages import run_stages
    from jobs.stages import share_machine

    for shard in [shard for shard, chunks in job.missing.items() if not chunks]:
        _merge(job, shard)
    progress = Progress(job.plan.num_inputs, done, unit="picture")
    if todo:
        num_chunks = sum(map(len, job.missing.values()))
        pool = share_machine(job.config.num_workers, job.plan.threads, job.config.use_gpu)
        print(f"{todo} inputs, {pool.num_workers} U-Nets on {job.plan.device}", flush=True)
        for row in run_stages(job.work(), num_chunks, job.plan, job.classes, job.config.output, pool, STOP):
            if row is not None:
                done += _account(job, row)
            _collect(job, MERGES_AT_ONCE)
            progress.tell(done, _tallies(job.tally))
    _collect(job, 0)


def _account(job: Job, row: dict[str, Any]) -> int:
    """Notes one written chunk; returns its number of inputs."""
    shard, index = int(row["shard"]), int(row["index"])
    job.tally.update(dict(zip(row["codes"], map(int, row["counts"]), strict=True)))
    job.missing[shard].discard(index)
    if not job.missing[shard]:
        _merge(job, shard)
    return int(sum(row["counts"]))


def _merge(job: Job, shard: int) -> None:
    import ray

    from jobs.label_stages import merge

    task = ray.remote(merge).options(num_cpus=0)
    classes = job.classes.to_plain()
    items = sorted(job.shards[shard], key=lambda item: item.id)
    job.merging.append(task.remote(shard, items, job.num_chunks(shard), job.config.output, classes))


def _collect(job: Job, leave: int) -> None:
    """Takes the finished merges; waits until at most `leave` are under way."""
    import ray

    while job.merging:
        ready, job.merging = ray.wait(job.merging, timeout=None if len(job.merging) > leave else 0)
        if not ready:
            return
        summary = ray.get(ready[0])
        job.finished[summary["shard"]] = summary
        del job.missing[summary["shard"]]
        storage.remove(storage.join(job.config.output, ".work", f"{summary['shard']:05d}"))


def finish(job: Job, tracker: Tracker) -> dict[str, Any]:
    """Writes report, stats.json and manifest.json; returns the statistics."""
    from gaugan.label_report import write_result

    now = sum(job.tally.values())
    seconds = max(time.monotonic() - job.started, 1e-3)
    speed = {"labelled_now": now, "seconds": round(seconds, 1), "pictures_per_s": round(now / seconds, 2)}
    stats, page = write_result(job.config.output, job.plan, job.classes, job.finished, speed)
    storage.remove(storage.join(job.config.output, ".work"))
    names = ("labelled", "refused", "skipped", "review", "duplicates", "near_duplicates", "failure_rate", "pictures_per_s")
    tracker.log_metrics({"confidence": stats["confidence"]["mean"], **{name: stats[name] for name in names}})
    tracker.log_artifact(storage.join(job.config.output, "stats.json"))
    tracker.log_artifact(storage.parent(page), "report")
    tracker.finish()
    reasons = f" ({_tallies(stats['codes'])})" if stats["codes"] else ""
    print(f"{stats['labelled']} labelled, {stats['refused']} refused, {stats['skipped']} skipped{reasons}")
    print(f"mean confidence {stats['confidence']['mean']:.3f}, {stats['review']} to review; look at {page}", flush=True)
    return stats


def _tallies(counts: dict[str, int]) -> str:
    """{"labelled": 90, "corrupt": 2} -> "corrupt 2"."""
    return ", ".join(f"{code} {count}" for code, count in sorted(counts.items()) if code != "labelled")


if __name__ == "__main__":
    run(main, Config)
