"""jobs.pipeline: the whole road, as small as it gets, and what it leaves behind."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest

from gaugan import checkpoint, storage
from gaugan.errors import UserError
from gaugan.painter import Painter
from gaugan.pairs import Pairs
from jobs import lock, pipeline
from jobs.pipeline_config import PipelineConfig

STEPS = [
    "draw the built-in sample",
    "import_annotations",
    "train_unet",
    "evaluate_unet",
    "train_unet (judge)",
    "label_dataset",
    "train_encoder",
    "tune/sweep",
    "train_gaugan",
    "evaluate",
]


def tiny(output: Path) -> PipelineConfig:
    return PipelineConfig(
        output=str(output),
        sample_annotated=10,
        sample_pictures=12,
        held_out_labelled=0.25,
        augment_to=12,
        unet_image_size=(64,),
        unet_steps=2,
        judge_steps=2,
        unet_batch_size=4,
        image_size=(32,),
        encoder_steps=12,
        sweep_trials=1,
        sweep_steps=2,
        gan_steps=2,
        ngf=4,
        batch_size=4,
        cpus_per_worker=1,
    )


@pytest.mark.ray
@pytest.mark.timeout(900)
def test_the_road_leads_from_drawn_annotations_to_a_painter_a_report_and_a_table(
    ray_local: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    table = pipeline.main(tiny(output))
    printed = capsys.readouterr().out
    assert [name for name, _, _ in table] == STEPS
    assert all(measured for _, measured, _ in table)
    assert str(output / "report" / "index.html") in printed and str(output / "gaugan") in printed
    page = (output / "report" / "index.html").read_text()
    for path in re.findall(r'(?:src|href)="([^"]+)"', page):
        assert (output / "report" / path).exists(), path
    assert Pairs.open(str(output / "labelled")).num("held_out") >= 2
    painter = Painter.load(str(output / "gaugan"))
    assert painter.paint(np.zeros((1, 32, 32), np.uint8), seeds=[1]).shape == (1, 32, 32, 3)

    before = checkpoint.load(checkpoint.find(str(output / "gaugan"))).hash
    pipeline.main(tiny(output))
    assert "nothing to do" in capsys.readouterr().out
    assert checkpoint.load(checkpoint.find(str(output / "gaugan"))).hash == before


def test_annotations_without_images_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--annotations and --images belong together"):
        PipelineConfig(output=str(tmp_path), annotations="somewhere")


def test_a_dry_run_writes_nothing(tmp_path: Path) -> None:
    assert pipeline.main(dataclasses.replace(tiny(tmp_path / "out"), dry_run=True)) == []
    assert not storage.exists(str(tmp_path / "out"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gan_steps": 0}, "--gan-steps 0: must be at least 1"),
        ({"ngf": -1}, "--ngf -1: must be at least 1"),
        ({"annotations": "/nowhere", "images": "/nowhere"}, "--annotations /nowhere: no such folder"),
    ],
)
def test_mistakes_are_refused_before_anything_is_written(tmp_path: Path, changes: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        pipeline.main(dataclasses.replace(tiny(tmp_path / "out"), **changes))
    assert not storage.exists(str(tmp_path / "out"))


def test_an_output_with_a_run_on_other_data_is_refused(tmp_path: Path) -> None:
    from gaugan.config import to_yaml

    storage.write_text(str(tmp_path / "config.yaml"), to_yaml(tiny(tmp_path)))
    storage.write_json(str(tmp_path / "sample" / "done.json"), {})
    with pytest.raises(UserError, match="sample_pictures: there 12, now 13"):
        pipeline.main(dataclasses.replace(tiny(tmp_path), sample_pictures=13))


def test_annotations_that_are_refused_do_not_bind_the_output_to_their_flags(tmp_path: Path) -> None:
    from gaugan.portraits import write_annotated

    good, empty, output = tmp_path / "good", tmp_path / "empty", tmp_path / "out"
    empty.mkdir()
    write_annotated(str(good), 2, 32, 0)
    config = dataclasses.replace(tiny(output), annotations=str(empty), images=str(good), tracking="none")
    with pytest.raises(UserError, match="no .json file"):
        pipeline.main(config)
    lock.release(str(output))
    pipeline.check_inputs(dataclasses.replace(config, annotations=str(good)))


def test_a_stop_in_any_step_ends_the_road_without_a_fuss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from jobs import label_dataset, pipeline_steps
    from jobs.command import STOP

    road = pipeline_steps.Road(tiny(tmp_path), 9)
    monkeypatch.setattr(STOP, "event", type(STOP.event)())

    def stopped(config: object) -> dict:
        STOP.event.set()
        return {}

    monkeypatch.setattr(label_dataset, "main", stopped)
    road.step("label_dataset", lambda: pipeline_steps.label_dataset(road))
    assert road.table[-1][1] == ""
