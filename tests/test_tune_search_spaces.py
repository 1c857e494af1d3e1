"""tune/search_spaces.py: what is drawn, and what is refused before anything starts."""

from pathlib import Path

import pytest

from gaugan.errors import UserError
from jobs.train_gaugan import TrainGauGAN
from tune import search_spaces
from tune.search_spaces import Distribution

BASE = TrainGauGAN(input="data", output="out")
DEFAULT = Path(search_spaces.__file__).with_name("loss_weights.yaml")


def load(tmp_path: Path, text: str) -> search_spaces.Space:
    uri = tmp_path / "space.yaml"
    uri.write_text(text)
    return search_spaces.load(str(uri))


def test_the_default_space_fits_the_job_and_holds_its_published_weights() -> None:
    space = search_spaces.load(str(DEFAULT))
    search_spaces.check(space, BASE)
    for path, value in search_spaces.current(space, BASE).items():
        assert space[path].low <= value <= space[path].high


def test_a_trial_s_values_depend_on_seed_and_number_only(tmp_path: Path) -> None:
    space = search_spaces.load(str(DEFAULT))
    assert search_spaces.sample(space, 7, 3) == search_spaces.sample(dict(reversed(space.items())), 7, 3)
    assert search_spaces.sample(space, 7, 3) != search_spaces.sample(space, 7, 4)


@pytest.mark.parametrize(
    ("distribution", "kind"),
    [
        (Distribution("uniform", -1.0, 2.0), float),
        (Distribution("loguniform", 1e-4, 1e2), float),
        (Distribution("randint", 2, 4), int),
        (Distribution("choice", values=(True, False)), bool),
    ],
)
def test_values_stay_inside_their_range_and_keep_their_type(distribution: Distribution, kind: type) -> None:
    drawn = [search_spaces.sample({"x": distribution}, 0, number)["x"] for number in range(200)]
    assert all(type(value) is kind for value in drawn)
    if distribution.kind == "choice":
        assert set(drawn) == {True, False}
    else:
        assert distribution.low <= min(drawn) and max(drawn) <= distribution.high
    if distribution.kind == "randint":
        assert set(drawn) == {2, 3, 4}


def test_loguniform_draws_half_below_the_geometric_middle() -> None:
    space = {"x": Distribution("loguniform", 1e-4, 1.0)}
    below = sum(search_spaces.sample(space, 0, number)["x"] < 1e-2 for number in range(2000))
    assert 920 < below < 1080  # binomial, mean 1000, sd 22


def test_values_are_set_at_their_paths() -> None:
    job = search_spaces.apply(BASE, {"spade.lambda_feat": 3, "batch_size": 4})
    assert (job.spade.lambda_feat, job.batch_size) == (3.0, 4)
    assert search_spaces.current({"spade.lambda_feat": Distribution("uniform")}, job) == {"spade.lambda_feat": 3.0}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["expected lines such as"]),
        ("spade.lambda_feat: 3", ["spade.lambda_feat", "distribution", "3"]),
        ("spade.lambda_feat: {distribution: normal, low: 1, high: 2}", ["normal", "loguniform"]),
        ("spade.lambda_feat: {distribution: uniform, lo: 1, high: 2}", ["lo", "did you mean low"]),
        ("spade.lambda_feat: {distribution: uniform, low: 2, high: 1}", ["low (2)", "high (1)"]),
        ("spade.lambda_feat: {distribution: uniform, low: a, high: 1}", ["numbers", "'a'"]),
        ("spade.lambda_feat: {distribution: loguniform, low: 0, high: 1}", ["above 0"]),
        ("batch_size: {distribution: randint, low: 1.5, high: 4}", ["whole numbers"]),
        ("spade.gan_mode: {distribution: choice, values: []}", ["values must be a list"]),
        ("a: {", ["space.yaml"]),
        ("spade.lambda_feat: {distribution: [uniform], low: 1, high: 2}", ["['uniform']", "loguniform"]),
        ("spade.lambda_feat: {distribution: uniform, 2: 2}", ["uniform takes high and low", "'2'"]),
    ],
)
def test_a_space_that_means_nothing_is_refused_with_advice(tmp_path: Path, text: str, words: list[str]) -> None:
    with pytest.raises(UserError) as refusal:
        load(tmp_path, text)
    for word in [*words, "space.yaml"]:
        assert word in str(refusal.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "spade.lambda_feet: {distribution: uniform, low: 1, high: 2}",
            ["spade.lambda_feet", "did you mean spade.lambda_feat"],
        ),
        (
            "lambda_feat: {distribution: uniform, low: 1, high: 2}",
            ["lambda_feat: no", "did you mean spade.lambda_feat?"],
        ),
        ("xyzzy: {distribution: uniform, low: 1, high: 2}", ["xyzzy: no such field; did you mean "]),
        ("spade.lambda_feat.x: {distribution: uniform, low: 1, high: 2}", ["spade.lambda_feat.x: no such field"]),
        ("spade.gan_mode: {distribution: choice, values: [hinge, big]}", ["spade.gan_mode", "'big'", "'ls'"]),
        ("batch_size: {distribution: uniform, low: 1, high: 2}", ["batch_size", "1.0", "randint"]),
        ("spade.decay_steps: {distribution: randint, low: 0, high: 2}", ["spade.decay_steps", "0", "above 0"]),
        ("output: {distribution: choice, values: [a]}", ["output", "set by the sweep"]),
    ],
)
def test_a_space_that_does_not_fit_the_job_is_refused(tmp_path: Path, text: str, words: list[str]) -> None:
    with pytest.raises(UserError) as refusal:
        search_spaces.check(load(tmp_path, text), BASE)
    for word in words:
        assert word in str(refusal.value)
    assert len(str(refusal.value)) < 250
