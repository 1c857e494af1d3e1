"""What a run folder may be continued with: what gives the same numbers, and nothing else."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from toy_runs import install_toy, same_state, toy_plan
from toys import write_pairs

from gaugan import checkpoint, storage
from gaugan.errors import UserError
from gaugan.plan import TrainingPlan
from gaugan.resume import check_resume
from gaugan.training import run_training


@pytest.fixture(autouse=True)
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    install_toy(monkeypatch)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_pairs(str(tmp_path_factory.mktemp("data")))


@pytest.fixture
def plan(data: str, tmp_path: Path) -> TrainingPlan:
    return toy_plan(data, tmp_path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"config": {"learning_rate": 0.1}}, "learning_rate: there 0.05, now 0.1"),
        ({"image_size": (16, 8)}, r"image_size: there \(8, 8\), now \(16, 8\)"),
    ],
)
def test_other_settings_for_the_same_output_are_refused_by_name(plan: TrainingPlan, change: dict, words: str) -> None:
    run_training(replace(plan, steps=2))
    with pytest.raises(UserError, match=words):
        run_training(replace(plan, **change))
    assert run_training(replace(plan, config={"learning_rate": 0.05}))["status"] == "finished"


def other_data(plan: TrainingPlan, folder: Path) -> TrainingPlan:
    return replace(plan, data=write_pairs(str(folder / "other"), train=12))


def mixed_in(plan: TrainingPlan, folder: Path) -> TrainingPlan:
    return replace(plan, mix_in=(f"{write_pairs(str(folder / 'mixed'), train=5)}=1",))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (other_data, r"input: there .*/data.* \(content \w{16}\), now .*/other \(content \w{16}\)"),
        (mixed_in, r"mix_in: there none, now .*/mixed=1 \(content \w{16}\)"),
        (lambda plan, _: replace(plan, seed=7), "seed: there 3, now 7"),
        (lambda plan, _: replace(plan, batch_size=3), "batch_size: there 4, now 3"),
        (lambda plan, _: replace(plan, augment="strong"), "augment: there 'mild', now 'strong'"),
        (lambda plan, _: replace(plan, preprocess="resize_and_crop"), "preprocess: there 'fit'"),
        (lambda plan, _: replace(plan, seed=7, augment="none"), "seed: there 3, now 7; augment: there 'mild'"),
    ],
)
def test_a_run_is_never_continued_with_what_would_give_other_numbers(
    plan: TrainingPlan, tmp_path: Path, change: Callable[[TrainingPlan, Path], TrainingPlan], words: str
) -> None:
    run_training(replace(plan, steps=6))
    other = change(plan, tmp_path)
    for refuses in (check_resume, run_training):
        with pytest.raises(UserError, match=f"holds a run with other settings.*{words}.*another --output"):
            refuses(other)
    assert checkpoint.steps(plan.output) == [6]


def test_the_run_of_another_system_is_refused_in_a_few_words(plan: TrainingPlan) -> None:
    run_training(replace(plan, steps=2))
    with pytest.raises(UserError, match="holds a run of system 'toy', this is one of 'unet'") as refusal:
        check_resume(replace(plan, system="unet", config={}))
    assert len(str(refusal.value)) < 250


def test_what_does_not_change_the_numbers_may_change_between_two_sittings(plan: TrainingPlan, tmp_path: Path) -> None:
    straight = replace(plan, output=plan.output + "-straight")
    run_training(straight)
    run_training(replace(plan, steps=10))
    moved = tmp_path / "moved"
    shutil.copytree(plan.data, moved)
    free = {"report_every": 3, "sample_every": None, "evaluate_every": 5, "save_every": 7, "keep": 1}
    run_training(replace(plan, data=str(moved), **free))  # type: ignore[arg-type]
    assert same_state(plan.output, straight.output)


def test_a_run_of_an_older_version_that_recorded_less_goes_on(
    plan: TrainingPlan, capsys: pytest.CaptureFixture[str]
) -> None:
    run_training(replace(plan, steps=6))
    uri = storage.join(checkpoint.step_uri(plan.output, 6), "meta.json")
    storage.write_json(uri, {name: value for name, value in storage.read_json(uri).items() if name != "run"})
    check_resume(replace(plan, seed=7))
    assert "which did not record input, mix_in, seed" in capsys.readouterr().out
    run_training(plan)
    with pytest.raises(UserError, match="seed: there 3, now 7"):
        check_resume(replace(plan, seed=7))


def test_settings_bind_nothing_before_the_first_checkpoint(plan: TrainingPlan, tmp_path: Path) -> None:
    storage.write_json(f"{plan.output}/run.json", {})
    check_resume(plan)
    assert run_training(replace(plan, seed=7, batch_size=2))["status"] == "finished"
