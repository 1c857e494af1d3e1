"""Trains the style encoder as a VAE on the pictures of a dataset; train_gaugan then uses it frozen.

python jobs/train_encoder.py --input PAIRS --output RUN --image-size 128
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from gaugan.spade.config import StyleVAEConfig
from jobs.command import run
from jobs.training import TrainingJob, train


@dataclass(frozen=True, kw_only=True)
class TrainEncoder(TrainingJob):
    """Flags of jobs/train_encoder.py."""

    vae: StyleVAEConfig = field(default_factory=StyleVAEConfig)


def main(config: TrainEncoder) -> dict[str, Any]:
    """Trains the VAE and returns the result."""
    return train(config, "style_vae", config.vae)


if __name__ == "__main__":
    run(main, TrainEncoder)
