"""Training batches as a pure function of (dataset, seed, step): any batch can be made again, on any number of ranks.

An epoch's order: the storage groups are shuffled, then the rows within windows of a few groups, so that reading stays
nearly sequential. Batch `step` holds the rows [step * batch_size, (step + 1) * batch_size) of the endless concatenation
of epochs; rank r of w takes every w-th of them. Crop and augmentation are seeded per (seed, step, place).
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from gaugan.augment import Augmentation, augment_maps
from gaugan.errors import UserError
from gaugan.images import to_tensor
from gaugan.pairs import DecodedPair, Pairs
from gaugan.preprocess import Mode, Preprocess
from gaugan.regions import RegionAugmentation, lends_background, lone_background, recolour_regions, set_before

Batch = dict[str, torch.Tensor]
WINDOW_GROUPS = 16
BACKGROUND = "background"
"""The class that lies behind everything, where a class table has one of this name."""


@dataclass(frozen=True)
class BatchSpec:
    """What the batches of a run look like."""

    split: str
    image_size: tuple[int, int]
    batch_size: int
    """Over all ranks."""
    seed: int = 0
    augmentation: Augmentation | None = None
    regions: RegionAugmentation | None = None
    mode: Mode = "fit"
    """How pictures get their size: gaugan.preprocess."""
    load_size: int | None = None
    cache_mb: int = 1024
    """Resized pictures are kept in memory up to this much."""

    @property
    def preprocess(self) -> Preprocess:
        return Preprocess(self.image_size, self.mode, self.load_size)


class Order:
    """The endless order of rows: `row(n)` is the n-th row to be seen. Deterministic, random access by epoch."""

    def __init__(self, groups: list[list[int]], seed: int) -> None:
        self.groups, self.seed = groups, seed
        self.num_rows = sum(len(group) for group in groups)
        self._epoch, self._rows = -1, np.zeros(0, dtype=np.int64)

    def row(self, position: int) -> int:
        epoch, place = divmod(position, self.num_rows)
        if epoch != self._epoch:
            self._epoch, self._rows = epoch, self._shuffled(epoch)
        return int(self._rows[place])

    def _shuffled(self, epoch: int) -> np.ndarray:
        rng = np.random.default_rng([self.seed, epoch])
        order = rng.permutation(len(self.groups))
        windows = [order[start : start + WINDOW_GROUPS] for start in range(0, len(order), WINDOW_GROUPS)]
        rows = [np.concatenate([self.groups[group] for group in window]) for window in windows]
        return np.concatenate([rng.permutation(part) for part in rows])


class _Reader:
    """Rows scaled for the batch, not yet cut; cached while the budget lasts."""

    def __init__(self, pairs: Pairs, split: str, preprocess: Preprocess, cache_mb: int) -> None:
        self.pairs, self.split, self.preprocess = pairs, split, preprocess
        self._room = cache_mb * 2**20
        self._cache: dict[int, DecodedPair] = {}

    def read(self, index: int) -> DecodedPair:
        if index in self._cache:
            return self._cache[index]
        pair = self.pairs.read(self.split, index)
        pair = pair.changed(*self.preprocess.scale(pair.image, pair.maps))
        num_bytes = sum(each.nbytes for each in (pair.image, *pair.maps))
        if num_bytes <= self._room:
            self._room -= num_bytes
            self._cache[index] = pair
        return pair

    def cut(self, index: int, rng: np.random.Generator | None) -> DecodedPair:
        pair = self.read(index)
        try:
            return pair.changed(*self.preprocess.cut(pair.image, pair.maps, rng))
        except UserError as error:
            raise UserError(f"{self.pairs.uri}: pair {pair.id!r}: {error}") from error


def batches(pairs: Pairs, spec: BatchSpec, start_step: int = 0, rank: int = 0, world: int = 1) -> Iterator[Batch]:
    """Endless batches from `start_step` on, for one rank.

    A batch: "image" float32 (n, 3, H, W) in [-1, 1], "label_map" int64 (n, H, W), "confidence" float32 (n,) (1 for
    labels made by people); "instance_map" int64 (n, H, W) when the dataset has them; n = batch_size / world.
    """
    if pairs.num(spec.split) == 0:
        raise UserError(f"{pairs.uri}: split {spec.split!r} is empty; import with another --held-out share")
    if spec.batch_size % world:
        raise UserError(f"--batch-size {spec.batch_size} must be a multiple of --num-workers {world}")
    reader = _Reader(pairs, spec.split, spec.preprocess, spec.cache_mb)
    order = Order(pairs.groups(spec.split), spec.seed)
    step = start_step
    while True:
        places = range(rank, spec.batch_size, world)
        yield _collate([_augmented(reader, order, spec, step, place) for place in places])
        step += 1


def mixed(parts: list[tuple[Pairs, BatchSpec]], start_step: int = 0, rank: int = 0, world: int = 1) -> Iterator[Batch]:
    """Endless batches, each with a fixed number of pictures of every dataset, in the order of `parts`."""
    with_instances = [pairs.uri for pairs, _ in parts if pairs.has_instances]
    if 0 < len(with_instances) < len(parts):
        raise UserError(f"{', '.join(with_instances)}: has instance maps, the other datasets have none; mix equals")
    streams = [batches(pairs, spec, start_step, rank, world) for pairs, spec in parts]
    for several in zip(*streams, strict=True):
        yield {name: torch.cat([batch[name] for batch in several]) for name in several[0]}


def _augmented(reader: _Reader, order: Order, spec: BatchSpec, step: int, place: int) -> DecodedPair:
    pair = reader.cut(order.row(step * spec.batch_size + place), np.random.default_rng([spec.seed, step, place, 11]))
    image, maps = pair.image, pair.maps
    if spec.regions is not None:
        image = _with_new_regions(reader, pair, spec.regions, np.random.default_rng([spec.seed, step, place, 8]))
    if spec.augmentation is not None:
        rng = np.random.default_rng([spec.seed, step, place, 7])
        image, maps = augment_maps(image, maps, spec.augmentation, rng)
    return pair.changed(image, maps)


def _with_new_regions(
    reader: _Reader, pair: DecodedPair, regions: RegionAugmentation, rng: np.random.Generator
) -> np.ndarray:
    """The picture before the background of another row of the split, and with other colours in some classes."""
    image, classes = pair.image, reader.pairs.classes
    background = classes.ids.get(BACKGROUND)
    other = rng.integers(reader.pairs.num(reader.split))
    if rng.random() < regions.background and background is not None:
        lender = reader.cut(int(other), rng=None)
        if lends_background(lender.label_map, background):
            behind = lone_background(lender.image, lender.label_map, background)
            image = set_before(image, pair.label_map, behind, background, rng)
    return recolour_regions(image, pair.label_map, classes.any_colour_ids, regions.recolour, rng)


def _collate(rows: list[DecodedPair]) -> Batch:
    numbers = [row.instance_map for row in rows if row.instance_map is not None]
    instances = {"instance_map": torch.from_numpy(np.stack(numbers).astype(np.int64))} if numbers else {}
    return {
        "image": to_tensor(np.stack([row.image for row in rows])),
        "label_map": torch.from_numpy(np.stack([row.label_map for row in rows]).astype(np.int64)),
        "confidence": torch.tensor([1.0 if row.confidence is None else row.confidence for row in rows]),
        **instances,
    }


def whole_split(pairs: Pairs, spec: BatchSpec, limit: int | None = None) -> Iterator[Batch]:
    """Every row of a split once (the first `limit`), in reading order, cut and resized without chance, not augmented.

    The last batch may be smaller.
    """
    reader = _Reader(pairs, spec.split, spec.preprocess.for_measuring(), cache_mb=0)
    count = min(pairs.num(spec.split), limit or pairs.num(spec.split))
    for start in range(0, count, spec.batch_size):
        places = range(start, min(start + spec.batch_size, count))
        yield _collate([reader.cut(index, rng=None) for index in places])


def prefetch(source: Iterator[Batch], depth: int = 2) -> Iterator[Batch]:
    """The same batches, made by a background thread while the step runs. Errors come out at their place.

    Closing the iterator (or dropping it) stops the thread. It computes by itself: with a second team of OpenMP threads
    there would be more of them than cores, and the step's would sleep at each barrier instead of spinning.
    """
    ready: queue.Queue[Batch | BaseException] = queue.Queue(maxsize=depth)
    closed, begun = threading.Event(), threading.Event()
    threads = torch.get_num_threads()

    def put(item: Batch | BaseException) -> None:
        while not closed.is_set():
            try:
                return ready.put(item, timeout=0.1)
            except queue.Full:
                continue

    def fill() -> None:
        torch.set_num_threads(1)
        torch.get_num_threads()  # settles it: a thread's first look would take what the others are given below
        begun.set()
        try:
            for batch in source:
                put(batch)
                if closed.is_set():
                    return
            put(StopIteration())
        except BaseException as error:
            put(error)

    thread = threading.Thread(target=fill, daemon=True, name="prefetch")
    thread.start()
    begun.wait()
    torch.set_num_threads(threads)  # what the other set is the default of threads to come as well
    try:
        while not isinstance(item := ready.get(), BaseException):
            yield item
        if not isinstance(item, StopIteration):
            raise item
    finally:
        closed.set()
        thread.join(timeout=10)


def to_device(batch: Batch, device: torch.device) -> Batch:
    """The batch on the device (asynchronously on GPUs)."""
    return {name: value.to(device, non_blocking=True) for name, value in batch.items()}
