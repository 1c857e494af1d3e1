"""Files under the published names, with weights from chance, for the tests of what goes in and out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from golden import spade_cases as cases
from torch import Tensor, nn

from gaugan import checkpoint
from gaugan.config import from_plain
from gaugan.spade.build import build_generator
from gaugan.spade.config import SpadeConfig
from gaugan.spade.encoder import StyleEncoder
from jobs.import_checkpoint import Config

CHANNELS = cases.CLASSES + 2


def weights(network: nn.Module, seed: int) -> dict[str, Tensor]:
    return cases.fill({name: value.shape for name, value in network.state_dict().items()}, seed)


def official_generator(name: str) -> dict[str, Tensor]:
    """The weights of a golden case, under the published names."""
    case = cases.GENERATORS[name]
    network = build_generator(golden_config(case), cases.CLASSES, case["size"])
    return weights(network, list(cases.GENERATORS).index(name))


def golden_config(case: dict[str, Any]) -> SpadeConfig:
    shared = {"ngf": case["ngf"], "dontcare_channel": True, "instance_edges": True}
    if case["generator"] == "pix2pixhd":
        sizes = {"resnet_downsamplings": case["downsamplings"], "resnet_blocks": case["blocks"]}
        sizes |= {f"resnet_{key}": case[key] for key in ("kernel_size", "initial_kernel_size") if key in case}
        return SpadeConfig(**shared, **sizes, generator="pix2pixhd", style="none", resnet_norm=case["norm"])
    style, z_dim = ("none", 256) if case["z_dim"] is None else ("joint_vae", case["z_dim"])
    upsampling = case["upsampling"]
    return SpadeConfig(**shared, style=style, z_dim=z_dim, upsampling=upsampling, generator_norm=case["norm"])  # type: ignore[arg-type]


def write(folder: Path, epoch: str = "latest", **networks: dict[str, Tensor]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for kind, state in networks.items():
        torch.save(state, folder / f"{epoch}_net_{kind}.pth")
    return folder


def importing(folder: Path, output: Path, **changes: Any) -> Config:
    flags = {"dontcare_channel": True, "instance_edges": True, "image_size": (64,), "tracking": "none"}
    return Config(input=str(folder), output=str(output), **(flags | changes))


def imported_generator(uri: str) -> nn.Module:
    loaded = checkpoint.load(uri)
    config = from_plain(SpadeConfig, loaded.meta["config"])
    generator = build_generator(config, loaded.classes.num_classes, loaded.image_size)
    generator.load_state_dict(loaded.state["networks"]["G_ema"])
    return generator.eval()


def encoder_for(z_dim: int) -> dict[str, Tensor]:
    return weights(StyleEncoder(nef=4, z_dim=z_dim), 7)
