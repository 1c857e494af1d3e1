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
    for line in missing(config.spade):
        print(f"warning: {line}", flush=True)
    return train(config, "spade", config.spade, registered_name="gaugan")


def missing(spade: SpadeConfig) -> list[str]:
    """What a run goes without because no model was named for it, and which flag would give it.

    Features that are used are told by their owner once they are loaded (gaugan.systems.build_spade).
    """
    lines = []
    if spade.features == "none" and spade.lambda_perceptual:
        lines.append(
            "perceptual features: none, so the perceptual loss is left out. "
            "--features unet:RUN takes those of a U-Net of ours, --features vgg19[:FILE] the published ones"
        )
    if not spade.judge:
        lines.append(
            "judge: none, so there are no consistency figures, and no checkpoint is chosen as the best: the last one "
            "is used. --judge RUN takes a U-Net, best another one than the one that labelled the data"
        )
    return lines


if __name__ == "__main__":
    run(main, TrainGauGAN)
