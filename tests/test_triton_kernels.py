"""The GPU kernels in Triton's interpreter, on a CPU: values only, no speed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

CODE = """
import torch
from gaugan import native
from gaugan.spade import modulate, triton_kernels
from gaugan.spade.modulate import Pass, Statistics
from gaugan.spade.windows import sort_pixels

native.library = lambda: None
torch.manual_seed(0)
index = torch.randint(0, 3, (2, 4, 6), dtype=torch.int32)
for doubled in (False, True):
    answers = []
    for available in (lambda x: False, lambda x: True):
        triton_kernels.available = available
        torch.manual_seed(1)
        x = torch.randn(2, 5, *((2, 3) if doubled else (4, 6)), requires_grad=True)
        table = torch.randn(3, 10, requires_grad=True)
        how = Pass(index, lambda: sort_pixels(index, 3), 0.2, doubled)
        y = modulate.modulate(x, table, how, Statistics(torch.randn(5), torch.rand(5) + 0.5, count=48))
        answers.append((y.detach(), *torch.autograd.grad(y.square().sum(), [x, table])))
    for mine, theirs in zip(*answers, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4)
print("equal")
"""


def test_the_gpu_kernels_compute_the_same_in_the_interpreter() -> None:
    pytest.importorskip("triton")
    root = Path(__file__).parent.parent
    environment = {**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": str(root)}
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, env=environment, timeout=250)
    assert done.stdout == "equal\n", done.stderr[-3000:]
