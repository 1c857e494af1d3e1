"""gaugan.training with a toy system: resumed, stopped and damaged runs end where an undisturbed one does."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from toy_runs import curve, install_toy, lines, same_state, stop_after, toy_plan
from toys import ToySystem, write_pairs

from gaugan import checkpoint, storage, training
from gaugan.data_check import check_data
from gaugan.errors import UserError
from gaugan.pairs import Pairs
from gaugan.plan import TrainingPlan, square
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


def steps_of(uri: str, key: str) -> list[int]:
    return [step for step, _ in curve(uri, key)]


def test_a_run_leaves_what_it_promises(plan: TrainingPlan) -> None:
    reported: list[int] = []
    result = run_training(plan, lambda step, values: reported.append(step))
    assert (result["status"], result["step"]) == ("finished", 24)
    assert result["checkpoint"] == checkpoint.step_uri(plan.output, 24) == checkpoint.find(plan.output)
    assert result["best"]["step"] == 24 and result["metrics"] == {"score": 0.024, "count": 3.0}
    samples = [entry.path for entry in storage.list_files(f"{plan.output}/samples")]
    assert samples == [f"step_{step:08d}.png" for step in (8, 16, 24)]
    assert steps_of(plan.output, "loss") == [4, 8, 12, 16, 20, 24]
    assert steps_of(plan.output, "held_out/score") == [8, 16, 24]
    assert reported == [line["step"] for line in lines(plan.output)]
    assert checkpoint.steps(plan.output) == [18, 24]


@pytest.mark.parametrize("stops", [[11], [6, 1, 9], [23]])
def test_a_stopped_and_resumed_run_equals_a_straight_run_bit_for_bit(plan: TrainingPlan, stops: list[int]) -> None:
    straight = replace(plan, output=plan.output + "-straight")
    run_training(straight)
    done = 0
    for stop in stops:
        done += stop
        result = run_training(plan, should_stop=stop_after(stop))
        assert (result["status"], result["step"]) == ("stopped", done)
        assert result["checkpoint"] == checkpoint.step_uri(plan.output, done)
    assert run_training(plan)["status"] == "finished"
    assert same_state(plan.output, straight.output)
    for key in ("loss", "held_out/score"):
        assert steps_of(plan.output, key) == steps_of(straight.output, key)


def test_a_killed_run_goes_back_one_interval_and_reports_each_step_once(
    plan: TrainingPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    straight = replace(plan, output=plan.output + "-straight")
    run_training(straight)
    step_of = ToySystem.train_step

    def dies(self: ToySystem, batch: dict, step: int) -> dict:
        if step == 21:
            raise RuntimeError("killed")
        return step_of(self, batch, step)

    with monkeypatch.context() as patch:
        patch.setattr(ToySystem, "train_step", dies)
        with pytest.raises(RuntimeError, match="killed"):
            run_training(plan)
    with open(f"{plan.output}/metrics.jsonl", "a") as file:
        file.write('{"step": 2')  # the machine went down in the middle of a line
    assert checkpoint.newest(plan.output).meta["step"] == 18  # type: ignore[union-attr]
    run_training(plan)
    assert same_state(plan.output, straight.output)
    assert [line["step"] for line in lines(plan.output)] == [line["step"] for line in lines(straight.output)]


def test_a_damaged_newest_checkpoint_costs_one_interval_and_nothing_else(plan: TrainingPlan) -> None:
    straight = replace(plan, output=plan.output + "-straight")
    run_training(straight)
    run_training(replace(plan, keep=1), should_stop=stop_after(18))  # best at 16, newest at 18
    Path(checkpoint.step_uri(plan.output, 18), "toy.safetensors").write_bytes(b"damaged")
    result = run_training(replace(plan, keep=1))
    assert result["status"] == "finished" and same_state(plan.output, straight.output)
    assert checkpoint.steps(plan.output) == [24]


def test_a_best_that_has_to_be_done_again_is_forgotten(plan: TrainingPlan) -> None:
    run_training(plan)
    Path(checkpoint.step_uri(plan.output, 24), "toy.safetensors").write_bytes(b"damaged")
    result = run_training(plan)
    assert result["best"]["step"] == 24
    checkpoint.load(checkpoint.find(plan.output))


def test_the_best_checkpoint_stays_and_is_found(plan: TrainingPlan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ToySystem, "scores", {8: 0.9, 16: 0.5, 24: torch.nan})
    result = run_training(replace(plan, keep=1))
    assert result["best"]["step"] == 8 and checkpoint.steps(plan.output) == [8, 24]
    assert checkpoint.load(checkpoint.find(plan.output)).meta["metrics"]["score"] == 0.9
    assert [line["held_out/score"] for line in lines(plan.output) if "held_out/score" in line] == [0.9, 0.5, None]


def test_a_run_on_data_that_holds_nothing_out_measures_nothing_and_its_last_checkpoint_counts(
    plan: TrainingPlan, tmp_path: Path
) -> None:
    plan = replace(plan, data=write_pairs(str(tmp_path / "all"), held_out=0))
    result = run_training(plan)
    assert steps_of(plan.output, "held_out/score") == [] and checkpoint.pointed(plan.output, "best") is None
    assert checkpoint.find(plan.output) == result["checkpoint"] == checkpoint.step_uri(plan.output, 24)
    told: list[str] = []
    check_data(plan, Pairs.open(plan.data), log=told.append)
    assert any("holds no pictures out" in line and "--held-out" in line for line in told)


def test_one_bad_step_is_skipped_counted_and_the_run_finishes(plan: TrainingPlan) -> None:
    ToySystem.bad_steps = {5}
    assert run_training(plan)["status"] == "finished"
    assert [line["skipped"] for line in lines(plan.output) if "skipped" in line] == [0, 1, 0, 0, 0, 0]
    assert storage.read_json(f"{plan.output}/skipped_steps.json") == [5]


def test_twenty_bad_steps_in_a_row_diverge_and_the_last_good_checkpoint_stands(plan: TrainingPlan) -> None:
    ToySystem.bad_steps = set(range(7, 99))
    result = run_training(replace(plan, steps=99, evaluate_every=None, save_every=6))
    assert (result["status"], result["step"]) == ("diverged", 26)
    found = checkpoint.load(result["checkpoint"])
    assert all(torch.isfinite(value).all() for value in found.state["networks"]["toy"].values())


def test_the_same_bad_step_again_after_a_resume_diverges(plan: TrainingPlan) -> None:
    ToySystem.bad_steps = {8}
    assert run_training(replace(plan, save_every=6), should_stop=stop_after(10))["status"] == "stopped"
    storage.remove(checkpoint.step_uri(plan.output, 10))
    storage.remove(checkpoint.step_uri(plan.output, 8))
    result = run_training(plan)
    assert (result["status"], result["step"]) == ("diverged", 8)
    assert result["checkpoint"] == "" or checkpoint.load(checkpoint.find(plan.output))


def test_a_measurement_that_a_stop_falls_into_is_done_by_the_resumed_run(
    plan: TrainingPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    straight = replace(plan, output=plan.output + "-straight")
    run_training(straight)
    measured = ToySystem.evaluate

    def stopped_in_the_middle(self: ToySystem, batches: Iterator[dict[str, torch.Tensor]]) -> dict[str, float]:
        stop.append(self.seen == 16)
        return measured(self, batches)

    stop = [False]
    with monkeypatch.context() as patch:
        patch.setattr(ToySystem, "evaluate", stopped_in_the_middle)
        patch.setattr(training, "LOOK_S", 0.0)
        patch.setattr(training, "HURRIED_S", 0.0)
        result = run_training(replace(plan, evaluate_batch=1), should_stop=lambda: stop[-1])
    assert (result["status"], result["step"]) == ("stopped", 16)
    assert steps_of(plan.output, "held_out/score") == [8]
    run_training(replace(plan, evaluate_batch=1))
    for key in ("loss", "held_out/score"):
        assert curve(plan.output, key) == curve(straight.output, key)
    assert same_state(plan.output, straight.output)


def test_a_disk_too_small_for_the_checkpoints_is_refused_before_the_first_step(
    plan: TrainingPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "free_bytes", lambda uri: 10)
    with pytest.raises(UserError, match="lower --keep"):
        run_training(plan)
    assert not checkpoint.steps(plan.output)


def test_a_finished_run_does_nothing_and_goes_on_with_more_steps(plan: TrainingPlan) -> None:
    run_training(replace(plan, steps=12))
    before = lines(plan.output)
    assert run_training(replace(plan, steps=12))["step"] == 12 and lines(plan.output) == before
    straight = replace(plan, output=plan.output + "-straight")
    run_training(straight)
    run_training(plan)
    assert same_state(plan.output, straight.output)


def test_a_run_on_s3_resumes_like_a_local_one(plan: TrainingPlan, bucket: str) -> None:
    remote = replace(plan, output=f"{bucket}/a run", steps=12, sample_every=None)
    run_training(remote, should_stop=stop_after(7))
    run_training(remote)
    run_training(replace(remote, output=plan.output))
    assert same_state(remote.output, plan.output)
    assert [line["step"] for line in lines(remote.output)] == [line["step"] for line in lines(plan.output)]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"system": "unett"}, "--system unett: choose one of unet"),
        ({"augment": "wild"}, "--augment wild: choose one of none"),
        ({"config": {"rate": 1}}, "unknown field 'rate'"),
        ({"data": "/nowhere"}, "/nowhere: no dataset"),
    ],
)
def test_what_can_not_run_is_refused_before_anything_is_written(plan: TrainingPlan, change: dict, words: str) -> None:
    with pytest.raises(UserError, match=words):
        run_training(replace(plan, **change))
    assert not storage.exists(plan.output)


@pytest.mark.parametrize(
    "change",
    [{"steps": 0}, {"save_every": 0}, {"sample_every": -1}, {"keep": 0}, {"seed": -1}, {"image_size": (4, 8)}],
)
def test_a_plan_refuses_numbers_out_of_range(plan: TrainingPlan, change: dict) -> None:
    with pytest.raises(UserError, match=f"--{next(iter(change)).replace('_', '-')}"):
        replace(plan, **change)


def test_image_size_is_one_number_or_two() -> None:
    assert square((64,)) == (64, 64) and square((64, 32)) == (64, 32)
    with pytest.raises(UserError, match="--image-size"):
        square((1, 2, 3))


def test_a_run_with_mixed_in_data_resumes_exactly(plan: TrainingPlan, tmp_path: Path) -> None:
    other = write_pairs(str(tmp_path / "other"), train=5)
    mixture = replace(plan, mix_in=(f"{other}=1",))
    straight, halves = replace(mixture, output=plan.output + "-a"), replace(mixture, output=plan.output + "-b")
    run_training(straight)
    run_training(replace(halves, steps=3))
    run_training(halves)
    assert same_state(straight.output, halves.output)


@pytest.mark.parametrize(
    ("mix_in", "message"), [(("there",), "URI=PICTURES"), (("there=0",), "URI=PICTURES"), (("there=99",), "takes all")]
)
def test_a_mixture_that_makes_no_sense_is_refused(plan: TrainingPlan, mix_in: tuple[str, ...], message: str) -> None:
    with pytest.raises(UserError, match=message):
        replace(plan, mix_in=mix_in)


def test_statistics_are_re_estimated_from_batches_of_16_however_small_those_of_the_training_are(
    plan: TrainingPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[int]] = []
    monkeypatch.setattr(
        ToySystem, "calibrate", lambda self, batches: seen.append([len(batch["image"]) for batch in batches])
    )
    run_training(replace(plan, batch_size=1, steps=1))
    run_training(replace(plan, batch_size=24, steps=1, output=f"{plan.output}-large"))
    assert seen == [[16] * 30, [24] * 30]


def test_a_run_that_is_stopped_re_estimates_from_as_many_batches_as_its_few_seconds_allow(
    plan: TrainingPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    monkeypatch.setattr(ToySystem, "calibrate", lambda self, batches: seen.append(len(list(batches))))
    monkeypatch.setattr(training, "HURRIED_S", 0.0)
    assert run_training(plan, should_stop=stop_after(1))["status"] == "stopped"
    assert seen == [1]
