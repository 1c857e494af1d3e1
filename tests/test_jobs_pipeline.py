"""jobs.pipeline: the whole road, as small as it gets, and what it leaves behind."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import subprocess
import typing
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from tiny_models import write_pairs

from gaugan import checkpoint, storage
from gaugan.config import parse, to_yaml
from gaugan.errors import UserError
from gaugan.painter import Painter
from gaugan.pairs import Pairs
from gaugan.portraits import write_annotated, write_pictures
from jobs import import_annotations, label_dataset, pipeline, pipeline_steps
from jobs.command import STOP
from jobs.pipeline_config import OF_ANNOTATIONS, OWN_FLAGS, PipelineConfig

ROOT = Path(__file__).parent.parent

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


@pytest.mark.parametrize("dry_run", [False, True])
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gan_steps": 0}, "--gan-steps 0: must be at least 1"),
        ({"ngf": -1}, "--ngf -1: must be at least 1"),
        ({"augment_to": -3}, "--augment-to -3: must be at least 1"),
        ({"sweep_trials": -2}, "--sweep-trials -2: must be at least 0"),
        ({"sweep_steps": 0}, "--sweep-steps 0: must be at least 1"),
        ({"sample_pictures": 3}, "--sample-pictures 3: must be at least 4"),
        ({"sample_annotated": 1}, "--sample-annotated 1: must be at least 2"),
        ({"held_out": 2.0}, "--held-out 2.0: expected a share above 0 and below 1"),
        ({"held_out": -1.0}, "--held-out -1.0: expected a share"),
        ({"held_out_labelled": 5.0}, "--held-out-labelled 5.0: expected a share"),
        ({"max_failure_rate": 7.0}, "--max-failure-rate 7.0: expected a share"),
        ({"encoder_weights": "/nope.pth"}, "--encoder-weights /nope.pth: no such file"),
        ({"unet_image_size": (0,)}, r"--unet-image-size \(0, 0\): each side needs at least 8"),
        ({"unet_image_size": (100,)}, "--unet-image-size 100 100: .* multiples of 64"),
        ({"unet_image_size": (128, 128, 128)}, "--unet-image-size .*one number .square. or height and width"),
        ({"image_size": (70,)}, "--image-size 70 70: .* multiples of 32"),
        ({"unet_batch_size": 3, "num_workers": 2}, "--unet-batch-size 3 must be a multiple of --num-workers 2"),
        ({"batch_size": 3, "num_workers": 4}, "^--batch-size 3 must be a multiple of --num-workers 4"),
        ({"annotations": "/nowhere", "images": "/nowhere"}, "--annotations /nowhere: no such folder"),
    ],
)
def test_mistakes_are_refused_before_anything_is_written(
    tmp_path: Path, changes: dict, message: str, dry_run: bool
) -> None:
    changes = {"batch_size": 4, "unet_batch_size": 4, "dry_run": dry_run} | changes
    with pytest.raises(UserError, match=message):
        pipeline.main(dataclasses.replace(tiny(tmp_path / "out"), **changes))
    assert not storage.exists(str(tmp_path / "out"))


@pytest.fixture
def own(tmp_path: Path) -> PipelineConfig:
    """A run on a user's folders: five annotated pictures and five others."""
    write_annotated(str(tmp_path / "annotated"), 5, 32, 0)
    write_pictures(str(tmp_path / "images"), 5, 32, 9)
    folders = {name: str(tmp_path / folder) for name, folder in (("annotations", "annotated"), ("images", "images"))}
    return dataclasses.replace(tiny(tmp_path / "out"), tracking="none", **folders)


def refused(config: PipelineConfig, message: str) -> None:
    """By the dry run and the run alike, with nothing written."""
    for dry_run in (True, False):
        with pytest.raises(UserError, match=message):
            pipeline.main(dataclasses.replace(config, dry_run=dry_run))
    assert not storage.exists(config.output)


def test_folders_that_can_not_do_are_refused_before_anything_is_written(own: PipelineConfig, tmp_path: Path) -> None:
    assert pipeline.main(dataclasses.replace(own, dry_run=True)) == []
    empty = tmp_path / "empty"
    empty.mkdir()
    refused(dataclasses.replace(own, images=str(empty)), f"--images {empty}: no files there")
    refused(dataclasses.replace(own, annotations=str(empty)), f"--annotations {empty}: no .json file")
    refused(dataclasses.replace(own, output=f"{own.images}/out"), "lies inside --images")
    write_pictures(str(empty), 3, 32, 0)
    (empty / "README.txt").write_text("no picture")
    refused(dataclasses.replace(own, images=str(empty)), "3 picture.* at least 4 are needed")
    one = tmp_path / "one"
    write_annotated(str(one), 1, 32, 0)
    refused(dataclasses.replace(own, annotations=str(one)), f"--annotations {one}: one annotated picture")


def test_other_files_among_the_pictures_may_not_take_the_place_of_those_held_out(own: PipelineConfig) -> None:
    for number in range(40):
        Path(own.images, f"{number}.txt").write_text("")
    refused(dataclasses.replace(own, held_out_labelled=0.05), "--held-out-labelled 0.05: holds out 0 of the 5 pictures")


def test_first_weights_of_another_network_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    torch.save({"layer": torch.zeros(2)}, tmp_path / "other.pth")
    config = dataclasses.replace(tiny(tmp_path / "out"), encoder_weights=str(tmp_path / "other.pth"))
    refused(config, "other.pth: not a torchvision MobileNetV2 state dict .*--encoder-weights a path")


def rename_labels(folder: str, old: str, new: str) -> None:
    for path in Path(folder).rglob("*.json"):
        data = json.loads(path.read_text())
        for shape in data["shapes"]:
            shape["label"] = new if shape["label"] == old else shape["label"]
        path.write_text(json.dumps(data))


def test_labels_of_the_users_own_are_mapped_ignored_or_classes_of_their_own_table(
    own: PipelineConfig, tmp_path: Path
) -> None:
    rename_labels(own.annotations, "mouth", "Mund")
    refused(own, "--map Mund=CLASS, or give --unknown ignore")
    table = tmp_path / "table.yaml"
    names = ["background", "skin", "face", "eye", "Mund", "hair", "clothes"]
    classes = [{"name": name, "colour": [30 * number, 9, 9]} for number, name in enumerate(names)]
    table.write_text(yaml.safe_dump({"name": "own", "classes": classes}))
    refused(dataclasses.replace(own, map=(("Mund=nothing",),)), "--map Mund=nothing")
    refused(dataclasses.replace(own, classes="/nope.yaml"), "^--classes .*/nope.yaml")
    refused(dataclasses.replace(own, classes=str(table), z_order="mouth"), "--z-order: 'mouth' is no class")
    for changes in ({"map": (("Mund=mouth",),)}, {"unknown": "ignore"}, {"classes": str(table), "z_order": "Mund"}):
        checked = pipeline.check_inputs(dataclasses.replace(own, **changes))
        assert checked is not None and len(checked) == 5
    road = pipeline_steps.Road(dataclasses.replace(own, classes=str(table)), 1)
    pipeline_steps.import_annotations(road)
    assert Pairs.open(road.folder("annotated")).classes.names == tuple(names)
    with pytest.raises(UserError, match="--map, --unknown: .* the built-in sample has classes of its own"):
        PipelineConfig(output="out", map=(("Mund=mouth",),), unknown="ignore")


def test_the_flags_for_labels_are_those_of_the_import() -> None:
    mine, theirs = (typing.get_type_hints(c, include_extras=True) for c in (PipelineConfig, import_annotations.Config))
    for name in OF_ANNOTATIONS:
        assert mine[name] == theirs[name]
        assert getattr(PipelineConfig, name) == getattr(import_annotations.Config, name)


def test_a_folder_with_more_annotations_than_augment_to_keeps_them_all(own: PipelineConfig) -> None:
    for augment_to, expected in ((1, 4), (6, 6)):
        config = dataclasses.replace(own, output=f"{own.output}{augment_to}", augment_to=augment_to)
        road = pipeline_steps.Road(config, 1, checked=pipeline.check_inputs(config))
        assert pipeline_steps.import_annotations(road).startswith(f"{expected} training pairs")


def test_annotations_are_checked_once_and_not_at_all_when_they_are_imported(
    own: PipelineConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    road = pipeline_steps.Road(own, 1, checked=pipeline.check_inputs(own))
    monkeypatch.setattr(import_annotations, "check_all", None)
    pipeline_steps.import_annotations(road)
    assert pipeline.check_inputs(own) is None


def test_too_few_labelled_pictures_end_the_road_before_anything_is_trained_on_them(
    own: PipelineConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    road = pipeline_steps.Road(own, 1)
    monkeypatch.setattr(label_dataset, "main", lambda config: {})
    write_pairs(Path(road.folder("labelled")), train=3, held_out=1)
    with pytest.raises(UserError, match="--images .*: 3 labelled pictures to learn from and 1 held out"):
        pipeline_steps.label_dataset(road)


def test_what_a_step_refuses_names_the_flags_of_the_pipeline(tmp_path: Path) -> None:
    def fail() -> str:
        raise UserError("out of memory: lower --batch-size (4) or --image-size; not /x--steps, --batch-size-limit")

    road = pipeline_steps.Road(tiny(tmp_path), 1)
    expected = r"lower --unet-batch-size \(4\) or --unet-image-size; not /x--steps, --batch-size-limit"
    with pytest.raises(UserError, match=expected):
        road.step("train_unet", fail)
    with pytest.raises(UserError, match="lower --batch-size"):
        road.step("train_gaugan", fail)
    assert set(OWN_FLAGS) <= set(STEPS)
    known = {f"--{field.name.replace('_', '-')}" for field in dataclasses.fields(PipelineConfig)}
    assert {flag for names in OWN_FLAGS.values() for flag in names.values()} <= known


def test_steps_track_where_the_user_says_else_in_one_file_of_the_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def tracking(**values: str) -> str:
        return pipeline_steps.Road(dataclasses.replace(tiny(tmp_path), **values), 1).flags("unet")["tracking"]

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert tracking() == f"sqlite:///{tmp_path}/mlflow.db"
    assert tracking(output="s3://bucket/out") == ""
    assert tracking(tracking="http://mine:5000") == "http://mine:5000"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://name:secret@there:5000")
    assert tracking() == ""  # the jobs look it up themselves: a password must not get into their saved flags
    assert tracking(tracking="http://mine:5000") == "http://mine:5000"
    assert tracking(tracking="none") == "none"


def test_a_saved_config_gives_the_same_run_again(own: PipelineConfig, tmp_path: Path) -> None:
    config = dataclasses.replace(
        own, map=(("a=hair", "b=eye"), ("c=face",)), unknown="ignore", unet_image_size=(64, 128)
    )
    saved = tmp_path / "run.yaml"
    saved.write_text(to_yaml(config))
    assert parse(PipelineConfig, ["--config", str(saved)]) == config
    assert parse(PipelineConfig, ["--config", str(saved), "--ngf", "8"]) == dataclasses.replace(config, ngf=8)


def test_a_run_of_an_older_version_continues_and_other_label_flags_are_refused(own: PipelineConfig) -> None:
    import_flags = pipeline_steps.import_config(pipeline_steps.Road(own, 1))
    import_annotations.main(import_flags)
    plain = yaml.safe_load(to_yaml(own))
    older = {name: value for name, value in plain.items() if name not in OF_ANNOTATIONS}
    storage.write_text(f"{own.output}/config.yaml", yaml.safe_dump(older))
    assert pipeline.check_inputs(own) is None
    with pytest.raises(UserError, match="unknown: there 'error', now 'ignore'"):
        pipeline.check_inputs(dataclasses.replace(own, unknown="ignore"))


def test_make_demo_passes_folders_with_blanks_and_further_flags(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\nfor word in "$@"; do echo "[$word]"; done\n')
    python.chmod(0o755)
    words = ["make", "--silent", "-o", ".venv/.installed", "demo", f"BIN={tmp_path}"]
    environment = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "DATA", "OUTPUT")}

    def flags(*more: str) -> list[str]:
        done = subprocess.run([*words, *more], cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
        return [line[1:-1] for line in done.stdout.splitlines() if line.startswith("[")]

    assert flags() == ["jobs/pipeline.py", "--output", "demo"]
    found = flags("DATA=Anna's pics", "OUTPUT=my out", "ARGS=--map Nose=face --augment-to 900")
    folders = ["--annotations", "Anna's pics/annotated", "--images", "Anna's pics/images"]
    assert found[1:] == ["--output", "my out", *folders, "--map", "Nose=face", "--augment-to", "900"]
    assert flags("DATA=pics")[1:3] == ["--output", "demo-data"]


def test_an_output_with_a_run_on_other_data_is_refused(tmp_path: Path) -> None:
    storage.write_text(str(tmp_path / "config.yaml"), to_yaml(tiny(tmp_path)))
    storage.write_json(str(tmp_path / "sample" / "done.json"), {})
    with pytest.raises(UserError, match="sample_pictures: there 12, now 13"):
        pipeline.main(dataclasses.replace(tiny(tmp_path), sample_pictures=13))


def test_a_run_that_has_made_nothing_yet_does_not_bind_the_output_to_its_flags(own: PipelineConfig) -> None:
    storage.write_text(f"{own.output}/config.yaml", to_yaml(dataclasses.replace(own, seed=7)))
    pipeline.check_inputs(own)


def test_a_stop_in_any_step_ends_the_road_without_a_fuss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    road = pipeline_steps.Road(tiny(tmp_path), 9)
    monkeypatch.setattr(STOP, "event", type(STOP.event)())

    def stopped(config: object) -> dict:
        STOP.event.set()
        return {}

    monkeypatch.setattr(label_dataset, "main", stopped)
    road.step("label_dataset", lambda: pipeline_steps.label_dataset(road))
    assert road.table[-1][1] == ""
