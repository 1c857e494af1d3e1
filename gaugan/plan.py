"""What a training run is: data, system, sizes and intervals. Torch-free, so that a command line can show it at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gaugan.errors import UserError
from gaugan.preprocess import Mode, Preprocess

AT_LEAST_1 = ("batch_size", "steps", "report_every", "sample_count", "evaluate_batch", "keep")
AT_LEAST_1_OR_NONE = ("sample_every", "evaluate_every", "evaluate_limit", "save_every")


@dataclass(frozen=True)
class TrainingPlan:
    """One training run; the same plan again continues it."""

    system: str
    """A name of gaugan.systems.SYSTEMS."""
    config: dict[str, Any]
    """The system's config, plain."""
    data: str
    """Dataset URI."""
    output: str
    """Run folder URI."""
    image_size: tuple[int, int]
    """Height, width of the training pictures."""
    batch_size: int
    """Over all workers."""
    steps: int
    """Optimiser steps in all."""
    seed: int = 0
    augment: str = "none"
    """A name of gaugan.augment.PRESETS."""
    preprocess: Mode = "fit"
    """How pictures get their size: gaugan.preprocess."""
    load_size: int | None = None
    """Side before a random piece is cut."""
    mix_in: tuple[str, ...] = ()
    """Further datasets, "URI=PICTURES" each: so many of a step's pictures come from there."""
    report_every: int = 50
    sample_every: int | None = None
    evaluate_every: int | None = None
    evaluate_batch: int = 16
    evaluate_limit: int | None = None
    """At most so many held-out pictures per evaluation."""
    save_every: int | None = 500
    """None: at the end only."""
    sample_count: int = 8
    keep: int = 2
    """Newest checkpoints to keep; the best one stays as well."""
    use_gpu: bool = False

    def __post_init__(self) -> None:
        for name in AT_LEAST_1:
            if getattr(self, name) < 1:
                raise UserError(f"--{name.replace('_', '-')} {getattr(self, name)}: must be at least 1")
        for name in AT_LEAST_1_OR_NONE:
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(f"--{name.replace('_', '-')} {value}: must be at least 1, or None")
        if self.seed < 0:
            raise UserError(f"--seed {self.seed}: must be 0 or more")
        if min(self.image_size) < 8:
            raise UserError(f"--image-size {self.image_size}: each side needs at least 8 pixels")

        Preprocess(self.image_size, self.preprocess, self.load_size)  # raises if they don't go together
        if self.batch_size <= sum(count for _, count in self.mixture):
            raise UserError(f"--mix-in takes all {self.batch_size} pictures of --batch-size; leave some for --input")

    @property
    def mixture(self) -> list[tuple[str, int]]:
        """(URI, pictures per step) of each further dataset."""
        found = []
        for entry in self.mix_in:
            uri, _, count = entry.rpartition("=")
            if not uri or not count.isdigit() or int(count) < 1:
                raise UserError(f"--mix-in {entry}: expected URI=PICTURES, such as drawn=6")
            found.append((uri, int(count)))
        return found


def square(image_size: tuple[int, ...]) -> tuple[int, int]:
    """The flag's form -> (height, width): one number is a square."""
    if len(image_size) == 1:
        return image_size[0], image_size[0]
    if len(image_size) == 2:
        return image_size[0], image_size[1]
    raise UserError(f"--image-size {image_size}: one number (square) or height and width")
