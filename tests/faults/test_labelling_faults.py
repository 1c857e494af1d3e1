"""The label job under fire: killed actors, a killed driver, many pictures. `make test-long` has the full numbers."""

from __future__ import annotations

import itertools
import random
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from processes import Command
from tiny_models import save_unet, write_portraits

SHORT = pytest.param(40, 1, id="short")
LONG = pytest.param(2000, 20, id="long", marks=[pytest.mark.long, pytest.mark.timeout(3600)])
SIDE = 64


@pytest.fixture(scope="module")
def unet(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_unet(tmp_path_factory.mktemp("unet") / "checkpoint")


def pictures(folder: Path, count: int) -> str:
    """A few hundred different portraits, repeated under other names, and two bad files."""
    write_portraits(folder, min(count, 200), SIDE)
    originals = sorted(folder.glob("*.png"))
    for number, original in zip(range(len(originals), count), itertools.cycle(originals)):
        (folder / f"{number:06d}.png").hardlink_to(original)
    (folder / "empty.png").write_bytes(b"")
    (folder / "junk.jpg").write_bytes(b"\xff\xd8\xffjunk")
    return str(folder)


def label(output: Path, source: str, unet: str, *flags: str) -> Command:
    words = ["jobs/label_dataset.py", "--input", source, "--model", unet, "--output", str(output)]
    return Command(output.with_suffix(".log"), *words, "--tracking", "none", "--batch-size", "4", *flags)


def files(output: Path) -> dict[str, bytes]:
    found = [output / "manifest.json", *output.glob("pairs/*"), *output.glob("outcomes/*")]
    return {str(path.relative_to(output)): path.read_bytes() for path in found}


def ids(output: Path) -> list[str]:
    return sorted(pq.read_table(output / "outcomes", columns=["id"]).column("id").to_pylist())


@pytest.mark.ray
@pytest.mark.parametrize(("count", "kills"), [SHORT, LONG])
def test_killed_actors_and_a_killed_driver_lose_and_double_nothing(
    tmp_path: Path, unet: str, count: int, kills: int
) -> None:
    source = pictures(tmp_path / "in", count)
    undisturbed = label(tmp_path / "straight", source, unet, "--num-workers", "1").wait(timeout_s=1500)
    assert undisturbed.code == 0, undisturbed.output

    rng, done, due = random.Random(0), 0, [0.0]

    def shoot(command: Command) -> None:
        nonlocal done
        if done < kills and time.monotonic() >= due[0] and command.kill("LabelActor"):
            done += 1
            due[0] = time.monotonic() + rng.uniform(1.0, 3.0)

    first = label(tmp_path / "disturbed", source, unet, "--num-workers", "1")
    while first.runs and not list((tmp_path / "disturbed").glob(".work/*/*.parquet")):
        shoot(first)
        time.sleep(0.05)
    first.kill_all()
    second = label(tmp_path / "disturbed", source, unet, "--num-workers", "2").wait(shoot, timeout_s=1500)
    assert second.code == 0, second.output
    assert done == kills
    assert "inputs are done" in second.output, "the second sitting began where the first was killed"
    assert ids(tmp_path / "disturbed") == sorted(path.name for path in Path(source).iterdir())
    assert files(tmp_path / "disturbed") == files(tmp_path / "straight")
    print(f"{count} pictures, {kills} kills: {undisturbed.seconds:.0f} s undisturbed, {second.seconds:.0f} s disturbed")


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

        command = label(tmp_path / f"out{count}", source, unet, "--num-workers", "1", "--batch-size", "16")
        ended = command.wait(look, timeout_s=1500)
        assert ended.code == 0, ended.output
        peaks[count] = peak
        print(f"{count} pictures: {peak / 2**30:.2f} GiB at most, {count / ended.seconds:.1f} pictures/s in all")
    assert peaks[10_000] < 1.25 * peaks[1000]
