"""From a SpadeConfig to networks and to what they are fed: where the config's numbers become sizes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gaugan.labels import IGNORE, onehot
from gaugan.spade.config import SpadeConfig
from gaugan.spade.discriminator import Discriminator
from gaugan.spade.networks import Generator
from gaugan.spade.pix2pixhd import Pix2PixHDGenerator
from gaugan.spade.style import untrained_encoder


def encode_labels(
    label_map: Tensor, num_classes: int, *, dontcare: bool = False, instance_map: Tensor | None = None
) -> Tensor:
    """int64 (N, H, W) -> float32 (N, num_classes (+1) (+1), H, W).

    Ignored pixels are all zero, or the channel after the classes (`dontcare`). An instance map, int64 (N, H, W), adds
    its borders as the last channel. This order is that of the published weights.
    """
    if dontcare:
        channels = onehot(label_map.where(label_map != IGNORE, num_classes), num_classes + 1)
    else:
        channels = onehot(label_map, num_classes)
    if instance_map is None:
        return channels
    return torch.cat([channels, instance_edges(instance_map)], dim=1)


def instance_edges(instance_map: Tensor) -> Tensor:
    """int64 (N, H, W) of instance ids -> float32 (N, 1, H, W): 1 where the pixel above, below, left or right differs.

    Both sides of a border are marked; the picture's rim is none.
    """
    edges = torch.zeros(instance_map.shape, dtype=torch.bool, device=instance_map.device)
    across = instance_map[:, :, 1:] != instance_map[:, :, :-1]
    down = instance_map[:, 1:] != instance_map[:, :-1]
    edges[:, :, 1:] |= across
    edges[:, :, :-1] |= across
    edges[:, 1:] |= down
    edges[:, :-1] |= down
    return edges.float().unsqueeze(1)


def label_channels(config: SpadeConfig, num_classes: int) -> int:
    """Channels of the encoded labels: classes, ignored pixels, borders."""
    return num_classes + config.dontcare_channel + config.instance_edges


def build_generator(config: SpadeConfig, num_classes: int, image_size: tuple[int, int]) -> nn.Module:
    """An untrained generator of the config's kind and sizes."""
    channels = label_channels(config, num_classes)
    if config.generator == "pix2pixhd":
        return Pix2PixHDGenerator(
            channels,
            image_size,
            ngf=config.ngf,
            downsamplings=config.resnet_downsamplings,
            blocks=config.resnet_blocks,
            kernel_size=config.resnet_kernel_size,
            initial_kernel_size=config.resnet_initial_kernel_size,
            norm=config.resnet_norm,
        )
    return Generator(
        channels,
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
        label_channels(config, num_classes) + 3,
        ndf=config.ndf,
        num_scales=config.num_discriminators,
        num_layers=config.discriminator_layers,
        norm=config.discriminator_norm,
    )


def check_networks(config: SpadeConfig, num_classes: int, image_size: tuple[int, int]) -> None:
    """Raises UserError for sizes and norms that the config's networks can't have; no memory is taken for weights."""
    with torch.device("meta"):
        build_generator(config, num_classes, image_size)
        build_discriminator(config, num_classes)
        if config.style == "joint_vae":
            untrained_encoder(config, image_size)
