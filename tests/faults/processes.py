"""Commands of ours run as a user would, disturbed from outside: their own processes are killed or measured."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[2]
POLL_S = 0.25


@dataclass
class Ended:
    """How a command ended."""

    code: int
    output: str
    seconds: float


class Command:
    """A running `python JOB FLAGS`, its output in a file, its whole process tree within reach."""

    def __init__(self, log: Path, *words: str, **variables: str) -> None:
        """variables: of its environment, beside those of this process."""
        environment = os.environ | {"PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        environment |= variables
        self.log, self.started = log, time.monotonic()
        with log.open("w") as file:
            self.process = subprocess.Popen(
                [sys.executable, *words], stdout=file, stderr=subprocess.STDOUT, env=environment, cwd=ROOT
            )

    @property
    def runs(self) -> bool:
        return self.process.poll() is None

    def tree(self) -> list[psutil.Process]:
        """The command's process and all below it."""
        try:
            top = psutil.Process(self.process.pid)
            return [top, *top.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def kill(self, name: str) -> int:
        """SIGKILL to the processes below whose command line holds `name`; how many there were."""
        killed = 0
        for process in self.tree()[1:]:
            with contextlib.suppress(psutil.NoSuchProcess):
                if name in _command_line(process):
                    process.kill()
                    killed += 1
        return killed

    def memory_bytes(self) -> int:
        """Proportional set size of the whole tree: shared pages count once."""
        total = 0
        for process in self.tree():
            with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                total += process.memory_full_info().pss
        return total

    def wait(self, watch: Callable[[Command], None] = lambda command: None, timeout_s: float = 600.0) -> Ended:
        """Waits for the end, calling `watch` every POLL_S seconds."""
        while self.runs:
            if time.monotonic() - self.started > timeout_s:
                self.process.kill()
                raise TimeoutError(f"{timeout_s} s are over; the output so far:\n{self.log.read_text()}")
            watch(self)
            time.sleep(POLL_S)
        return Ended(self.process.wait(), self.log.read_text(), time.monotonic() - self.started)

    def kill_all(self) -> None:
        """SIGKILL to the command alone, as the system would; what works for it must be gone within a minute.

        Ray's agents may take longer to notice that they are alone: those are ended here.
        """
        family = self.tree()
        workers = [process for process in family if "LabelActor" in _command_line(process)]
        self.process.kill()
        self.process.wait()
        _, alive = psutil.wait_procs(workers, timeout=60)
        assert not alive
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(family, timeout=30)


def _command_line(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.NoSuchProcess):
        return " ".join(process.cmdline())
    return ""
