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
from dataclasses import dataclass

import yaml

from gaugan import storage
from gaugan.config import from_plain
from gaugan.errors import UserError
from gaugan.progress import duration
from jobs import pipeline_steps as steps
from jobs.command import STOP, JobConfig, begin, check_memory, check_room, run

DATA_FIELDS = (
    *("annotations", "images", "sample_annotated", "sample_pictures", "held_out", "held_out_labelled"),
    *("augment_to", "unet_image_size", "image_size", "seed"),
)
"""What a run may not change when it is continued."""
ROOM_BYTES = 2 * 2**30
MEMORY_BYTES = 3 * 2**30


@dataclass(frozen=True, kw_only=True)
class PipelineConfig(JobConfig):
    """Flags of jobs/pipeline.py; the defaults are the demo: minutes on two cores."""

    annotations: str = ""
    """Folder with labelme annotations; "" = portraits drawn by the built-in sample."""
    images: str = ""
    """Folder with pictures to label; "" = the built-in sample."""
    sample_annotated: int = 120
    """Built-in sample: annotated portraits."""
    sample_pictures: int = 600
    """Built-in sample: portraits without labels."""
    held_out: float = 0.2
    """Share of the annotated source pictures kept for measuring."""
    held_out_labelled: float = 0.1
    """Share of the labelled pictures kept for measuring the painter."""
    max_failure_rate: float = 0.2
    """Exit code 3 when a larger share of the pictures can't be labelled."""
    encoder_weights: str = "none"
    """First weights of the U-Nets' down path: "none" (random), "imagenet", or the URI of a MobileNetV2 state dict."""
    augment_to: int = 400
    """Annotated training pairs after augmentation."""
    unet_image_size: tuple[int, ...] = (128,)
    """Size at which the segmenters work."""
    unet_steps: int = 420
    """Steps of the U-Net that labels."""
    judge_steps: int = 260
    """Steps of the second U-Net, the one that judges paintings."""
    unet_batch_size: int = 8
    """Pictures per step of the U-Nets: in a short run many small steps learn more than few large ones."""
    image_size: tuple[int, ...] = (64,)
    """Size of the paintings."""
    encoder_steps: int = 350
    """Steps of the style encoder."""
    sweep_trials: int = 4
    """Trials over the loss weights; 0 = none."""
    sweep_steps: int = 30
    """Steps of each trial."""
    gan_steps: int = 360
    """Steps of the painter."""
    ngf: int = 16
    """Width of the painter."""
    batch_size: int = 16
    """Pictures per step."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if bool(self.annotations) != bool(self.images):
            raise UserError("--annotations and --images belong together: give both, or neither for the built-in sample")


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
    if storage.exists(known):
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
