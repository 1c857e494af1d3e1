"""gaugan.heap: what is freed stays."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

CODE = """
import ctypes, resource, sys
from gaugan.heap import keep_freed_memory
if sys.argv[1] == "kept":
    assert keep_freed_memory()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def touch():
    block = libc.malloc(24 * 2**20); ctypes.memset(block, 1, 24 * 2**20); libc.free(block)
touch()
before = faults()
for _ in range(10):
    other = libc.malloc(40 * 2**20); libc.free(other); touch()
print(faults() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc only")
def test_memory_that_was_freed_is_not_fetched_anew() -> None:
    words = [sys.executable, "-c", CODE, "kept"]
    faults = int(subprocess.run(words, capture_output=True, text=True, check=True).stdout)
    assert faults < 1000, "24 MiB are 6,144 pages"
