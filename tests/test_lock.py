"""jobs.lock: one writer per output."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gaugan import storage
from gaugan.errors import UserError
from jobs import lock


def foreign(tmp_path: Path, pid: int, host: str = "", started: float = 1.0) -> None:
    holder = {"host": host or socket.gethostname(), "pid": pid, "started": started, "command": "x", "since": "now"}
    (tmp_path / lock.NAME).write_text(json.dumps(holder))


def test_the_lock_is_there_until_it_is_released(tmp_path: Path) -> None:
    lock.acquire(str(tmp_path), "a job")
    lock.acquire(str(tmp_path), "the same process again")
    assert "a job" in (tmp_path / lock.NAME).read_text()
    lock.release(str(tmp_path))
    assert not (tmp_path / lock.NAME).exists()


def test_a_living_holder_is_named_and_the_second_run_refused(tmp_path: Path) -> None:
    sleeper = [sys.executable, "-c", "import time; time.sleep(60)"]
    with subprocess.Popen(sleeper) as process:
        import psutil

        foreign(tmp_path, process.pid, started=psutil.Process(process.pid).create_time())
        with pytest.raises(UserError, match=f"process {process.pid} .* remove"):
            lock.acquire(str(tmp_path), "second")
        process.kill()


def test_a_lock_of_another_machine_is_taken_over_only_when_it_is_no_longer_renewed(tmp_path: Path) -> None:
    holder = {"host": "elsewhere", "pid": 1, "started": 1.0, "beat": time.time() - lock.STALE_S - 1}
    (tmp_path / lock.NAME).write_text(json.dumps(holder))
    lock.acquire(str(tmp_path), "mine")
    lock.release(str(tmp_path))


def test_a_running_process_renews_its_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "BEAT_S", 0.05)
    lock.acquire(str(tmp_path), "mine")
    first = json.loads((tmp_path / lock.NAME).read_text())["beat"]
    deadline = time.monotonic() + 10
    while json.loads((tmp_path / lock.NAME).read_text())["beat"] == first:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    lock.release(str(tmp_path))


def test_a_living_lock_of_another_machine_is_not_taken(tmp_path: Path) -> None:
    foreign(tmp_path, 1, host="elsewhere")
    with pytest.raises(UserError, match="elsewhere"):
        lock.acquire(str(tmp_path), "second")
    lock.release(str(tmp_path))
    assert (tmp_path / lock.NAME).exists()


def test_the_lock_of_a_dead_process_or_a_reused_number_is_taken_over(tmp_path: Path) -> None:
    foreign(tmp_path, 1, started=0.5)  # process 1 lives, but began at another time
    lock.acquire(str(tmp_path), "mine")
    assert json.loads((tmp_path / lock.NAME).read_text())["command"] == "mine"
    lock.release(str(tmp_path))


def test_on_s3_the_object_is_created_only_once(bucket: str) -> None:
    output = f"{bucket}/run"
    lock.acquire(output, "first")
    assert not lock._create(storage.join(output, lock.NAME), b"{}")
    lock.release(output)
    assert not storage.exists(storage.join(output, lock.NAME))
