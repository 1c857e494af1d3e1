"""gaugan.labels: ids survive every file form, and what is unclear is refused by name."""

import io
import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from gaugan import labels
from gaugan.errors import UserError
from gaugan.labels import IGNORE, PORTRAIT_CLASSES, ClassTable, LabelMapError, decode_label_map, encode_label_map

TABLE = PORTRAIT_CLASSES


def table_of(count: int) -> ClassTable:
    return ClassTable(tuple(f"class {n}" for n in range(count)), tuple(labels.distinct_colours(count)), "made")


def png(image: Image.Image, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", **options)
    return buffer.getvalue()


def portrait_map() -> np.ndarray:
    """uint8 (80, 80): every class and the ignored id, in blocks of 10 x 10."""
    ids = np.kron(np.arange(64).reshape(8, 8) % 8, np.ones((10, 10))).astype(np.uint8)
    ids[ids == 7] = IGNORE
    return ids


@pytest.mark.parametrize("count", [*range(1, 20), 31, 64, 127, 128, 182, 254, 255])
def test_ids_and_the_ignored_id_survive_the_png_for_every_number_of_classes(count: int) -> None:
    # Pillow packs a palette of up to 16 colours to 4 bits and turns 255 into 15.
    ids = np.random.default_rng(count).integers(0, count, (13, 17)).astype(np.uint8)
    ids[0, :3] = IGNORE
    data = encode_label_map(ids, table_of(count))
    assert np.array_equal(decode_label_map(data, table_of(count)), ids)
    with Image.open(io.BytesIO(data)) as picture:
        assert picture.mode == "P" and "transparency" not in picture.info
        assert np.array_equal(np.array(picture), ids)
    assert encode_label_map(ids, table_of(count)) == data


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 255), st.integers(1, 9), st.integers(1, 9), st.randoms(use_true_random=False))
def test_any_label_map_survives_the_png_and_its_colours(count: int, height: int, width: int, random) -> None:  # noqa: ANN001
    table = table_of(count)
    known = [*range(count), IGNORE]
    ids = np.array([[random.choice(known) for _ in range(width)] for _ in range(height)], dtype=np.uint8)
    assert np.array_equal(decode_label_map(encode_label_map(ids, table), table), ids)
    assert np.array_equal(decode_label_map(png(Image.fromarray(labels.colourise(ids, table))), table), ids)


@pytest.mark.parametrize(("bits", "count"), [(1, 2), (2, 4), (4, 16), (8, 256)])
def test_grey_and_palette_files_of_few_bits_are_read_by_index(bits: int, count: int) -> None:
    # Pillow stretches 2-bit and 4-bit grey to 0..255: id 1 would become 85 or 17.
    table = table_of(min(count, 255))
    ids = (np.arange(96).reshape(8, 12) % min(count, 200)).astype(np.uint8)
    palette = Image.fromarray(ids)
    palette = Image.frombytes("P", palette.size, ids.tobytes())
    palette.putpalette(list(range(256)) * 3)
    assert np.array_equal(decode_label_map(png(palette, bits=bits), table), ids)
    assert np.array_equal(decode_label_map(_grey_png(ids, bits), table), ids)


def _grey_png(ids: np.ndarray, bits: int, size: tuple[int, int] | None = None) -> bytes:
    """A grey PNG of 1, 2, 4 or 8 bits, written by hand (Pillow can't); `size` = what its header claims."""
    import struct
    import zlib

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    digits = np.unpackbits(ids[..., None], axis=-1)[..., 8 - bits :].reshape(ids.shape[0], -1)
    lines = b"".join(b"\0" + row.tobytes() for row in np.packbits(digits, axis=-1))
    height, width = size or ids.shape
    header = struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)
    ended = chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + ended


def test_a_colour_picture_is_read_by_exact_and_nearly_exact_colours() -> None:
    ids = portrait_map()
    rgb = labels.colourise(ids, TABLE).astype(np.int16)
    noise = np.random.default_rng(0).integers(-labels.NEAR_COLOUR, labels.NEAR_COLOUR + 1, rgb.shape)
    farbled = np.clip(rgb + noise, 0, 255).astype(np.uint8)
    assert np.array_equal(decode_label_map(png(Image.fromarray(farbled)), TABLE), ids)


def test_a_few_antialiased_pixels_take_the_class_of_most_neighbours() -> None:
    ids = np.zeros((40, 40), dtype=np.uint8)
    ids[:, 20:] = 5
    rgb = labels.colourise(ids, TABLE)
    rgb[3:30, 20] = (rgb[0, 0].astype(int) + rgb[0, 39]) // 2
    found = decode_label_map(png(Image.fromarray(rgb)), TABLE)
    assert np.array_equal(np.delete(found, 20, axis=1), np.delete(ids, 20, axis=1))
    assert set(found[:, 20]) <= {0, 5}


def test_too_many_unknown_colours_are_refused_with_the_first_and_the_count() -> None:
    rgb = labels.colourise(portrait_map(), TABLE)
    rgb[7, 5:] = (1, 250, 1)
    rgb[8] = (1, 250, 1)
    with pytest.raises(LabelMapError, match=r"\(1, 250, 1\) at x=5, y=7 .*155 such pixels") as caught:
        decode_label_map(png(Image.fromarray(rgb)), TABLE)
    assert caught.value.code == "unknown_colour"


def test_transparent_pixels_are_background_whatever_their_colour() -> None:
    ids = portrait_map()
    rgba = np.dstack([labels.colourise(ids, TABLE), np.full(ids.shape, 255, dtype=np.uint8)])
    rgba[:, :40, 3], rgba[:, :40, :3] = 127, (9, 200, 9)
    found = decode_label_map(png(Image.fromarray(rgba)), TABLE)
    assert not found[:, :40].any() and np.array_equal(found[:, 40:], ids[:, 40:])


def test_two_very_similar_class_colours_are_kept_apart_or_left_unsure() -> None:
    close = ClassTable(("a", "b"), ((100, 100, 100), (104, 100, 100)))
    ids = (np.arange(10000).reshape(100, 100) % 2).astype(np.uint8)
    assert np.array_equal(decode_label_map(png(Image.fromarray(labels.colourise(ids, close))), close), ids)
    assert decode_label_map(png(Image.new("RGB", (4, 4), (99, 100, 100))), close).max() == 0
    with pytest.raises(LabelMapError):
        decode_label_map(png(Image.new("RGB", (4, 4), (102, 100, 100))), close)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "not_a_png"),
        (b"\xff\xd8\xff\xe0 a photo", "not_a_png"),
        (encode_label_map(portrait_map(), TABLE)[:200], "truncated"),
        (png(Image.fromarray(np.arange(4, dtype=np.uint16).reshape(2, 2))), "unsupported_mode"),
        (png(Image.new("LA", (2, 2))), "unsupported_mode"),
        (png(Image.fromarray(np.array([[0, 7]], dtype=np.uint8))), "unknown_id"),
        (_grey_png(np.zeros((1, 1), np.uint8), 8, size=(100_000, 100_000)), "too_large"),
    ],
)
def test_unusable_files_are_refused_with_a_stable_code(data: bytes, code: str) -> None:
    with pytest.raises(LabelMapError) as caught:
        decode_label_map(data, TABLE)
    assert caught.value.code == code


def test_a_label_map_over_the_size_limit_is_refused_before_it_is_decoded() -> None:
    data = encode_label_map(np.zeros((20, 30), np.uint8), TABLE)
    with pytest.raises(LabelMapError, match="30x20") as caught:
        decode_label_map(data, TABLE, max_pixels=599)
    assert caught.value.code == "too_large"


def test_check_ids_names_the_first_bad_value_its_place_and_the_count() -> None:
    ids = np.zeros((4, 5), dtype=np.uint8)
    ids[2, 3], ids[3, 0], ids[0, 0] = 9, 8, IGNORE
    with pytest.raises(LabelMapError, match=r"upload: class id 9 at x=3, y=2 \(2 such .*\); allowed are 0..6 and 255"):
        labels.check_ids(ids, TABLE, "upload")
    with pytest.raises(LabelMapError, match="class id 255 at x=0, y=0"):
        labels.check_ids(ids, TABLE, "upload", allow_ignore=False)


def test_the_class_table_survives_yaml_and_its_hash_follows_names_and_order_alone(tmp_path: Path) -> None:
    import yaml

    path = tmp_path / "classes.yaml"
    path.write_text(yaml.safe_dump(TABLE.to_plain()))
    assert ClassTable.load(str(path)) == TABLE and ClassTable.load("") == TABLE
    others = [
        ClassTable(TABLE.names[::-1], TABLE.colours, TABLE.name),
        ClassTable(TABLE.names[:-1], TABLE.colours[:-1], TABLE.name),
    ]
    assert len({table.hash for table in (TABLE, *others)}) == 3 and len(TABLE.hash) == 16
    assert ClassTable(TABLE.names, TABLE.colours[::-1], "another name").hash == TABLE.hash
    assert TABLE.ids["hair"] == 5 and TABLE.num_classes == 7


def test_colours_may_be_left_out_and_are_then_distinct() -> None:
    names = [f"class {number}" for number in range(254)]
    listed = [{"name": "first", "colour": [128, 0, 0]}, *names]
    table = ClassTable.from_plain({"classes": listed})
    assert table.num_classes == 255 and len(set(table.colours)) == 255


@pytest.mark.parametrize(
    "data",
    [
        None,
        {},
        {"classes": "abc"},
        {"classes": []},
        {"classes": [f"c{n}" for n in range(256)]},
        {"classes": ["a", "a"]},
        {"classes": [True]},
        {"classes": [{"colour": [0, 0, 0]}]},
        {"classes": [{"name": "a", "color": [0, 0, 0]}]},
        {"classes": [{"name": "a", "colour": [0, 0]}]},
        {"classes": [{"name": "a", "colour": "red"}]},
        {"classes": [{"name": "a", "colour": [0, 0, 256]}]},
        {"classes": [{"name": "a", "colour": [1, 1, 1]}, {"name": "b", "colour": [1, 1, 1]}]},
        {"classes": [{"name": "a", "colour": list(labels.IGNORE_COLOUR)}]},
    ],
)
def test_a_wrong_class_table_is_refused(data: object) -> None:
    with pytest.raises(UserError):
        ClassTable.from_plain(data, source="table.yaml")  # type: ignore[arg-type]


def test_a_missing_or_broken_class_table_file_is_named(tmp_path: Path) -> None:
    broken = tmp_path / "broken.yaml"
    broken.write_text("classes: [")
    for path in (broken, tmp_path / "missing.yaml"):
        with pytest.raises(UserError, match=path.name):
            ClassTable.load(str(path))


def test_onehot_has_one_channel_per_class_and_nothing_where_ignored() -> None:
    ids = torch.tensor([[[0, 2], [255, 1]]])
    assert torch.equal(labels.onehot(ids, 3).argmax(1)[ids != 255], ids[ids != 255])
    assert labels.onehot(ids, 3).sum(1).tolist() == [[[1, 1], [0, 1]]]
    assert labels.onehot(ids, 3).dtype == torch.float32


def test_blends_of_two_class_colours_are_seldom_nearest_to_a_third() -> None:
    colours = np.array(TABLE.colours, dtype=float)
    shares = np.linspace(0, 1, 33)[1:-1, None]
    hits = []
    for first, second in itertools.combinations(range(len(colours)), 2):
        blends = colours[first] * (1 - shares) + colours[second] * shares
        nearest = np.linalg.norm(blends[:, None] - colours, axis=-1).argmin(1)
        hits.append(~np.isin(nearest, (first, second)))
        beside = np.delete(colours, (first, second), axis=0)
        assert np.abs(blends[:, None] - beside).max(-1).min() > labels.NEAR_COLOUR  # never taken for a third class
    assert np.mean(hits) < 0.03


def test_class_colours_stay_apart_with_red_green_blindness() -> None:
    # Deuteranopia: Machado, Oliveira, Fernandes 2009, severity 1, on linear RGB.
    blind = np.array([[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]])
    to_xyz = np.array(
        [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.119192, 0.9503041]]
    )
    encoded = np.array(TABLE.colours) / 255
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    for seen, least in ((linear, 40), (np.clip(linear @ blind.T, 0, 1), 20)):
        ratio = np.cbrt(np.maximum(seen @ to_xyz.T / (0.95047, 1, 1.08883), 0.008856))
        lab = np.stack([116 * ratio[:, 1], 500 * (ratio[:, 0] - ratio[:, 1]), 200 * (ratio[:, 1] - ratio[:, 2])], 1)
        apart = np.linalg.norm(lab[:, None] - lab, axis=-1)[np.triu_indices(len(lab), 1)]
        assert apart.min() > least
