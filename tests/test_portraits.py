import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from gaugan import storage
from gaugan.annotations import find_annotations
from gaugan.images import decode_image
from gaugan.labels import PORTRAIT_CLASSES
from gaugan.portraits import draw_portrait, portrait_seed, write_annotated, write_pictures


def _portraits(first: int, count: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    pairs = [draw_portrait(seed, size) for seed in range(first, first + count)]
    return np.stack([image for image, _ in pairs]), np.stack([label_map for _, label_map in pairs])


@pytest.fixture(scope="module")
def drawn() -> tuple[np.ndarray, np.ndarray]:
    """90 portraits at 64 pixels: images (90, 64, 64, 3), label maps (90, 64, 64)."""
    return _portraits(0, 90, 64)


def _mean_iou(predicted: np.ndarray, truth: np.ndarray) -> float:
    scores = []
    for class_id in range(7):
        union = np.sum((predicted == class_id) | (truth == class_id))
        scores.append(np.sum((predicted == class_id) & (truth == class_id)) / max(union, 1))
    return float(np.mean(scores))


def test_the_same_seed_draws_the_same_bytes() -> None:
    image, label_map = draw_portrait(7, 96)
    again, label_map_again = draw_portrait(7, 96)
    assert image.tobytes() == again.tobytes()
    assert label_map.tobytes() == label_map_again.tobytes()
    assert draw_portrait(8, 96)[0].tobytes() != image.tobytes()


@pytest.mark.parametrize("size", [(16, 16), (64, 64), (97, 61), (64, 160), (129, 200), (300, 256)])
def test_every_size_is_drawn(size: tuple[int, int]) -> None:
    image, label_map = draw_portrait(3, size)
    assert image.shape == (*size, 3)
    assert image.dtype == np.uint8
    assert label_map.shape == size
    assert label_map.dtype == np.uint8
    assert label_map.max() < PORTRAIT_CLASSES.num_classes


def test_a_size_too_small_is_refused_with_advice() -> None:
    with pytest.raises(ValueError, match="at least 16"):
        draw_portrait(0, (12, 64))


def test_portraits_have_all_classes_in_the_shares_of_real_ones(drawn: tuple[np.ndarray, np.ndarray]) -> None:
    _, label_maps = drawn
    shares = np.stack([(label_maps == class_id).mean(axis=(1, 2)) for class_id in range(7)], 1)  # (80, 7)
    assert set(np.unique(label_maps).tolist()) == set(range(7))
    assert ((shares > 0).all(axis=1)).mean() > 0.9
    # hand-annotated television portraits: .28 background, .04, .14, .025, .0014, .38 hair, .14 clothes
    low = (0.15, 0.015, 0.08, 0.01, 0.0005, 0.25, 0.07)
    high = (0.45, 0.08, 0.20, 0.04, 0.004, 0.50, 0.22)
    assert (shares.mean(0) > low).all(), shares.mean(0)
    assert (shares.mean(0) < high).all(), shares.mean(0)


def test_hair_is_not_always_the_darkest_region(drawn: tuple[np.ndarray, np.ndarray]) -> None:
    images, label_maps = drawn
    darker = [
        image[label_map == 5].mean() < image[label_map == 0].mean()
        for image, label_map in zip(images, label_maps, strict=True)
    ]
    assert 0.2 < np.mean(darker) < 0.9


def test_no_background_is_flat(drawn: tuple[np.ndarray, np.ndarray]) -> None:
    images, label_maps = drawn
    assert all(image[label_map == 0].std(axis=0).max() > 2 for image, label_map in zip(images, label_maps, strict=True))


def test_colour_alone_does_not_tell_the_classes(drawn: tuple[np.ndarray, np.ndarray]) -> None:
    """A colour table (16 levels a channel, most frequent class) learnt on 60 portraits fails on others."""
    images, label_maps = (part[:60] for part in drawn)
    others, truth = (part[60:] for part in drawn)

    def cells(pictures: np.ndarray) -> np.ndarray:
        coarse = pictures.astype(np.int64) // 16
        return (coarse[..., 0] * 16 + coarse[..., 1]) * 16 + coarse[..., 2]

    votes = np.zeros((4096, 7), np.int64)
    np.add.at(votes, (cells(images).ravel(), label_maps.ravel()), 1)
    # votes weighed by class size, so that small classes count too
    predicted = (votes / np.maximum(votes.sum(0), 1)).argmax(1)[cells(others)]
    plain = votes.argmax(1)[cells(others)]
    assert max(_mean_iou(predicted, truth), _mean_iou(plain, truth)) < 0.35


def test_the_colours_of_classes_overlap_within_a_portrait_too(drawn: tuple[np.ndarray, np.ndarray]) -> None:
    """Even the portrait's own mean colour per class does not give its label map back."""
    images, label_maps = (part[:30] for part in drawn)
    scores = []
    for image, label_map in zip(images, label_maps, strict=True):
        means = np.stack(
            [image[label_map == c].mean(0) if (label_map == c).any() else np.full(3, 1e4) for c in range(7)]
        )
        distance = ((image[:, :, None].astype(np.float64) - means) ** 2).sum(-1)
        scores.append(_mean_iou(distance.argmin(-1), label_map))
    assert np.mean(scores) < 0.5


def test_an_annotated_folder_gives_the_same_label_maps_back(tmp_path: Path) -> None:
    write_annotated(str(tmp_path), 3, (80, 64), seed=5)
    assert len(find_annotations(str(tmp_path))) == 3
    for index in range(3):
        image, label_map = draw_portrait(portrait_seed(5, index), (80, 64))
        content = json.loads((tmp_path / "labelme" / f"portrait_{index:05d}.json").read_text())
        assert content["imageData"] is None
        picture = (tmp_path / "labelme" / content["imagePath"]).resolve()
        assert (decode_image(picture.read_bytes()) == image).all()
        assert (_rasterise(content) == label_map).all()


def _rasterise(content: dict[str, Any]) -> np.ndarray:
    """labelme's own rule, written out independently: later shapes win, mask corners are inclusive."""
    canvas = np.zeros((content["imageHeight"], content["imageWidth"]), np.uint8)
    for shape in content["shapes"]:
        class_id = PORTRAIT_CLASSES.ids[shape["label"]]
        if shape["shape_type"] == "mask":
            (left, top), (right, bottom) = (map(round, point) for point in shape["points"])
            mask = np.asarray(Image.open(io.BytesIO(base64.b64decode(shape["mask"])))) > 0
            canvas[top : bottom + 1, left : right + 1][mask] = class_id
        else:
            area = Image.new("1", canvas.shape[::-1])
            ImageDraw.Draw(area).polygon([tuple(point) for point in shape["points"]], outline=1, fill=1)
            canvas[np.asarray(area)] = class_id
    return canvas


def test_pictures_are_written_as_png_and_jpeg_without_repeating_the_annotated_ones(tmp_path: Path) -> None:
    write_pictures(str(tmp_path), 3, 48, seed=6)
    files = storage.list_files(str(tmp_path))
    assert [entry.path for entry in files] == ["portrait_00000.png", "portrait_00001.png", "portrait_00002.jpg"]
    assert all(decode_image(storage.read_bytes(entry.uri)).shape == (48, 48, 3) for entry in files)
    assert portrait_seed(6, 0) != portrait_seed(5, 0)
