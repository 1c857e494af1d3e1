"""Trains the U-Net that labels portraits.

python jobs/train_unet.py --input PAIRS --output RUN --version v3 --image-size 256
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Literal

from gaugan.errors import UserError
from gaugan.unet.config import UNetConfig
from jobs.command import run
from jobs.training import TrainingJob, train


@dataclass(frozen=True, kw_only=True)
class TrainUNet(TrainingJob):
    """Flags of jobs/train_unet.py."""

    steps: int = 1000
    """Optimiser steps in all. The learning rate falls until there, so a longer run is another one: begin it from a
    finished one with --initial OLD --output NEW."""
    augment: Literal["none", "flip", "mild", "strong"] = "strong"
    """Random changes of each training picture."""
    unet: UNetConfig = field(default_factory=UNetConfig)


def main(config: TrainUNet) -> dict[str, Any]:
    """Trains, registers the model as `unet`, and returns the result."""
    return train(config, "unet", with_decay(config), registered_name="unet")


def with_decay(config: TrainUNet) -> UNetConfig:
    """The U-Net's config with the step at which its learning rate has fallen.

    Raises UserError when the output holds a run whose rate falls to another step: it would not be the same run.
    """
    if config.unet.decay_steps:
        return config.unet
    there = steps_there(config)
    if there not in (None, config.steps):
        raise UserError(
            f"--steps {config.steps}: {config.output} holds a run whose learning rate falls until step {there}. Give "
            f"--steps {there} to finish that run; or begin one of {config.steps} steps from its weights with --initial "
            f"{config.output} --output ANOTHER; or go on at its lowest rate with --decay-steps {there}"
        )
    return dataclasses.replace(config.unet, decay_steps=config.steps)


def steps_there(config: TrainUNet) -> int | None:
    """The step until which the learning rate of the run in the output falls; None when no U-Net's run is there."""
    from gaugan import checkpoint

    known = checkpoint.steps(config.output)
    meta = checkpoint.read_meta(checkpoint.step_uri(config.output, known[-1])) if known else {}
    return meta.get("config", {}).get("decay_steps") if meta.get("system") == "unet" else None


if __name__ == "__main__":
    run(main, TrainUNet)
