"""The whole road in one command: annotations and pictures in, a painter and a report out.

    python jobs/pipeline.py --annotations DIR --images DIR --output DIR     (without the first two: the built-in sample)

Every step is the same job that can be run alone, with its own folder below OUTPUT and its own config.yaml. The same
command again continues: finished steps are not done again. Last comes a table of what was measured and where the
results are.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable

import yaml

from gaugan import storage
from gaugan.config import from_plain
from gaugan.errors import UserError
from gaugan.progress import duration
from jobs import pipeline_steps as steps
from jobs.command import STOP, begin, check_memory, check_room, run
from jobs.pipeline_config import DATA_FIELDS, PipelineConfig

ROOM_BYTES = 2 * 2**30
MEMORY_BYTES = 3 * 2**30


def main(config: PipelineConfig) -> list[tuple[str, str, str]]:
    """Runs all steps; returns the table."""
    check_inputs(config)
    if config.dry_run:
        return []
    check_room(config.output, ROOM_BYTES, "the whole run")
    check_memory(MEMORY_BYTES, "--batch-size or --image-size")
    begin(config)
    plan: list[tuple[str, Callable[[steps.Road], str]]] = [
        ("import_annotations", steps.import_annotations),
        ("train_unet", steps.train_unet),
        ("evaluate_unet", steps.evaluate_unet),
        ("train_unet (judge)", steps.train_judge),
        ("label_dataset", steps.label_dataset),
        ("train_encoder", steps.train_encoder),
        ("train_gaugan", steps.train_gaugan),
        ("evaluate", steps.evaluate),
    ]
    if config.sweep_trials:
        plan.insert(6, ("tune/sweep", steps.sweep))
    if not config.annotations:
        plan.insert(0, ("draw the built-in sample", steps.draw_sample))
        config = dataclasses.replace(
            config,
            annotations=storage.join(config.output, "sample", "annotated"),
            images=storage.join(config.output, "sample", "images"),
        )
    road = steps.Road(config, len(plan))
    start = time.monotonic()
    for name, do in plan:
        road.step(name, lambda do=do: do(road))  # type: ignore[misc]
    if not STOP():
        finish(road, time.monotonic() - start)
    return road.table


def check_inputs(config: PipelineConfig) -> None:
    """Before anything is written: numbers, folders, and that OUTPUT holds no run on other data.

    Building the config of every step lets each check its own fields.
    """
    for name in (
        "sample_annotated",
        "sample_pictures",
        "unet_steps",
        "judge_steps",
        "encoder_steps",
        "gan_steps",
        "ngf",
        "unet_batch_size",
        "batch_size",
    ):
        if getattr(config, name) < 1:
            raise UserError(f"--{name.replace('_', '-')} {getattr(config, name)}: must be at least 1")
    for name in ("annotations", "images"):
        uri = getattr(config, name)
        if uri and not storage.is_folder(uri):
            raise UserError(f"--{name} {uri}: no such folder")
    steps.gaugan_config(steps.Road(config, 0), "gaugan", config.gan_steps).plan("spade", None)
    known = storage.join(config.output, "config.yaml")
    made = ("sample/done.json", "annotated/manifest.json")  # before one of them a mistake in the flags binds nothing
    if storage.exists(known) and any(storage.exists(storage.join(config.output, name)) for name in made):
        before = from_plain(PipelineConfig, yaml.safe_load(storage.read_text(known)), source=known)
        different = [name for name in DATA_FIELDS if getattr(before, name) != getattr(config, name)]
        if different:
            details = "; ".join(f"{n}: there {getattr(before, n)!r}, now {getattr(config, n)!r}" for n in different)
            raise UserError(f"{config.output} holds a run on other data ({details}); choose another --output")


def finish(road: steps.Road, seconds: float) -> None:
    """Writes the report page and prints the table and the paths."""
    from jobs.pipeline_report import write_report

    page = write_report(road.config.output, road.table)
    width = max(len(name) for name, _, _ in road.table)
    print(f"\nDone in {duration(seconds)}. What was measured:")
    for name, measured, took in road.table:
        print(f"  {name:<{width}}  {took:>7}  {measured}")
    print(f"\nreport page    {page}")
    print(f"trained model  {road.folder('gaugan')}")
    print(f"segmenter      {road.folder('unet')}")
    print(
        f"paint with it  python -m serve --model {road.folder('gaugan')} --segmenter {road.folder('unet')}", flush=True
    )


if __name__ == "__main__":
    run(main, PipelineConfig)
