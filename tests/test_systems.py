"""gaugan.systems: the table says what the classes say."""

import importlib
from pathlib import Path

import pytest
import torch

from gaugan import checkpoint
from gaugan.config import to_plain
from gaugan.errors import UserError
from gaugan.labels import PORTRAIT_CLASSES
from gaugan.spade.config import SpadeConfig, StyleVAEConfig
from gaugan.spade.style import build_style
from gaugan.systems import SYSTEMS, check_models
from gaugan.unet.config import UNetConfig

CLASSES = {"unet": "gaugan.unet.system.UNetSystem", "style_vae": "gaugan.spade.vae.StyleVAESystem"}
CLASSES["spade"] = "gaugan.spade.system.SpadeSystem"
SIZE = (64, 64)


@pytest.mark.parametrize("name", sorted(SYSTEMS))
def test_an_entry_names_the_metric_of_its_class_and_a_config_with_defaults(name: str) -> None:
    module, _, cls = CLASSES[name].rpartition(".")
    assert SYSTEMS[name].best_metric == getattr(importlib.import_module(module), cls).best_metric
    SYSTEMS[name].config()


def save_encoder(folder: Path, spread: float) -> str:
    """A style encoder whose styles differ by `spread` from picture to picture."""
    config = StyleVAEConfig(z_dim=8, nef=4, encoder_size=32)
    style = build_style(config, (32, 32))
    style.prior.update(spread * torch.randn(50, 8, generator=torch.Generator().manual_seed(0)), torch.zeros(50, 8))
    networks = {"E": style.encoder.state_dict(), "style": style.prior.state_dict()}
    return checkpoint.save(
        str(folder), system="style_vae", config=to_plain(config), classes=PORTRAIT_CLASSES, image_size=(32, 32),
        step=1, state={"networks": networks},
    )  # fmt: skip


def test_a_frozen_encoder_passes_a_gate_that_reports_its_active_units(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    uri = save_encoder(tmp_path / "good", spread=1.0)
    check_models(SpadeConfig(encoder=uri, z_dim=8), PORTRAIT_CLASSES, SIZE)
    assert "8 of 8 units active" in capsys.readouterr().out
    with pytest.raises(UserError, match="give --z-dim 8"):
        check_models(SpadeConfig(encoder=uri), PORTRAIT_CLASSES, SIZE)
    with pytest.raises(UserError, match="has collapsed .0 of 8 units active"):
        uri = save_encoder(tmp_path / "collapsed", spread=0.01)
        check_models(SpadeConfig(encoder=uri, z_dim=8), PORTRAIT_CLASSES, SIZE)


def test_first_weights_must_be_of_the_system_that_is_trained(tmp_path: Path) -> None:
    uri = save_encoder(tmp_path / "encoder", spread=1.0)
    with pytest.raises(UserError, match="--initial .*: a checkpoint of system 'style_vae'; needed is one of 'spade'"):
        check_models(SpadeConfig(style="none", initial=uri), PORTRAIT_CLASSES, SIZE)


@pytest.mark.parametrize(
    ("config", "size", "message"),
    [
        (UNetConfig(), (100, 128), "--image-size 100 128: this U-Net needs multiples of 32"),
        (UNetConfig(decay_steps=10), (96, 96), "--image-size 96 96: .* multiples of 64"),
        (UNetConfig(encoder_weights="/nope.pth"), (64, 64), "--encoder-weights /nope.pth: no such file; give"),
        (StyleVAEConfig(encoder_size=48), (64, 64), "--encoder-size 48: expected a power of two"),
        (StyleVAEConfig(encoder_norm="big"), (64, 64), "norm 'big'"),
        (SpadeConfig(style="none"), (70, 70), "--image-size 70 70: --upsampling normal needs .* multiples of 32"),
        (SpadeConfig(style="none", upsampling="most"), (64, 64), "--upsampling most needs .* multiples of 128"),
        (
            SpadeConfig(style="none", generator="pix2pixhd"),
            (70, 70),
            "--image-size 70 70: pix2pixhd .* multiples of 16",
        ),
        (SpadeConfig(style="none", discriminator_norm="big"), (64, 64), "norm 'big'"),
        (SpadeConfig(style="joint_vae", encoder_size=48), (64, 64), "--encoder-size 48"),
        (SpadeConfig(style="none", features="vgg18"), (64, 64), "--features vgg18: no such features; choose one of"),
        (SpadeConfig(style="none", features="vgg19:/nope.pth"), (64, 64), "--features vgg19:/nope.pth: no such file"),
    ],
)
def test_what_building_would_refuse_is_refused_before_anything_is_built(
    config: object, size: tuple[int, int], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        check_models(config, PORTRAIT_CLASSES, size)


def test_what_can_be_built_passes() -> None:
    for config in (UNetConfig(), StyleVAEConfig(), SpadeConfig(style="none"), SpadeConfig(style="joint_vae")):
        check_models(config, PORTRAIT_CLASSES, SIZE)
