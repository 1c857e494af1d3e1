"""gaugan.batches: a pure function of (dataset, seed, step), for any number of ranks."""

import itertools
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from toys import SIZE, write_pairs

from gaugan.augment import PRESETS
from gaugan.batches import Batch, BatchSpec, Order, batches, mixed, prefetch, whole_split
from gaugan.errors import UserError
from gaugan.pairs import Pairs

SPEC = BatchSpec("train", SIZE, 4, seed=3, augmentation=PRESETS["mild"])
PLAIN = BatchSpec("train", SIZE, 4, seed=3)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Pairs:
    return Pairs.open(write_pairs(str(tmp_path_factory.mktemp("data"))))


def take(source: Iterator[Batch], count: int) -> list[Batch]:
    return list(itertools.islice(source, count))


def same(first: Batch, second: Batch) -> bool:
    return all(torch.equal(first[name], second[name]) for name in first)


def numbers(batch: Batch) -> list[int]:
    """Which pairs a batch holds (their confidence tells)."""
    return [round(float(value) * 100) for value in batch["confidence"]]


def test_a_batch_has_the_shapes_types_and_ranges_it_promises(pairs: Pairs) -> None:
    (batch,) = take(batches(pairs, SPEC), 1)
    assert batch["image"].shape == (4, 3, *SIZE) and batch["image"].dtype == torch.float32
    assert batch["label_map"].shape == (4, *SIZE) and batch["label_map"].dtype == torch.int64
    assert batch["image"].abs().max() <= 1 and batch["confidence"].shape == (4,)


def test_starting_at_any_step_gives_the_batches_of_a_straight_run(pairs: Pairs) -> None:
    straight = take(batches(pairs, SPEC), 12)
    for start in (1, 3, 7, 11):
        resumed = take(batches(Pairs.open(pairs.uri), SPEC, start), 12 - start)
        assert all(same(mine, theirs) for mine, theirs in zip(resumed, straight[start:], strict=True))


@pytest.mark.parametrize("world", [2, 4])
def test_all_ranks_together_see_what_one_rank_sees(pairs: Pairs, world: int) -> None:
    alone = take(batches(pairs, SPEC), 9)
    ranks = [take(batches(pairs, SPEC, 0, rank, world), 9) for rank in range(world)]
    for step, batch in enumerate(alone):
        for rank in range(world):
            assert torch.equal(ranks[rank][step]["image"], batch["image"][rank::world])
            assert torch.equal(ranks[rank][step]["label_map"], batch["label_map"][rank::world])


def test_every_row_is_seen_once_per_epoch_in_a_new_order(pairs: Pairs) -> None:
    seen = [number for batch in take(batches(pairs, PLAIN), 13) for number in numbers(batch)]  # 4 epochs of 13
    epochs = [seen[start : start + 13] for start in range(0, 52, 13)]
    assert all(sorted(epoch) == list(range(13)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4


def test_rows_of_one_storage_group_stay_near_each_other() -> None:
    groups = [list(range(start, start + 10)) for start in range(0, 1000, 10)]
    order = Order(groups, seed=0)
    rows = [order.row(place) for place in range(1000)]
    assert sorted(rows) == list(range(1000)) and rows != sorted(rows)
    assert max(len({row // 10 for row in rows[start : start + 160]}) for start in range(0, 1000, 160)) <= 16


def test_another_seed_gives_other_batches_and_caching_changes_nothing(pairs: Pairs) -> None:
    first = take(batches(pairs, SPEC), 8)
    other = take(batches(pairs, BatchSpec("train", SIZE, 4, 4, SPEC.augmentation)), 8)
    uncached = take(batches(pairs, BatchSpec("train", SIZE, 4, 3, SPEC.augmentation, cache_mb=0)), 8)
    assert not any(same(*both) for both in zip(first, other, strict=True))
    assert all(same(*both) for both in zip(first, uncached, strict=True))


def test_a_whole_split_is_read_once_in_order(pairs: Pairs) -> None:
    found = list(whole_split(pairs, PLAIN))
    assert sum((numbers(batch) for batch in found), []) == list(range(13)) and len(found[-1]["image"]) == 1
    assert sum((numbers(batch) for batch in whole_split(pairs, PLAIN, limit=6)), []) == list(range(6))


def test_an_empty_split_or_an_uneven_batch_is_refused(pairs: Pairs, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="multiple of --num-workers 3"):
        next(batches(pairs, PLAIN, 0, 0, 3))
    empty = Pairs.open(write_pairs(str(tmp_path / "data"), train=2, held_out=0))
    with pytest.raises(UserError, match="'held_out' is empty"):
        next(batches(empty, BatchSpec("held_out", SIZE, 4)))


def test_prefetch_passes_the_same_batches_on_and_ends_with_them(pairs: Pairs) -> None:
    direct = take(batches(pairs, SPEC), 5)
    fetched = list(prefetch(iter(direct)))
    assert len(fetched) == 5 and all(same(*both) for both in zip(direct, fetched, strict=True))


def test_prefetch_passes_an_error_on_at_its_place() -> None:
    def broken() -> Iterator[Batch]:
        yield {"n": torch.tensor(1)}
        raise UserError("row 2 is damaged")

    fetched = prefetch(broken())
    assert next(fetched)["n"] == 1
    with pytest.raises(UserError, match="row 2"):
        next(fetched)


@pytest.mark.parametrize("fails", [False, True])
def test_closing_prefetch_stops_its_thread_even_when_nobody_takes_the_rest(fails: bool) -> None:
    def endless() -> Iterator[Batch]:
        for number in itertools.count():
            if fails and number == 3:
                raise RuntimeError("late")
            yield {"n": torch.tensor(number)}

    fetched = prefetch(endless())
    next(fetched)
    time.sleep(0.05)
    fetched.close()  # type: ignore[attr-defined]
    assert not [thread for thread in threading.enumerate() if thread.name == "prefetch"]


def test_prefetch_computes_on_one_thread_and_leaves_the_others_theirs() -> None:
    before = torch.get_num_threads()
    taken, seen = threading.Event(), []

    def count_threads() -> Iterator[Batch]:
        yield {"number": torch.tensor(0)}
        taken.wait(10)  # a thread that looks for the first time only now must not find the others' number
        yield {"number": torch.tensor(torch.get_num_threads())}

    try:
        torch.set_num_threads(2)
        fetched = prefetch(count_threads())
        next(fetched)
        taken.set()
        third = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
        third.start()
        third.join()
        assert (int(next(fetched)["number"]), torch.get_num_threads(), seen) == (1, 2, [2])
    finally:
        torch.set_num_threads(before)


def test_a_mixed_batch_is_the_batches_of_its_datasets_side_by_side_from_any_step(pairs: Pairs, tmp_path: Path) -> None:
    other = Pairs.open(write_pairs(str(tmp_path), train=5))
    parts = [(pairs, SPEC), (other, BatchSpec("train", SIZE, 2, seed=3))]
    straight = take(mixed(parts), 6)
    for step, batch in enumerate(straight):
        assert torch.equal(batch["image"][:4], take(batches(pairs, SPEC, step), 1)[0]["image"])
        assert torch.equal(batch["image"][4:], take(batches(*parts[1], step), 1)[0]["image"])
    resumed = take(mixed(parts, 2), 4)
    assert all(same(mine, theirs) for mine, theirs in zip(resumed, straight[2:], strict=True))
