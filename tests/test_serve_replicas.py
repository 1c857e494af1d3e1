"""The processes that hold the models: which threads stay in them."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
import torch

from serve.replicas import on_a_passing_thread

TASKS = Path("/proc/self/task")


@pytest.mark.skipif(not TASKS.is_dir() or (os.cpu_count() or 1) < 2, reason="counts the threads that Linux lists")
def test_the_threads_that_a_load_computes_with_are_gone_after_it() -> None:
    def compute() -> int:
        torch.ones(1_000_000).exp_().sum()
        return len(list(TASKS.iterdir()))

    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        before = len(list(TASKS.iterdir()))
        during = on_a_passing_thread(compute)
        deadline = time.monotonic() + 10
        while (after := len(list(TASKS.iterdir()))) > before and time.monotonic() < deadline:
            time.sleep(0.05)
        assert during >= before + 2  # the thread and one more of its team
        assert after <= before
    finally:
        torch.set_num_threads(threads)


def test_what_a_load_refuses_comes_out_of_its_thread() -> None:
    def refuse() -> None:
        raise ValueError("no such model")

    with pytest.raises(ValueError, match="no such model"):
        on_a_passing_thread(refuse)
