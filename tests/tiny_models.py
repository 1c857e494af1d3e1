"""Untrained checkpoints and small datasets for the tests of the jobs: right shapes, worthless answers."""

from __future__ import annotations

from pathlib import Path

import torch

from gaugan import checkpoint
from gaugan.config import to_plain
from gaugan.images import encode_png
from gaugan.label_plan import LabelPlan
from gaugan.labels import PORTRAIT_CLASSES, encode_label_map
from gaugan.listing import Item, listing_sha256
from gaugan.pairs import Pair, PairsWriter
from gaugan.portraits import draw_portrait
from gaugan.spade.build import build_generator
from gaugan.spade.config import SpadeConfig
from gaugan.spade.style import build_style
from gaugan.unet.config import UNetConfig
from gaugan.unet.networks import UNet


def save_unet(folder: Path, size: int = 64, seed: int = 0) -> str:
    """A U-Net checkpoint of narrow layers."""
    torch.manual_seed(seed)
    config = UNetConfig(widths=(16, 8, 8, 8, 8), encoder_weights="none")
    unet = UNet(config.version, PORTRAIT_CLASSES.num_classes, config.widths)
    return _save(folder, "unet", config, size, {"unet_ema": unet.state_dict()})


def save_spade(folder: Path, size: int = 64, seed: int = 0) -> str:
    """A generator checkpoint with a style encoder."""
    torch.manual_seed(seed)
    config = SpadeConfig(style="joint_vae", ngf=4, spade_hidden=8, z_dim=8, nef=8, encoder_size=32)
    generator = build_generator(config, PORTRAIT_CLASSES.num_classes, (size, size))
    style = build_style(config, (size, size))
    networks = {"G_ema": generator, "E": style.encoder, "style": style.prior}
    return _save(folder, "spade", config, size, {name: network.state_dict() for name, network in networks.items()})


def rescale_last_layer(uri: str, scale: float) -> str:
    """A copy of a generator's checkpoint beside it: nearly the same pictures, or flat ones when `scale` is 0."""
    loaded = checkpoint.load(uri)
    weights = loaded.state["networks"]["G_ema"]
    for name in [name for name in weights if name.startswith("conv_img")]:
        weights[name] = weights[name] * scale
    return checkpoint.save(
        f"{uri}-{scale}", system="spade", config=loaded.meta["config"], classes=loaded.classes,
        image_size=loaded.image_size, step=loaded.meta["step"] + 1, state=loaded.state,
    )  # fmt: skip


def _save(folder: Path, system: str, config: object, size: int, networks: dict) -> str:
    return checkpoint.save(
        str(folder),
        system=system,
        config=to_plain(config),
        classes=PORTRAIT_CLASSES,
        image_size=(size, size),
        step=1,
        state={"networks": networks},
    )


def write_portraits(folder: Path, count: int, size: int = 64) -> str:
    """Drawn portraits as PNG files 000.png, 001.png, ..."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        (folder / f"{number:03d}.png").write_bytes(encode_png(draw_portrait(number, size)[0]))
    return str(folder)


def write_pairs(folder: Path, train: int, held_out: int, size: int = 64, labelled_by: str = "") -> str:
    """A dataset of drawn portraits with their exact label maps."""
    writer = PairsWriter(str(folder), PORTRAIT_CLASSES)
    for number in range(train + held_out):
        image, label_map = draw_portrait(number, size)
        split = "train" if number < train else "held_out"
        data = encode_label_map(label_map, PORTRAIT_CLASSES)
        writer.add(Pair(f"{number:03d}.png", encode_png(image), data, size, size, split, f"{number:03d}.png"))
    writer.finish({"labelled_by": {"model_hash": labelled_by}} if labelled_by else None)
    return str(folder)


def make_plan(items: list[Item], **changes: object) -> LabelPlan:
    """A labelling plan over some inputs."""
    values: dict = {
        "input": "/pictures", "model": "/unet", "model_hash": "a" * 16, "classes_hash": "c" * 16,
        "segment_size": (64, 64), "image_size": None, "max_pixels": 10**6, "min_side": 16, "min_confidence": 0.5,
        "held_out": 0.1, "seed": 0, "device": "cpu", "precision": "fp32", "recursive": True, "limit": None,
        "num_inputs": len(items), "inputs_sha256": listing_sha256(items), "batch_size": 4, "threads": 1,
        "rows_per_shard": 8,
    }  # fmt: skip
    return LabelPlan(**(values | changes))
