"""gaugan.memory: estimates stay below what was measured, and jobs refuse only what is far out of reach."""

from __future__ import annotations

from collections import namedtuple
from pathlib import Path
from typing import Any

import psutil
import pytest
from tiny_models import write_pairs

from gaugan.config import to_plain
from gaugan.errors import UserError
from gaugan.memory import training_bytes
from gaugan.plan import TrainingPlan
from gaugan.spade.config import SpadeConfig, StyleVAEConfig
from gaugan.unet.config import UNetConfig
from jobs import train_gaugan
from jobs.resources import check_training_memory
from jobs.train_gaugan import TrainGauGAN


def plan(system: str, config: Any, size: int, batch_size: int, **changes: Any) -> TrainingPlan:
    plain = to_plain(config)
    return TrainingPlan(system, plain, "data", "out", (size, size), batch_size=batch_size, steps=1, **changes)


def spade(ngf: int, **changes: Any) -> SpadeConfig:
    return SpadeConfig(style="none", ngf=ngf, **{"ndf": ngf, "spade_hidden": 2 * ngf, "precision": "fp32", **changes})


@pytest.mark.parametrize(
    ("system", "config", "size", "batch_size", "peak_mib"),
    [
        ("spade", spade(16), 128, 4, 1076),
        ("spade", spade(16), 256, 4, 1466),
        ("spade", spade(32), 256, 4, 2256),
        ("spade", spade(32, ndf=64), 256, 4, 2579),
        ("spade", spade(32, precision="bf16"), 256, 4, 1956),
        ("spade", spade(32, upsampling="most"), 256, 4, 1979),
        ("spade", spade(32, generator="pix2pixhd"), 256, 4, 2617),
        ("unet", UNetConfig(precision="fp32"), 256, 4, 1574),
        ("unet", UNetConfig(precision="fp32"), 512, 4, 3815),
        ("unet", UNetConfig(precision="fp32", version="v2"), 512, 4, 3818),
        ("unet", UNetConfig(precision="bf16"), 256, 4, 1221),
        ("style_vae", StyleVAEConfig(precision="fp32"), 256, 8, 1574),
        ("style_vae", StyleVAEConfig(precision="fp32", nef=32), 256, 8, 1313),
        ("style_vae", StyleVAEConfig(precision="fp32", decoder_width=32), 256, 8, 1989),
    ],
)
def test_an_estimate_is_below_the_measured_peak_but_more_than_half_of_it(
    system: str, config: Any, size: int, batch_size: int, peak_mib: int
) -> None:
    estimate = training_bytes(plan(system, config, size, batch_size), 7, 1)
    assert estimate is not None and 0.5 * peak_mib < estimate / 2**20 < peak_mib


def test_what_takes_twice_the_free_memory_is_refused_and_a_close_call_warned_of(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    asked = plan("spade", spade(32), 256, 4)
    needed = training_bytes(asked, 7, 1)
    assert needed is not None

    def free(share: float) -> None:
        memory = namedtuple("memory", ["available", "free"])
        monkeypatch.setattr(psutil, "virtual_memory", lambda: memory(int(share * needed), 0))
        monkeypatch.setattr(psutil, "swap_memory", lambda: memory(0, 0))

    free(1.1)
    check_training_memory(asked, 7, 1)
    assert capsys.readouterr().out == ""
    free(0.6)
    check_training_memory(asked, 7, 1)
    assert "warning: the training takes about 1." in capsys.readouterr().out
    free(0.4)
    with pytest.raises(UserError, match="^--image-size 256 256 --batch-size 4: .*lower --image-size, --batch-size"):
        check_training_memory(asked, 7, 1)
    with pytest.raises(UserError, match="or --num-workers"):
        check_training_memory(asked, 7, 2)
    check_training_memory(plan("spade", spade(32), 256, 4, use_gpu=True), 7, 1)
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    check_training_memory(asked, 7, 1)


def test_pictures_of_4096_px_are_refused_in_a_dry_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    data = write_pairs(tmp_path / "pairs", train=2, held_out=1)
    config = TrainGauGAN(
        input=data, output=str(tmp_path / "run"), image_size=(4096,), batch_size=64, spade=spade(64), dry_run=True
    )
    with pytest.raises(UserError, match="--image-size 4096 4096 --batch-size 64: the training takes about"):
        train_gaugan.main(config)
