"""Tiny untrained checkpoints of a generator and a U-Net, for tests that really start the server."""

from __future__ import annotations

import torch

from gaugan import checkpoint
from gaugan.config import to_plain
from gaugan.labels import PORTRAIT_CLASSES, ClassTable
from gaugan.spade.config import SpadeConfig
from gaugan.spade.system import SpadeSystem
from gaugan.unet.config import UNetConfig
from gaugan.unet.system import UNetSystem


def save_generator(uri: str, size: tuple[int, int] = (64, 64), classes: ClassTable = PORTRAIT_CLASSES) -> str:
    """A SPADE checkpoint with a style encoder."""
    torch.manual_seed(0)
    config = SpadeConfig(
        style="joint_vae", ngf=8, ndf=4, spade_hidden=8, z_dim=8, nef=4, num_discriminators=1, discriminator_layers=2
    )
    system = SpadeSystem(config, classes=classes, image_size=size, device=torch.device("cpu"))
    return _save(uri, "spade", config, system, classes, size)


def save_unet(uri: str, size: tuple[int, int] = (64, 64), classes: ClassTable = PORTRAIT_CLASSES) -> str:
    """A U-Net checkpoint."""
    torch.manual_seed(0)
    config = UNetConfig(encoder_weights="none")
    system = UNetSystem(config, classes=classes, image_size=size, device=torch.device("cpu"))
    return _save(uri, "unet", config, system, classes, size)


def _save(uri: str, name: str, config: object, system: object, classes: ClassTable, size: tuple[int, int]) -> str:
    state = system.state_dict()  # type: ignore[attr-defined]
    return checkpoint.save(
        uri, system=name, config=to_plain(config), classes=classes, image_size=size, step=3, state=state
    )
