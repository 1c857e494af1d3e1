"""jobs/evaluate.py as a whole, with untrained models."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_models import save_spade, save_unet, write_pairs

from gaugan import checkpoint
from gaugan.errors import UserError
from gaugan.evaluation import EXPLAINED, KINDS
from jobs import evaluate as job
from jobs.evaluate_worker import encoder_features, inception_features


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("models")
    return {"model": save_spade(folder / "gaugan"), "judge": save_unet(folder / "judge")}


def model_hash(uri: str) -> str:
    return checkpoint.load(uri).hash


@pytest.mark.ray
def test_an_evaluation_writes_numbers_a_gallery_and_what_they_mean(
    ray_local: None, tmp_path: Path, models: dict[str, Any]
) -> None:
    data = write_pairs(tmp_path / "pairs", train=4, held_out=10, labelled_by="0123")
    config = job.Config(
        output=str(tmp_path / "out"), input=data, tracking="none", seeds=2, num_workers=2, gallery=3, **models
    )
    metrics = job.main(config)
    assert metrics == json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["pictures"] == 10 and set(KINDS) <= set(metrics) and metrics["explained"] == EXPLAINED
    assert {"miou", "pixel_accuracy", "iou_eye", "frechet_unet", "kernel_unet"} <= set(metrics["painted"])
    assert metrics["judge"]["is_the_labeller"] is False and metrics["judge"]["hash"] == model_hash(models["judge"])
    before = (tmp_path / "out" / "run.json").read_text()
    assert job.main(config) == metrics
    assert (tmp_path / "out" / "run.json").read_text() == before, "the same evaluation was not done again"
    gallery = tmp_path / "out" / "gallery"
    assert len(list((gallery / "pictures").glob("gallery-*.png"))) == 3
    assert "real (ceiling)" in (gallery / "index.html").read_text()


@pytest.mark.ray
def test_the_numbers_do_not_depend_on_the_number_of_workers(
    ray_local: None, tmp_path: Path, models: dict[str, Any]
) -> None:
    data = write_pairs(tmp_path / "pairs", train=2, held_out=9)
    found = []
    for workers in (1, 2):
        output = str(tmp_path / f"out{workers}")
        values: dict[str, Any] = {
            "tracking": "none",
            "seeds": 1,
            "num_workers": workers,
            "cpus_per_worker": 1,
            **models,
        }
        found.append(job.main(job.Config(output=output, input=data, gallery=0, **values)))
    assert found[0] == found[1]


@pytest.mark.ray
def test_what_a_worker_refuses_is_told_in_one_line(ray_local: None, tmp_path: Path, models: dict[str, Any]) -> None:
    data = write_pairs(tmp_path / "pairs", train=2, held_out=2)
    (tmp_path / "inception.pth").write_bytes(b"nothing")
    inception = str(tmp_path / "inception.pth")
    config = job.Config(
        output=str(tmp_path / "out"), input=data, tracking="none", seeds=1, inception=inception, **models
    )
    with pytest.raises(UserError, match=f"^--inception {inception}: not the weights") as caught:
        job.main(config)
    assert "Traceback" not in str(caught.value)


def test_a_judge_that_made_the_labels_is_said_to_have_made_them(tmp_path: Path, models: dict[str, Any]) -> None:
    data = write_pairs(tmp_path / "pairs", train=1, held_out=2, labelled_by=model_hash(models["judge"]))
    config = job.Config(output=str(tmp_path / "out"), input=data, tracking="none", **models)
    about = job.describe(config, job.Pairs.open(data), models)
    assert about["judge"]["is_the_labeller"] is True and "too kind" in about["judge"]["note"]


def test_models_in_the_wrong_place_are_named(tmp_path: Path, models: dict[str, Any]) -> None:
    data = write_pairs(tmp_path / "pairs", train=1, held_out=2)
    swapped: dict[str, Any] = {"model": models["judge"], "judge": models["model"]}
    config = job.Config(output=str(tmp_path / "out"), input=data, tracking="none", **swapped)
    with pytest.raises(UserError, match="holds a unet, not a spade"):
        job.main(config)
    assert not (tmp_path / "out").exists()


def test_a_dataset_without_held_out_pairs_is_refused(tmp_path: Path, models: dict[str, Any]) -> None:
    data = write_pairs(tmp_path / "pairs", train=2, held_out=0)
    with pytest.raises(UserError, match="0 held-out pairs"):
        job.main(job.Config(output=str(tmp_path / "out"), input=data, tracking="none", **models))


def test_encoder_features_are_one_row_per_picture(models: dict[str, Any]) -> None:
    from gaugan.segmenter import Segmenter

    images = np.random.default_rng(0).integers(0, 256, (3, 48, 48, 3), dtype=np.uint8)
    features = encoder_features(Segmenter.load(models["judge"], precision="fp32"))(images)
    assert features.shape == (3, 320) and np.isfinite(features).all()


def test_weights_that_run_code_when_loaded_are_refused(tmp_path: Path) -> None:
    class Payload:
        def __reduce__(self) -> tuple:
            return Path.touch, (tmp_path / "ran",)

    torch.save({"weights": Payload()}, tmp_path / "inception.pth")
    with pytest.raises(UserError, match="--inception"):
        inception_features(str(tmp_path / "inception.pth"), "cpu")
    assert not (tmp_path / "ran").exists()
