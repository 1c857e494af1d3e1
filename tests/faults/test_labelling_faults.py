"""The label job under fire: killed actors, a killed driver, many pictures. `make test-long` has the full numbers."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest
from label_runs import Undisturbed, files, ids, label, leftovers, pictures
from processes import Command


@pytest.mark.ray
@pytest.mark.parametrize(
    ("count", "kills"),
    [
        pytest.param(40, 1, id="short"),
        pytest.param(2000, 20, id="long", marks=[pytest.mark.long, pytest.mark.timeout(3600)]),
    ],
)
def test_killed_actors_and_a_killed_driver_lose_and_double_nothing(
    tmp_path: Path, unet: str, undisturbed: Undisturbed, count: int, kills: int
) -> None:
    straight, output = undisturbed(count), tmp_path / "disturbed"
    rng, done, due = random.Random(0), 0, [0.0]

    def shoot(command: Command) -> None:
        nonlocal done
        if done < kills and time.monotonic() >= due[0] and command.kill("LabelActor"):
            done += 1
            due[0] = time.monotonic() + rng.uniform(1.0, 3.0)

    first = label(tmp_path / "first.log", straight.source, unet, str(output), "--num-workers", "1")
    while first.runs and not list(output.glob(".work/*/*.parquet")):
        shoot(first)
        time.sleep(0.05)
    first.kill_all()
    again = label(tmp_path / "second.log", straight.source, unet, str(output), "--num-workers", "2")
    second = again.wait(shoot, timeout_s=1500)
    assert second.code == 0, second.output
    assert done == kills
    assert "inputs are done" in second.output, "the second sitting began where the first was killed"
    assert ids(output) == sorted(path.name for path in Path(straight.source).iterdir())
    assert files(output) == files(straight.output)
    print(f"{count} pictures, {kills} kills: {straight.seconds:.0f} s undisturbed, {second.seconds:.0f} s disturbed")


@pytest.mark.ray
@pytest.mark.long
@pytest.mark.timeout(3600)
def test_a_driver_killed_five_times_leaves_the_bytes_of_an_undisturbed_run(
    tmp_path: Path, unet: str, undisturbed: Undisturbed
) -> None:
    straight, output = undisturbed(400), tmp_path / "killed"
    for sitting in range(5):
        done = len(list(output.glob(".work/*/*.parquet"))) + 64 * len(list(output.glob("outcomes/*")))
        run = label(
            tmp_path / f"{sitting}.log", straight.source, unet, str(output), "--num-workers", str(1 + sitting % 2)
        )
        while run.runs and (
            len(list(output.glob(".work/*/*.parquet"))) + 64 * len(list(output.glob("outcomes/*"))) <= done + 4
        ):
            time.sleep(0.1)
        assert run.runs, run.log.read_text()
        run.kill_all()
    last = label(tmp_path / "last.log", straight.source, unet, str(output)).wait(timeout_s=900)
    assert last.code == 0 and "inputs are done" in last.output, last.output
    assert files(output) == files(straight.output) and not leftovers(output)


@pytest.mark.ray
@pytest.mark.long
@pytest.mark.timeout(3600)
def test_memory_does_not_grow_with_the_number_of_pictures(tmp_path: Path, unet: str) -> None:
    peaks = {}
    for count in (1000, 10_000):
        source, peak = pictures(tmp_path / f"in{count}", count), 0

        def look(command: Command) -> None:
            nonlocal peak
            peak = max(peak, command.memory_bytes())

        output = tmp_path / f"out{count}"
        words = ["--num-workers", "1", "--batch-size", "16"]
        ended = label(output.with_suffix(".log"), source, unet, str(output), *words).wait(look, timeout_s=1500)
        assert ended.code == 0, ended.output
        peaks[count] = peak
        print(f"{count} pictures: {peak / 2**30:.2f} GiB at most, {count / ended.seconds:.1f} pictures/s in all")
    assert peaks[10_000] < 1.25 * peaks[1000]
