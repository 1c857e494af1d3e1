"""The whole road in one command: annotations and pictures in, a painter and a report out.

    python jobs/pipeline.py --annotations DIR --images DIR --output DIR     (without the first two: the built-in sample)

Every step is the same job that can be run alone, with its own folder below OUTPUT and its own config.yaml. Flags and
folders are checked before the first of them. The same command again continues: finished steps are not done again. Last
comes a table of what was measured and where the results are.
"""

from __future__ import annotations

import dataclasses
import shlex
import time
from collections.abc import Callable

from gaugan import storage
from gaugan.progress import duration
from jobs import pipeline_steps as steps
from jobs.command import STOP, begin, check_memory, check_room, run
from jobs.pipeline_check import check_inputs
from jobs.pipeline_config import PipelineConfig

ROOM_BYTES = 2 * 2**30
MEMORY_BYTES = 3 * 2**30


def main(config: PipelineConfig) -> list[tuple[str, str, str]]:
    """Runs all steps; returns the table."""
    checked = check_inputs(config)
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
    road = steps.Road(config, len(plan), checked=checked)
    start = time.monotonic()
    for name, do in plan:
        road.step(name, lambda do=do: do(road))  # type: ignore[misc]
    if not STOP():
        finish(road, time.monotonic() - start)
    return road.table


def finish(road: steps.Road, seconds: float) -> None:
    """Writes the report page and prints the table and the paths."""
    from jobs.pipeline_report import write_report

    page = write_report(road.config.output, road.table)
    width = max(len(name) for name, _, _ in road.table)
    print(f"\nDone, after {duration(seconds)} of this sitting. What was measured, and how long each step took in all:")
    for name, measured, took in road.table:
        print(f"  {name:<{width}}  {took:>7}  {measured}")
    print(f"\nreport page    {page}")
    print(f"trained model  {road.folder('gaugan')}")
    print(f"segmenter      {road.folder('unet')}")
    words = ["python", "-m", "serve", "--model", road.folder("gaugan"), "--segmenter", road.folder("unet")]
    print(f"paint with it  {shlex.join(words)}", flush=True)


if __name__ == "__main__":
    run(main, PipelineConfig)
