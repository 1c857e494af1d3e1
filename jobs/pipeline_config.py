"""The flags of jobs/pipeline.py."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import tyro

from gaugan.errors import UserError
from jobs.command import JobConfig

DATA_FIELDS = (
    *("annotations", "images", "classes", "map", "unknown", "z_order", "sample_annotated", "sample_pictures"),
    *("held_out", "held_out_labelled", "augment_to", "unet_image_size", "image_size", "seed"),
)
"""What a run may not change when it is continued."""
OF_ANNOTATIONS = ("classes", "map", "unknown", "z_order")
"""Fields that tell how labels of --annotations become classes."""
_U_NET = {"--image-size": "--unet-image-size", "--batch-size": "--unet-batch-size"}
OWN_FLAGS = {
    "train_unet": {**_U_NET, "--steps": "--unet-steps"},
    "train_unet (judge)": {**_U_NET, "--steps": "--judge-steps"},
    "label_dataset": {"--input": "--images", "--held-out": "--held-out-labelled"},
    "train_encoder": {"--steps": "--encoder-steps"},
    "tune/sweep": {"--trials": "--sweep-trials", "--steps": "--sweep-steps"},
    "train_gaugan": {"--steps": "--gan-steps"},
    "evaluate": {"--held-out": "--held-out-labelled"},
}
"""Step -> what its job calls a flag -> what the pipeline calls it, where the two differ."""


@contextlib.contextmanager
def own_flags(step: str) -> Iterator[None]:
    """What a step's job refuses in the block comes out with the flags that the user of the pipeline has."""
    names = OWN_FLAGS.get(step, {})
    try:
        yield
    except UserError as error:
        if not names:
            raise
        words = "|".join(map(re.escape, names))
        text = re.sub(rf"(?<![\w/.-])({words})(?![\w-])", lambda found: names[found[0]], str(error))
        raise UserError(text) from error


@dataclass(frozen=True, kw_only=True)
class PipelineConfig(JobConfig):
    """Flags of jobs/pipeline.py; the defaults are the demo: minutes on two cores."""

    annotations: str = ""
    """Folder with labelme annotations; "" = portraits drawn by the built-in sample."""
    images: str = ""
    """Folder with pictures to label; "" = the built-in sample."""
    classes: str = ""
    """Class table YAML; "" = the built-in portrait classes."""
    map: tyro.conf.UseAppendAction[tuple[tuple[str, ...], ...]] = ()
    """Labels to rename, old=new, such as --map nose=face neck=skin; new is a class name or __ignore__."""
    unknown: Literal["error", "ignore"] = "error"
    """Labels that are no class: "error" refuses them, "ignore" makes their pixels 255, which no loss counts."""
    z_order: str = ""
    """Paint by class instead of list order, lowest first: background,clothes,skin,face,hair,mouth,eye."""
    sample_annotated: int = 120
    """Built-in sample: annotated portraits."""
    sample_pictures: int = 600
    """Built-in sample: portraits without labels."""
    held_out: float = 0.2
    """Share of the annotated source pictures kept for measuring."""
    held_out_labelled: float = 0.1
    """Share of the labelled pictures kept for measuring the painter; of four pictures and more at least two."""
    max_failure_rate: float = 0.2
    """Exit code 3 when a larger share of the pictures can't be labelled."""
    encoder_weights: str = "none"
    """First weights of the U-Nets' down path: "none" (random), "imagenet", or the URI of a MobileNetV2 state dict."""
    augment_to: int = 400
    """Annotated training pairs after augmentation; a folder that has more keeps them all."""
    unet_image_size: tuple[int, ...] = (128,)
    """Size at which the segmenters work: one number (square) or height and width, multiples of 64."""
    unet_steps: int = 640
    """Steps of the U-Net that labels."""
    judge_steps: int = 440
    """Steps of the second U-Net, the one that judges paintings."""
    unet_batch_size: int = 4
    """Pictures per step of the U-Nets: in a short run many small steps learn more than few large ones."""
    image_size: tuple[int, ...] = (64,)
    """Size of the paintings: one number (square) or height and width, multiples of 32."""
    encoder_steps: int = 350
    """Steps of the style encoder."""
    sweep_trials: int = 4
    """Trials over the loss weights; 0 = none."""
    sweep_steps: int = 30
    """Steps of each trial."""
    gan_steps: int = 320
    """Steps of the painter."""
    ngf: int = 16
    """Width of the painter."""
    batch_size: int = 16
    """Pictures per step."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if bool(self.annotations) != bool(self.images):
            raise UserError("--annotations and --images belong together: give both, or neither for the built-in sample")
        given = [name for name in OF_ANNOTATIONS if getattr(self, name) != getattr(PipelineConfig, name)]
        if given and not self.annotations:
            flags = ", ".join(f"--{name.replace('_', '-')}" for name in given)
            raise UserError(f"{flags}: for the labels of --annotations; the built-in sample has classes of its own")
