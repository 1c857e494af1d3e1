"""A disk that runs full ends the job with advice, keeps what is finished, and the command continues once there is room.

The small disk is a memory file system, which only root may mount.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from label_runs import Undisturbed, files, label

DISK_BYTES = 24 * 2**20


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("mounting a small disk needs root")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.ray
def test_a_full_disk_is_named_and_the_run_continues_when_there_is_room(
    tmp_path: Path, small_disk: Path, unet: str, undisturbed: Undisturbed
) -> None:
    straight, output = undisturbed(40), small_disk / "out"
    source = straight.source
    first = label(tmp_path / "first.log", source, unet, str(output), "--num-workers", "1")
    while first.runs and not (output / "run.json").exists():
        time.sleep(0.02)
    with (small_disk / "filler").open("wb") as filler:  # the disk fills up while Ray starts
        filler.write(b"\0" * (DISK_BYTES - 2**16 - sum(p.stat().st_size for p in output.rglob("*") if p.is_file())))
    ended = first.wait(timeout_s=120)
    assert ended.code == 2, ended.output
    assert "no room for" in ended.output and str(output) in ended.output, ended.output
    assert "Traceback" not in ended.output
    assert not (output / "manifest.json").exists()

    (small_disk / "filler").unlink()
    again = label(tmp_path / "again.log", source, unet, str(output), "--num-workers", "1").wait(timeout_s=120)
    assert again.code == 0, again.output
    assert files(output) == files(straight.output)
