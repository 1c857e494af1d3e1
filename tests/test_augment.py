"""gaugan.augment: pairing, determinism and the promises of the presets."""

from typing import Any

import numpy as np
import pytest
import torch

from gaugan.augment import PRESETS, Augmentation, augment_pair, preset
from gaugan.errors import UserError

torch.set_num_threads(1)

COLOURS = np.array([[10, 20, 30], [250, 5, 90], [60, 240, 15], [130, 70, 255], [5, 150, 160]], dtype=np.uint8)
SHAPE_ONLY = Augmentation(rotate_degrees=25, mirror=0.5, scale=0.2, translate=0.1, warp=0.08, warp_cells=5)


def blobs(height: int = 64, width: int = 48, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A picture whose colours say the class of each pixel, and its label map of five round areas."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    centres = rng.uniform(0, 1, size=(5, 2)) * (height, width)
    distance = [(y - cy) ** 2 + (x - cx) ** 2 for cy, cx in centres]
    label_map = np.argmin(distance, axis=0).astype(np.uint8)
    return COLOURS[label_map], label_map


@pytest.mark.parametrize("seed", range(8))
def test_labels_stay_on_their_pixels(seed: int) -> None:
    image, label_map = blobs(seed=seed)
    moved, moved_labels = augment_pair(image, label_map, SHAPE_ONLY, np.random.default_rng(seed))
    pure = (moved[:, :, None, :] == COLOURS).all(axis=-1)  # not blended with a neighbour
    assert pure.any(axis=-1).mean() > 0.75
    y, x, number = np.nonzero(pure)
    np.testing.assert_array_equal(moved_labels[y, x], number)


def test_sizes_types_and_inputs_are_kept() -> None:
    image, label_map = blobs(40, 72)
    before = image.copy(), label_map.copy()
    image.setflags(write=False)
    label_map.setflags(write=False)
    moved, moved_labels = augment_pair(image, label_map, PRESETS["strong"], np.random.default_rng(3))
    assert moved.shape == image.shape and moved.dtype == np.uint8 and moved.flags.c_contiguous
    assert moved_labels.shape == label_map.shape and moved_labels.dtype == np.uint8
    np.testing.assert_array_equal(image, before[0])
    np.testing.assert_array_equal(label_map, before[1])


def test_no_label_appears_that_was_not_there() -> None:
    image, label_map = blobs()
    label_map[label_map == 1] = 255
    label_map[label_map == 2] = 90
    for seed in range(10):
        _, moved = augment_pair(image, label_map, PRESETS["strong"], np.random.default_rng(seed))
        assert set(np.unique(moved)) <= set(np.unique(label_map))


@pytest.mark.parametrize("name", PRESETS)
def test_same_generator_state_same_result(name: str) -> None:
    image, label_map = blobs()
    one = augment_pair(image, label_map, preset(name), np.random.default_rng(5))
    two = augment_pair(image, label_map, preset(name), np.random.default_rng(5))
    np.testing.assert_array_equal(one[0], two[0])
    np.testing.assert_array_equal(one[1], two[1])


def test_all_zero_is_the_pair_itself_but_not_the_same_memory() -> None:
    image, label_map = blobs()
    same, same_labels = augment_pair(image, label_map, Augmentation(), np.random.default_rng(0))
    np.testing.assert_array_equal(same, image)
    np.testing.assert_array_equal(same_labels, label_map)
    assert not np.shares_memory(same, image) and not np.shares_memory(same_labels, label_map)


@pytest.mark.parametrize("extra", [{}, {"gray": 1e-9}, {"translate": 1e-9}])
def test_mirror_is_an_exact_flip_on_every_path(extra: dict[str, Any]) -> None:
    image, label_map = blobs()
    flipped, flipped_labels = augment_pair(
        image, label_map, Augmentation(mirror=1.0, **extra), np.random.default_rng(0)
    )
    np.testing.assert_array_equal(flipped, image[:, ::-1])
    np.testing.assert_array_equal(flipped_labels, label_map[:, ::-1])


def test_rotation_is_rigid_in_pixels_on_a_picture_that_is_not_square() -> None:
    y, x = np.mgrid[:80, :120]
    distance = np.hypot(y - 39.5, x - 59.5)
    disc = (distance < 30).astype(np.uint8)
    image = np.repeat(disc[..., None] * 200, 3, axis=2)
    for seed in range(5):
        _, turned = augment_pair(image, disc, Augmentation(rotate_degrees=180), np.random.default_rng(seed))
        inside = distance < 40  # further out, the reflected border shows
        assert (turned != disc)[inside].mean() < 0.02  # a disc turned about its centre is the same disc


def test_scale_zooms_by_at_most_the_amount() -> None:
    y, x = np.mgrid[:96, :96]
    disc = (((y - 47.5) ** 2 + (x - 47.5) ** 2) < 25**2).astype(np.uint8)
    image = np.repeat(disc[..., None], 3, axis=2)
    sizes = [
        augment_pair(image, disc, Augmentation(scale=0.25), np.random.default_rng(seed))[1].sum() / disc.sum()
        for seed in range(40)
    ]
    assert 0.62 < min(sizes) < 0.75 and 1.35 < max(sizes) < 1.6


def test_mean_class_shares_are_kept_roughly() -> None:
    image, label_map = blobs(seed=2)
    shares = np.bincount(label_map.ravel(), minlength=5) / label_map.size
    counts = np.zeros(5)
    for seed in range(60):
        counts += np.bincount(
            augment_pair(image, label_map, PRESETS["mild"], np.random.default_rng(seed))[1].ravel(), minlength=5
        )
    np.testing.assert_allclose(counts / counts.sum(), shares, atol=0.02)


def test_warp_moves_pixels_but_never_folds() -> None:
    ramp = np.repeat(np.arange(64, dtype=np.uint8)[None, :] * 4, 64, axis=0)
    image = np.stack([ramp, ramp.T, ramp], axis=-1)
    for seed in range(10):
        moved, _ = augment_pair(image, ramp, Augmentation(warp=0.095, warp_cells=5), np.random.default_rng(seed))
        assert np.abs(moved.astype(int) - image).max() > 8
        inner = moved[8:-8, 8:-8].astype(int)
        dxx, dxy = np.diff(inner[:-1, :, 0], axis=1), np.diff(inner[:, :-1, 0], axis=0)
        dyx, dyy = np.diff(inner[:-1, :, 1], axis=1), np.diff(inner[:, :-1, 1], axis=0)
        assert (dxx * dyy - dxy * dyx > -2).all()  # the Jacobian of the map, up to rounding: no orientation flips


def test_border_reflects_instead_of_turning_black() -> None:
    image, label_map = np.full((32, 32, 3), 200, dtype=np.uint8), np.full((32, 32), 3, dtype=np.uint8)
    moved, moved_labels = augment_pair(image, label_map, SHAPE_ONLY, np.random.default_rng(1))
    assert (moved == 200).all() and (moved_labels == 3).all()


def test_colour_changes_leave_labels_and_greys_alone() -> None:
    image, label_map = blobs()
    colour_only = Augmentation(saturation=0.5, hue_degrees=90)
    changed, labels = augment_pair(image, label_map, colour_only, np.random.default_rng(0))
    assert (changed != image).any()
    np.testing.assert_array_equal(labels, label_map)
    grey = np.repeat(image[..., :1], 3, axis=2)
    np.testing.assert_array_equal(augment_pair(grey, label_map, colour_only, np.random.default_rng(0))[0], grey)


def test_gray_takes_all_colour_away() -> None:
    image, label_map = blobs()
    gray, _ = augment_pair(image, label_map, Augmentation(gray=1.0), np.random.default_rng(0))
    assert (gray == gray[..., :1]).all()
    np.testing.assert_allclose(gray[..., 0], np.round(image @ [0.299, 0.587, 0.114]), atol=1)


def test_contrast_keeps_the_mean_and_brightness_scales_it() -> None:
    image = np.random.default_rng(0).integers(90, 150, size=(32, 32, 3), dtype=np.uint8)
    labels = np.zeros((32, 32), dtype=np.uint8)
    luma = np.array([0.299, 0.587, 0.114])
    for seed in range(5):
        contrasted, _ = augment_pair(image, labels, Augmentation(contrast=0.5), np.random.default_rng(seed))
        assert abs((contrasted @ luma).mean() - (image @ luma).mean()) < 0.2
        bright, _ = augment_pair(image, labels, Augmentation(brightness=0.3), np.random.default_rng(seed))
        ratio = bright.mean() / image.mean()
        assert 0.7 <= ratio <= 1.3 and abs(ratio - 1) > 1e-3


def test_changing_one_amount_leaves_the_other_draws_alone() -> None:
    image, label_map = blobs()
    _, plain = augment_pair(image, label_map, Augmentation(rotate_degrees=20), np.random.default_rng(9))
    _, coloured = augment_pair(
        image, label_map, Augmentation(rotate_degrees=20, hue_degrees=40), np.random.default_rng(9)
    )
    np.testing.assert_array_equal(plain, coloured)


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"warp": 0.2, "warp_cells": 5}, "fold"),
        ({"mirror": 1.5}, "mirror"),
        ({"rotate_degrees": -3.0}, "rotate_degrees"),
        ({"warp_cells": 0}, "warp_cells"),
    ],
)
def test_impossible_amounts_are_refused_by_name(fields: dict[str, Any], word: str) -> None:
    with pytest.raises(UserError, match=word):
        Augmentation(**fields)


def test_an_unknown_preset_lists_the_known_ones() -> None:
    with pytest.raises(UserError, match="none, flip, mild, strong"):
        preset("wild")


def test_pictures_and_labels_of_different_size_are_refused() -> None:
    with pytest.raises(ValueError, match="differ in size"):
        augment_pair(
            np.zeros((4, 4, 3), np.uint8), np.zeros((4, 5), np.uint8), Augmentation(), np.random.default_rng(0)
        )
