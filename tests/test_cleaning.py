"""Removing specks: what goes, what stays."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from gaugan.cleaning import remove_specks
from gaugan.labels import IGNORE
from gaugan.metrics import num_specks

SHARE = 0.02  # of 20 x 20 pixels: components under 8


def two_halves() -> np.ndarray:
    label_map = np.zeros((20, 20), dtype=np.uint8)
    label_map[:, 10:] = 5
    return label_map


def test_a_speck_takes_the_class_around_it_and_is_counted() -> None:
    dirty = two_halves()
    dirty[3:5, 3:5] = 4
    dirty[15, 15] = 1
    before = dirty.copy()
    clean, count = remove_specks(dirty, SHARE)
    np.testing.assert_array_equal(clean, two_halves())
    np.testing.assert_array_equal(dirty, before)
    assert count == 2


def test_what_is_large_enough_stays() -> None:
    label_map = two_halves()
    label_map[3:5, 3:7] = 4
    assert remove_specks(label_map, SHARE)[1] == 0
    np.testing.assert_array_equal(remove_specks(label_map, SHARE)[0], label_map)


def test_ignored_pixels_neither_vanish_nor_spread() -> None:
    label_map = two_halves()
    label_map[8:11, 2:5] = IGNORE
    label_map[9, 3] = 4
    clean, count = remove_specks(label_map, SHARE)
    np.testing.assert_array_equal(clean, label_map)
    assert count == 1


@settings(max_examples=40, deadline=None)
@given(arrays.arrays(np.uint8, (12, 17), elements=st.sampled_from([0, 1, 5])))
def test_no_new_class_appears_and_a_second_pass_finds_less(label_map: np.ndarray) -> None:
    clean, count = remove_specks(label_map, 0.03)
    assert set(np.unique(clean)) <= set(np.unique(label_map))
    assert count == 0 or num_specks(clean, 0.03) < count
