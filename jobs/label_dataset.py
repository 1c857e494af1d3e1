"""Labels a folder of pictures with a U-Net: a dataset of pairs, and one outcome row per input.

python jobs/label_dataset.py --input PICTURES --model UNET_RUN --output DATASET

Reads from disk or s3://, decodes on CPUs, labels on a pool of U-Nets (GPUs with --use-gpu). A bad file becomes a row
with a reason, never an error. Stop it or kill it at any time: the same command continues, also with another number of
workers, and the result is the same byte for byte.

    OUTPUT/manifest.json, pairs/     the dataset; training jobs take OUTPUT as --input
    OUTPUT/outcomes/                 of every input: id, uri, status (labelled | refused | skipped), code, message,
                                     sha256, label_sha256, width, height, confidence, note, picture_hash, verdict,
                                     entropy, specks
    OUTPUT/rejected/                 label maps below --reject-confidence: not among the training pairs
    OUTPUT/report/index.html         least sure first, statistics, what was refused and why
    OUTPUT/stats.json, plan.json, inputs.parquet, config.yaml, run.json
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

from gaugan import label_plan, reading, storage
from gaugan.errors import UserError
from gaugan.face_crop import face_ids
from gaugan.label_plan import LabelPlan
from gaugan.labels import ClassTable
from gaugan.listing import Listing, listing_sha256
from gaugan.plan import square
from gaugan.progress import Pace
from gaugan.sources import Source
from jobs import lock
from jobs.command import STOP, JobConfig, TooManyFailuresError, begin, check_room, command_line, run
from jobs.label_round import label_rounds
from jobs.label_run import Job, label, open_job, tallies
from jobs.outputs import refuse_relative
from jobs.recorded import recorded
from jobs.tracking import Tracker, resolve_model, within_reach

LABEL_MAP_BYTES = 8 * 1024
LOGGED = (
    "labelled", "refused", "skipped", "accept", "review", "reject", "duplicates", "near_duplicates", "failure_rate",
    "pictures_per_s", "steady_per_s",
)  # fmt: skip
"""Figures of stats.json that go to the tracker."""
POSITIVE = (
    *("batch_size", "max_pixels", "min_side", "limit", "skip_below", "skip_above", "skip_aspect"),
    *("round", "round_steps"),
)
GPU_BATCH = 16
"""Pictures per pass: enough to fill a GPU at 256 px and more."""


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
    inference_batch: int = 0
    """Pictures per pass of the U-Net, always filled up so that answers repeat; 0 = 1 on CPUs, 16 on a GPU."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """bf16 is faster where processor or GPU has it; labels then repeat bit by bit only on machines that have it."""
    mirror: bool = False
    """Average with the answer for the mirrored picture: better labels for twice the time."""
    remove_specks: bool = False
    """Let components under 0.02 % of the picture take the class around them; provenance keeps how many there were."""
    held_out: float = 0.05
    """Share of the pictures kept for measuring."""
    min_confidence: float = 0.8
    """Label maps below this have the verdict "review": kept for training, and shown to people first."""
    reject_confidence: float = 0.0
    """Label maps below this have the verdict "reject": kept in OUTPUT/rejected, not among the training pairs."""
    retry_failed: tuple[str, ...] | None = None
    """Refused inputs are done again, as if they had never failed: all, or those with the codes that follow."""
    export_labelme: str = ""
    """Folder to which pictures of the verdicts review and reject are written as labelme JSON, to be corrected and
    given to jobs/import_annotations.py; "" = none."""
    max_failure_rate: float = 0.2
    """Exit code 3 when a larger share of the pictures was refused; the result is complete all the same."""
    max_pixels: int = 100_000_000
    """Larger pictures are refused before they are decoded."""
    min_side: int = 16
    """Pictures with a smaller side are refused."""
    round: int = 1
    """2 = label; train on --annotated and the accepted labels; label anew, into OUTPUT/round2/labelled; 3 = twice."""
    annotated: tuple[str, ...] = ()
    """Datasets of annotated pairs for --round; further ones than the first may be imported corrections."""
    round_steps: int = 500
    """Training steps of each further round."""
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
        for name in ("held_out", "min_confidence", "reject_confidence", "max_failure_rate"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise UserError(f"--{name.replace('_', '-')} {getattr(self, name)}: expected a share between 0 and 1")
        if self.reject_confidence > self.min_confidence:
            raise UserError(
                f"--reject-confidence {self.reject_confidence}: must not be above --min-confidence "
                f"{self.min_confidence}: what is rejected would not even be reviewed"
            )
        if self.inference_batch < 0:
            raise UserError(f"--inference-batch {self.inference_batch}: 0 (decide by the device) or more")
        for name in POSITIVE:
            if getattr(self, name) is not None and not getattr(self, name) >= 1:  # "not a number" is refused too
                raise UserError(f"--{name.replace('_', '-')} {getattr(self, name)}: must be at least 1")
        if self.segment_size and any(side % 32 for side in square(self.segment_size)):
            raise UserError(f"--segment-size {self.segment_size}: a U-Net needs multiples of 32, for example 256")
        if self.image_size and min(square(self.image_size)) < 8:
            raise UserError(f"--image-size {self.image_size}: each side needs at least 8 pixels")
        if self.crop != "none" and self.image_size and len(set(square(self.image_size))) > 1:
            raise UserError(
                f"--crop {self.crop}: gives squares, --image-size {self.image_size} is none; leave out --crop"
            )
        unknown = sorted(set(self.retry_failed or ()) - reading.REFUSED)
        if unknown:
            known = ", ".join(sorted(reading.REFUSED))
            raise UserError(f"--retry-failed {' '.join(unknown)}: no code of a refusal; they are {known}")
        if self.annotated and self.round == 1:
            raise UserError("--annotated: a U-Net is trained on it from --round 2 on; add that, or leave it out")
        if self.export_labelme:
            refuse_relative("--export-labelme", self.export_labelme)
        if self.ratings and not self.metadata:
            raise UserError("--ratings: needs --metadata, the file or folder that says each post's rating")

    @property
    def threads(self) -> int:
        """Of one U-Net: one thread each and more U-Nets is the fastest way to share a machine."""
        return self.cpus_per_worker or 1


def main(config: Config) -> dict[str, Any]:
    """Labels what is not labelled yet; returns the content of stats.json ({} after a stop or a dry run)."""
    return label_rounds(config, label_once) if config.round > 1 else label_once(config)


def label_once(config: Config) -> dict[str, Any]:
    """One round."""
    pace = Pace()
    plan, classes, items = prepare(config)
    if config.dry_run:
        label_plan.check_resume(config.output, plan)
        print(
            f"{len(items)} inputs, {plan.num_shards} shard(s), model {plan.model_hash}, {plan.device} {plan.precision}"
        )
        return {}
    check_room(config.output, _needed_bytes(items, plan.image_size) - _written_bytes(config.output), "the dataset")
    lock.acquire(config.output, command_line())  # before the plan is looked at: it may be another living run's
    plan = dataclasses.replace(plan, model=within_reach(config.model, plan.model, config.output))
    plan, inputs, notes = label_plan.settle(config.output, plan, items)
    begin(config)
    for note in notes:
        print(f"note: {note}")
    job = open_job(config, plan, classes, inputs, pace)
    with recorded(config, "label_dataset") as tracker:
        label(job)
        if STOP():
            done = sum(summary["rows"] for summary in job.finished.values())
            print(f"{done} of {plan.num_inputs} inputs are in finished shards; chunks written beyond them are kept too")
            return {}
        stats = finish(job, tracker)
    if stats["failure_rate"] > config.max_failure_rate:
        refused = {code: count for code, count in stats["codes"].items() if code in reading.REFUSED}
        raise TooManyFailuresError(
            f"{stats['refused']} of {stats['refused'] + stats['labelled']} pictures were refused "
            f"({tallies(refused)}), more than --max-failure-rate {config.max_failure_rate:g}; the rest is in "
            f"{config.output}, reasons in {storage.join(config.output, 'report', 'index.html')}"
        )
    return stats


def prepare(config: Config) -> tuple[LabelPlan, ClassTable, Listing]:
    """Checks model and input, and decides the plan. Nothing is written."""
    from gaugan import checkpoint

    source = open_source(config)
    model = checkpoint.find(resolve_model(config.model, config.tracking), "--model")
    meta = checkpoint.read_meta(model)
    if meta["system"] != "unet":
        raise UserError(f"--model {config.model}: a checkpoint of system {meta['system']!r}; labelling needs a unet")
    height, width = meta["image_size"]
    classes = ClassTable.from_plain(meta["classes"], source=model)
    if config.crop == "face":
        face_ids(classes)
    items = label_plan.list_inputs(
        source, config.limit, config.held_out, config.seed, metadata=config.metadata, ratings=config.ratings
    )
    image_size = square(config.image_size) if config.image_size else None
    plan = LabelPlan(
        input=config.input,
        root=source.root if source.root != config.input else "",
        in_order=source.in_order,
        model=model,
        model_hash=checkpoint.Checkpoint(model, meta, {}).hash,
        classes_hash=classes.hash,
        segment_size=square(config.segment_size) if config.segment_size else (height, width),
        image_size=image_size,
        crop=config.crop,
        skip_below=config.skip_below,
        skip_above=config.skip_above,
        skip_aspect=config.skip_aspect,
        metadata=config.metadata,
        ratings=config.ratings,
        max_pixels=config.max_pixels,
        min_side=config.min_side,
        min_confidence=config.min_confidence,
        reject_confidence=config.reject_confidence,
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
        inference_batch=config.inference_batch or (GPU_BATCH if config.use_gpu else 1),
        threads=config.threads,
        rows_per_shard=label_plan.rows_per_shard(len(items), _needed_bytes(items, image_size)),
    )
    return plan, classes, items


def open_source(config: Config) -> Source:
    """Where the inputs come from. Raises UserError when what the job writes would become one of them."""
    source = Source(config.input, config.recursive, config.bytes_column, config.id_column)
    if (config.bytes_column or config.id_column) and not source.is_table:
        raise UserError("--bytes-column, --id-column: only .parquet inputs have columns; leave them out")
    for flag, uri in (("--output", config.output), ("--export-labelme", config.export_labelme)):
        if uri and source.would_take(uri):
            raise UserError(f"{flag} {uri}: lies inside --input, and would be read as pictures next time")
    return source


def _needed_bytes(items: Listing, image_size: tuple[int, int] | None) -> int:
    """About what the dataset takes: pictures as they are, or, where they are made smaller, at most their pixels."""
    largest = 3 * image_size[0] * image_size[1] if image_size else reading.MAX_FILE_BYTES
    return items.capped_bytes(largest) + LABEL_MAP_BYTES * len(items)


def _written_bytes(output: str) -> int:
    """What an earlier invocation has written already: a run that is continued needs no second room for it."""
    return sum(entry.size for entry in storage.list_files(output)) if storage.is_local(output) else 0


def finish(job: Job, tracker: Tracker) -> dict[str, Any]:
    """Writes report, stats.json and manifest.json; returns the statistics."""
    from gaugan.label_export import export_labelme
    from gaugan.label_report import write_result

    stats, page = write_result(job.config.output, job.plan, job.classes, job.finished, job.pace.figures())
    storage.remove(storage.join(job.config.output, ".work"))
    if job.config.export_labelme:
        count = export_labelme(job.config.export_labelme, job.config.output, job.plan, job.classes, job.finished)
        print(
            f"{count} doubtful pictures are in {job.config.export_labelme}: correct them with labelme, then "
            f"jobs/import_annotations.py --annotations {job.config.export_labelme}"
        )
    means = {name: stats[name]["mean"] for name in ("confidence", "entropy", "specks")}
    tracker.log_metrics(means | {name: stats[name] for name in LOGGED})
    tracker.log_artifact(storage.join(job.config.output, "stats.json"))
    tracker.log_artifact(storage.parent(page), "report")
    reasons = f" ({tallies(stats['codes'])})" if stats["codes"] else ""
    print(f"{stats['labelled']} labelled, {stats['refused']} refused, {stats['skipped']} skipped{reasons}")
    judged = f"{stats['review']} to review, {stats['reject']} rejected"
    print(f"mean confidence {stats['confidence']['mean']:.3f}, {judged}; look at {page}", flush=True)
    return stats


if __name__ == "__main__":
    run(main, Config)
