"""jobs/import_annotations.py: from a folder of labelme files to a dataset, or to one list of problems."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gaugan import storage
from gaugan.config import parse
from gaugan.errors import UserError
from gaugan.images import encode_png
from gaugan.labels import PORTRAIT_CLASSES
from gaugan.pairs import Pairs
from jobs.import_annotations import MAX_REPORTED, Config, main

HAIR, FACE = PORTRAIT_CLASSES.ids["hair"], PORTRAIT_CLASSES.ids["face"]


def add_file(
    root: Path, name: str, *, label: str = "face", size: tuple[int, int] = (24, 20), seed: int | None = None
) -> Path:
    """One picture (random, by its name or seed) and its JSON: a hair rectangle and one of `label` inside it."""
    for folder in ("labelme", "images"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed if seed is not None else sum(map(ord, name)) * 31 + len(name))
    picture = rng.integers(0, 255, (*size, 3), dtype=np.uint8)
    (root / "images" / f"{name}.png").write_bytes(encode_png(picture))
    corners = {"hair": [[2, 3], [15, 17]], label: [[5, 6], [9, 12]]}
    shapes = [{"label": key, "points": points, "shape_type": "rectangle"} for key, points in corners.items()]
    content = {"version": "5.5.0", "shapes": shapes, "imagePath": f"../images/{name}.png", "imageData": None}
    path = root / "labelme" / f"{name}.json"
    path.write_text(json.dumps(content | {"imageHeight": size[0], "imageWidth": size[1]}))
    return path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Ten annotated pictures."""
    for number in range(10):
        add_file(tmp_path / "data", f"{number:04d}")
    return tmp_path / "data"


def run_job(data: Path, output: Path, **options: Any) -> dict[str, Any] | None:
    return main(Config(annotations=str(data), output=str(output), cpus_per_worker=1, **options))


def rows(output: Path) -> dict[str, tuple[str, str, bytes, bytes]]:
    """id -> (split, source, picture, label map) of every row."""
    pairs, found = Pairs.open(str(output)), {}
    for split in ("train", "held_out"):
        for index, light in enumerate(pairs.light(split)):
            pair = pairs.read(split, index)
            found[pair.id] = (split, light["source_id"], pair.image.tobytes(), pair.label_map.tobytes())
    return found


def test_pictures_and_painted_labels_come_out_as_pairs(data: Path, tmp_path: Path) -> None:
    manifest = run_job(data, tmp_path / "out")
    assert manifest is not None and manifest["splits"] == {"train": 8, "held_out": 2}
    pairs = Pairs.open(str(tmp_path / "out"), PORTRAIT_CLASSES)
    for split in ("train", "held_out"):
        for index in range(pairs.num(split)):
            pair = pairs.read(split, index)
            picture = np.array(Image.open(data / "images" / pair.id))
            np.testing.assert_array_equal(pair.image, picture)
            expected = np.zeros((24, 20), np.uint8)
            expected[3:18, 2:16] = HAIR
            expected[6:13, 5:10] = FACE
            np.testing.assert_array_equal(pair.label_map, expected)


def test_a_flat_folder_of_json_and_pictures_is_read_too(tmp_path: Path) -> None:
    path = add_file(tmp_path / "made", "a")
    flat = tmp_path / "flat"
    flat.mkdir()
    (flat / "a.json").write_text(path.read_text().replace("../images/", ""))
    (tmp_path / "made" / "images" / "a.png").rename(flat / "a.png")
    manifest = run_job(flat, flat / "out")
    assert manifest is not None and manifest["rows"] == 1
    with pytest.raises(UserError, match="holds a dataset already"):
        run_job(flat, flat / "out")


def test_copies_fill_the_training_split_and_never_cross_it(data: Path, tmp_path: Path) -> None:
    manifest = run_job(data, tmp_path / "out", augment_to=50)
    assert manifest is not None and manifest["splits"] == {"train": 50, "held_out": 2}
    found = rows(tmp_path / "out")
    sources = {split: {row[1] for row in found.values() if row[0] == split} for split in ("train", "held_out")}
    assert len(sources["train"]) == 8 and not sources["train"] & sources["held_out"]
    counts = [sum(row[1] == source for row in found.values()) for source in sources["train"]]
    assert max(counts) - min(counts) <= 1
    assert len({row[2] for row in found.values()}) == 52  # no two pictures alike


def test_the_same_seed_gives_the_same_bytes_on_any_number_of_workers(data: Path, tmp_path: Path) -> None:
    run_job(data, tmp_path / "one", augment_to=20, seed=4)
    run_job(data, tmp_path / "two", augment_to=20, seed=4, num_workers=3)
    run_job(data, tmp_path / "other", augment_to=20, seed=5)
    shard = "pairs/part-00000.parquet"
    assert (tmp_path / "one" / shard).read_bytes() == (tmp_path / "two" / shard).read_bytes()
    assert (tmp_path / "one" / shard).read_bytes() != (tmp_path / "other" / shard).read_bytes()


def test_equal_pictures_under_two_names_stay_on_one_side(tmp_path: Path) -> None:
    data = tmp_path / "data"
    for number in range(12):
        add_file(data, f"{number:04d}", seed=number // 2)
    run_job(data, tmp_path / "out", held_out=0.5)
    found = rows(tmp_path / "out")
    sides: dict[bytes, set[str]] = {row[2]: set() for row in found.values()}
    for split, _, picture, _ in found.values():
        sides[picture].add(split)
    assert len(sides) == 6 and all(len(side) == 1 for side in sides.values())
    notes = json.loads((tmp_path / "out" / "report.json").read_text())["notes"]
    assert notes["labelme/0001.json"] == ["same picture as labelme/0000.json"]


def test_image_size_fits_all_pairs(data: Path, tmp_path: Path) -> None:
    add_file(data, "wide", size=(20, 40))
    run_job(data, tmp_path / "out", image_size=(16,), augment_to=20)
    pairs = Pairs.open(str(tmp_path / "out"))
    assert {(row["height"], row["width"]) for row in pairs.light("train") + pairs.light("held_out")} == {(16, 16)}
    assert pairs.read("train", 0).label_map.shape == (16, 16)


def test_sheet_report_and_config_lie_beside_the_dataset(data: Path, tmp_path: Path) -> None:
    manifest = run_job(data, tmp_path / "out", augment_to=12)
    assert manifest is not None
    shares = manifest["class_shares"]
    assert shares["hair"] == pytest.approx((15 * 14 - 35) / 480) and sum(shares.values()) == pytest.approx(1, abs=1e-5)
    with Image.open(tmp_path / "out" / "contact_sheet.png") as sheet:
        assert sheet.width > 1000 and np.array(sheet).std() > 20
    for name in ("config.yaml", "run.json", "report.json"):
        assert (tmp_path / "out" / name).stat().st_size > 0


def test_all_problems_come_in_one_list_and_nothing_is_written(data: Path, tmp_path: Path) -> None:
    add_file(data, "eyes1", label="Eyes")
    add_file(data, "eyes2", label="Eyes")
    (data / "images" / "0003.png").unlink()
    (data / "images" / "0004.png").write_bytes((data / "images" / "0004.png").read_bytes()[:60])
    (data / "labelme" / "0005.json").write_text("{")
    far = data / "labelme" / "0006.json"
    far.write_text(far.read_text().replace("../images/0006.png", "../../../etc/passwd"))
    (data / "images" / "0007.png").write_bytes(encode_png(np.zeros((9, 9, 3), np.uint8)))
    with pytest.raises(UserError) as caught:
        run_job(data, tmp_path / "out")
    message = str(caught.value)
    assert message.startswith("6 problem(s)") and not (tmp_path / "out").exists()
    assert "'Eyes' is no class: 2 x in 2 files" in message and "--map Eyes=eye" in message
    for name, words in {
        "0003": "missing", "0004": "can't be read", "0005": "not valid JSON", "0006": "leaves the folder",
        "0007": "9x9",
    }.items():  # fmt: skip
        assert any(f"{name}.json" in line and words in line for line in message.splitlines()), name


def test_a_long_list_of_problems_is_cut_and_counted(tmp_path: Path) -> None:
    for number in range(MAX_REPORTED + 5):
        add_file(tmp_path, f"{number:04d}").write_text("{}")
    with pytest.raises(UserError, match=rf"{MAX_REPORTED + 5} problem.*") as caught:
        run_job(tmp_path, tmp_path / "out")
    assert "and 5 more" in str(caught.value) and len(str(caught.value).splitlines()) == MAX_REPORTED + 2


def test_unknown_labels_can_be_mapped_or_ignored(data: Path, tmp_path: Path) -> None:
    add_file(data, "nose", label="nose")
    run_job(data, tmp_path / "mapped", map=(("nose=face",),))
    run_job(data, tmp_path / "ignored", unknown="ignore")
    assert 255 not in set(rows(tmp_path / "mapped")["nose.png"][3])
    assert 255 in set(rows(tmp_path / "ignored")["nose.png"][3])


def test_maps_are_gathered_from_every_flag() -> None:
    words = [
        "--annotations",
        "a",
        "--output",
        "b",
        "--map",
        "a=face",
        "b=hair",
        "--map",
        "c=eye",
        "--image-size",
        "8",
        "9",
    ]
    config = parse(Config, words)
    assert config.map == (("a=face", "b=hair"), ("c=eye",)) and config.size == (8, 9)


def test_z_order_paints_hair_over_the_face(data: Path, tmp_path: Path) -> None:
    run_job(data, tmp_path / "out", z_order="face,hair")
    found = rows(tmp_path / "out")
    assert all(FACE not in set(row[3]) for row in found.values())
    notes = json.loads((tmp_path / "out" / "report.json").read_text())["notes"]
    assert notes["labelme/0000.json"] == ["hidden: face (rectangle) has no visible pixel"]


def test_another_class_table_is_read_from_yaml(data: Path, tmp_path: Path) -> None:
    (tmp_path / "two.yaml").write_text("name: two\nclasses: [nothing, hair, face]\n")
    run_job(data, tmp_path / "out", classes=str(tmp_path / "two.yaml"))
    assert Pairs.open(str(tmp_path / "out")).classes.names == ("nothing", "hair", "face")


def test_dry_run_checks_everything_and_writes_nothing(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_job(data, tmp_path / "out", dry_run=True) is None
    assert not (tmp_path / "out").exists() and "10 annotated pictures" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"held_out": 1.0}, "--held-out"),
        ({"image_size": (4,)}, "--image-size"),
        ({"augment_to": 3}, "--augment-to 3: the training split has 8"),
        ({"map": (("nose",),)}, "--map nose: expected old=new"),
        ({"map": (("nose=fase",),)}, "is no class"),
        ({"z_order": "face,wig"}, "wig"),
        ({"classes": "/no/such/table.yaml"}, "/no/such/table.yaml"),
    ],
)
def test_wrong_flags_are_refused_by_name(data: Path, tmp_path: Path, options: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        run_job(data, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("make", [False, True])
def test_a_folder_without_annotations_is_refused(tmp_path: Path, make: bool) -> None:
    if make:
        (tmp_path / "data").mkdir()
    with pytest.raises(UserError, match="--annotations"):
        run_job(tmp_path / "data", tmp_path / "out")


def test_a_failure_while_writing_leaves_no_dataset(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("jobs.import_annotations.label_strip", fail)
    with pytest.raises(OSError, match="disk full"):
        run_job(data, tmp_path / "out")
    assert not (tmp_path / "out" / "manifest.json").exists() and not (tmp_path / "out" / "pairs").exists()


def test_the_command_ends_with_code_2_and_a_plain_message(data: Path, tmp_path: Path) -> None:
    (data / "labelme" / "0000.json").write_text("[]")
    words = [
        sys.executable,
        "jobs/import_annotations.py",
        "--annotations",
        str(data),
        "--output",
        str(tmp_path / "out"),
    ]
    done = subprocess.run(words, capture_output=True, text=True, cwd=Path(__file__).parents[1])
    assert done.returncode == 2 and "Traceback" not in done.stderr and "0000.json" in done.stderr


def test_annotations_and_dataset_may_lie_in_a_bucket(data: Path, bucket: str) -> None:
    storage.upload_folder(data, f"{bucket}/data")
    manifest = main(Config(annotations=f"{bucket}/data", output=f"{bucket}/out", augment_to=12, cpus_per_worker=1))
    assert manifest is not None and manifest["splits"] == {"train": 12, "held_out": 2}
    assert Pairs.open(f"{bucket}/out").read("train", 11).label_map.shape == (24, 20)
