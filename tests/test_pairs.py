"""gaugan.pairs and gaugan.folders: a dataset is there whole or not at all, and says what is wrong with it."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gaugan import folders, images, labels, storage
from gaugan.errors import UserError
from gaugan.labels import PORTRAIT_CLASSES, ClassTable
from gaugan.pairs import SPLITS, Pair, Pairs, PairsWriter, encode_shard, provenance, split_by_source

OTHER = ClassTable(PORTRAIT_CLASSES.names[::-1], PORTRAIT_CLASSES.colours)


def picture(number: int, size: tuple[int, int] = (8, 10)) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(number)
    return rng.integers(0, 256, (*size, 3), dtype=np.uint8), rng.integers(0, 7, size).astype(np.uint8)


def pair(number: int, split: str = "train", **changes: object) -> Pair:
    image, label_map = picture(number)
    fields: dict = {
        "id": f"{number}.png",
        "image": images.encode_png(image),
        "label_map": labels.encode_label_map(label_map, PORTRAIT_CLASSES),
        "width": 10,
        "height": 8,
        "split": split,
        "source_id": f"{number}",
        "confidence": None if number % 2 else 0.5,
        "provenance": provenance(by="hand", number=number),
    }
    return Pair(**(fields | changes))


def write(uri: str, count: int = 9, rows_per_shard: int = 4) -> dict:
    writer = PairsWriter(uri, PORTRAIT_CLASSES, rows_per_shard)
    for number in range(count):
        writer.add(pair(number, SPLITS[number % 3 == 0]))
    return writer.finish({"made_by": "a test"})


@pytest.mark.parametrize("where", ["local", "s3"])
def test_what_is_written_is_read_back(where: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    uri = str(tmp_path / "a b") if where == "local" else request.getfixturevalue("bucket") + "/a b"
    manifest = write(uri)
    pairs = Pairs.open(uri)
    assert pairs.manifest == manifest and manifest["made_by"] == "a test" and manifest["rows"] == 9
    assert manifest["splits"] == {"train": 6, "held_out": 3} and len(manifest["shards"]) == 3
    assert pairs.ids("held_out") == ["0.png", "3.png", "6.png"] and pairs.num("train") == 6
    for split in SPLITS:
        for index, name in enumerate(pairs.ids(split)):
            number, found = int(name.removesuffix(".png")), pairs.read(split, index)
            assert found.id == name and found.confidence == (None if number % 2 else 0.5)
            assert np.array_equal(found.image, picture(number)[0])
            assert np.array_equal(found.label_map, picture(number)[1])
    assert sorted(sum(pairs.groups("train"), [])) == list(range(6))


def test_nothing_is_a_dataset_before_it_is_finished_and_a_new_try_starts_clean(tmp_path: Path) -> None:
    uri = str(tmp_path / "data")
    unfinished = PairsWriter(uri, PORTRAIT_CLASSES, rows_per_shard=1)
    for number in range(5):
        unfinished.add(pair(number))
    assert len(storage.list_files(uri)) == 5
    with pytest.raises(UserError, match="no dataset there .it has no manifest.json.; make one with"):
        Pairs.open(uri)
    write(uri, count=2)
    assert Pairs.open(uri).num("train") == 1
    assert [entry.path for entry in storage.list_files(uri)] == ["manifest.json", "pairs/part-00000.parquet"]
    with pytest.raises(UserError, match="holds a dataset already"):
        PairsWriter(uri, PORTRAIT_CLASSES)


def test_the_same_rows_give_the_same_bytes() -> None:
    rows = [pair(number).row() for number in range(5)]
    assert encode_shard(rows) == encode_shard([pair(number).row() for number in range(5)])
    assert rows[0]["sha256"] != rows[1]["sha256"] and len(rows[0]["label_sha256"]) == 64


def test_two_pairs_of_one_id_or_an_unknown_split_are_refused(tmp_path: Path) -> None:
    writer = PairsWriter(str(tmp_path / "data"), PORTRAIT_CLASSES)
    writer.add(pair(1))
    with pytest.raises(UserError, match="'1.png'"):
        writer.add(pair(1))
    with pytest.raises(ValueError, match="test"):
        writer.add(pair(2, "test"))


def test_another_class_table_is_refused_with_both_hashes(tmp_path: Path) -> None:
    uri = str(tmp_path / "data")
    write(uri)
    assert Pairs.open(uri, PORTRAIT_CLASSES).classes == PORTRAIT_CLASSES
    with pytest.raises(UserError, match=f"{PORTRAIT_CLASSES.hash}.*{OTHER.hash}"):
        Pairs.open(uri, OTHER)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda text: text[: len(text) // 2], "manifest.json"),
        (lambda text: "[]", "not that of a dataset"),
        (lambda text: json.dumps({**json.loads(text), "format": "checkpoint"}), "not that of a dataset"),
        (lambda text: json.dumps({**json.loads(text), "format_version": 99}), "format 99, .*newer suite wrote it"),
        (lambda text: json.dumps({**json.loads(text), "format_version": 0}), "format 0, .*import the data again"),
        (lambda text: json.dumps({**json.loads(text), "format_version": None}), "format None"),
        (lambda text: json.dumps({"format": "pairs", "format_version": 1}), "classes, shards"),
        (lambda text: text.replace('"mouth"', '"skin"'), "skin stands twice"),
    ],
)
def test_a_damaged_manifest_is_refused_by_name(damage, words: str, tmp_path: Path) -> None:  # noqa: ANN001
    uri = str(tmp_path / "data")
    write(uri)
    path = tmp_path / "data" / "manifest.json"
    path.write_text(damage(path.read_text()))
    with pytest.raises(UserError, match=words) as caught:
        Pairs.open(uri)
    assert uri in str(caught.value)


def test_a_missing_or_damaged_shard_is_refused_by_name(tmp_path: Path) -> None:
    uri = str(tmp_path / "data")
    write(uri)
    shard = tmp_path / "data" / "pairs" / "part-00001.parquet"
    data = shard.read_bytes()
    shard.write_bytes(data[: len(data) // 2])
    with pytest.raises(UserError, match="part-00001.parquet"):
        Pairs.open(uri)
    shard.unlink()
    with pytest.raises(UserError, match="part-00001.parquet"):
        Pairs.open(uri)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"image": b"\x89PNG broken"}, "corrupt|ends within its header"),
        ({"label_map": labels.encode_label_map(np.zeros((4, 4), np.uint8), PORTRAIT_CLASSES)}, "one size"),
    ],
)
def test_a_row_that_can_not_be_used_is_named_when_it_is_read(changes: dict, words: str, tmp_path: Path) -> None:
    writer = PairsWriter(str(tmp_path / "data"), PORTRAIT_CLASSES)
    writer.add(pair(3, **changes))
    writer.finish()
    with pytest.raises(UserError, match=f"'3.png'.*({words})"):
        Pairs.open(str(tmp_path / "data")).read("train", 0)


def test_the_writer_refuses_label_maps_that_no_reader_could_use(tmp_path: Path) -> None:
    writer = PairsWriter(str(tmp_path / "data"), PORTRAIT_CLASSES)
    with pytest.raises(UserError, match="'3.png'.*not a PNG"):
        writer.add(pair(3, label_map=b"broken"))
    too_high = np.zeros((4, 4), np.uint8)
    too_high[1, 2] = 7
    with pytest.raises(UserError, match=r"'4.png'.*class id 7 at x=2, y=1 \(1 such pixels\); allowed are 0..6"):
        writer.add(pair(4, label_map=labels.encode_label_map(too_high, PORTRAIT_CLASSES)))


def test_the_split_depends_on_names_and_seed_only_and_leaves_no_side_empty() -> None:
    names = [f"picture {number}" for number in range(40)]
    split = split_by_source(names, 0.25, seed=1)
    assert split == split_by_source(reversed(names), 0.25, seed=1) == split_by_source(names * 2, 0.25, seed=1)
    assert list(split.values()).count("held_out") == 10 and split != split_by_source(names, 0.25, seed=2)
    for share, sides in (
        (0.001, {"train", "held_out"}),
        (0.999, {"train", "held_out"}),
        (0, {"train"}),
        (1, {"held_out"}),
    ):
        assert set(split_by_source(names, share).values()) == sides
    assert split_by_source(["one"], 0.1) == {"one": "train"}


def test_a_dataset_survives_the_way_out_to_a_folder_and_back(tmp_path: Path) -> None:
    uri, folder, again = (str(tmp_path / name) for name in ("data", "folder", "again"))
    write(uri)
    assert folders.export_folder(uri, folder) == 9
    assert (tmp_path / "folder" / "held_out" / "label_maps" / "3.png").exists()
    manifest = folders.import_folder(f"{folder}/train", again, PORTRAIT_CLASSES, held_out=0.5, seed=3)
    assert manifest["splits"] == {"train": 3, "held_out": 3}
    pairs = Pairs.open(again)
    for split in SPLITS:
        for index, name in enumerate(pairs.ids(split)):
            image, label_map = picture(int(name.removesuffix(".png")))
            found = pairs.read(split, index)
            assert np.array_equal(found.image, image) and np.array_equal(found.label_map, label_map)


def test_an_import_lists_files_without_a_partner(tmp_path: Path) -> None:
    image, label_map = picture(0)
    for name in ("a.jpg", "sub/b.png"):
        storage.write_bytes(f"{tmp_path}/images/{name}", images.encode_png(image))
    for name in ("a.png", "c.png"):
        storage.write_bytes(f"{tmp_path}/label_maps/{name}", labels.encode_label_map(label_map, PORTRAIT_CLASSES))
    with pytest.raises(UserError, match="images/sub/b, label_maps/c"):
        folders.import_folder(str(tmp_path), str(tmp_path / "data"), PORTRAIT_CLASSES)
    with pytest.raises(UserError, match="there are none"):
        folders.import_folder(str(tmp_path / "empty"), str(tmp_path / "data"), PORTRAIT_CLASSES)
    assert not (tmp_path / "data").exists()


def test_an_import_names_a_label_map_of_another_size_or_class(tmp_path: Path) -> None:
    image, label_map = picture(0)
    storage.write_bytes(f"{tmp_path}/images/a.png", images.encode_png(image))
    for wrong, words in ((label_map[:4], "a: both must have one size"), (label_map + 9, "a: .*class id")):
        buffer = io.BytesIO()
        Image.fromarray(wrong).save(buffer, "PNG")
        storage.write_bytes(f"{tmp_path}/label_maps/a.png", buffer.getvalue())
        with pytest.raises(UserError, match=words):
            folders.import_folder(str(tmp_path), str(tmp_path / "data"), PORTRAIT_CLASSES)


@pytest.mark.parametrize(("ids", "words"), [(["../../x.png"], "leads out"), (["a.png", "a.jpg"], "several ids")])
def test_an_export_never_leaves_its_folder_and_overwrites_nothing(ids: list[str], words: str, tmp_path: Path) -> None:
    writer = PairsWriter(str(tmp_path / "data"), PORTRAIT_CLASSES)
    for number, name in enumerate(ids):
        writer.add(pair(number, id=name))
    writer.finish()
    with pytest.raises(UserError, match=words):
        folders.export_folder(str(tmp_path / "data"), str(tmp_path / "deep" / "folder"))
    assert not (tmp_path / "deep").exists()
