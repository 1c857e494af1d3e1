"""gaugan.preprocess: the published modes, hand-worked, and what is refused beforehand."""

import re

import numpy as np
import pytest
from PIL import Image

from gaugan.errors import UserError
from gaugan.preprocess import MODES, Preprocess


@pytest.mark.parametrize(
    ("mode", "load_size", "size", "scaled"),
    [  # pictures of 480x640 (height x width)
        ("resize_and_crop", 286, (256, 256), (286, 286)),
        ("resize_and_crop", None, (256, 256), (286, 286)),
        ("crop", None, (256, 256), (480, 640)),
        ("scale_width", 320, (240, 320), (240, 320)),
        ("scale_width_and_crop", 400, (256, 256), (300, 400)),
        ("scale_shortside", 256, (256, 341), (256, 341)),
        ("scale_shortside_and_crop", 286, (256, 256), (286, 381)),
        ("fixed", None, (256, 512), (256, 512)),
        ("none", None, (480, 640), (480, 640)),
        ("fit", None, (256, 256), (256, 256)),
    ],
)
def test_each_mode_scales_as_published(mode: str, load_size: int | None, size: tuple, scaled: tuple) -> None:
    preprocess = Preprocess(size, mode, load_size)  # type: ignore[arg-type]
    assert preprocess.scaled_size((480, 640)) == scaled and not preprocess.problem((480, 640))
    image, (ids,) = preprocess.scale(np.zeros((480, 640, 3), np.uint8), [np.zeros((480, 640), np.uint8)])
    assert image.shape[:2] == ids.shape == scaled
    cut, (cut_ids,) = preprocess.cut(image, [ids], np.random.default_rng(0))
    assert cut.shape == (*size, 3) and cut_ids.shape == size


def test_none_rounds_each_side_to_the_nearest_multiple_of_32() -> None:
    preprocess = Preprocess((384, 512), "none")
    assert preprocess.scaled_size((375, 500)) == (384, 512) and preprocess.scaled_size((330, 527)) == (320, 512)


def test_pictures_are_resized_bicubically_and_maps_by_nearest_neighbour() -> None:
    rng = np.random.default_rng(1)
    image = rng.integers(0, 256, (40, 60, 3), dtype=np.uint8)
    ids = rng.integers(0, 9, (40, 60), dtype=np.uint8)
    scaled, maps = Preprocess((16, 16), "resize_and_crop", 18).scale(image, [ids, ids.astype(np.uint16) * 7000])
    assert np.array_equal(scaled, np.array(Image.fromarray(image).resize((18, 18), Image.Resampling.BICUBIC)))
    assert np.array_equal(maps[0], np.array(Image.fromarray(ids).resize((18, 18), Image.Resampling.NEAREST)))
    assert maps[1].dtype == np.uint16 and np.array_equal(maps[1], maps[0].astype(np.uint16) * 7000)


def test_the_same_piece_is_cut_out_of_picture_and_maps_and_its_place_is_random() -> None:
    places = np.arange(30 * 40).reshape(30, 40).astype(np.uint16)
    image = np.repeat((places % 251).astype(np.uint8)[..., None], 3, axis=2)
    preprocess = Preprocess((8, 8), "crop")
    found = set()
    for seed in range(60):
        cut, (ids,) = preprocess.cut(image, [places], np.random.default_rng(seed))
        assert np.array_equal(cut[..., 0], ids % 251)
        found.add(int(ids[0, 0]))
    tops, lefts = {place // 40 for place in found}, {place % 40 for place in found}
    assert min(tops) <= 2 and max(tops) >= 20 and min(lefts) <= 3 and max(lefts) >= 29 and len(found) > 50
    assert preprocess.cut(image, [places], None)[1][0][0, 0] == 11 * 40 + 16  # without chance: the centre


@pytest.mark.parametrize("mode", MODES)
def test_measuring_leaves_nothing_to_chance_and_gives_the_wanted_size(mode: str) -> None:
    size = (64, 64)
    preprocess = Preprocess(size, mode).for_measuring()  # type: ignore[arg-type]
    if mode in ("none", "scale_width", "scale_shortside"):
        return  # these take pictures of one shape only
    image = np.random.default_rng(0).integers(0, 256, (96, 128, 3), dtype=np.uint8)
    one, _ = preprocess.cut(*preprocess.scale(image, []), None)
    assert one.shape == (*size, 3)


def test_a_squeezed_picture_is_measured_whole_and_a_scaled_one_at_its_centre() -> None:
    assert Preprocess((64, 64), "resize_and_crop", 72).for_measuring() == Preprocess((64, 64), "fixed")
    assert Preprocess((64, 64), "scale_width_and_crop", 90).for_measuring() == Preprocess((64, 64), "fit")


@pytest.mark.parametrize(
    ("preprocess", "size", "words"),
    [
        (Preprocess((256, 256), "crop"), (200, 400), "400x200 px becomes 400x200, too small to cut 256x256"),
        (Preprocess((256, 256), "scale_width_and_crop", 286), (480, 640), "becomes 286x214, .* larger --load-size"),
        (Preprocess((256, 256), "none"), (480, 640), "becomes 640x480, not 256x256; .*alike"),
        (Preprocess((256, 256), "scale_width", 256), (480, 640), "becomes 256x192, not 256x256"),
    ],
)
def test_a_picture_that_can_not_get_the_wanted_size_is_told_with_advice(
    preprocess: Preprocess, size: tuple[int, int], words: str
) -> None:
    assert re.search(words, preprocess.problem(size)), preprocess.problem(size)
    with pytest.raises(UserError, match="--preprocess"):
        preprocess.cut(*preprocess.scale(np.zeros((*size, 3), np.uint8), []), np.random.default_rng(0))


@pytest.mark.parametrize(
    ("mode", "load_size", "words"),
    [("squash", None, "choose one of fit"), ("fixed", 286, "doesn't use it"), ("resize_and_crop", 200, "at least")],
)
def test_impossible_settings_are_refused(mode: str, load_size: int | None, words: str) -> None:
    with pytest.raises(UserError, match=words):
        Preprocess((256, 256), mode, load_size)  # type: ignore[arg-type]
