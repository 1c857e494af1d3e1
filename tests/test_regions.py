"""Augmentation by regions: what changes, what must not, and that it is a pure function of the random state."""

import numpy as np
import pytest

from gaugan.errors import UserError
from gaugan.labels import IGNORE, PORTRAIT_CLASSES
from gaugan.portraits import draw_portrait
from gaugan.regions import (
    REGION_PRESETS,
    RegionAugmentation,
    lends_background,
    lone_background,
    recolour_regions,
    set_before,
)

HAIR, BACKGROUND = PORTRAIT_CLASSES.ids["hair"], PORTRAIT_CLASSES.ids["background"]


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def inner(region: np.ndarray) -> np.ndarray:
    """The pixels whose 3 x 3 neighbourhood lies in the region."""
    padded = np.pad(region, 1, constant_values=True)
    height, width = region.shape
    windows = [padded[dy : dy + height, dx : dx + width] for dy in range(3) for dx in range(3)]
    return np.logical_and.reduce(windows)


def test_only_the_named_class_is_recoloured_and_the_input_is_not_written_to() -> None:
    image, label_map = draw_portrait(1, 96)
    before = image.copy()
    changed = recolour_regions(image, label_map, [HAIR], 1.0, rng())
    np.testing.assert_array_equal(image, before)
    np.testing.assert_array_equal(changed[inner(label_map != HAIR)], image[inner(label_map != HAIR)])
    assert np.abs(changed[label_map == HAIR].astype(int) - image[label_map == HAIR]).mean() > 5


def test_a_recoloured_region_keeps_its_shading() -> None:
    image, label_map = draw_portrait(2, 96)
    hair = inner(label_map == HAIR)
    for seed in range(5):
        changed = recolour_regions(image, label_map, [HAIR], 1.0, rng(seed))
        grey, new_grey = (picture[hair].astype(float) @ [0.299, 0.587, 0.114] for picture in (image, changed))
        assert np.corrcoef(grey, new_grey)[0, 1] > 0.7


def test_white_clothes_get_colours_too_and_now_and_then_one_that_the_picture_has() -> None:
    image = np.full((64, 64, 3), 250, np.uint8)
    label_map = np.zeros((64, 64), np.uint8)
    label_map[32:] = PORTRAIT_CLASSES.ids["clothes"]
    image[:16] = (240, 200, 170)  # such as skin
    means = np.array(
        [
            recolour_regions(image, label_map, [PORTRAIT_CLASSES.ids["clothes"]], 1.0, rng(seed))[40:].mean((0, 1))
            for seed in range(60)
        ]
    )
    assert (np.ptp(means, axis=1) > 30).sum() >= 8  # without dyes: none
    assert (np.abs(means - (240, 200, 170)).max(1) < 3).sum() >= 2


def test_probability_zero_changes_nothing_and_one_class_draws_as_many_numbers_as_another() -> None:
    image, label_map = draw_portrait(3, 48)
    one, two = rng(4), rng(4)
    np.testing.assert_array_equal(recolour_regions(image, label_map, [HAIR], 0.0, one), image)
    recolour_regions(image, label_map, [PORTRAIT_CLASSES.ids["mouth"]], 1.0, two)
    assert one.random() == two.random()


def test_a_lone_background_keeps_known_pixels_and_fills_the_figure_from_around() -> None:
    image, label_map = draw_portrait(5, 80)
    alone = lone_background(image, label_map, BACKGROUND)
    known = label_map == BACKGROUND
    np.testing.assert_array_equal(alone[known], image[known])
    assert alone[~known].min() >= image[known].min() and alone[~known].max() <= image[known].max()


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (13, 5)])
def test_pictures_of_any_size_have_a_background_to_lend(size: tuple[int, int]) -> None:
    image = rng().integers(0, 256, (*size, 3), dtype=np.uint8)
    label_map = np.zeros(size, dtype=np.uint8)
    label_map[0, 0] = HAIR
    assert lone_background(image, label_map, BACKGROUND).shape == image.shape


def test_the_figure_stands_before_the_other_background() -> None:
    image, label_map = draw_portrait(6, 64)
    flat = np.full_like(image, (10, 200, 30))
    label_map[30, 30] = IGNORE
    placed = set_before(image, label_map, flat, BACKGROUND, rng())
    figure, behind = inner(label_map != BACKGROUND), inner(label_map == BACKGROUND)
    np.testing.assert_array_equal(placed[figure], image[figure])
    assert (placed[behind] == (10, 200, 30)).all()


def test_a_picture_full_of_figure_lends_no_background() -> None:
    assert lends_background(np.zeros((8, 8), np.uint8), BACKGROUND)
    assert not lends_background(np.full((8, 8), HAIR, np.uint8), BACKGROUND)


def test_shares_outside_0_to_1_are_refused() -> None:
    with pytest.raises(UserError, match="recolour"):
        RegionAugmentation(recolour=1.5)
    assert not REGION_PRESETS["mild"].used and REGION_PRESETS["strong"].used
