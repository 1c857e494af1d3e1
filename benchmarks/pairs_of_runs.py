"""What the SPADE benchmarks share: turns taken by both sides, medians, and the peak memory of a process."""

from __future__ import annotations

import gc
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def take_turns(
    reference: Callable[[int], Any], ours: Callable[[int], Any], pairs: int, device: str = "cpu"
) -> tuple[list[Any], list[Any]]:
    """Calls both with 0, 1, .. in turn: ([(seconds, answer)] of the reference, the same of ours)."""
    results: tuple[list[Any], list[Any]] = ([], [])
    for number in range(pairs):
        for side, function in zip(results, (reference, ours), strict=True):
            wait_for(device)
            start = time.perf_counter()
            answer = function(number)
            wait_for(device)
            side.append((time.perf_counter() - start, answer))
    return results


def wait_for(device: str) -> None:
    """Returns when the device has done all that it was given."""
    if device == "cuda":
        import torch

        torch.cuda.synchronize()


def median_figures(reference: list[Any], ours: list[Any]) -> dict[str, float]:
    """speedup = median of the pairs' ratios; seconds = medians of each side."""
    ratios = [slow / fast for (slow, _), (fast, _) in zip(reference, ours, strict=True)]
    return {
        "speedup": round(statistics.median(ratios), 3),
        "seconds_reference": round(statistics.median(seconds for seconds, _ in reference), 4),
        "seconds_ours": round(statistics.median(seconds for seconds, _ in ours), 4),
    }


def measure_peak(work: Callable[[], Any], device: str = "cpu") -> float:
    """MiB at the largest during `work`: on a GPU of all tensors, on a CPU of the whole process, libraries included."""
    gc.collect()
    if device == "cuda":
        import torch

        torch.cuda.reset_peak_memory_stats()
        work()
        return torch.cuda.max_memory_allocated() / 2**20
    Path("/proc/self/clear_refs").write_text("5")  # forgets the peak so far
    work()
    status = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in status if line.startswith("VmHWM")).split()[1]) / 1024


def peak_of_side(side: str) -> float:
    """Runs this benchmark again in a process of its own with --side SIDE and reads its `peak_mb`."""
    command = [sys.executable, *sys.argv, "--side", side]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return float(json.loads(done.stdout.splitlines()[-1])["peak_mb"])
