"""The pass of modulate.py on a CUDA device, in Triton. NOT MEASURED: written without a GPU at hand.

Each program takes BLOCK_PIXELS pixels x BLOCK_CHANNELS channels of channels-last maps: x, index and the table rows are
read once and y is written once. The sums per window go pixel by pixel in window order, so that most additions stay in
registers and only the ends of a run use atomics (their order varies: the last bits of a gradient may differ between runs).
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor


def available(x: Tensor) -> bool:
    """True for float32 and bfloat16 CUDA tensors where Triton is installed."""
    return x.is_cuda and x.dtype in (torch.float32, torch.bfloat16) and _kernels() is not None
