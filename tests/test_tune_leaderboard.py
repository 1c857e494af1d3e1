"""tune/leaderboard.py and the records of tune/trials.py."""

import csv
import math
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

from gaugan import images, storage
from gaugan.config import from_plain
from jobs.train_gaugan import TrainGauGAN
from tune import leaderboard, trials
from tune.trials import FAILED, FINISHED, STOPPED_EARLY, Record, Setup

METRIC = "held_out/quality"


def setup_in(folder: Path, mode: str = "max") -> Setup:
    base = TrainGauGAN(input="data", output="elsewhere", steps=777, tracking="none")
    return Setup(str(folder), base, 40, 10, METRIC, mode, num_workers=1, threads=2, use_gpu=False)


def fill(setup: Setup) -> None:
    write = [
        Record(
            0, {"spade.lambda_feat": 10.0}, FINISHED, reports=[{"step": 20, METRIC: 0.7}, {"step": 40, METRIC: 0.5}]
        ),
        Record(1, {"spade.lambda_feat": 2.0}, STOPPED_EARLY, reports=[{"step": 20, METRIC: 0.6}]),
        Record(2, {"spade.lambda_feat": 3.0}, FAILED, "no | luck", reports=[{"step": 20, METRIC: 0.9}]),
        Record(3, {"spade.lambda_feat": 4.0}, FINISHED, reports=[{"step": 40, METRIC: math.inf}]),
    ]
    for record in write:
        trials.write(setup.output, record)


def test_a_record_survives_the_disk_and_replaces_a_step_that_is_told_twice(tmp_path: Path) -> None:
    record = Record(5, {"spade.gan_mode": "ls"})
    assert record.add(20, {METRIC: 0.1}) and record.add(10, {METRIC: 0.2})
    assert not record.add(20, {METRIC: 0.3})
    trials.write(str(tmp_path), record)
    assert trials.read_all(str(tmp_path)) == [record]
    assert [line[METRIC] for line in record.reports] == [0.2, 0.3]
    assert trials.read(str(tmp_path), 6) is None


def test_the_best_measurement_ranks_and_failed_or_infinite_ones_come_last(tmp_path: Path) -> None:
    setup = setup_in(tmp_path)
    fill(setup)
    table = leaderboard.write(setup)
    assert [row["trial"] for row in table] == ["000", "001", "002", "003"]
    assert (table[0][METRIC], table[0]["at_step"], table[0]["last_step"]) == (0.7, 20, 40)
    with (tmp_path / "leaderboard.csv").open() as file:
        assert [row["status"] for row in csv.DictReader(file)] == [FINISHED, STOPPED_EARLY, FAILED, FINISHED]
    lines = (tmp_path / "leaderboard.md").read_text().splitlines()
    assert len({line.count("|") for line in lines}) == 1  # the message's own bar must not break the table
    assert [row["trial"] for row in leaderboard.rows(setup_in(tmp_path, "min"))][0] == "000"


def test_best_yaml_is_the_base_job_with_the_best_values_and_the_base_s_steps(tmp_path: Path) -> None:
    setup = setup_in(tmp_path)
    assert leaderboard.write_best(setup) == ""
    fill(setup)
    job = from_plain(TrainGauGAN, yaml.safe_load(storage.read_text(leaderboard.write_best(setup))))
    assert (job.spade.lambda_feat, job.steps, job.input) == (10.0, 777, "data")
    assert job.output == str(tmp_path / "best_run")


def test_the_sheet_shows_every_trial_s_last_samples(tmp_path: Path) -> None:
    setup = setup_in(tmp_path)
    fill(setup)
    assert leaderboard.write_sheet(setup) == ""
    for number, level in ((0, 200), (1, 90)):
        for step, value in ((10, 0), (20, level)):
            picture = np.full((24, 48, 3), value, np.uint8)
            uri = f"{trials.folder(setup.output, number)}/samples/step_{step:08d}.png"
            storage.write_bytes(uri, images.encode_png(picture))
    sheet = np.asarray(Image.open(leaderboard.write_sheet(setup)))
    width = leaderboard.SHEET_WIDTH
    assert sheet.shape[1] == 2 * width
    middle = leaderboard.CAPTION_HEIGHT + 100
    assert abs(int(sheet[middle, width // 2, 0]) - 200) < 3 and abs(int(sheet[middle, width * 3 // 2, 0]) - 90) < 3


def test_a_trial_s_job_differs_from_the_base_in_its_values_its_folder_and_its_length(tmp_path: Path) -> None:
    job = setup_in(tmp_path).job(3, {"spade.lambda_feat": 3.0})
    assert (job.spade.lambda_feat, job.steps, job.evaluate_every, job.threads) == (3.0, 40, 10, 2)
    assert job.output == str(tmp_path / "trials" / "003")
    assert job.plan("spade", job.spade).output == job.output


def test_metrics_of_a_nested_run_are_told_once_each_and_no_half_line_is_read(tmp_path: Path) -> None:
    told: list[int] = []
    lines = tmp_path / "metrics.jsonl"
    lines.write_text('{"step": 5, "loss": 1}\n{"step": 10, "held_out/quality": 0.5}\n{"step": 20, "held_out/qual')
    last = trials._tell_new_lines(str(tmp_path), 0, lambda step, values: told.append(step))
    assert (last, told) == (10, [10])
    lines.write_text(lines.read_text() + 'ity": 0.6}\n')
    assert trials._tell_new_lines(str(tmp_path), last, lambda step, values: told.append(step)) == 20
    assert told == [10, 20]
