"""The listing of a labelling run: unique ids, one order, one split, small columns; and what posts say of its inputs."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from gaugan.errors import UserError
from gaugan.listing import Item, Listing, Shards, listing_sha256, make_listing
from gaugan.near_duplicates import count_near_duplicates, picture_hash
from gaugan.pairs import split_by_source
from gaugan.portraits import draw_portrait
from gaugan.posts import add_metadata
from gaugan.sources import Found

FOUND = [Found(f"{number % 1000:04d}/{number}.jpg", number) for number in range(4000, 4100)]


def test_a_listing_does_not_depend_on_the_order_in_which_files_were_found() -> None:
    one, other = (make_listing(found, None, 0.2, 7, False) for found in (FOUND, FOUND[::-1]))
    assert list(one) == list(other) and [item.id for item in one] == sorted(found.id for found in FOUND)
    assert {item.id: item.split for item in one} == split_by_source((found.id for found in FOUND), 0.2, 7)
    assert listing_sha256(one) == listing_sha256(list(other))
    assert [item.id for item in make_listing(FOUND[::-1], 3, 0.0, 0, True)] == [found.id for found in FOUND[:-4:-1]]


def test_of_a_few_inputs_two_are_held_out_and_never_all() -> None:
    counts = {}
    for number in (1, 2, 3, 4, 7, 14, 25, 40):
        listing = make_listing(FOUND[:number], None, 0.1, 0, False)
        counts[number] = [item.split for item in listing].count("held_out")
    assert counts == {1: 0, 2: 1, 3: 1, 4: 2, 7: 2, 14: 2, 25: 2, 40: 4}
    few = make_listing(FOUND[:4], None, 0.99, 0, False)
    assert [item.split for item in few].count("held_out") == 3
    assert {item.split for item in make_listing(FOUND[:9], None, 0.0, 0, False)} == {"train"}


def test_a_name_that_comes_twice_is_two_inputs() -> None:
    found = [Found(name, 1) for name in ("a", "b", "a", "a#2", "a")]
    assert [item.id for item in make_listing(found, None, 0.0, 0, True)] == ["a", "b", "a#3", "a#2", "a#4"]


def test_a_listing_comes_back_from_its_file_and_old_files_are_read() -> None:
    listing = make_listing([Found("a\n ü.png", 3, '["file", "x"]', "code: why")], None, 0.5, 0, False)
    again = Listing.decode(listing.encode())
    assert list(again) == list(listing) and again[0].refusal == "code: why" and len(listing[:0]) == 0
    old = Listing(listing.table.select(["id", "size", "split"])).encode()
    assert list(Listing.decode(old)) == [Item("a\n ü.png", 3, "train")]


def test_shards_hold_every_input_once_by_hash_or_in_order() -> None:
    listing = make_listing(FOUND, None, 0.0, 0, False)
    for in_order in (False, True):
        shards = Shards(listing, 13, 8, in_order)
        assert sorted(item.id for shard in shards for item in shards[shard]) == [item.id for item in listing]
        assert all(len(shards[shard]) == shards.size(shard) for shard in shards)
        assert all(shards[shard] == sorted(shards[shard], key=lambda item: item.id) for shard in shards)
    assert shards[1] == list(listing[8:16])
    assert Shards(list(listing)[::-1], 13, 8, False)[5] == Shards(listing, 13, 8, False)[5]


def posts(tmp_path: Path) -> str:
    lines = [
        {"id": "4001", "rating": "s", "tags": [{"id": "1", "name": "1girl", "category": "0"}, {"name": "hat"}]},
        {"id": 4002, "rating": "explicit", "tag_string": "1boy solo"},
        {"id": 4003, "rating": "g", "tags": ["a", "b"]},
        {"id": 99, "rating": "g"},
    ]
    (tmp_path / "posts").mkdir()
    (tmp_path / "posts" / "0.json").write_text("\n".join(json.dumps(line) for line in lines[:2]))
    (tmp_path / "posts" / "1.jsonl.gz").write_bytes(gzip.compress("\n".join(map(json.dumps, lines[2:])).encode()))
    (tmp_path / "posts" / "README.md").write_text("not posts")
    return str(tmp_path / "posts")


def test_posts_give_pictures_their_tags_and_ratings_filter_them(tmp_path: Path) -> None:
    listing = make_listing([*FOUND[:5], Found("extra/4001.png", 1), Found("cover.png", 1)], None, 0.0, 0, False)
    tagged = {item.id: item for item in add_metadata(listing, posts(tmp_path), ())}
    assert json.loads(tagged["0001/4001.jpg"].tags) == {"rating": "s", "tags": "1girl hat"}
    assert tagged["extra/4001.png"].tags == tagged["0001/4001.jpg"].tags and not tagged["cover.png"].tags
    assert not any(item.refusal for item in tagged.values())
    kept = {item.id: item for item in add_metadata(listing, str(tmp_path / "posts"), ("g", "s"))}
    assert sorted(name for name, item in kept.items() if not item.refusal) == [
        "0001/4001.jpg", "0003/4003.jpg", "extra/4001.png"
    ]  # fmt: skip
    assert kept["0002/4002.jpg"].refusal == "filtered_rating: its rating is e; --ratings g s"
    assert "no metadata" in kept["cover.png"].refusal


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"id": 4001}\n{"id"', "0.json line 2: not JSON"),
        ('[{"id": 4001}]', "line 1: expected a post"),
        ('{"id": "x"}', "line 1: a post without a number"),
        ('{"id": 1}', "none of its posts is among the inputs"),
    ],
)
def test_metadata_that_is_none_is_refused_with_file_and_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "0.json").write_text(text)
    with pytest.raises(UserError, match=message):
        add_metadata(make_listing(FOUND, None, 0.0, 0, False), str(tmp_path / "0.json"), ())


def test_copies_of_other_sizes_and_qualities_count_as_near_duplicates_and_others_do_not() -> None:
    from gaugan.images import decode_image, encode_jpeg, resize_image

    pictures = [draw_portrait(seed, 128)[0] for seed in range(40)]
    copies = [decode_image(encode_jpeg(resize_image(picture, (90, 90)), 70)) for picture in pictures[:15]]
    hashes = np.array([int(picture_hash(picture), 16) for picture in pictures + copies], dtype=np.uint64)
    assert count_near_duplicates(hashes[:40]) <= 2
    assert 13 <= count_near_duplicates(hashes) - count_near_duplicates(hashes[:40]) <= 15
    assert count_near_duplicates(hashes[:1]) == count_near_duplicates(hashes[:0]) == 0


def test_the_count_of_near_duplicates_is_that_of_all_comparisons() -> None:
    rng = np.random.default_rng(0)
    hashes = rng.integers(0, 2**64, 300, dtype=np.uint64)
    for place in range(200, 300):
        flips = rng.choice(64, rng.integers(0, 6), replace=False)
        hashes[place] = hashes[place - 200] ^ np.bitwise_or.reduce(np.uint64(1) << flips.astype(np.uint64), initial=0)
    near = np.bitwise_count(hashes[:, None] ^ hashes[None]) <= 3
    assert count_near_duplicates(hashes) == np.tril(near, -1).any(axis=1).sum() > 20
