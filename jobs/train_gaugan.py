"""Trains the painter: SPADE generator and multi-scale patch discriminator, styles from the frozen encoder.

python jobs/train_gaugan.py --input PAIRS --output RUN --encoder ENCODER_RUN --features unet:UNET_RUN --image-size 128
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from gaugan.spade.config import SpadeConfig
from jobs.command import run
from jobs.training import TrainingJob, train


@dataclass(frozen=True, kw_only=True)
class TrainGauGAN(TrainingJob):
    """Flags of jobs/train_gaugan.py."""

    spade: SpadeConfig = field(default_factory=SpadeConfig)


def main(config: TrainGauGAN) -> dict[str, Any]:
    """Trains, registers the model as `gaugan`, and returns the result."""
    return train(config, "spade", config.spade, registered_name="gaugan")


if __name__ == "__main__":
    run(main, TrainGauGAN)
