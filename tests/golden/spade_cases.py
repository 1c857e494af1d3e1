"""What the golden numbers of spade.json were made from: cases, weights and inputs, the same for both codes.

Weights come from numpy's PCG64 in the order of their names, so they depend on no torch version and no copied file.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

CLASSES = 5
"""Beside them a channel for ignored pixels and one for instance edges: 7 label channels."""
BATCH = 2
STEPS = 3
SPADE = {"generator": "spade", "ngf": 4, "size": (64, 64), "z_dim": None, "upsampling": "normal"}
HD = {"generator": "pix2pixhd", "ngf": 4, "size": (32, 48), "z_dim": None, "downsamplings": 2, "blocks": 2}

GENERATORS: dict[str, dict[str, Any]] = {
    "labels": {**SPADE, "norm": "spectralspadesyncbatch3x3"},
    "labels, 5x5": {**SPADE, "norm": "spectralspadebatch5x5"},
    "labels, instance": {**SPADE, "norm": "spectralspadeinstance3x3"},
    "labels, no spectral norm": {**SPADE, "norm": "spadesyncbatch3x3"},
    "labels, twice as wide": {**SPADE, "norm": "spectralspadesyncbatch3x3", "size": (32, 64)},
    "labels, more": {**SPADE, "norm": "spectralspadesyncbatch3x3", "upsampling": "more", "size": (64, 128)},
    "labels, most": {**SPADE, "norm": "spectralspadesyncbatch3x3", "upsampling": "most", "size": (128, 128)},
    "style": {**SPADE, "norm": "spectralspadesyncbatch3x3", "z_dim": 6},
    "style, twice as wide, more": {
        **SPADE, "norm": "spectralspadesyncbatch3x3", "z_dim": 6, "upsampling": "more", "size": (64, 128),
    },
    "style, most": {**SPADE, "norm": "spectralspadesyncbatch3x3", "z_dim": 6, "upsampling": "most", "size": (128, 128)},
    "pix2pixhd, instance": {**HD, "norm": "spectralinstance"},
    "pix2pixhd, batch": {**HD, "norm": "spectralbatch", "downsamplings": 3, "blocks": 1},
    "pix2pixhd, none": {**HD, "norm": "spectralnone", "kernel_size": 5, "initial_kernel_size": 3},
}  # fmt: skip
DISCRIMINATORS: dict[str, dict[str, Any]] = {
    "published": {"ndf": 4, "scales": 2, "layers": 4, "norm": "spectralinstance"},
    "three scales of three layers": {"ndf": 6, "scales": 3, "layers": 3, "norm": "spectralinstance"},
    "batch norm": {"ndf": 4, "scales": 2, "layers": 4, "norm": "spectralbatch"},
    "no norm, five layers": {"ndf": 4, "scales": 1, "layers": 5, "norm": "spectralnone"},
}
ENCODERS: dict[str, dict[str, Any]] = {
    "published": {"nef": 4, "norm": "spectralinstance"},
    "no norm": {"nef": 4, "norm": "spectralnone"},
    "batch norm": {"nef": 2, "norm": "spectralbatch"},
}
WIDE = {"size": (32, 256), "upsampling": "normal", "ngf": 4, "ndf": 4}
"""The published encoder needs a crop of at least 256; 32 x 256 keeps the rest small."""
TRAININGS: dict[str, dict[str, Any]] = {
    "hinge, joint encoder": {
        **WIDE, "gan": "hinge", "z_dim": 256, "norm": "spectralspadesyncbatch3x3", "norm_d": "spectralinstance",
    },
    "least squares": {
        **WIDE, "gan": "ls", "z_dim": None, "norm": "spectralspadesyncbatch3x3", "norm_d": "spectralinstance",
    },
    "original, batch norm in D": {
        **WIDE, "gan": "original", "z_dim": None, "norm": "spectralspadeinstance3x3", "norm_d": "spectralbatch",
    },
    "wasserstein, G at every second step": {
        **WIDE, "gan": "w", "z_dim": None, "norm": "spectralspadesyncbatch3x3", "norm_d": "spectralinstance",
        "d_steps": 2,
    },
}  # fmt: skip


MOVED = ("up_1.conv_0.weight_u", "up_3.norm_0.param_free_norm.running_mean", "discriminator_0.model1.0.0.weight_u",
         "layer2.0.weight_u")  # fmt: skip
"""What passes in training mode move beside the weights: spectral norm of G, D and E, statistics of G."""

PICTURE = (44, 76)
"""Height and width of the picture that is preprocessed; 44 / 32 and 76 / 32 are rounded down and up."""
PREPROCESSING: dict[str, dict[str, Any]] = {
    "resize_and_crop": {"load": 40, "size": (32, 32), "place": (3, 5)},
    "crop": {"size": (32, 32), "place": (12, 40)},
    "scale_width": {"load": 61, "size": (35, 61)},
    "scale_width_and_crop": {"load": 64, "size": (32, 32), "place": (4, 31)},
    "fixed": {"size": (24, 48)},
    "none": {"size": (32, 64)},
}
"""Mode -> load size, result, and top and left of the piece that is cut; scale_shortside is another there."""


def fill(shapes: dict[str, torch.Size], seed: int) -> dict[str, Tensor]:
    """A state dict of these names and shapes, with spectral norm's u and v near their singular vectors."""
    rng = np.random.default_rng(seed)
    state = {name: _draw(name, tuple(shapes[name]), rng) for name in sorted(shapes)}
    for name, weight in state.items():
        if name.endswith("weight_orig"):
            _power_steps(weight, state[name.replace("_orig", "_u")], state[name.replace("_orig", "_v")])
    return state


def _draw(name: str, shape: tuple[int, ...], rng: np.random.Generator) -> Tensor:
    if name.endswith("num_batches_tracked"):
        return torch.tensor(0)
    values = rng.standard_normal(shape)
    if name.endswith("running_var"):
        values = 0.5 + np.abs(values)
    elif name.endswith(("bias", "running_mean")):
        values = 0.1 * values
    elif name.endswith(("_u", "_v")):
        values = values / np.linalg.norm(values)
    elif len(shape) == 1:
        values = 1 + 0.1 * values  # scale of a normalisation layer
    else:
        values = values / np.sqrt(np.prod(shape[1:]))
    return torch.tensor(values, dtype=torch.float32)


def _power_steps(weight: Tensor, u: Tensor, v: Tensor) -> None:
    matrix = weight if len(u) == weight.shape[0] else weight.transpose(0, 1)
    matrix = matrix.flatten(1)
    for _ in range(3):
        v.copy_(F.normalize(matrix.t() @ u, dim=0))
        u.copy_(F.normalize(matrix @ v, dim=0))


def label_maps(size: tuple[int, int], seed: int) -> Tensor:
    """int64 (BATCH, H, W): 0 .. CLASSES - 1 in rough blocks, some pixels 255."""
    rng = np.random.default_rng([seed, 1])
    blocks = rng.integers(0, CLASSES, (BATCH, size[0] // 4, size[1] // 4))
    labels = blocks.repeat(4, 1).repeat(4, 2)
    labels[rng.random(labels.shape) < 0.02] = 255
    return torch.tensor(labels)


def instance_maps(size: tuple[int, int], seed: int) -> Tensor:
    """int64 (BATCH, H, W) of ids beyond 8 bits."""
    blocks = np.random.default_rng([seed, 2]).integers(0, 40_000, (BATCH, size[0] // 8, size[1] // 8))
    return torch.tensor(blocks.repeat(8, 1).repeat(8, 2))


def pictures(size: tuple[int, int], seed: int) -> Tensor:
    """float32 (BATCH, 3, H, W) in [-1, 1]."""
    coarse = np.random.default_rng([seed, 3]).uniform(-1, 1, (BATCH, 3, size[0] // 8, size[1] // 8))
    smooth = F.interpolate(torch.tensor(coarse, dtype=torch.float32), size=size, mode="bilinear", align_corners=False)
    return smooth.contiguous()


def style_vectors(z_dim: int, seed: int) -> Tensor:
    """float32 (BATCH, z_dim)."""
    return torch.tensor(np.random.default_rng([seed, 4]).standard_normal((BATCH, z_dim)), dtype=torch.float32)


def style_noise(z_dim: int, draw: int) -> Tensor:
    """The epsilon of the n-th drawing of a style in a training."""
    return torch.tensor(np.random.default_rng([draw, 5]).standard_normal((BATCH, z_dim)), dtype=torch.float32)


def vgg_weights(shapes: dict[str, torch.Size]) -> dict[str, Tensor]:
    """Weights for VGG19 under which a picture doesn't fade from layer to layer."""
    return {name: value * 2**0.5 if value.dim() == 4 else value for name, value in fill(shapes, 0).items()}


def picture_and_labels() -> tuple[np.ndarray, np.ndarray]:
    """uint8 (*PICTURE, 3) and uint8 PICTURE: what is preprocessed."""
    rng = np.random.default_rng(6)
    return rng.integers(0, 256, (*PICTURE, 3), dtype=np.uint8), rng.integers(0, CLASSES, PICTURE, dtype=np.uint8)


def key_digest(network: torch.nn.Module) -> str:
    """The names and shapes of a state dict in 16 hex digits; counts of batches aside, as old files have none."""
    state = {name: value for name, value in network.state_dict().items() if not name.endswith("num_batches_tracked")}
    text = "\n".join(f"{name} {tuple(state[name].shape)}" for name in sorted(state))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def probe(tensor: Tensor, count: int = 12) -> dict[str, Any]:
    """Shape, mean, spread and some values, evenly spread over the tensor."""
    flat = tensor.detach().double().flatten()
    places = torch.linspace(0, len(flat) - 1, count).long()
    return {
        "shape": list(tensor.shape),
        "mean": round(float(flat.mean()), 6),
        "std": round(float(flat.std()), 6),
        "values": [round(float(value), 6) for value in flat[places]],
    }
