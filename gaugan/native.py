"""The C++ kernels of kernels/: compiled once per machine with the system's compiler, loaded with ctypes.

The compiled file lies in the user's cache folder under the hash of sources, compiler and processor; compiling takes
about 2 s, once. Without a compiler (or on another system than Linux) everything works through plain torch operations,
more slowly, and says so once. Threads follow torch.get_num_threads().
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
import time
import warnings
from pathlib import Path

import torch
from torch import Tensor

SOURCES = Path(__file__).parent / "kernels"
FLAGS = ("-O3", "-march=native", "-std=c++17", "-fPIC", "-fopenmp")
INTEGER = ctypes.c_int64
REAL = ctypes.c_double
NAMES = {torch.float32: "float32", torch.float64: "float64", torch.bfloat16: "bfloat16"}
"""Element types that the modulation kernels exist for."""


class CompileError(Exception):
    """Why there are no kernels on this machine."""


@functools.lru_cache(maxsize=1)
def library() -> ctypes.CDLL | None:
    """The loaded kernels, or None (after one warning) where they can't be compiled."""
    try:
        return _load()[0]
    except (CompileError, OSError) as error:
        warnings.warn(
            f"no compiled kernels ({error}); plain torch operations give the same pictures more slowly. "
            "Install g++ or clang++ to get them.",
            stacklevel=2,
        )
        return None


def compile_seconds() -> float:
    """How long this process spent on compiling: 0 when the cache had the kernels, or when there are none."""
    return _load()[1] if library() is not None else 0.0


def pointer(tensor: Tensor | None) -> ctypes.c_void_p:
    """The address of a tensor's first element; None is the null pointer."""
    return ctypes.c_void_p(None if tensor is None else tensor.data_ptr())


@functools.lru_cache(maxsize=1)
def _load() -> tuple[ctypes.CDLL, float]:
    compiler = _compiler()
    target = _cache_folder() / f"spade-{_fingerprint(compiler)}.so"
    start = time.perf_counter()
    seconds = 0.0
    if not target.exists():
        _compile(compiler, target)
        seconds = time.perf_counter() - start
    loaded = ctypes.CDLL(str(target))
    loaded.number_codes.restype = INTEGER
    return loaded, seconds


def _compiler() -> str:
    if platform.system() != "Linux":
        raise CompileError(f"{platform.system()} is not supported, only Linux is")
    wanted = [os.environ["CXX"]] if os.environ.get("CXX") else ["g++", "clang++"]
    for name in wanted:
        if found := shutil.which(name):
            return found
    raise CompileError(f"no C++ compiler: {' and '.join(wanted)} not found")


def _cache_folder() -> Path:
    """$XDG_CACHE_HOME/gaugan or ~/.cache/gaugan; a private temporary folder where neither can be written."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gaugan"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return Path(tempfile.mkdtemp(prefix="gaugan-"))
    return folder if os.access(folder, os.W_OK) else Path(tempfile.mkdtemp(prefix="gaugan-"))


def _fingerprint(compiler: str) -> str:
    digest = hashlib.sha256(" ".join(FLAGS).encode())
    for path in sorted(SOURCES.iterdir()):
        digest.update(path.read_bytes())
    digest.update(_run([compiler, "--version"]).encode())
    digest.update(_processor().encode())
    return digest.hexdigest()[:20]


def _processor() -> str:
    """What -march=native looks at: the instruction sets of the first processor."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    kinds = ("flags", "Features", "model name", "vendor_id")
    first = {line.split(":")[0].strip(): line for line in reversed(lines) if line.startswith(kinds)}
    return platform.machine() + "".join(first[kind] for kind in sorted(first))


def _compile(compiler: str, target: Path) -> None:
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        objects = [str(Path(folder) / f"{source.stem}.o") for source in sorted(SOURCES.glob("*.cpp"))]
        for source, wanted in zip(sorted(SOURCES.glob("*.cpp")), objects, strict=True):
            _run([compiler, *FLAGS, "-c", str(source), "-o", wanted])
        built = Path(folder) / "spade.so"
        # Linked without OpenMP at first: torch has one loaded, and a second one would fight it for the cores.
        _run([compiler, "-shared", *objects, "-o", str(built)])
        try:
            ctypes.CDLL(str(built), mode=os.RTLD_NOW)
        except OSError:
            _run([compiler, "-shared", "-fopenmp", *objects, "-o", str(built)])
        built.replace(target)


def _run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    if done.returncode:
        raise CompileError(f"{' '.join(command[:1])} failed: {done.stderr.strip()[-300:]}")
    return done.stdout
