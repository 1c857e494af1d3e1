"""The flags of jobs/pipeline.py."""

from __future__ import annotations

from dataclasses import dataclass

from gaugan.errors import UserError
from jobs.command import JobConfig

DATA_FIELDS = (
    *("annotations", "images", "sample_annotated", "sample_pictures", "held_out", "held_out_labelled"),
    *("augment_to", "unet_image_size", "image_size", "seed"),
)
"""What a run may not change when it is continued."""


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
    unet_steps: int = 720
    """Steps of the U-Net that labels."""
    judge_steps: int = 480
    """Steps of the second U-Net, the one that judges paintings."""
    unet_batch_size: int = 4
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
