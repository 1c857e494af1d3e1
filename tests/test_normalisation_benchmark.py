"""benchmarks/normalisation_at_test_time.py: its interval is honest, and it measures every variant."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_models import save_unet, write_pairs

from benchmarks.normalisation_at_test_time import Config, main, mean_iou, paired_interval
from gaugan import checkpoint
from gaugan.config import to_plain
from gaugan.labels import PORTRAIT_CLASSES
from gaugan.spade.config import SpadeConfig
from gaugan.spade.system import SpadeSystem


def test_an_interval_holds_the_true_difference_and_leaves_out_zero_only_when_the_pictures_agree() -> None:
    rng = np.random.default_rng(1)
    pictures, noise = rng.normal(size=400), rng.normal(size=(2, 400))
    low, high = paired_interval(pictures + 0.1, pictures + 0.01 * noise[0], float)
    assert 0 < low < 0.1 < high and high - low < 0.01  # the spread between pictures cancels out
    low, high = paired_interval(pictures + noise[0], pictures + noise[1], float)
    assert low < 0 < high
    assert paired_interval(pictures, pictures, float) == (0.0, 0.0)


def test_the_score_of_drawn_pictures_pools_their_pixels() -> None:
    counts = np.array([[[4, 0], [0, 0]], [[0, 2], [0, 2]]])
    assert mean_iou(counts.sum(0)) == pytest.approx((4 / 6 + 2 / 4) / 2) == mean_iou(counts.mean(0))


def test_every_variant_is_measured_against_its_own_preview(tmp_path: Path) -> None:
    data = write_pairs(tmp_path / "pairs", train=4, held_out=4, size=32)
    torch.manual_seed(0)
    config = SpadeConfig(style="none", ngf=4, ndf=4, spade_hidden=8, precision="fp32")
    system = SpadeSystem(config, classes=PORTRAIT_CLASSES, image_size=(32, 32), device=torch.device("cpu"))
    uri = checkpoint.save(
        str(tmp_path / "model"), system="spade", config=to_plain(config), classes=PORTRAIT_CLASSES,
        image_size=(32, 32), step=1, state=system.state_dict(),
    )  # fmt: skip
    judge = save_unet(tmp_path / "judge", size=32)
    figures = main(Config(model=uri, input=data, judge=judge, batch_size=2, calibration_sizes=(240,)))
    assert set(figures) == {
        *(f"{weights}, {kind}" for weights in ("in training", "averaged")
          for kind in ("batch statistics", "running statistics", "re-estimated 240")),
        "averaged, as stored",
    }  # fmt: skip
    preview, stored = figures["averaged, batch statistics"], figures["averaged, as stored"]
    assert preview["consistency_gain_low"] == preview["consistency_gain_high"] == preview["from_preview"] == 0
    gain = stored["l1"] - preview["l1"]
    assert stored["l1_gain_low"] <= gain <= stored["l1_gain_high"] and stored["from_preview"] > 0
