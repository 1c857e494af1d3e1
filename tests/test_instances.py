"""Instance maps: their files, and their way through dataset and batches beside the label map."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from dataset_toys import png
from PIL import Image

from gaugan import labels
from gaugan.augment import PRESETS
from gaugan.batches import BatchSpec, batches, mixed, whole_split
from gaugan.errors import UserError
from gaugan.images import encode_png
from gaugan.instances import decode_instance_map, encode_instance_map
from gaugan.labels import PORTRAIT_CLASSES, LabelMapError
from gaugan.pairs import SCHEMA, Pair, Pairs, PairsWriter


@pytest.mark.parametrize("highest", [5, 255, 256, 65535])
def test_numbers_of_up_to_16_bits_survive_the_file(highest: int) -> None:
    rng = np.random.default_rng(highest)
    found = rng.integers(0, highest + 1, (7, 9)).astype(np.uint16)
    found[0, 0] = highest
    assert np.array_equal(decode_instance_map(encode_instance_map(found)), found)


def test_a_map_in_colours_or_of_another_format_is_refused_by_name() -> None:
    with pytest.raises(LabelMapError, match="an instance map of RGB; save one number per pixel"):
        decode_instance_map(png(np.zeros((4, 4, 3), np.uint8)))
    buffer = io.BytesIO()
    Image.new("L", (4, 4)).save(buffer, "JPEG")
    with pytest.raises(LabelMapError, match="the instance map is not a PNG"):
        decode_instance_map(buffer.getvalue())
    with pytest.raises(LabelMapError, match="damaged|truncated|broken"):
        decode_instance_map(png(np.random.default_rng(0).integers(0, 255, (64, 64)).astype(np.uint8))[:-400])


def make_dataset(uri: str, count: int = 6, instances: bool = True) -> Pairs:
    """Label map = instance number // 300, so that every pixel tells whether both went the same way."""
    writer = PairsWriter(uri, PORTRAIT_CLASSES, instance_maps=instances)
    for number in range(count):
        rng = np.random.default_rng(number)
        objects = rng.integers(0, 2100, (20, 30)).astype(np.uint16)
        image = encode_png(rng.integers(0, 256, (20, 30, 3), dtype=np.uint8))
        label_map = labels.encode_label_map((objects // 300).astype(np.uint8), PORTRAIT_CLASSES)
        encoded = encode_instance_map(objects) if instances else None
        split = "train" if number else "held_out"
        writer.add(Pair(f"{number}.png", image, label_map, 30, 20, split, str(number), instance_map=encoded))
    writer.finish()
    return Pairs.open(uri)


@pytest.mark.parametrize("augment", ["none", "flip", "strong"])
@pytest.mark.parametrize("mode", ["fit", "resize_and_crop", "crop"])
def test_instances_are_cut_and_changed_exactly_like_the_labels(tmp_path: Path, mode: str, augment: str) -> None:
    pairs = make_dataset(str(tmp_path / "data"))
    spec = BatchSpec("train", (16, 16), 4, 3, PRESETS[augment], mode=mode)  # type: ignore[arg-type]
    batch = next(batches(pairs, spec))
    found = batch["instance_map"]
    assert found.dtype == torch.int64 and found.shape == (4, 16, 16)
    assert torch.equal(found // 300, batch["label_map"])
    still = next(whole_split(pairs, BatchSpec("held_out", (16, 16), 4, mode=mode)))  # type: ignore[arg-type]
    assert torch.equal(still["instance_map"] // 300, still["label_map"])


def test_random_cuts_repeat_for_a_step_and_differ_between_steps(tmp_path: Path) -> None:
    pairs = make_dataset(str(tmp_path / "data"), count=2)  # one training picture: only the cut can differ
    spec = BatchSpec("train", (8, 8), 1, mode="crop")
    straight = [batch for _, batch in zip(range(4), batches(pairs, spec), strict=False)]
    resumed = next(batches(pairs, spec, start_step=2))
    assert torch.equal(resumed["image"], straight[2]["image"])
    assert not torch.equal(straight[0]["image"], straight[1]["image"])


def test_a_dataset_without_instances_has_neither_column_nor_batch_key(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    pairs = make_dataset(str(tmp_path / "data"), instances=False)
    assert pq.read_schema(tmp_path / "data" / "pairs" / "part-00000.parquet").names == SCHEMA.names
    assert not pairs.has_instances and "instance_map" not in next(batches(pairs, BatchSpec("train", (16, 16), 2)))


def test_a_dataset_of_before_instances_is_read_as_before(tmp_path: Path) -> None:
    import json

    make_dataset(str(tmp_path / "data"), instances=False)
    path = tmp_path / "data" / "manifest.json"
    old = json.loads(path.read_text())
    for name in ("instance_maps", "label_audit"):
        del old[name]
    path.write_text(json.dumps(old))
    assert Pairs.open(str(tmp_path / "data")).read("train", 0).instance_map is None


def test_half_a_dataset_with_instances_and_mixtures_with_and_without_are_refused(tmp_path: Path) -> None:
    with_them, without = make_dataset(str(tmp_path / "a")), make_dataset(str(tmp_path / "b"), instances=False)
    spec = BatchSpec("train", (16, 16), 2)
    with pytest.raises(UserError, match="has instance maps, the other"):
        next(mixed([(with_them, spec), (without, spec)]))
    writer = PairsWriter(str(tmp_path / "c"), PORTRAIT_CLASSES, instance_maps=True)
    row = without.encoded("train", 0)
    with pytest.raises(ValueError, match="have an instance map, or none"):
        writer.add(Pair("x.png", row["image"], row["label_map"], 30, 20))
