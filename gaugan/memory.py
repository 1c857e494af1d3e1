"""How much memory a training takes on CPUs, by its sizes alone: rough, and meant to be on the low side.

    bytes = workers * (PROCESS + bytes of weights with gradients, moments, average) + pixels of a step * 4 * floats

The floats that each pixel of a step keeps until the backward pass grow linearly with the widths; their numbers are
fitted to the peaks of two steps of each system at 128 to 512 px and rounded down (docs/results.md). Losses' feature
networks, judges and the cache of pictures come on top.
"""

from __future__ import annotations

from typing import Any

from gaugan.config import from_plain
from gaugan.plan import TrainingPlan
from gaugan.spade.config import SpadeConfig, StyleVAEConfig
from gaugan.systems import SYSTEMS
from gaugan.unet.config import UNetConfig

PROCESS = 2**29
"""Python, torch and the libraries around them."""
TRAINED, AVERAGED = 16, 20
"""Bytes per weight: itself, gradient and Adam's two moments in float32; and a moving average."""
BF16_SHARE = 0.7
"""Of the pixels' floats when the passes compute in bfloat16: not all of them are halved."""
FLAGS = {
    "unet": "--image-size or --batch-size",
    "style_vae": "--encoder-size, --batch-size, --nef or --decoder-width",
    "spade": "--image-size, --batch-size, --ngf or --ndf",
}
"""What to lower."""


def training_bytes(plan: TrainingPlan, num_classes: int, num_workers: int) -> int | None:
    """The memory of all workers together, or None for a system that nothing is known of."""
    config: Any = from_plain(SYSTEMS[plan.system].config, plan.config)
    (height, width), weights = plan.image_size, 0
    if isinstance(config, UNetConfig):
        floats = _unet_floats(config)
        height, width = (128, 128) if config.version == "v1" else (height, width)
    elif isinstance(config, StyleVAEConfig):
        from gaugan.spade.style import encoder_input_size

        floats = 2.0 * config.nef + 10.0 * config.decoder_width
        height = width = encoder_input_size(plan.image_size, config.encoder_size)
    elif isinstance(config, SpadeConfig):
        floats, weights = _spade_floats(config, num_classes), _spade_weights(config, num_classes, plan.image_size)
    else:
        return None
    share = 1.0 if config.precision == "fp32" else BF16_SHARE
    return int(num_workers * (PROCESS + weights) + plan.batch_size * height * width * 4 * floats * share)


def _unet_floats(config: UNetConfig) -> float:
    """Peaks: 747 per pixel at the default widths."""
    return 400.0 + 8.0 * sum(width / 4**halvings for halvings, width in enumerate(reversed(config.widths)))


def _spade_floats(config: SpadeConfig, num_classes: int) -> float:
    """Peaks: 278 + 15 * ngf with ndf = ngf; with the "most" upsampling the wide layers are at half the size."""
    generator = 0.0 if config.upsampling == "most" else 7.0 * config.ngf
    return 200.0 + generator + 6.0 * config.ndf + 2.0 * max(0, num_classes - 7)


def _spade_weights(config: SpadeConfig, num_classes: int, image_size: tuple[int, int]) -> int:
    """Bytes that the weights of G and D take in training; counted on networks without storage."""
    import torch

    from gaugan.spade.build import build_discriminator, build_generator

    with torch.device("meta"):
        generator = build_generator(config, num_classes, image_size)
        critic = build_discriminator(config, num_classes)
    counts = [sum(weight.numel() for weight in network.parameters()) for network in (generator, critic)]
    return AVERAGED * counts[0] + TRAINED * counts[1]
