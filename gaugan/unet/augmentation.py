"""Strong paired augmentation of a whole batch on its own device: new geometry and new colours at every step.

`gaugan.augment` makes a dataset larger on disk; this one makes every step see pictures that were never seen, which is
what a few dozen annotations need. All randomness comes from torch's global generator, so a step is reproducible from its seed.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

LUMA = (0.299, 0.587, 0.114)
# RGB -> YIQ (NTSC): a hue shift is a rotation of (I, Q), a saturation change its scale.
YIQ = ((0.299, 0.587, 0.114), (0.5959, -0.2746, -0.3213), (0.2115, -0.5227, 0.3112))


def uniform(count: int, low: float, high: float, like: Tensor) -> Tensor:
    """(count,) float32 numbers in [low, high) on the device of `like`."""
    return torch.rand(count, device=like.device) * (high - low) + low


def chance(count: int, probability: float, like: Tensor) -> Tensor:
    """(count,) booleans, each true with `probability`."""
    return torch.rand(count, device=like.device) < probability


def sampling_grid(image: Tensor, strength: float) -> Tensor:
    """(N, H, W, 2) source positions in [-1, 1]: rotation, scale, shift, mirror and a smooth warp, grown by `strength`."""
    n, _, h, w = image.shape
    angle = uniform(n, -1, 1, image) * math.radians(25) * strength
    zoom = torch.exp(uniform(n, -0.35, 0.35, image) * strength)
    mirror = 1 - 2 * chance(n, 0.5, image).float()
    aspect = torch.exp(uniform(n, -0.12, 0.12, image) * strength)
    cos, sin = angle.cos() * zoom, angle.sin() * zoom
    shift = uniform(2 * n, -0.15, 0.15, image).view(2, n) * strength
    rows = [cos * mirror * aspect, -sin, shift[0], sin * mirror * aspect, cos, shift[1]]
    grid = F.affine_grid(torch.stack(rows, 1).view(n, 2, 3), [n, 1, h, w], align_corners=False)
    bumps = torch.randn(n, 2, 5, 5, device=image.device) * 0.035 * strength
    return grid + F.interpolate(bumps, (h, w), mode="bicubic", align_corners=True).permute(0, 2, 3, 1)


def recolour(image: Tensor, strength: float) -> Tensor:
    """New hue, saturation, contrast, brightness, gamma and noise; about one picture in eight turns grey. (N, 3, H, W) in [-1, 1]."""
    n = len(image)
    yiq = torch.tensor(YIQ, device=image.device)
    hue = (
        torch.where(chance(n, 0.25, image), uniform(n, -math.pi, math.pi, image), uniform(n, -0.4, 0.4, image))
        * strength
    )
    saturation = torch.exp(uniform(n, -0.6, 0.5, image) * strength) * ~chance(n, 0.12 * strength, image)
    cos, sin, zero, one = hue.cos() * saturation, hue.sin() * saturation, torch.zeros_like(hue), torch.ones_like(hue)
    turn = torch.stack([one, zero, zero, zero, cos, -sin, zero, sin, cos], 1).view(n, 3, 3)
    matrix = yiq.inverse() @ turn @ yiq  # (N, 3, 3)
    image = torch.einsum("nij,njhw->nihw", matrix, (image + 1) / 2).clamp(0, 1)
    image = image ** torch.exp(uniform(n, -0.45, 0.45, image) * strength).view(n, 1, 1, 1)
    contrast = torch.exp(uniform(n, -0.35, 0.35, image) * strength).view(n, 1, 1, 1)
    mean = image.mean((1, 2, 3), keepdim=True)
    image = (image - mean) * contrast + mean + (uniform(n, -0.12, 0.12, image) * strength).view(n, 1, 1, 1)
    noise = uniform(n, 0, 0.04, image).view(n, 1, 1, 1) * chance(n, 0.3, image).view(n, 1, 1, 1) * strength
    return (image + noise * torch.randn_like(image)).clamp(0, 1) * 2 - 1


def augment_batch(image: Tensor, label_map: Tensor, strength: float = 1.0) -> tuple[Tensor, Tensor]:
    """One random variant of each pair: (N, 3, H, W) in [-1, 1] and (N, H, W) long -> the same shapes.

    What comes from outside the picture is its reflection, in both.
    """
    if strength == 0:
        return image, label_map
    grid = sampling_grid(image, strength)
    image = F.grid_sample(image, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    labels = F.grid_sample(
        label_map[:, None].float(), grid, mode="nearest", padding_mode="reflection", align_corners=False
    )
    return recolour(image, strength), labels[:, 0].long()
