"""Styles in use: seeds, pictures, mixtures, steps between two, truncation; and what can't be chosen."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_models import save_spade

from gaugan.errors import UserError
from gaugan.images import encode_png
from gaugan.painter import Painter
from gaugan.portraits import draw_portrait
from gaugan.spade.style import StylePrior, mix_styles, styles_between, truncate_styles
from gaugan.style_choice import StyleChoice, Styles, absolute_sources, check_sources, parsed_mix


@pytest.fixture(scope="module")
def painter(tmp_path_factory: pytest.TempPathFactory) -> Painter:
    painter = Painter.load(save_spade(tmp_path_factory.mktemp("model") / "checkpoint"))
    generator = torch.Generator().manual_seed(0)
    painter.prior.update(torch.randn(32, 8, generator=generator) + 2.0, torch.zeros(32, 8))
    return painter


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("styles")
    for number in range(2):
        (folder / f"{number}.png").write_bytes(encode_png(draw_portrait(number, 64)[0]))
    return [str(folder / f"{number}.png") for number in range(2)]


def vectors(painter: Painter, **flags: object) -> list[torch.Tensor]:
    styles = Styles(StyleChoice(**flags), painter, seed=5)  # type: ignore[arg-type]
    found = styles.vectors([0, 1, 2], [draw_portrait(number, 64)[0] for number in (0, 1, 0)])
    assert len(found) == len(styles.names(0)) == styles.choice.per_picture
    return [each for each in found if each is not None]


def test_each_label_map_gets_its_own_seed_and_same_gives_all_one(painter: Painter) -> None:
    (each,), (same,) = vectors(painter), vectors(painter, style="same")
    assert torch.equal(each, painter.prior.sample([5, 6, 7]))
    assert torch.equal(same, painter.prior.sample([5, 5, 5]))
    first, second = vectors(painter, variations=2)
    assert torch.equal(torch.cat([first[:1], second[:1], first[1:2]]), painter.prior.sample([5, 6, 7]))
    assert Styles(StyleChoice(variations=2), painter, 5).names(1) == ["seed 7", "seed 8"]


def test_a_picture_gives_its_style_to_all_and_own_gives_each_its_own(painter: Painter, pictures: list[str]) -> None:
    wanted = painter.encode_style([draw_portrait(number, 64)[0] for number in (0, 1)])[0]
    (given,), (own,) = vectors(painter, style_image=pictures[1]), vectors(painter, style="own")
    assert torch.allclose(given, wanted[[1, 1, 1]], atol=1e-5) and torch.allclose(own, wanted[[0, 1, 0]], atol=1e-5)


def test_a_mixture_is_the_weighted_mean_of_pictures_and_seeds(painter: Painter, pictures: list[str]) -> None:
    (mixed,) = vectors(painter, style_mix=(f"{pictures[0]}=3", "seed:9=1"))
    one = painter.encode_style([draw_portrait(0, 64)[0]])[0]
    assert torch.allclose(mixed[2], 0.75 * one[0] + 0.25 * painter.prior.sample([9])[0], atol=1e-5)
    assert torch.allclose(mix_styles(torch.eye(3), [1, 1, 2]), torch.tensor([[0.25, 0.25, 0.5]]))


def test_steps_between_two_styles_begin_with_one_and_end_with_the_other(painter: Painter) -> None:
    found = vectors(painter, interpolate=("seed:1", "seed:2"), interpolate_steps=3)
    first, second = painter.prior.sample([1]), painter.prior.sample([2])
    assert torch.equal(found[0][1], first[0]) and torch.equal(found[2][1], second[0])
    assert torch.allclose(found[1][0], (first + second)[0] / 2, atol=1e-6)
    assert [float(each) for each in styles_between(torch.zeros(1), torch.ones(1), [0, 0.3])] == pytest.approx([0, 0.3])


def test_truncation_pulls_towards_the_mean_style(painter: Painter) -> None:
    (full,), (half,), (none,) = (vectors(painter, truncation=share) for share in (1.0, 0.5, 0.0))
    mean = painter.prior.mean
    assert torch.allclose(half - mean, (full - mean) / 2, atol=1e-5) and torch.allclose(none, mean.expand(3, -1))
    fresh = StylePrior(2)  # nothing learnt: N(0, 1), mean 0
    assert torch.equal(truncate_styles(torch.tensor([[4.0, 2.0]]), fresh, 0.25), torch.tensor([[1.0, 0.5]]))


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"style": "own", "style_image": "a.png"}, "--style-image, --style: each chooses"),
        ({"style_mix": ("a.png=1",), "interpolate": ("a", "b")}, "--style-mix, --interpolate"),
        ({"interpolate": ("a.png",)}, "give two pictures"),
        ({"interpolate": ("a", "b"), "interpolate_steps": 1}, "--interpolate-steps 1"),
        ({"variations": 0}, "--variations 0"),
        ({"variations": 2, "style": "own"}, "--variations 2"),
        ({"variations": 2, "style_image": "a.png"}, "--variations 2"),
        ({"truncation": 1.5}, "--truncation 1.5"),
        ({"style_mix": ("a.png",)}, "--style-mix a.png: expected SOURCE=WEIGHT"),
        ({"style_mix": ("a.png=0",)}, "weight above 0"),
    ],
)
def test_choices_that_make_no_sense_are_refused_by_flag(flags: dict, words: str) -> None:
    with pytest.raises(UserError, match=words):
        StyleChoice(**flags)


def test_a_style_picture_that_can_not_be_read_and_an_odd_seed_are_refused(tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"\x89PNG")
    with pytest.raises(UserError, match="style picture .*broken.png"):
        check_sources(StyleChoice(style_image=str(tmp_path / "broken.png")))
    with pytest.raises(UserError, match="style picture .*none.png: no such file"):
        check_sources(StyleChoice(style_mix=(f"{tmp_path}/none.png=1",)))
    with pytest.raises(UserError, match="seed:x: expected seed:N"):
        check_sources(StyleChoice(interpolate=("seed:x", "seed:2")))


def test_paths_become_absolute_and_weights_shares() -> None:
    found = absolute_sources(StyleChoice(style_mix=("a=b.png=2", "seed:3=6")))
    assert Path(found.style_mix[0].removesuffix("=2")).is_absolute() and found.style_mix[1] == "seed:3=6"
    assert [share for _, share in parsed_mix(found.style_mix)] == [0.25, 0.75]
    assert np.isclose(sum(share for _, share in parsed_mix(("a=1", "b=1", "c=1"))), 1)
