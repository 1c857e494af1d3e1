"""A dataset and a system small enough to train in milliseconds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from gaugan import images, labels
from gaugan.labels import PORTRAIT_CLASSES, ClassTable
from gaugan.pairs import Pair, PairsWriter
from gaugan.systems import SystemEntry

SIZE = (8, 8)


def write_pairs(uri: str, train: int = 13, held_out: int = 3, rows_per_shard: int = 5) -> str:
    """Noise pictures 0.png, 1.png ...; pixel (0, 0) of the label map is the number modulo 7."""
    writer = PairsWriter(uri, PORTRAIT_CLASSES, rows_per_shard)
    for number in range(train + held_out):
        rng = np.random.default_rng(number)
        label_map = rng.integers(0, 7, SIZE).astype(np.uint8)
        label_map[0, 0] = number % 7
        image = images.encode_png(rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8))
        encoded, split = labels.encode_label_map(label_map, PORTRAIT_CLASSES), "train" if number < train else "held_out"
        writer.add(Pair(f"{number}.png", image, encoded, SIZE[1], SIZE[0], split, f"{number}", number / 100))
    writer.finish()
    return uri


@dataclass(frozen=True)
class ToyConfig:
    """A linear layer on pixels."""

    learning_rate: float = 0.05
    """Adam's."""
    noise: float = 0.1
    """Random changes of the input, so that the random numbers matter."""


class ToySystem:
    """Predicts the class share of a picture; `bad_steps` yield gradients that are not finite."""

    best_metric = "score"
    bad_steps: set[int] = set()
    scores: dict[int, float] = {}

    def __init__(self, config: ToyConfig, classes: ClassTable, device: torch.device) -> None:
        self.config, self.classes, self.device = config, classes, device
        self.networks: dict[str, torch.nn.Module] = {"toy": torch.nn.Linear(3, classes.num_classes).to(device)}
        self.optimiser = torch.optim.Adam(self.networks["toy"].parameters(), lr=config.learning_rate)
        self.seen = 0

    def train_step(self, batch: dict[str, torch.Tensor], step: int) -> dict[str, torch.Tensor]:
        pictures = batch["image"].mean((2, 3))
        share = labels.onehot(batch["label_map"], self.classes.num_classes).mean((2, 3))
        noisy = pictures + self.config.noise * torch.randn(pictures.shape)
        loss = (self.networks["toy"](noisy) - share).square().mean()
        self.seen += 1
        if step in self.bad_steps:
            return {"loss": loss.detach() * torch.nan, "skipped": torch.tensor(1.0)}
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        return {"loss": loss.detach(), "skipped": torch.tensor(0.0)}

    def calibrate(self, batches: Iterator[dict[str, torch.Tensor]]) -> None:
        for _ in batches:
            pass

    def evaluate(self, batches: Iterator[dict[str, torch.Tensor]]) -> dict[str, float]:
        count = sum(len(batch["image"]) for batch in batches)
        return {"score": self.scores.get(self.seen, self.seen / 1000), "count": float(count)}

    def sample(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        return torch.cat(list(batch["image"]), 2)

    def generate(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        return batch["image"]

    def state_dict(self) -> dict[str, Any]:
        networks = {name: network.state_dict() for name, network in self.networks.items()}
        return {"networks": networks, "optimisers": {"toy": self.optimiser.state_dict()}, "extra": {"seen": self.seen}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.networks["toy"].load_state_dict(state["networks"]["toy"])
        self.optimiser.load_state_dict(state["optimisers"]["toy"])
        self.seen = state["extra"]["seen"]


def build_toy(config: ToyConfig, classes: ClassTable, image_size: tuple[int, int], device: torch.device) -> ToySystem:
    return ToySystem(config, classes, device)


TOY = SystemEntry(ToyConfig, build_toy, "score")
