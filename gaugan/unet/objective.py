"""What a U-Net is trained for: cross-entropy plus soft Dice.

On real portraits a mouth is 0.14 % of the pixels and hair 38 %, so cross-entropy alone hardly notices a missing mouth.
Soft Dice (Milletari et al. 2016, V-Net, arXiv 1606.04797) scores each class by its overlap, whatever its size.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from gaugan.labels import IGNORE

POWER_FALLS = (0.6, 0.9)
"""Shares of a run between which the power of the class weights falls (docs/segmenter.md)."""


def class_shares(label_map: Tensor, num_classes: int) -> Tensor:
    """(num_classes,) float32 share of each class among the pixels that are not ignored."""
    counts = torch.bincount(label_map[label_map != IGNORE].flatten(), minlength=num_classes).float()
    return counts / counts.sum().clamp(min=1)


def class_power_at(step: int, first: float, last: float, decay_steps: int) -> float:
    """`first` until POWER_FALLS[0] of `decay_steps`, `last` from POWER_FALLS[1] on, a straight line between.

    With decay_steps 0 (a run without a known end) it is always `last`.
    """
    if not decay_steps:
        return last
    start, stop = POWER_FALLS
    return first + (last - first) * min(1.0, max(0.0, (step / decay_steps - start) / (stop - start)))


def class_weights(shares: Tensor, power: float) -> Tensor:
    """(C,) weights ~ share^-power whose mean over the pixels is 1; power 0 = all alike, 0.5 = inverse square root."""
    weights = shares.clamp(min=1e-4) ** -power
    return weights / (weights * shares).sum().clamp(min=1e-8)


def soft_dice(logits: Tensor, label_map: Tensor) -> Tensor:
    """1 - mean over the classes present of 2 |P.Y| / (|P| + |Y|), pooled over the batch.

    logits (N, C, H, W), label_map (N, H, W) long; ignored pixels count on neither side.
    """
    known = label_map != IGNORE
    onehot = F.one_hot(label_map.where(known, 0), logits.shape[1]).movedim(-1, 1) * known[:, None]  # (N, C, H, W)
    probabilities = logits.softmax(1) * known[:, None]
    true_size = onehot.sum((0, 2, 3))
    overlap = (probabilities * onehot).sum((0, 2, 3))
    dice = (2 * overlap + 1) / (probabilities.sum((0, 2, 3)) + true_size + 1)  # + 1 pixel: steady for tiny classes
    present = (true_size > 0).float()
    return 1 - (dice * present).sum() / present.sum().clamp(min=1)


def segmentation_loss(
    logits: Tensor, label_map: Tensor, *, dice: float = 1.0, weights: Tensor | None = None
) -> tuple[Tensor, dict[str, Tensor]]:
    """Cross-entropy (with class `weights` (C,) if given) + `dice` x soft Dice: the sum and its detached parts.

    logits (N, C, H, W) float32, label_map (N, H, W) long with 255 = ignore. All ignored: the loss is 0.
    """
    total = F.cross_entropy(logits, label_map, weight=weights, ignore_index=IGNORE, reduction="sum")
    known = (label_map != IGNORE).sum()
    if weights is not None:
        known = weights[label_map[label_map != IGNORE]].sum()
    parts = {"cross_entropy": total / known.clamp(min=1)}
    if dice:
        parts["dice"] = soft_dice(logits, label_map)
    loss = parts["cross_entropy"] + dice * parts.get("dice", 0.0)
    return loss, {name: part.detach() for name, part in parts.items()}
