"""Finished shards: verdicts, what a retry takes apart, and that its result is as if nothing had ever failed."""

import io
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tiny_models import make_plan

from gaugan import label_shards, storage
from gaugan.images import encode_png
from gaugan.label_plan import Chunk, LabelPlan
from gaugan.label_report import write_report
from gaugan.label_shards import KEPT, merge_shard, part_uri, reopen, write_chunk
from gaugan.label_statistics import collect, read_rows
from gaugan.labelling import label_chunk
from gaugan.labels import PORTRAIT_CLASSES
from gaugan.listing import Item
from gaugan.portraits import draw_portrait
from gaugan.reading import read_chunk
from gaugan.segmenter import Segmentation

MIN, REJECT = 0.7, 0.6
NAMES = [f"{number}.png" for number in range(9)]


class OrderlySegmenter:
    """The confidence is the share of class 5, which is where a picture is bright."""

    def segment(self, images: list[np.ndarray]) -> list[Segmentation]:
        maps = [(image.mean(axis=-1) > 127).astype(np.uint8) * 5 for image in images]
        return [Segmentation(label_map, float(label_map.mean() / 5), 0.25) for label_map in maps]


def write_inputs(folder: Path) -> list[Item]:
    """Portraits, and two that are bad in different ways."""
    folder.mkdir(exist_ok=True)
    for seed, name in enumerate(NAMES):
        (folder / name).write_bytes(encode_png(draw_portrait(seed, 48)[0]))
    items = [Item(name, (folder / name).stat().st_size, "train") for name in NAMES]
    return items


def spoil(folder: Path) -> None:
    (folder / NAMES[2]).write_bytes(b"")
    (folder / NAMES[7]).write_bytes(b"hello, I am no picture")


def do(items: list[Item], plan: LabelPlan, output: str, kept: bool = False) -> None:
    """Labels in chunks of two and merges the shard."""
    pieces: list[int | str] = [KEPT] if kept else []
    todo = [item for item in items if not kept or item.id not in label_shards.kept_ids(output, 0)]
    for index, start in enumerate(range(0, len(todo), 2)):
        chunk = Chunk(0, index, tuple(todo[start : start + 2]))
        pictures = label_chunk(read_chunk(chunk, plan), OrderlySegmenter(), plan)  # type: ignore[arg-type]
        write_chunk(chunk, pictures, plan, PORTRAIT_CLASSES, output)
        pieces.append(index)
    merge_shard(0, items, pieces, output)
    storage.remove(storage.join(output, ".work"))


def files(output: Path) -> dict[str, bytes]:
    return {str(path.relative_to(output)): path.read_bytes() for path in sorted(output.rglob("*.parquet"))}


@pytest.mark.parametrize("reject", [0.0, REJECT])
def test_a_retried_shard_is_as_if_nothing_had_ever_failed(tmp_path: Path, reject: float) -> None:
    items = write_inputs(tmp_path / "in")
    plan = make_plan(items, input=str(tmp_path / "in"), reject_confidence=reject)
    do(items, plan, str(tmp_path / "never"))
    spoil(tmp_path / "in")
    do(items, plan, str(tmp_path / "failed"))
    assert reopen(str(tmp_path / "failed"), 0, ["missing"], PORTRAIT_CLASSES) == 0
    write_inputs(tmp_path / "in")
    assert reopen(str(tmp_path / "failed"), 0, [], PORTRAIT_CLASSES) == 2
    assert label_shards.finished_shards(str(tmp_path / "failed")) == {}
    assert label_shards.staged_pieces(str(tmp_path / "failed")) == {0: {KEPT}}
    do(items, plan, str(tmp_path / "failed"), kept=True)
    assert files(tmp_path / "failed") == files(tmp_path / "never")


def test_one_code_can_be_retried_alone(tmp_path: Path) -> None:
    items = write_inputs(tmp_path / "in")
    spoil(tmp_path / "in")
    plan, output = make_plan(items, input=str(tmp_path / "in")), str(tmp_path / "out")
    do(items, plan, output)
    before = files(tmp_path / "out")
    assert reopen(output, 0, ["empty"], PORTRAIT_CLASSES) == 1
    assert label_shards.kept_ids(output, 0) == set(NAMES) - {NAMES[2]}
    do(items, plan, output, kept=True)
    assert files(tmp_path / "out") == before, "it is still bad"


def test_a_waiting_chunk_with_refused_rows_is_forgotten(tmp_path: Path) -> None:
    items, output = write_inputs(tmp_path / "in"), str(tmp_path / "out")
    spoil(tmp_path / "in")
    plan = make_plan(items, input=str(tmp_path / "in"))
    for index in range(2):
        chunk = Chunk(0, index, tuple(items[2 * index : 2 * index + 2]))
        pictures = label_chunk(read_chunk(chunk, plan), OrderlySegmenter(), plan)  # type: ignore[arg-type]
        write_chunk(chunk, pictures, plan, PORTRAIT_CLASSES, output)
    assert label_shards.forget_refused(output, 0, 0, []) == 0
    assert label_shards.forget_refused(output, 0, 1, ["missing"]) == 0
    assert label_shards.forget_refused(output, 0, 1, ["empty", "missing"]) == 1
    assert label_shards.staged_pieces(output) == {0: {0}}


def test_verdicts_follow_the_thresholds_and_rejected_pictures_are_no_pairs(tmp_path: Path) -> None:
    items, output = write_inputs(tmp_path / "in"), str(tmp_path / "out")
    plan = make_plan(items, input=str(tmp_path / "in"), min_confidence=MIN, reject_confidence=REJECT)
    do(items, plan, output)
    rows = pq.read_table(part_uri(output, "outcomes", 0)).to_pylist()
    assert {row["verdict"] for row in rows} == {"accept", "review", "reject"}
    for row in rows:
        low, lower = row["confidence"] < MIN, row["confidence"] < REJECT
        assert row["verdict"] == ("reject" if lower else "review" if low else "accept")
        assert row["note"] == {"accept": "", "review": "review", "reject": "rejected"}[row["verdict"]]
        assert row["entropy"] == 0.25 and row["specks"] >= 0
    pairs = {row["id"] for row in pq.read_table(part_uri(output, "pairs", 0)).to_pylist()}
    rejected = {row["id"] for row in pq.read_table(part_uri(output, "rejected", 0)).to_pylist()}
    assert pairs == {row["id"] for row in rows if row["verdict"] != "reject"}
    assert rejected == {row["id"] for row in rows if row["verdict"] == "reject"}
    finished = label_shards.finished_shards(output)
    assert (finished[0]["pairs"], finished[0]["rejected"]) == (len(pairs), len(rejected))
    assert finished[0]["labels"]["label_maps"] == len(pairs)
    statistics = collect(output, finished)
    stats = statistics.to_plain(PORTRAIT_CLASSES)
    assert stats["accept"] + stats["review"] + stats["reject"] == stats["labelled"] == len(NAMES)
    assert sum(stats["specks"]["histogram"]) == sum(stats["entropy"]["histogram"]) == len(NAMES)
    page = Path(write_report(output, plan, PORTRAIT_CLASSES, statistics, finished)).read_text()
    assert " reject</b>" in page and " review</b>" in page


def test_the_counts_of_a_shard_are_those_of_its_label_maps(tmp_path: Path) -> None:
    from gaugan.label_counts import scan

    items, output = write_inputs(tmp_path / "in"), str(tmp_path / "out")
    do(items, make_plan(items, input=str(tmp_path / "in"), image_size=(40, 40), remove_specks=True), output)
    rows = pq.read_table(part_uri(output, "pairs", 0)).to_pylist()
    counts, problems = scan([(row["id"], row["label_map"]) for row in rows], PORTRAIT_CLASSES)
    assert not problems and label_shards.finished_shards(output)[0]["labels"] == counts.to_plain()
    for row in rows:
        assert sum(json.loads(row["provenance"])["areas"]) == pytest.approx(1, abs=1e-3)


def test_statistics_fetch_no_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At a million pictures the report would otherwise read the whole dataset again."""
    path, fetched = str(tmp_path / "part.parquet"), []
    pq.write_table(pa.table({"id": ["a"], "image": [bytes(range(256)) * 8000]}), path, compression="none")

    class Counting(io.FileIO):
        def read(self, size: int = -1) -> bytes:
            data = super().read(size)
            fetched.append(len(data))
            return data

    monkeypatch.setattr(storage, "filesystem", lambda uri: (SimpleNamespace(open_input_file=Counting), uri))
    assert read_rows(path, columns=["id"]) == [{"id": "a"}]
    assert 0 < sum(fetched) < 200_000
