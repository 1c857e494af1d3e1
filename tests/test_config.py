"""gaugan.config: dataclass <-> YAML <-> flags."""

from __future__ import annotations

import math
import re
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest
import yaml

from gaugan.config import check_numbers, from_plain, parse, replace_path, to_plain, to_yaml
from gaugan.errors import UserError


@dataclass(frozen=True)
class Optimiser:
    """How it is trained."""

    learning_rate: float = 1e-3
    """Highest learning rate."""
    mode: Literal["fast", "faithful"] = "fast"
    """Order of the passes."""

    def __post_init__(self) -> None:
        if self.learning_rate <= 0:
            raise UserError(f"learning_rate {self.learning_rate}: must be above 0")


@dataclass(frozen=True, kw_only=True)
class Job:
    """A job."""

    output: str
    """Where the result goes."""
    steps: int = 10
    """How many."""
    every: int | None = 5
    """How often; None = never."""
    image_size: tuple[int, ...] = (128,)
    """One or two numbers."""
    pair: tuple[int, float] = (1, 0.5)
    """A fixed pair."""
    use_gpu: bool = False
    """A switch."""
    extra: dict[str, int] = field(default_factory=dict)
    """Named numbers."""
    optimiser: Optimiser = field(default_factory=Optimiser)


@dataclass(frozen=True, kw_only=True)
class Checked(Job):
    """A job that checks itself."""

    seed: int = 0

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise UserError(f"--steps {self.steps}: must be above 0")


CHANGED = Job(output="ü b", every=None, image_size=(4, 6), optimiser=Optimiser(2e-5, "faithful"))


def test_yaml_gives_the_same_object_back() -> None:
    assert from_plain(Job, yaml.safe_load(to_yaml(CHANGED))) == CHANGED


def test_yaml_keeps_the_order_of_the_fields() -> None:
    names = [line.split(":")[0] for line in to_yaml(CHANGED).splitlines() if line[0].isalpha()]
    assert names == list(to_plain(CHANGED))


def test_yaml_numbers_without_a_dot_are_floats_where_floats_are_meant() -> None:
    assert from_plain(Optimiser, yaml.safe_load("learning_rate: 1e-4")).learning_rate == 1e-4
    assert from_plain(Optimiser, {"learning_rate": 1}).learning_rate == 1.0


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"output": "x", "stepz": 1}, ["stepz", "did you mean steps"]),
        ({"output": "x", "optimiser": {"learning_rat": 1.0}}, ["optimiser", "learning_rat", "learning_rate"]),
        ({"steps": 3}, ["output", "must be given"]),
        ({"output": "x", "steps": "three"}, ["steps", "int", "'three'"]),
        ({"output": "x", "steps": 1.5}, ["steps", "int", "1.5"]),
        ({"output": "x", "steps": True}, ["steps", "int", "True"]),
        ({"output": "x", "use_gpu": 1}, ["use_gpu", "bool"]),
        ({"output": 3}, ["output", "str"]),
        ({"output": "x", "pair": [1]}, ["pair", "2 values"]),
        ({"output": "x", "image_size": 64}, ["image_size", "a list"]),
        ({"output": "x", "every": "often"}, ["every", "int"]),
        ({"output": "x", "extra": [1]}, ["extra", "named values"]),
        ({"output": "x", "optimiser": {"mode": "slow"}}, ["mode", "'slow'", "'fast'", "'faithful'"]),
        ({"output": "x", "optimiser": {"learning_rate": -1}}, ["optimiser", "-1", "above 0"]),
        ({"output": "x", "optimiser": 3}, ["optimiser", "Optimiser", "3"]),
        ([1], ["Job", "list"]),
    ],
)
def test_a_wrong_field_is_refused_with_its_name_and_what_is_allowed(data: dict, words: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        from_plain(Job, data, source="here.yaml")
    for word in ["here.yaml", *words]:
        assert word in str(caught.value)


def test_replace_path_reaches_nested_fields_and_checks_them() -> None:
    changed = replace_path(CHANGED, "optimiser.learning_rate", 3)
    assert changed.optimiser == Optimiser(3.0, "faithful") and changed.output == CHANGED.output
    assert CHANGED.optimiser.learning_rate == 2e-5
    for path in ("optimiser.rate", "nothing", "steps.deeper", ""):
        with pytest.raises(UserError, match="no field"):
            replace_path(CHANGED, path, 1)
    with pytest.raises(UserError, match="above 0"):
        replace_path(CHANGED, "optimiser.learning_rate", -1)


def test_an_unknown_field_in_a_path_is_answered_with_the_nearest_names() -> None:
    with pytest.raises(UserError, match="Job has no field 'stepz'; did you mean steps[?]$"):
        replace_path(CHANGED, "stepz", 1)
    with pytest.raises(UserError, match="has no field 'zzz'; it has learning_rate, mode$"):
        replace_path(CHANGED, "optimiser.zzz", 1)


@dataclass(frozen=True)
class Numbers:
    rate: float | tuple[float, ...] | None

    def __post_init__(self) -> None:
        check_numbers(self, ("rate",))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, (1.0, math.nan)])
def test_a_number_that_is_not_finite_is_refused(value: float) -> None:
    with pytest.raises(UserError, match="--rate .*: must be a finite number, above 0"):
        Numbers(value)
    with pytest.raises(UserError, match="--rate 0: must be above 0"):
        Numbers(0)
    for good in (1e-9, 3, (1.0, 2.0), None):
        Numbers(good)


@pytest.mark.parametrize(
    "arguments",
    [["--learning-rate", "-1"], ["--config", "FILE"], ["--steps", "-5"], ["--config", "FILE", "--seed", "1"]],
)
def test_what_a_check_says_is_one_line_without_a_box(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run.yaml").write_text("optimiser: {learning_rate: -1}\n")
    arguments = [str(tmp_path / "run.yaml") if word == "FILE" else word for word in arguments]
    with pytest.raises(SystemExit) as caught:
        parse(Checked, ["--output", "x", *arguments])
    shown = capsys.readouterr()
    assert caught.value.code == 2 and shown.out == ""
    assert re.fullmatch(r"error: \S+ -\S+: must be above 0( \(--config and .*\))?\n", shown.err), shown.err
    assert ("--config" in shown.err) == ("--config" in arguments)


def test_a_flag_mends_what_the_config_file_has_wrong(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("output: x\nsteps: -3\noptimiser: {learning_rate: -1}\n")
    words = ["--config", str(tmp_path / "run.yaml"), "--steps", "3", "--learning-rate", "0.5"]
    assert parse(Checked, words) == Checked(output="x", steps=3, optimiser=Optimiser(0.5))
    with pytest.raises(UserError):  # the checks are back in force
        Optimiser(-1)
    with pytest.raises(UserError):
        Checked(output="x", steps=-3)


def test_the_usage_line_calls_the_command_as_it_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(Job, ["--help"], program="python -m job")
    assert capsys.readouterr().out.startswith("usage: python -m job [-h]")


def test_flags_of_nested_dataclasses_have_no_prefix() -> None:
    config = parse(Job, ["--output", "x", "--learning-rate", "0.5", "--image-size", "4", "6", "--use-gpu"])
    assert config == Job(output="x", image_size=(4, 6), use_gpu=True, optimiser=Optimiser(0.5))


def test_the_config_file_comes_first_and_flags_override_it_wherever_they_stand(tmp_path: Path) -> None:
    path = tmp_path / "a b.yaml"
    path.write_text(to_yaml(CHANGED))
    assert parse(Job, ["--config", str(path)]) == CHANGED
    config = parse(Job, ["--steps", "7", f"--config={path}", "--learning-rate", "0.5"])
    assert (config.steps, config.optimiser) == (7, Optimiser(0.5, "faithful"))
    assert config.image_size == CHANGED.image_size


def test_the_config_file_may_leave_required_flags_to_the_command_line(tmp_path: Path) -> None:
    path = tmp_path / "partial.yaml"
    path.write_text("optimiser: {learning_rate: 1e-5}\n")
    assert parse(Job, ["--config", str(path), "--output", "x"]) == Job(output="x", optimiser=Optimiser(1e-5))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "--output"),
        (["--output", "x", "--stepz", "3"], "--steps"),
        (["--output", "x", "--steps", "many"], "many"),
        (["--output", "x", "--learning-rate", "-1"], "above 0"),
        (["--output", "x", "--config"], "one file"),
        (["--config", "a", "--config", "b"], "one file"),
        (["--config", "/nowhere/at/all.yaml"], "error: --config /nowhere/at/all.yaml: no such file"),
        (["--config", "BROKEN"], "BROKEN"),
        (["--config", "UNKNOWN"], "did you mean"),
        (["--config", "EMPTY"], "--output"),
    ],
)
def test_usage_errors_end_with_code_2_and_say_why(
    arguments: list[str],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, text in {"BROKEN": "a: [", "UNKNOWN": "outputt: x", "EMPTY": ""}.items():
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as caught:
        parse(Job, arguments)
    assert caught.value.code == 2
    shown = capsys.readouterr()
    assert words in " ".join((shown.out + shown.err).split())


def test_help_shows_the_sentence_of_every_field(capsys: pytest.CaptureFixture[str]) -> None:
    start = time.monotonic()
    with pytest.raises(SystemExit) as caught:
        parse(Job, ["--help"], description="What the job does.")
    shown = " ".join(capsys.readouterr().out.split())
    assert caught.value.code == 0 and time.monotonic() - start < 2
    for words in ("What the job does.", "--config FILE", "Where the result goes.", "Highest learning rate."):
        assert words in shown
