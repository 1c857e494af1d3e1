"""Trains the U-Net that labels portraits.

python jobs/train_unet.py --input PAIRS --output RUN --version v3 --image-size 256
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Literal

from gaugan.unet.config import UNetConfig
from jobs.command import run
from jobs.training import TrainingJob, train


@dataclass(frozen=True, kw_only=True)
class TrainUNet(TrainingJob):
    """Flags of jobs/train_unet.py."""

    augment: Literal["none", "flip", "mild", "strong"] = "strong"
    """Random changes of each training picture."""
    unet: UNetConfig = field(default_factory=UNetConfig)


def main(config: TrainUNet) -> dict[str, Any]:
    """Trains, registers the model as `unet`, and returns the result."""
    unet = config.unet if config.unet.decay_steps else dataclasses.replace(config.unet, decay_steps=config.steps)
    return train(config, "unet", unet, registered_name="unet")


if __name__ == "__main__":
    run(main, TrainUNet)
