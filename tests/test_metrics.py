"""Metrics against hand-worked cases and slow references."""

import numpy as np
import pytest

from gaugan import metrics


def slow_components(label_map: np.ndarray) -> list[tuple[int, int]]:
    """(size, id) of each 4-connected component, by flood fill."""
    height, width = label_map.shape
    seen = np.zeros(label_map.shape, dtype=bool)
    found = []
    for start in np.ndindex(height, width):
        if seen[start]:
            continue
        stack, size = [start], 0
        seen[start] = True
        while stack:
            y, x = stack.pop()
            size += 1
            for ny, nx in ((y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)):
                if 0 <= ny < height and 0 <= nx < width and not seen[ny, nx] and label_map[ny, nx] == label_map[y, x]:
                    seen[ny, nx] = True
                    stack.append((ny, nx))
        found.append((size, int(label_map[start])))
    return sorted(found)


@pytest.mark.parametrize("seed", range(30))
def test_components_equal_a_flood_fill(seed: int) -> None:
    rng = np.random.default_rng(seed)
    height, width = rng.integers(1, 24, 2)
    label_map = rng.integers(0, rng.integers(1, 4) + 1, (height, width)).astype(np.uint8)
    number, sizes, ids = metrics.component_map(label_map)
    used = np.flatnonzero(sizes)
    assert sorted(zip(sizes[used].tolist(), ids[used].tolist(), strict=True)) == slow_components(label_map)
    assert np.array_equal(ids[number], label_map) and np.array_equal(np.unique(number), used)


@pytest.mark.parametrize("seed", range(10))
def test_a_survey_finds_the_specks_and_the_pixels_of_each_id(seed: int) -> None:
    label_map = np.random.default_rng(seed).choice([0, 1, 255], (20, 30), p=[0.8, 0.15, 0.05]).astype(np.uint8)
    specks, counts = metrics.survey(label_map, share=3 / 600)
    assert specks == sum(size < 3 and number != 255 for size, number in slow_components(label_map)) > 0
    assert np.array_equal(counts, np.bincount(label_map.reshape(-1), minlength=256))


def test_a_snake_is_one_component() -> None:
    label_map = np.zeros((9, 9), dtype=np.uint8)
    label_map[1::2] = 1
    label_map[1::4, -1], label_map[3::4, 0] = 0, 0
    label_map[[0, 4, 8], 0], label_map[[2, 6], -1] = 0, 0
    _, sizes, _ = metrics.component_map(label_map)
    assert sizes.sum() == 81
    assert sorted(sizes[sizes > 0].tolist()) == [size for size, _ in slow_components(label_map)]


def test_specks_are_small_components_and_ignored_pixels_form_none() -> None:
    label_map = np.zeros((100, 100), dtype=np.uint8)
    label_map[10, 10] = 3  # 1 px of 10 000 = 0.01 %: a speck
    label_map[50:52, 50] = 3  # 2 px = 0.02 %: not under it
    label_map[80, 80] = 255
    assert metrics.num_specks(label_map) == 1


def test_iou_of_a_worked_case() -> None:
    truth = np.array([[0, 0, 1], [1, 1, 255]], dtype=np.uint8)
    predicted = np.array([[0, 1, 1], [1, 0, 2]], dtype=np.uint8)
    counts = metrics.confusion(truth, predicted, 3)
    assert counts.tolist() == [[1, 1, 0], [1, 2, 0], [0, 0, 0]]
    scores = metrics.label_scores(counts, ["a", "b", "c"])
    assert scores == {
        "miou": pytest.approx((1 / 3 + 2 / 4) / 2),
        "pixel_accuracy": pytest.approx(3 / 5),
        "iou_a": pytest.approx(1 / 3),
        "iou_b": pytest.approx(0.5),
    }


def test_frechet_distance_of_gaussians_with_known_moments() -> None:
    a = np.array([[-1.0, 0], [1, 0], [0, -2], [0, 2]])
    shifted = a + np.array([3.0, 4])
    assert metrics.frechet_distance(a, shifted) == pytest.approx(25)
    assert metrics.frechet_distance(a, a * 2) == pytest.approx(np.trace(np.cov(a.T)))  # diagonal: (2s - s)^2 summed
    assert metrics.frechet_distance(a, a) == pytest.approx(0, abs=1e-9)


def test_kernel_distance_is_near_zero_for_one_distribution_and_grows_with_a_shift() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(400, 8)), rng.normal(size=(500, 8))
    same, near, far = (metrics.kernel_distance(a, b + shift) for shift in (0.0, 0.3, 1.0))
    assert abs(same) < 0.02 < near < far


def test_kernel_distance_of_a_worked_case() -> None:
    a, b = np.array([[0.0], [1.0]]), np.array([[0.0], [2.0]])
    # pairs within a: (0*1+1)^3 = 1; within b: 1; across: (1 + 1 + 1 + 27) / 4
    assert metrics.kernel_distance(a, b) == pytest.approx(1 + 1 - 2 * 30 / 4)


def test_diversity_is_zero_for_copies_and_the_difference_for_pairs() -> None:
    copies = np.repeat(np.random.default_rng(0).normal(size=(3, 1, 5)), 4, axis=1)
    assert metrics.diversity(copies) == 0
    assert metrics.diversity(np.stack([np.zeros((2, 6)), np.full((2, 6), 0.5)], 1)) == pytest.approx(0.5)


@pytest.mark.parametrize("distance", [metrics.frechet_distance, metrics.kernel_distance])
def test_distances_refuse_a_single_picture(distance) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match="2 or more"):
        distance(np.zeros((1, 3)), np.zeros((5, 3)))
