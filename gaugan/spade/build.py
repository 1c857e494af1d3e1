"""From a SpadeConfig to networks and to what they are fed: where the config's numbers become sizes."""

from __future__ import annotations

from torch import Tensor

from gaugan.labels import IGNORE, onehot
from gaugan.spade.config import SpadeConfig
from gaugan.spade.discriminator import Discriminator
from gaugan.spade.networks import Generator


def encode_labels(label_map: Tensor, num_classes: int, *, dontcare: bool = False) -> Tensor:
    """int64 (N, H, W) -> float32 (N, num_classes (+1), H, W); ignored pixels are all zero, or the last channel."""
    if not dontcare:
        return onehot(label_map, num_classes)
    return onehot(label_map.where(label_map != IGNORE, num_classes), num_classes + 1)


def build_generator(config: SpadeConfig, num_classes: int, image_size: tuple[int, int]) -> Generator:
    """An untrained generator of the config's sizes."""
    return Generator(
        num_classes + config.dontcare_channel,
        image_size,
        ngf=config.ngf,
        z_dim=None if config.style == "none" else config.z_dim,
        upsampling=config.upsampling,
        norm=config.generator_norm,
        hidden=config.spade_hidden,
    )


def build_discriminator(config: SpadeConfig, num_classes: int) -> Discriminator:
    """An untrained discriminator of the config's sizes."""
    return Discriminator(
        num_classes + config.dontcare_channel + 3,
        ndf=config.ndf,
        num_scales=config.num_discriminators,
        num_layers=config.discriminator_layers,
        norm=config.discriminator_norm,
    )
