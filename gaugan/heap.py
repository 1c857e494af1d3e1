"""How the C library deals with large blocks of memory."""

from __future__ import annotations

import ctypes
import platform

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Of mallopt(3)."""
LARGEST_BLOCK = 32 * 2**20
KEPT = 2**30


def keep_freed_memory() -> bool:
    """Blocks up to 32 MiB that are freed stay with the process (up to 1 GiB of them); True when glibc will do so.

    For processes that do the same work again and again: feature maps whose memory is given back and fetched anew each
    time cost a labelling actor 8 % of its time (docs/results.md).
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    return bool(libc.mallopt(M_MMAP_THRESHOLD, LARGEST_BLOCK) and libc.mallopt(M_TRIM_THRESHOLD, KEPT))
