"""Which arithmetic a device computes in: bfloat16 where it is faster, else float32."""

from __future__ import annotations

import functools
from pathlib import Path

import torch


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """The autocast context of a `precision` setting: bf16, fp32, or auto = bf16 where it is faster."""
    wanted = compute_dtype(precision, device) == torch.bfloat16
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=wanted)


def compute_dtype(precision: str, device: torch.device) -> torch.dtype:
    """bfloat16 or float32, as `autocast` chooses."""
    wanted = precision == "bf16" or (precision == "auto" and gains_by_bf16(device))
    return torch.bfloat16 if wanted else torch.float32


def computes_bf16(device: torch.device) -> bool:
    """True when bfloat16 is native there; emulated it would be slower than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()


@functools.cache
def gains_by_bf16(device: torch.device) -> bool:
    """True when bfloat16 is faster than float32 there.

    Not on Intel's processors without AMX tiles: their bfloat16 convolutions take twice as long (docs/segmenter.md).
    """
    if device.type != "cpu" or not computes_bf16(device):
        return computes_bf16(device)
    cpus = Path("/proc/cpuinfo")
    return torch.cpu._is_amx_tile_supported() or (cpus.exists() and "AuthenticAMD" in cpus.read_text()[:500])
