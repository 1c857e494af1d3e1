"""The endpoint under load, against rendering without a server and against a plain server.

    python benchmarks/serving.py [--size 256] [--rounds 3 --seconds 6]

Our service (`python -m serve`), a plain FastAPI server around the generator as published, and a bare renderer run as
processes of their own with all cores each, and take turns: while one works the others idle. The clients are this
process. Every request has another label map and seed; nothing is answered from a cache.

Prints one JSON line last: p50_overhead_ms (what one client waits over the bare render of the same label
map, median), of_bare_render (16 clients'
pictures a second over the bare render's), over_plain_server (over the plain server's with 16 clients),
overload_p99_ms (of the pictures painted while five times as many are asked for as can be painted) and the plain
server's beside it, refused_p50_ms (of the 503s), recovery_s (until one client is served at its usual pace again),
cold_start_s, replica_mb.
"""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

import httpx
import psutil

from benchmarks.ports import free_port
from benchmarks.serving_load import Load, percentile, summary
from gaugan.config import parse

ROOT = Path(__file__).parent.parent
START_TIMEOUT_S = 180.0
OVERLOAD = 5
BLOCK = 4
"""Label maps painted before the other side takes its turn."""
USUAL_PACE = 1.5
"""Served at its usual pace: no slower than this many times the median of before."""


@dataclass(frozen=True)
class Config:
    """What is measured."""

    size: int = 256
    """Side of the pictures."""
    ngf: int = 64
    """Width of the generator."""
    rounds: int = 1
    """How often the sides take turns."""
    pairs: int = 16
    """So many label maps are painted barely and for one client, before and after the many clients."""
    seconds: float = 6.0
    """How long the many clients ask."""
    clients: int = 16
    """That wait for their answers at the same time."""
    overload_s: float = 5.0
    """How long too much is asked for."""


@contextlib.contextmanager
def running(*words: str, log: Path, **options: Any) -> Iterator[subprocess.Popen[str]]:
    """A process of ours, ended with all its children."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "RAY_AUTH_MODE": "disabled"}
    with log.open("w") as errors:
        process = subprocess.Popen(
            [sys.executable, *words], cwd=ROOT, env=environment, stderr=errors, text=True, **options
        )
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()


def wait_until_ready(url: str, process: subprocess.Popen[str], log: Path) -> float:
    """Seconds until GET /v2/health/ready says yes."""
    begun = time.monotonic()
    while time.monotonic() - begun < START_TIMEOUT_S:
        if process.poll() is not None:
            raise SystemExit(f"{url} did not start:\n{log.read_text()[-2000:]}")
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(f"{url}/v2/health/ready", timeout=2).status_code == 200:
                return time.monotonic() - begun
        time.sleep(0.1)
    raise SystemExit(f"{url} was not ready after {START_TIMEOUT_S:g} s:\n{log.read_text()[-2000:]}")


class Bare:
    """The renderer without a server."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdin is not None and process.stdout is not None
        self.stdin, self.stdout = process.stdin, process.stdout
        assert self.stdout.readline() == "ready\n"

    def render(self, numbers: list[int]) -> list[float]:
        """Seconds of each of these label maps."""
        self.stdin.write(f"{json.dumps(numbers)}\n")
        self.stdin.flush()
        answer: list[float] = json.loads(self.stdout.readline())
        return answer


def replica_mb(process: subprocess.Popen[str]) -> float:
    """Resident memory of the process that paints."""
    children = psutil.Process(process.pid).children(recursive=True)
    sizes = [child.memory_info().rss for child in children if "PainterReplica" in " ".join(child.cmdline())]
    return round(max(sizes, default=0) / 2**20, 1)


@dataclass
class Pairs:
    """The same label maps rendered barely and asked for by one client."""

    bare_s: list[float] = field(default_factory=list)
    ours_s: list[float] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    def measure(self, ours: Load, bare: Bare, count: int) -> None:
        """A few label maps by the one, then by the other: label maps differ in what they cost, and machines drift."""
        for first in range(0, count, BLOCK):
            numbers = list(range(first, min(first + BLOCK, count)))
            rendered, answers = bare.render(numbers), ours.each(numbers)
            self.failed += answers.other
            if len(answers.painted_s) == len(numbers):
                self.bare_s += rendered
                self.ours_s += answers.painted_s

    @property
    def overhead_ms(self) -> float:
        """Median over the label maps."""
        return 1e3 * statistics.median(one - other for one, other in zip(self.ours_s, self.bare_s, strict=True))


def compare(config: Config, ours: Load, plain: Load, bare: Bare) -> dict[str, Any]:
    """Turns of all sides."""
    all_pairs, crowd, slow, of_bare, over_plain = Pairs(), [], [], [], []
    bare.render(list(range(BLOCK)))
    for load in (ours, plain):
        load.each(list(range(BLOCK)))
    for _ in range(config.rounds):
        pairs = Pairs()
        pairs.measure(ours, bare, config.pairs)
        crowd.append(ours.wait_in_turn(config.clients, config.seconds))
        pairs.measure(ours, bare, config.pairs)
        slow.append(plain.wait_in_turn(config.clients, config.seconds))
        bare_per_s = len(pairs.bare_s) / sum(pairs.bare_s)
        of_bare.append(crowd[-1].per_s / bare_per_s)
        over_plain.append(crowd[-1].per_s / slow[-1].per_s)
        all_pairs.bare_s += pairs.bare_s
        all_pairs.ours_s += pairs.ours_s
        all_pairs.failed += pairs.failed
        print(
            f"bare {1e3 / bare_per_s:.1f} ms; one client {pairs.overhead_ms:.1f} ms over it, pair by pair", flush=True
        )
        print(f"  {config.clients} clients {summary(crowd[-1])}; plain {summary(slow[-1])}", flush=True)
    return {
        "p50_overhead_ms": round(all_pairs.overhead_ms, 2),
        "of_bare_render": round(statistics.median(of_bare), 3),
        "over_plain_server": round(statistics.median(over_plain), 2),
        "p50_ms": round(1e3 * statistics.median(all_pairs.ours_s), 1),
        "bare_p50_ms": round(1e3 * statistics.median(all_pairs.bare_s), 1),
        "pictures_per_s": round(statistics.median(turn.per_s for turn in crowd), 2),
        "plain_per_s": round(statistics.median(turn.per_s for turn in slow), 2),
        "failed": all_pairs.failed + [problem for turn in crowd for problem in turn.other],
    }


def overload(config: Config, ours: Load, plain: Load, usual: dict[str, Any]) -> dict[str, Any]:
    """Five times what can be painted, first of ours, then of the plain server at its own pace."""
    usual_s = 1e-3 * usual["p50_ms"]
    poured = ours.pour(OVERLOAD * usual["pictures_per_s"], config.overload_s)
    begun, recovery_s = time.monotonic(), float("nan")
    while time.monotonic() - begun < 60:
        if percentile(ours.wait_in_turn(1, 0.01).painted_s, 0.5) <= USUAL_PACE * usual_s:
            recovery_s = time.monotonic() - begun
            break
    theirs = plain.pour(OVERLOAD * usual["plain_per_s"], config.overload_s)
    print(f"overload: ours {summary(poured)}; plain {summary(theirs)}", flush=True)
    return {
        "overload_p99_ms": round(1e3 * percentile(poured.painted_s, 0.99), 1),
        "overload_plain_p99_ms": round(1e3 * percentile(theirs.painted_s, 0.99), 1),
        "overload_painted": len(poured.painted_s), "overload_refused": len(poured.refused_s),
        "overload_failed": poured.other[:5],
        "refused_p50_ms": round(1e3 * percentile(poured.refused_s, 0.5), 1),
        "refused_p99_ms": round(1e3 * percentile(poured.refused_s, 0.99), 1),
        "recovery_s": round(recovery_s, 2),
    }  # fmt: skip


def main(config: Config) -> dict[str, Any]:
    """Measures, prints and returns the figures."""
    with tempfile.TemporaryDirectory() as folder:
        sides = "benchmarks/serving_sides.py"
        made = [sides, "--side", "make", "--folder", folder, "--size", str(config.size), "--ngf", str(config.ngf)]
        subprocess.run([sys.executable, *made], cwd=ROOT, check=True, env=os.environ | {"PYTHONPATH": str(ROOT)})
        maps = [path.read_bytes() for path in sorted((Path(folder) / "maps").iterdir())]
        ports, logs = (
            [free_port(), free_port()],
            [Path(folder) / name for name in ("serve.log", "plain.log", "bare.log")],
        )
        urls = [f"http://127.0.0.1:{port}" for port in ports]
        serve = ["-m", "serve", "--model", f"{folder}/checkpoint", "--port", str(ports[0])]
        serve += ["--cpus-per-replica", str(os.cpu_count())]
        plain = [sides, "--side", "plain", "--folder", folder, "--port", str(ports[1])]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        with running(*serve, log=logs[0], stdout=subprocess.DEVNULL) as server:
            cold_s = wait_until_ready(urls[0], server, logs[0])
            with (
                running(*plain, log=logs[1]) as slow,
                running(sides, "--side", "bare", "--folder", folder, log=logs[2], **pipes) as renderer,
            ):
                wait_until_ready(urls[1], slow, logs[1])
                ours, theirs = Load(urls[0], maps), Load(urls[1], maps)
                figures = compare(config, ours, theirs, Bare(renderer))
                figures |= overload(config, ours, theirs, figures)
                figures |= {"cold_start_s": round(cold_s, 1), "replica_mb": replica_mb(server)}
    print(json.dumps(figures))
    return figures


if __name__ == "__main__":
    main(parse(Config, description=__doc__ or ""))
