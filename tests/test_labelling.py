"""Labelling, step by step, without Ray: refusals, what is stored, and that the files are a function of the inputs."""

import io
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from tiny_models import make_plan

from gaugan import label_rows, label_shards, reading, sources, storage
from gaugan.images import decode_image, encode_jpeg, encode_png
from gaugan.label_plan import Chunk, LabelPlan
from gaugan.label_report import write_report
from gaugan.label_rows import OUTCOMES
from gaugan.label_shards import merge_shard, write_chunk
from gaugan.label_statistics import REFUSED_SHOWN, Statistics, collect
from gaugan.labelling import label_chunk
from gaugan.labels import PORTRAIT_CLASSES, decode_label_map
from gaugan.listing import Item
from gaugan.portraits import draw_portrait
from gaugan.reading import read_chunk, read_picture

PORTRAIT = draw_portrait(3, 48)[0]


@dataclass
class Answer:
    label_map: np.ndarray
    confidence: float
    entropy: float


class BrightnessSegmenter:
    """Class 5 where a picture is bright."""

    def segment(self, images: list[np.ndarray]) -> list[Answer]:
        maps = [(image.mean(axis=-1) > 127).astype(np.uint8) * 5 for image in images]
        return [Answer(label_map, round(float(label_map.mean() / 5), 4), 0.25) for label_map in maps]


def encoded(image: np.ndarray, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, kind, **options)
    return buffer.getvalue()


def read(tmp_path: Path, name: str, data: bytes, **changes: object) -> reading.Picture:
    (tmp_path / name).write_bytes(data)
    return read_picture(Item(name, len(data), "train"), make_plan([], input=str(tmp_path), **changes))


JPEG = encode_jpeg(PORTRAIT)
BAD = {
    "empty.png": (b"", "empty"),
    "text.png": (b"hello, I am no picture at all", "not_an_image"),
    "drawing.svg": (b"<svg xmlns='x'></svg>", "unsupported_format"),
    "scan.tif": (encoded(PORTRAIT, "TIFF"), "unsupported_format"),
    "junk.jpg": (b"\xff\xd8\xffjunk", "corrupt"),
    "cut.jpg": (JPEG[: len(JPEG) * 6 // 10], "truncated"),
    "cut.png": (encode_png(PORTRAIT)[:400], "truncated"),
    "tiny.png": (encode_png(PORTRAIT[:8, :8]), "too_small"),
    "huge.png": (encode_png(np.zeros((1200, 1200, 3), dtype=np.uint8)), "too_large"),
    "notes.txt": (b"hello", "other_file"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_gets_a_code_and_a_reason(tmp_path: Path, name: str) -> None:
    data, code = BAD[name]
    picture = read(tmp_path, name, data)
    assert picture.code == code and picture.message and picture.pixels is None
    assert " at 0x" not in picture.message  # it must be the same in every run
    assert picture.status == ("skipped" if code == "other_file" else "refused")


def test_a_file_that_is_gone_gets_a_code_too(tmp_path: Path) -> None:
    assert read_picture(Item("gone.png", 1, "train"), make_plan([], input=str(tmp_path))).code == "missing"


def test_a_file_that_nobody_may_read_gets_a_code_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "read", lambda *given: (_ for _ in ()).throw(PermissionError("no")))
    monkeypatch.setattr(reading.time, "sleep", lambda seconds: None)
    assert read_picture(Item("a.png", 1, "train"), make_plan([], input=str(tmp_path))).code == "unreadable"


def test_a_file_larger_than_the_limit_is_not_even_opened(tmp_path: Path) -> None:
    assert read_picture(Item("a.png", 2**40, "train"), make_plan([], input=str(tmp_path))).code == "too_large"


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_png_or_jpeg_of_unchanged_size_is_stored_byte_by_byte(tmp_path: Path, kind: str) -> None:
    data = encoded(PORTRAIT, kind)
    assert read(tmp_path, "a.bin", data).image == data


@pytest.mark.parametrize(
    ("kind", "image_size", "stored"),
    [
        ("WEBP", None, b"\xff\xd8"),
        ("GIF", None, b"\x89PNG"),
        ("JPEG", (32, 32), b"\xff\xd8"),
        ("PNG", (32, 32), b"\x89PNG"),
    ],
)
def test_other_pictures_are_encoded_anew(tmp_path: Path, kind: str, image_size: tuple | None, stored: bytes) -> None:
    picture = read(tmp_path, "a.bin", encoded(PORTRAIT, kind), image_size=image_size)
    assert picture.image.startswith(stored)
    assert decode_image(picture.image).shape[:2] == picture.stored_size == (image_size or (48, 48))
    assert (picture.height, picture.width) == (48, 48)


def test_an_upright_copy_is_labelled_of_a_picture_that_lies_on_its_side(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    picture = read(tmp_path, "side.jpg", encoded(PORTRAIT[:32], "JPEG", exif=exif))
    assert (picture.height, picture.width) == (48, 32) and picture.pixels is not None
    assert decode_image(picture.image).shape == picture.pixels.shape == (48, 32, 3)


def test_a_picture_much_larger_than_the_unet_is_reduced_for_it_but_stored_whole(tmp_path: Path) -> None:
    picture = read(tmp_path, "big.png", encode_png(np.zeros((300, 600, 3), dtype=np.uint8)))
    assert picture.pixels is not None and picture.pixels.shape[:2] == (128, 256)
    label_chunk([picture], BrightnessSegmenter(), make_plan([]))  # type: ignore[arg-type]
    row = label_rows.staged_row(picture, make_plan([]), PORTRAIT_CLASSES)
    assert decode_label_map(row["label_map"], PORTRAIT_CLASSES).shape == (300, 600)


def make_inputs(folder: Path) -> list[Item]:
    folder.mkdir()
    files = {name: data for name, (data, _) in BAD.items()}
    for seed in range(5):
        files[f"good{seed}.png"] = encode_png(draw_portrait(seed, 48)[0])
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return [Item(name, len(files[name]), "held_out" if name == "good0.png" else "train") for name in sorted(files)]


def label_everything(items: list[Item], plan: LabelPlan, output: str) -> dict:
    parts = [items[:6], items[6:]]
    for index, part in enumerate(parts):
        chunk = Chunk(0, index, tuple(part))
        pictures = label_chunk(read_chunk(chunk, plan), BrightnessSegmenter(), plan)  # type: ignore[arg-type]
        write_chunk(chunk, pictures, plan, PORTRAIT_CLASSES, output)
    return merge_shard(0, items, range(len(parts)), output)


def test_a_shard_has_one_row_per_input_and_a_pair_per_labelled_one(tmp_path: Path) -> None:
    items = make_inputs(tmp_path / "in")
    plan = make_plan(items, input=str(tmp_path / "in"))
    summary = label_everything(items, plan, str(tmp_path / "out"))
    assert (summary["rows"], summary["pairs"], summary["splits"]) == (15, 5, {"train": 4, "held_out": 1})
    outcomes = pq.read_table(label_shards.part_uri(str(tmp_path / "out"), "outcomes", 0))
    assert outcomes.schema.equals(OUTCOMES) and outcomes.column("id").to_pylist() == [item.id for item in items]
    pairs = {
        row["id"]: row for row in pq.read_table(label_shards.part_uri(str(tmp_path / "out"), "pairs", 0)).to_pylist()
    }
    for row in outcomes.to_pylist():
        assert (row["status"] == "labelled") == (row["id"] in pairs) == (row["confidence"] is not None)
        if row["id"] in pairs:
            assert (
                pairs[row["id"]]["label_sha256"] == row["label_sha256"] and pairs[row["id"]]["sha256"] == row["sha256"]
            )
            noted = json.loads(pairs[row["id"]]["provenance"])
            assert noted["model"] == plan.model_hash and abs(sum(noted["areas"]) - 1) < 1e-3
            assert (row["note"] == "review") == (row["confidence"] < plan.min_confidence)
    assert label_shards.finished_shards(str(tmp_path / "out")) == {0: json.loads(json.dumps(summary))}


def test_doing_a_step_twice_writes_the_same_bytes(tmp_path: Path) -> None:
    items = make_inputs(tmp_path / "in")
    plan = make_plan(items, input=str(tmp_path / "in"))
    found = []
    for _ in range(2):
        label_everything(items, plan, str(tmp_path / "out"))
        files = sorted((tmp_path / "out").rglob("*.parquet"))
        found.append([(file.name, file.read_bytes()) for file in files])
    assert found[0] == found[1] and len(found[0]) == 4


def test_a_shard_without_a_labelled_picture_has_no_pairs_file(tmp_path: Path) -> None:
    items = [item for item in make_inputs(tmp_path / "in") if not item.id.startswith("good")]
    summary = label_everything(items, make_plan(items, input=str(tmp_path / "in")), str(tmp_path / "out"))
    assert summary["pairs"] == 0 and not (tmp_path / "out" / "pairs").exists()


def test_a_missing_row_is_never_let_through(tmp_path: Path) -> None:
    items = make_inputs(tmp_path / "in")
    plan = make_plan(items, input=str(tmp_path / "in"))
    label_everything(items, plan, str(tmp_path / "out"))
    with pytest.raises(RuntimeError, match="must never happen"):
        merge_shard(0, items, [0], str(tmp_path / "out"))


def test_the_report_counts_everything_and_shows_the_least_sure_first(tmp_path: Path) -> None:
    items = make_inputs(tmp_path / "in")
    (tmp_path / "in" / "good4.png").write_bytes((tmp_path / "in" / "good3.png").read_bytes())
    plan = make_plan(items, input=str(tmp_path / "in"))
    summary = label_everything(items, plan, str(tmp_path / "out"))
    statistics = collect(str(tmp_path / "out"), {0: summary})
    stats = statistics.to_plain(PORTRAIT_CLASSES)
    assert (stats["inputs"], stats["labelled"], stats["refused"], stats["skipped"]) == (15, 5, 9, 1)
    assert stats["codes"]["truncated"] == 2 and stats["duplicates"] == 1
    assert abs(sum(stats["class_share"].values()) - 1) < 1e-3 and sum(stats["confidence"]["histogram"]) == 5
    text = Path(write_report(str(tmp_path / "out"), plan, PORTRAIT_CLASSES, statistics, {0: summary})).read_text()
    rows = pq.read_table(label_shards.part_uri(str(tmp_path / "out"), "outcomes", 0)).to_pylist()
    order = sorted((row["confidence"], row["id"]) for row in rows if row["status"] == "labelled")
    assert text.index(order[0][1]) < text.index(order[-1][1]) and "unsupported_format" in text


def test_the_table_of_failures_shows_some_of_each_code_rare_ones_first(tmp_path: Path) -> None:
    items = make_inputs(tmp_path / "in")
    plan = make_plan(items, input=str(tmp_path / "in"))
    statistics = Statistics()
    row = {"status": "refused", "message": "m", "id": ""}
    for number in range(500):
        statistics.add(row | {"code": "unsupported_format", "id": f"many{number}"}, 0)
    statistics.add(row | {"code": "decoder_crash", "id": "the-rare-one"}, 0)
    text = Path(write_report(str(tmp_path / "out"), plan, PORTRAIT_CLASSES, statistics, {})).read_text()
    assert text.index("the-rare-one") < text.index("many0<") and "many499" not in text
    assert text.count("<td>unsupported_format</td>") == REFUSED_SHOWN


def test_everything_works_the_same_on_an_object_store(tmp_path: Path, bucket: str) -> None:
    items = make_inputs(tmp_path / "in")
    storage.upload_folder(str(tmp_path / "in"), f"{bucket}/in")
    plan = make_plan(items, input=f"{bucket}/in")
    summary = label_everything(items, plan, f"{bucket}/out")
    local = label_everything(items, make_plan(items, input=str(tmp_path / "in")), str(tmp_path / "out"))
    assert summary == local
    assert label_shards.staged_pieces(f"{bucket}/out") == {0: {0, 1}}
    same = storage.read_bytes(label_shards.part_uri(f"{bucket}/out", "pairs", 0))
    assert same == Path(label_shards.part_uri(str(tmp_path / "out"), "pairs", 0)).read_bytes()


@pytest.mark.parametrize("remove", [False, True])
def test_specks_go_when_asked_to_and_their_number_is_kept(tmp_path: Path, remove: bool) -> None:
    image = np.zeros((120, 120, 3), dtype=np.uint8)
    image[:, 60:] = 255
    image[5, 5] = 255  # 1 of 14,400 pixels, where components under 2.88 are specks
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").write_bytes(encode_png(image))
    items = [Item("a.png", 1, "train")]
    plan = make_plan(items, input=str(tmp_path / "in"), remove_specks=remove)
    chunk = Chunk(0, 0, tuple(items))
    pictures = label_chunk(read_chunk(chunk, plan), BrightnessSegmenter(), plan)  # type: ignore[arg-type]
    row = label_rows.staged_row(pictures[0], plan, PORTRAIT_CLASSES)
    assert json.loads(row["provenance"])["specks"] == 1
    assert decode_label_map(row["label_map"], PORTRAIT_CLASSES)[5, 5] == (0 if remove else 5)
