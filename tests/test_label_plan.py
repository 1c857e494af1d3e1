"""The plan of a labelling run: its listing, its units of work, and when a rerun is refused."""

import dataclasses
import json
from pathlib import Path

import pytest
from tiny_models import make_plan

from gaugan.errors import UserError
from gaugan.label_plan import (
    ROWS_PER_SHARD,
    by_shard,
    chunk_from_plain,
    chunk_to_plain,
    chunks,
    list_inputs,
    rows_per_shard,
    settle,
)
from gaugan.listing import Item
from gaugan.sources import Source

ITEMS = [Item(f"{number:03d}.png", 100 + number, "train") for number in range(50)]


def test_every_input_is_in_exactly_one_chunk_whatever_the_order_of_the_listing() -> None:
    plan = make_plan(ITEMS)
    found = {}
    for items in (ITEMS, ITEMS[::-1]):
        shards = by_shard(plan, items)
        found[items is ITEMS] = [chunk for shard in shards for chunk in chunks(plan, shard, shards[shard])]
    assert found[True] == found[False]
    assert sorted(item.id for chunk in found[True] for item in chunk.items) == [item.id for item in ITEMS]
    assert all(len(chunk.items) <= plan.batch_size for chunk in found[True])


def test_a_chunk_survives_the_way_through_a_row() -> None:
    plan = make_plan(ITEMS)
    chunk = next(chunks(plan, 3, ITEMS))
    assert chunk_from_plain(chunk_to_plain(chunk)) == chunk


def test_hidden_files_are_no_inputs_and_folders_can_be_left_out(tmp_path: Path) -> None:
    for name in ("b.png", "a.png", ".DS_Store", ".thumbs/x.png", "deep/c.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    assert [item.id for item in list_inputs(Source(str(tmp_path)))] == ["a.png", "b.png", "deep/c.png"]
    assert [item.id for item in list_inputs(Source(str(tmp_path), recursive=False))] == ["a.png", "b.png"]
    assert [item.id for item in list_inputs(Source(str(tmp_path)), limit=1)] == ["a.png"]


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no files there"):
        list_inputs(Source(str(tmp_path)))


def test_a_rerun_takes_the_first_listing_and_names_what_came_later(tmp_path: Path) -> None:
    plan, items, notes = settle(str(tmp_path), make_plan(ITEMS), ITEMS)
    assert (items, notes) == (ITEMS, [])
    more = [*ITEMS, Item("new.png", 5, "train")]
    again, items, notes = settle(str(tmp_path), make_plan(more), more)
    assert again == plan and list(items) == ITEMS
    assert len(notes) == 1 and "new.png" in notes[0]


def test_a_rerun_keeps_chunk_size_and_threads_of_the_run_it_continues(tmp_path: Path) -> None:
    settle(str(tmp_path), make_plan(ITEMS), ITEMS)
    plan, _, notes = settle(str(tmp_path), make_plan(ITEMS, batch_size=32, inference_batch=8, threads=2), ITEMS)
    assert (plan.batch_size, plan.inference_batch, plan.threads, len(notes)) == (4, 1, 1, 3)


@pytest.mark.parametrize(("version", "message"), [(1, "an older version"), (99, "a newer version")])
def test_a_run_of_another_version_is_refused_with_the_way_out(tmp_path: Path, version: int, message: str) -> None:
    settle(str(tmp_path), make_plan(ITEMS), ITEMS)
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format_version": version}))
    with pytest.raises(UserError, match=f"{message} of this suite.*another --output"):
        settle(str(tmp_path), make_plan(ITEMS), ITEMS)


@pytest.mark.parametrize(
    "change",
    [
        {"model_hash": "b" * 16},
        {"classes_hash": "d" * 16},
        {"image_size": (32, 32)},
        {"held_out": 0.5},
        {"precision": "bf16"},
        {"device": "cuda"},
        {"mirror": True},
        {"remove_specks": True},
        {"reject_confidence": 0.3},
    ],
)
def test_another_model_or_preprocessing_is_refused_with_both_values_and_the_way_out(
    tmp_path: Path, change: dict
) -> None:
    plan, _, _ = settle(str(tmp_path), make_plan(ITEMS), ITEMS)
    (tmp_path / "outcomes").mkdir()
    (tmp_path / "outcomes" / "part-00000.parquet").touch()
    with pytest.raises(UserError) as refusal:
        settle(str(tmp_path), dataclasses.replace(plan, **change), ITEMS)
    (name, value), text = next(iter(change.items())), str(refusal.value)
    assert f"{getattr(plan, name)} there" in text and f"{value} now" in text and "another --output" in text


def test_large_pictures_give_shards_of_fewer_rows() -> None:
    assert rows_per_shard(10_000, 10_000 * 300_000) == ROWS_PER_SHARD
    assert rows_per_shard(10_000, 10_000 * 8 * 2**20) == 16
    assert rows_per_shard(3, 3 * 2**40) == rows_per_shard(1, 0) // ROWS_PER_SHARD == 1


def test_a_run_that_has_finished_nothing_does_not_bind_the_folder(tmp_path: Path) -> None:
    settle(str(tmp_path), make_plan(ITEMS, device="cuda"), ITEMS)
    plan, _, _ = settle(str(tmp_path), make_plan(ITEMS), ITEMS)
    assert plan.device == "cpu" == json.loads((tmp_path / "plan.json").read_text())["device"]


def test_a_model_that_was_moved_is_taken_from_its_new_place(tmp_path: Path) -> None:
    settle(str(tmp_path), make_plan(ITEMS, model=str(tmp_path / "old")), ITEMS)
    plan, _, notes = settle(str(tmp_path), make_plan(ITEMS, model=str(tmp_path / "new")), ITEMS)
    assert plan.model == str(tmp_path / "new") and "it is gone from" in notes[0]
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "meta.json").touch()
    plan, _, notes = settle(str(tmp_path), make_plan(ITEMS, model=str(tmp_path / "new")), ITEMS)
    assert plan.model == str(tmp_path / "old") and not notes


def test_another_dataset_in_the_output_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(UserError, match="another dataset"):
        settle(str(tmp_path), make_plan(ITEMS), ITEMS)
    assert not (tmp_path / "plan.json").exists()
