"""jobs/import_dataset.py: every layout becomes a dataset; bad input is named file by file and nothing is written."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dataset_toys import (
    SIZE,
    jpeg,
    label_map,
    png,
    write_ade20k,
    write_cityscapes,
    write_coco,
    write_custom,
    write_facades,
)
from PIL import Image

from gaugan.config import parse
from gaugan.errors import UserError
from gaugan.labels import ClassTable
from gaugan.pairs import Pairs
from jobs import import_dataset as job
from jobs.outputs import checked_output


def config(layout: str, root: str, output: Path, **changes: Any) -> job.Config:
    values: dict = {"tracking": "none", "cpus_per_worker": 1, **changes}
    return job.Config(layout=layout, root=root, output=str(output), **values)  # type: ignore[arg-type]


def custom(root: str, output: Path, **changes: Any) -> job.Config:
    folders = {"image_dir": "images", "label_dir": "labels", "num_classes": 5, **changes}
    return config("custom", root, output, **folders)


@pytest.mark.parametrize(
    ("layout", "make", "train", "held_out", "instances", "dontcare"),
    [
        ("coco", write_coco, 4, 2, True, "extra"),
        ("ade20k", write_ade20k, 2, 1, False, "extra"),
        ("cityscapes", write_cityscapes, 2, 1, True, "error"),
        ("facades", write_facades, 2, 1, False, "error"),
    ],
)
def test_one_flag_reads_each_public_layout(
    layout: str, make: Any, train: int, held_out: int, instances: bool, dontcare: str, tmp_path: Path
) -> None:
    manifest = job.main(config(layout, make(tmp_path / "in"), tmp_path / "out"))
    assert manifest is not None and manifest["layout"] == layout and manifest["dontcare"] == dontcare
    pairs = Pairs.open(str(tmp_path / "out"), ClassTable.load(layout))
    assert (pairs.num("train"), pairs.num("held_out"), pairs.has_instances) == (train, held_out, instances)
    assert manifest["label_audit"]["label_maps"] == train + held_out
    assert (tmp_path / "out" / "contact_sheet.png").exists()


def test_pictures_keep_their_bytes_and_maps_their_numbers(tmp_path: Path) -> None:
    job.main(config("coco", write_coco(tmp_path / "in"), tmp_path / "out"))
    pairs = Pairs.open(str(tmp_path / "out"))
    assert pairs.ids("train")[0] == "train_img/8.jpg"
    row, pair = pairs.encoded("train", 0), pairs.read("train", 0)
    assert row["image"] == (tmp_path / "in" / "train_img" / "8.jpg").read_bytes()
    wanted = np.array(Image.open(tmp_path / "in" / "train_label" / "8.png"))
    assert np.array_equal(pair.label_map, wanted) and pair.label_map[0, 0] == 255
    assert pair.instance_map is not None and np.array_equal(pair.instance_map, wanted // 2)


def test_ade20k_counts_from_one_and_0_is_unknown(tmp_path: Path) -> None:
    root = write_ade20k(tmp_path / "in")
    job.main(config("ade20k", root, tmp_path / "out"))
    found = Pairs.open(str(tmp_path / "out")).read("train", 0).label_map
    raw = np.array(Image.open(tmp_path / "in" / "annotations" / "ADE_train_00000000.png")).astype(int)
    assert found[0, 0] == 255 and found[0, 1] == 149  # raw 0 and 150
    assert np.array_equal(found[4:], raw[4:] - 1)
    raw[2, 3] = 151
    (tmp_path / "in" / "annotations" / "ADE_train_00000000.png").write_bytes(png(raw.astype(np.uint8)))
    with pytest.raises(UserError, match="class id 151 at x=3, y=2 .1 such pixels.; allowed are 1..150"):
        job.main(config("ade20k", root, tmp_path / "other"))


def test_cityscapes_keeps_its_shape_and_its_16_bit_instances(tmp_path: Path) -> None:
    job.main(config("cityscapes", write_cityscapes(tmp_path / "in"), tmp_path / "out"))
    pair = Pairs.open(str(tmp_path / "out")).read("train", 0)
    assert pair.image.shape == (8, 16, 3) and pair.instance_map is not None
    assert np.array_equal(pair.instance_map, pair.label_map.astype(int) * 1000 + 1)


def test_instances_and_portraits_are_taken_unless_told_otherwise(tmp_path: Path) -> None:
    common = ["--layout", "coco", "--output", "out", "--root", "in"]
    given, told = parse(job.Config, common), parse(job.Config, [*common, "--no-instances", "--no-portraits"])
    assert (given.instances, given.portraits, told.instances, told.portraits) == (True, True, False, False)
    root = write_coco(tmp_path / "in")
    every = job.main(config("coco", root, tmp_path / "all"))
    fewer = job.main(config("coco", root, tmp_path / "fewer", instances=False, portraits=False))
    assert every["instance_maps"] and not fewer["instance_maps"]
    assert fewer["rows"] < every["rows"]


def test_custom_folders_with_nameless_classes_or_a_table(tmp_path: Path) -> None:
    root = write_custom(tmp_path / "in")
    manifest = job.main(custom(root, tmp_path / "out", instance_dir="instances", held_out=0.4))
    assert manifest is not None and manifest["splits"] == {"train": 3, "held_out": 2} and manifest["instance_maps"]
    assert Pairs.open(str(tmp_path / "out")).classes.names == tuple(f"class {number}" for number in range(5))
    with pytest.raises(UserError, match="needs --classes TABLE.yaml"):
        job.main(custom(root, tmp_path / "other", num_classes=None))


def test_larger_pictures_can_be_stored_reduced(tmp_path: Path) -> None:
    root = write_custom(tmp_path / "in")
    job.main(custom(root, tmp_path / "out", instance_dir="instances", short_side=8))
    pair = Pairs.open(str(tmp_path / "out")).read("train", 0)
    assert pair.image.shape == (8, 11, 3) and pair.label_map.shape == (8, 11)
    assert pair.instance_map is not None and np.array_equal(pair.instance_map, pair.label_map)


def test_a_dry_run_counts_and_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert job.main(config("coco", write_coco(tmp_path / "in"), tmp_path / "out", dry_run=True)) is None
    assert "6 label maps" in capsys.readouterr().out and not (tmp_path / "out").exists()


def colours() -> bytes:
    return png(np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8))


def as_jpeg() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(label_map(0, 4)).save(buffer, "JPEG")
    return buffer.getvalue()


def too_high() -> bytes:
    ids = label_map(0, 4)
    ids[7, 11] = 5
    return png(ids)


def holed() -> bytes:
    ids = label_map(0, 4)
    ids[2, 1] = 255
    return png(ids)


@pytest.mark.parametrize(
    ("file", "data", "words"),
    [
        ("labels/3.png", too_high(), r"class id 5 at x=11, y=7 \(1 such pixels\); allowed are 0..4.*class table"),
        ("labels/3.png", holed(), r"class id 255 \(unknown\) at x=1, y=2 .*allowed are 0..4; give --dontcare ignore"),
        ("labels/3.png", colours(), r"colour \(\d+, \d+, \d+\) at x=0, y=0 is no class colour of 'nameless'"),
        ("labels/3.png", png(label_map(0, 4).astype(np.uint16)), "a label map of 16-bit I;16; .* save it as 8-bit"),
        ("labels/3.png", as_jpeg(), "not a PNG file; save it as 8-bit PNG"),
        ("labels/3.png", png(label_map(0, 4, (8, 8))), "8x8 px, its picture 3.png has 16x12; both must have one size"),
        ("instances/3.png", png(label_map(0, 4, (8, 8))), "8x8 px, its picture 3.png has 16x12"),
        ("instances/3.png", colours(), "an instance map of RGB; save one number per pixel"),
        ("images/3.png", jpeg(0)[:200], "ends within its header"),
        ("images/3.png", b"", "0 bytes"),
        ("images/3.png", b"II*\x00" + bytes(50), "TIFF files are not read"),
    ],
)
def test_a_bad_file_is_named_with_value_pixel_and_next_step_and_nothing_is_written(
    file: str, data: bytes, words: str, tmp_path: Path
) -> None:
    root = write_custom(tmp_path / "in")
    (tmp_path / "in" / file).write_bytes(data)
    with pytest.raises(UserError, match=words) as refusal:
        job.main(custom(root, tmp_path / "out", instance_dir="instances"))
    assert f"{root}/{file}" in str(refusal.value) and "1 problem(s), no dataset was written" in str(refusal.value)
    assert not (tmp_path / "out" / "manifest.json").exists() and not (tmp_path / "out" / "pairs").exists()


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    root = write_custom(tmp_path / "in")
    (tmp_path / "in" / "labels" / "1.png").write_bytes(colours())
    (tmp_path / "in" / "labels" / "4.png").write_bytes(too_high())
    with pytest.raises(UserError, match="(?s)2 problem.*labels/1.png.*labels/4.png"):
        job.main(custom(root, tmp_path / "out"))


def test_palette_label_maps_are_read_by_index_and_rgb_ones_by_the_tables_colours(tmp_path: Path) -> None:
    root, table = write_custom(tmp_path / "in"), ClassTable.load("facades")
    ids = label_map(0, 4)
    indexed = Image.fromarray(ids)
    indexed = Image.frombytes("P", indexed.size, ids.tobytes())
    indexed.putpalette([7, 7, 7] * 256)
    indexed.save(tmp_path / "in" / "labels" / "0.png")
    painted = np.array(table.colours, dtype=np.uint8)[label_map(1, 4)]
    (tmp_path / "in" / "labels" / "1.png").write_bytes(png(painted))
    job.main(custom(root, tmp_path / "out", num_classes=None, classes="facades", held_out=0.0))
    pairs = Pairs.open(str(tmp_path / "out"))
    assert np.array_equal(pairs.read("train", 0).label_map, ids)
    assert np.array_equal(pairs.read("train", 1).label_map, label_map(1, 4))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"layout": "coco", "root": ""}, "--layout coco needs --root"),
        ({"layout": "coco", "label_dir": "x"}, "belong to --layout custom"),
        ({"layout": "custom", "classes": "coco", "num_classes": 3}, "give one of them"),
        ({"layout": "custom", "held_out": 1.0}, "--held-out 1.0"),
        ({"layout": "coco", "limit": 0}, "--limit 0"),
    ],
)
def test_flags_that_do_not_go_together_are_refused(changes: dict, words: str) -> None:
    with pytest.raises(UserError, match=words):
        job.Config(**({"root": "r", "output": "o"} | changes))


def test_a_named_class_table_is_no_path(tmp_path: Path) -> None:
    found = checked_output(job.Config(layout="custom", output=str(tmp_path), classes="coco", label_dir="labels"))
    assert found.classes == "coco"


def test_relative_folders_lie_below_the_root_and_others_where_they_say(tmp_path: Path) -> None:
    root = write_custom(tmp_path / "in")
    found = checked_output(custom(root, tmp_path / "out", label_dir=f"{root}/labels"))
    assert job.main(found) is not None
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["rows"] == 5
