"""The evaluation's mathematics with a painter and a judge whose every answer is known."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest

from gaugan.evaluation import EXPLAINED, Evaluator, add, colour_distance, colour_statistics, mean_colours, summarise
from gaugan.labels import IGNORE, PORTRAIT_CLASSES, colourise
from gaugan.pairs import DecodedPair
from gaugan.portraits import draw_portrait

SIZE = 32
CLASSES = PORTRAIT_CLASSES.num_classes


@dataclass
class Answer:
    label_map: np.ndarray


class ColourJudge:
    """Reads the class colours back."""

    def segment(self, images: Sequence[np.ndarray]) -> list[Answer]:
        colours = np.array(PORTRAIT_CLASSES.colours, dtype=np.int64)
        return [Answer(((image[:, :, None] - colours) ** 2).sum(-1).argmin(-1).astype(np.uint8)) for image in images]


class ColourPainter:
    """Paints class colours; seeds shift them a little, a style picture replaces each class by its mean colour there."""

    classes, image_size, has_style = PORTRAIT_CLASSES, (SIZE, SIZE), True

    def __init__(self) -> None:
        self.instance_maps: list[np.ndarray | None] = []

    def paint(
        self,
        label_maps: np.ndarray,
        seeds: list | None = None,
        styles: list | None = None,
        *,
        instance_maps: np.ndarray | None = None,
    ) -> np.ndarray:
        self.instance_maps.append(instance_maps)
        if styles is not None:
            return np.stack([np.full((SIZE, SIZE, 3), style.mean(axis=(0, 1)), dtype=np.uint8) for style in styles])
        shifts = np.array([0] * len(label_maps) if seeds is None else seeds)[:, None, None, None] % 5
        return np.clip(colourise(label_maps, PORTRAIT_CLASSES).astype(int) + shifts, 0, 255).astype(np.uint8)


def make_pairs(count: int) -> list[DecodedPair]:
    return [DecodedPair(f"{seed}.png", *draw_portrait(seed, SIZE), None) for seed in range(count)]


def make_evaluator(seeds: int = 3) -> Evaluator:
    table = mean_colours(make_pairs(4), CLASSES)
    return Evaluator(
        ColourPainter(), ColourJudge(), {"unet": lambda images: images.mean(axis=(1, 2)) / 255}, table, seeds
    )


@pytest.fixture(scope="module")
def summary() -> dict:
    pairs = make_pairs(6)
    part = make_evaluator().measure(pairs, pairs[1:] + pairs[:1], 0, range(2))
    return summarise(part, PORTRAIT_CLASSES, {"unet": np.random.default_rng(0).random((5, 3))})


def test_a_painter_of_class_colours_is_perfectly_consistent(summary: dict) -> None:
    assert summary["painted"]["miou"] == 1.0 and summary["painted"]["pixel_accuracy"] == 1.0
    assert summary["real"]["miou"] < 0.9


def test_seeds_that_change_the_picture_give_diversity(summary: dict) -> None:
    assert 0 < summary["diversity_pixels"] < 5 / 255


def test_a_style_taken_over_is_nearer_to_its_reference_than_a_random_one(summary: dict) -> None:
    assert 0 < summary["style_transfer"] < summary["style_random"] and 0 < summary["style_fidelity"] < 1


def test_every_number_is_explained(summary: dict) -> None:
    names = {name for value in summary.values() if isinstance(value, dict) for name in value}
    names |= {name for name, value in summary.items() if isinstance(value, float)}
    assert {name for name in names if not name.startswith("iou_")} <= set(EXPLAINED)


def test_nothing_in_own_features_is_called_fid(summary: dict) -> None:
    assert "frechet_unet" in summary["painted"] and not any("fid" in kind for kind in summary["painted"])


def test_inception_features_give_fid_and_kid() -> None:
    pairs = make_pairs(4)
    evaluator = make_evaluator()
    evaluator.features = {"inception": evaluator.features["unet"]}
    found = summarise(evaluator.measure(pairs, pairs, 0, []), PORTRAIT_CLASSES, {})
    assert {"fid", "kid"} <= set(found["painted"]) and "fid" not in found["real"]


def test_the_result_does_not_depend_on_how_rows_are_shared_out(summary: dict) -> None:
    pairs, evaluator = make_pairs(6), make_evaluator()
    references = pairs[1:] + pairs[:1]
    parts = [evaluator.measure(pairs[at : at + 2], references[at : at + 2], at, range(2)) for at in (0, 2, 4)]
    joined = add(parts)
    assert summarise(joined, PORTRAIT_CLASSES, {"unet": np.random.default_rng(0).random((5, 3))}) == summary
    assert len(joined.gallery) == 2 and len(joined.worst) == 6


def test_ignored_pixels_count_for_nothing() -> None:
    image, label_map = draw_portrait(0, SIZE)
    hidden = label_map.copy()
    hidden[:, :16] = IGNORE
    part = make_evaluator().measure([DecodedPair("a", image, hidden, None)], make_pairs(1), 0, [])
    assert part.confusion["painted"].sum() == SIZE * 16


def test_a_painter_without_style_is_measured_without_the_style_numbers() -> None:
    painter = ColourPainter()
    painter.has_style = False
    pairs, evaluator = make_pairs(3), make_evaluator()
    evaluator.painter = painter
    found = summarise(evaluator.measure(pairs, pairs, 0, []), PORTRAIT_CLASSES, {})
    assert "own_style" not in found and "style_own" not in found and "diversity_pixels" not in found


def test_the_painter_gets_the_instances_of_each_label_map_at_its_own_size() -> None:
    image, label_map = draw_portrait(0, 2 * SIZE)
    instances = np.zeros((2 * SIZE, 2 * SIZE), dtype=np.uint16)
    instances[:, SIZE:] = 700
    evaluator, others = make_evaluator(), make_pairs(1)
    evaluator.measure([DecodedPair("a", image, label_map, None, instances)], others, 0, [])
    calls = evaluator.painter.instance_maps
    assert len(calls) == 3 + 2  # three seeds, own style, the reference's
    for given in calls:
        assert given.shape == (1, SIZE, SIZE) and (given[0] == instances[::2, ::2]).all()
    evaluator.painter.instance_maps.clear()
    evaluator.measure(others, others, 0, [])
    assert evaluator.painter.instance_maps == [None] * 5


def test_colour_distance_is_zero_for_equal_pictures_and_known_for_shifted_ones() -> None:
    image, label_map = draw_portrait(1, SIZE)
    image = np.clip(image, 0, 200)
    own = colour_statistics(image, label_map, CLASSES)
    assert colour_distance(own, own) == 0
    lighter = colour_statistics(image + 51, label_map, CLASSES)  # means move by 0.2, spreads stay
    assert colour_distance(own, lighter) == pytest.approx(0.2)


def test_colour_distance_is_nan_when_no_class_is_shared() -> None:
    image = np.zeros((8, 8, 3), dtype=np.uint8)
    a, b = (colour_statistics(image, np.full((8, 8), number, dtype=np.uint8), CLASSES) for number in (1, 2))
    assert np.isnan(colour_distance(a, b))


def test_mean_colours_are_the_means_of_each_class() -> None:
    image = np.zeros((2, 2, 3), dtype=np.uint8)
    image[0] = 100
    table = mean_colours([DecodedPair("a", image, np.array([[1, 1], [2, 2]], dtype=np.uint8), None)], CLASSES)
    assert (
        tuple(table[1]) == (100, 100, 100) and tuple(table[2]) == (0, 0, 0) and tuple(table[IGNORE]) == (128, 128, 128)
    )
