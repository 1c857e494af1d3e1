"""The U-Net as a system: pictures in, label maps out; trained on annotated pairs.

The recipe (AdamW, cosine learning rate, the first part of the run at half the size, averaged weights) is the one that
was best on held-out annotated portraits; docs/segmenter.md has the figures.
"""

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from gaugan import metrics, nn, parallel
from gaugan.ema import Ema
from gaugan.images import to_tensor
from gaugan.labels import ClassTable, colourise
from gaugan.precision import autocast
from gaugan.unet.config import UNetConfig, check_size
from gaugan.unet.initial import load_initial_weights
from gaugan.unet.networks import UNet
from gaugan.unet.objective import class_power_at, class_shares, class_weights, segmentation_loss

Batch = dict[str, Tensor]
HALF_SIZE_MIN = 128  # smaller pictures have no mouths left to learn


class UNetSystem:
    """Networks: "unet" (trained) and "unet_ema" (its average, used for everything else)."""

    best_metric = "miou"

    def __init__(
        self, config: UNetConfig, *, classes: ClassTable, image_size: tuple[int, int], device: torch.device
    ) -> None:
        """Raises UserError when the sides don't divide by 32, or the initial weights are missing or don't fit."""
        check_size(config, image_size)
        self.config, self.classes, self.image_size, self.device = config, classes, image_size, device
        unet = UNet(config.version, classes.num_classes, config.widths)
        load_initial_weights(unet, initial=config.initial, encoder_weights=config.encoder_weights, classes=classes)
        unet = unet.to(device).to(memory_format=torch.channels_last)
        self.ema = Ema(
            unet, config.ema_half_life_images, average_buffers=True
        )  # before SyncBatchNorm, so that rank 0 evaluates alone
        self.unet = parallel.sync_batchnorm(unet)
        self.networks: dict[str, torch.nn.Module] = {"unet": self.unet, "unet_ema": self.ema.network}
        self.optimiser = torch.optim.AdamW(
            self.unet.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
        )
        self.shares = torch.full((classes.num_classes,), 1 / classes.num_classes, device=device)

    def train_step(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """One optimiser step on "image" (N, 3, H, W) and "label_map" (N, H, W)."""
        config = self.config
        image, label_map = batch["image"], batch["label_map"]
        if step < config.half_size_share * config.decay_steps and min(image.shape[2:]) >= 2 * HALF_SIZE_MIN:
            image, label_map = F.avg_pool2d(image, 2), label_map[:, ::2, ::2]
        self.shares.lerp_(class_shares(label_map, self.classes.num_classes), 0.01)
        first = config.class_power if config.initial else config.first_class_power
        power = class_power_at(step, first, config.class_power, config.decay_steps)
        weights = class_weights(self.shares, power) if power else None

        self.unet.train()
        statistics = nn.RunningStatistics(self.unet)
        loss, parts = segmentation_loss(self._logits(self.unet, image), label_map, dice=config.dice, weights=weights)
        for group in self.optimiser.param_groups:
            group["lr"] = config.learning_rate * learning_rate_factor(step, config.warmup_steps, config.decay_steps)
        skipped = nn.optimiser_step(loss, self.optimiser, self.unet.parameters(), config.clip_norm)
        statistics.restore_if(skipped)
        images = len(image) * parallel.world_size()
        self.ema.update(self.unet, images, (step + 1) * images)
        return {"loss": loss.detach(), **parts, "skipped": skipped}

    def _logits(self, unet: torch.nn.Module, image: Tensor) -> Tensor:
        image = image.contiguous(memory_format=torch.channels_last)
        with autocast(self.config.precision, image.device):
            return unet(image).float()

    @torch.no_grad()
    def generate(self, batch: Batch) -> Tensor:
        """(N, H, W) long: the predicted label maps."""
        return self._logits(self.ema.network, batch["image"]).argmax(1)

    def evaluate(self, batches: Iterable[Batch]) -> dict[str, float]:
        """miou, pixel_accuracy, iou_<class>, and specks per picture beside those of the true label maps."""
        num_classes = self.classes.num_classes
        counts, specks = np.zeros((num_classes, num_classes), dtype=np.int64), []
        for batch in batches:
            predicted = self.generate(batch).to(torch.uint8).cpu().numpy()
            truth = batch["label_map"].to(torch.uint8).cpu().numpy()
            counts += metrics.confusion(truth, predicted, num_classes)
            specks += [
                (metrics.num_specks(mine), metrics.num_specks(theirs))
                for mine, theirs in zip(predicted, truth, strict=True)
            ]
        mine, theirs = np.mean(specks, axis=0)
        return metrics.label_scores(counts, self.classes.names) | {"specks": float(mine), "specks_true": float(theirs)}

    def sample(self, batch: Batch) -> Tensor:
        """(3, 3 H, N W) in [-1, 1]: pictures, true label maps, predicted label maps."""
        rows = [batch["image"].cpu()] + [self._coloured(maps) for maps in (batch["label_map"], self.generate(batch))]
        return torch.cat([torch.cat(list(row), 2) for row in rows], 1)

    def _coloured(self, label_maps: Tensor) -> Tensor:
        maps = label_maps.to(torch.uint8).cpu().numpy()
        return to_tensor(np.stack([colourise(label_map, self.classes) for label_map in maps]))

    def state_dict(self) -> dict[str, Any]:
        """Everything that a resumed run needs."""
        return {
            "networks": {name: network.state_dict() for name, network in self.networks.items()},
            "optimisers": {"unet": self.optimiser.state_dict()},
            "extra": {"shares": self.shares},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of `state_dict`."""
        for name, network in self.networks.items():
            network.load_state_dict(state["networks"][name])
        self.optimiser.load_state_dict(state["optimisers"]["unet"])
        self.shares.copy_(state["extra"]["shares"])


def learning_rate_factor(step: int, warmup_steps: int, decay_steps: int) -> float:
    """Linear warm-up to 1, then half a cosine down to 0.01 at `decay_steps`."""
    warm = min(1.0, (step + 1) / max(warmup_steps, 1))
    progress = min(1.0, step / decay_steps) if decay_steps else 0.0
    return warm * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress)))
