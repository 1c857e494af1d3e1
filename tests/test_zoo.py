"""Every animal of the zoo gives the expected pixels or the expected code; damaged ones give one outcome each."""

from __future__ import annotations

import json
import tracemalloc
from collections import Counter
from pathlib import Path

import numpy as np
import psutil
import pytest
from tiny_models import make_plan
from zoo import ANIMALS, Animal, flipped

from gaugan.images import decode_image
from gaugan.label_plan import Chunk
from gaugan.listing import Item
from gaugan.reading import Picture, read_chunk, read_picture

MAX_PIXELS = 10**8
FUZZED_PER_ANIMAL = 8


def item_of(folder: Path, name: str) -> Item:
    (folder / name).write_bytes(ANIMALS[name].data)
    return Item(name, len(ANIMALS[name].data), "train")


def check(picture: Picture, animal: Animal) -> None:
    assert (picture.code, picture.note) == (animal.code, animal.note), picture.message
    if animal.pixels is None:
        assert picture.message and picture.pixels is None and not picture.image
        return
    stored = decode_image(picture.image)
    assert stored.shape == animal.pixels.shape == (picture.height, picture.width, 3)
    found = picture.pixels if picture.pixels is not None and picture.pixels.shape == stored.shape else stored
    difference = np.abs(found.astype(int) - animal.pixels)
    assert np.quantile(difference, 0.99 if animal.off_by > 1 else 1.0) <= animal.off_by, difference.max()


@pytest.mark.parametrize("name", ANIMALS)
def test_every_animal_has_the_expected_pixels_or_code(tmp_path: Path, name: str) -> None:
    plan = make_plan([], input=str(tmp_path), max_pixels=MAX_PIXELS)
    check(read_picture(item_of(tmp_path, name), plan), ANIMALS[name])


def test_no_animal_costs_memory_or_names_an_address(tmp_path: Path) -> None:
    plan = make_plan([], input=str(tmp_path), max_pixels=MAX_PIXELS)
    items = [item_of(tmp_path, name) for name in ANIMALS]
    before = psutil.Process().memory_info().rss
    tracemalloc.start()
    pictures = read_chunk(Chunk(0, 0, tuple(items)), plan)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100 * 2**20 and psutil.Process().memory_info().rss - before < 150 * 2**20
    assert [picture.item.id for picture in pictures] == list(ANIMALS)
    assert not [picture.message for picture in pictures if " at 0x" in picture.message]


def test_damaged_animals_get_one_outcome_each_and_never_an_error(tmp_path: Path) -> None:
    plan = make_plan([], input=str(tmp_path), max_pixels=10**6)
    names = [name for name, animal in ANIMALS.items() if animal.pixels is not None and len(animal.data) < 20_000]
    items = []
    for number, name in enumerate(names * FUZZED_PER_ANIMAL):
        data = ANIMALS[name].data
        spoiled = flipped(data, number, 1 + number % 30) if number % 4 else data[: number * 37 % len(data)]
        (tmp_path / f"{number}.bin").write_bytes(spoiled)
        items.append(Item(f"{number}.bin", len(spoiled), "train"))
    pictures = read_chunk(Chunk(0, 0, tuple(items)), plan)
    codes = Counter(picture.code for picture in pictures)
    assert len(pictures) == len(items) == codes.total() and len(codes) >= 4
    assert set(codes) <= {"", "truncated", "corrupt", "empty", "not_an_image", "too_large", "too_small"}, codes
    assert codes["unexpected"] == 0 and json.dumps(codes)
