"""benchmarks/averaged_labels.py: a dataset labelled anew by several U-Nets together."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tiny_models import save_unet, write_pairs

from benchmarks import averaged_labels
from gaugan.pairs import Pairs


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_pairs(folder / "pairs", train=3, held_out=1)
    save_unet(folder / "unet")
    return folder


def relabelled(data: Path, output: Path, **changes: object) -> list[np.ndarray]:
    flags: dict = {"input": str(data / "pairs"), "models": (str(data / "unet"),), "shares": str(data / "pairs")}
    averaged_labels.main(averaged_labels.Config(**flags | {"output": str(output)} | changes))
    before, after = Pairs.open(str(data / "pairs")), Pairs.open(str(output))
    assert [after.ids(split) for split in ("train", "held_out")] == [before.ids(s) for s in ("train", "held_out")]
    assert np.array_equal(after.read("train", 0).image, before.read("train", 0).image)
    return [after.read("train", index).label_map for index in range(after.num("train"))]


def test_a_unet_twice_labels_as_it_does_once_and_pictures_and_splits_stay(data: Path, tmp_path: Path) -> None:
    once = relabelled(data, tmp_path / "once")
    twice = relabelled(data, tmp_path / "twice", models=(str(data / "unet"),) * 2)
    assert all(map(np.array_equal, once, twice))


def test_pixels_below_the_confidence_become_ignored_and_are_counted(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    everything = relabelled(data, tmp_path / "all", ignore_below=1.01)
    assert all((label_map == 255).all() for label_map in everything)
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == {"pictures": 4, "ignored": 1.0}


def test_a_high_power_of_the_shares_makes_all_pixels_the_commonest_class(data: Path, tmp_path: Path) -> None:
    common = int(averaged_labels.shares(Pairs.open(str(data / "pairs"))).argmax())
    assert all((label_map == common).all() for label_map in relabelled(data, tmp_path / "p", share_power=200.0))
