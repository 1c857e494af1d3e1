"""Label jobs run as a user would, and what they leave behind."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pyarrow.parquet as pq
from processes import Command
from tiny_models import write_portraits

SIDE = 64


class Run(NamedTuple):
    """A run that has ended well."""

    source: str
    output: Path
    seconds: float


Undisturbed = Callable[[int], Run]
"""Number of pictures -> the run over so many that nothing disturbs; the fixture `undisturbed`."""


def pictures(folder: Path, count: int) -> str:
    """A few hundred different portraits, repeated under other names, and two bad files."""
    write_portraits(folder, min(count, 200), SIDE)
    originals = sorted(folder.glob("*.png"))
    for number, original in zip(range(len(originals), count), itertools.cycle(originals)):
        (folder / f"{number:06d}.png").hardlink_to(original)
    (folder / "empty.png").write_bytes(b"")
    (folder / "junk.jpg").write_bytes(b"\xff\xd8\xffjunk")
    return str(folder)


def label(log: Path, source: str, unet: str, output: str, *flags: str, **environment: str) -> Command:
    """A label job at work."""
    words = ["jobs/label_dataset.py", "--input", source, "--model", unet, "--output", output]
    return Command(log, *words, "--tracking", "none", "--batch-size", "4", *flags, **environment)


def files(output: Path) -> dict[str, bytes]:
    """Everything that a dataset consists of."""
    found = [output / "manifest.json", *output.glob("pairs/*"), *output.glob("outcomes/*")]
    return {str(path.relative_to(output)): path.read_bytes() for path in found}


def ids(output: Path) -> list[str]:
    """The ids of all outcome rows."""
    return sorted(pq.read_table(output / "outcomes", columns=["id"]).column("id").to_pylist())


def leftovers(output: Path) -> list[str]:
    """Files of unfinished work."""
    return [path.name for path in output.rglob("*") if path.name.startswith(".w")]
