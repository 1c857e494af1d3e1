"""Which ids label maps hold: counted, told to people, and checked against a class table."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from gaugan.labels import IGNORE, ClassTable, LabelMapError, check_ids, read_ids

DontCare = Literal["error", "ignore", "extra"]
"""What pixels of id 255 are: a mistake; no class at all (ignored); one more class of their own."""
MAX_REPORTED = 20


@dataclass
class LabelCounts:
    """How often each id 0..255 occurs."""

    pixels: np.ndarray = field(default_factory=lambda: np.zeros(256, dtype=np.int64))
    pictures: np.ndarray = field(default_factory=lambda: np.zeros(256, dtype=np.int64))
    """In how many label maps it occurs at all."""
    label_maps: int = 0

    def add(self, ids: np.ndarray) -> None:
        """Takes in one label map, uint8 (H, W)."""
        self.add_counts(np.bincount(ids.reshape(-1), minlength=256))

    def add_counts(self, found: np.ndarray) -> None:
        """Takes in one label map by its pixels of each id, int64 (256,)."""
        self.pixels += found
        self.pictures += found > 0
        self.label_maps += 1

    def __add__(self, other: LabelCounts) -> LabelCounts:
        return LabelCounts(
            self.pixels + other.pixels, self.pictures + other.pictures, self.label_maps + other.label_maps
        )

    def outside(self, num_classes: int) -> list[int]:
        """The ids that are neither a class nor 255."""
        return [int(number) for number in np.nonzero(self.pixels)[0] if num_classes <= number < IGNORE]

    @property
    def ignored_share(self) -> float:
        """Share of all pixels that are 255."""
        return float(self.pixels[IGNORE] / max(1, self.pixels.sum()))

    def to_plain(self) -> dict[str, Any]:
        """For JSON: id -> [pixels, label maps that hold it]."""
        ids = {str(n): [int(self.pixels[n]), int(self.pictures[n])] for n in np.nonzero(self.pixels)[0]}
        return {"label_maps": self.label_maps, "ids": ids}

    @staticmethod
    def from_plain(data: dict[str, Any]) -> LabelCounts:
        """The inverse of `to_plain`."""
        counts = LabelCounts(label_maps=int(data["label_maps"]))
        for number, (pixels, pictures) in data["ids"].items():
            counts.pixels[int(number)], counts.pictures[int(number)] = pixels, pictures
        return counts


def table(counts: LabelCounts, classes: ClassTable) -> list[str]:
    """The histogram as lines for people: every id in use, then how many classes are not."""
    total = max(1, counts.pixels.sum())
    lines = [f"{'id':>4}  {'class':<28}{'pixels':>16}{'share':>10}{'label maps':>12}"]
    for number in np.nonzero(counts.pixels)[0]:
        name = "(ignored)" if number == IGNORE else "OUTSIDE THE CLASS TABLE"
        name = classes.names[number] if number < classes.num_classes else name
        pixels, pictures = counts.pixels[number], counts.pictures[number]
        lines.append(f"{number:>4}  {name:<28}{pixels:>16,}{100 * pixels / total:>8.3f} %{pictures:>12,}")
    return [*lines, summary(counts, classes)]


def summary(counts: LabelCounts, classes: ClassTable) -> str:
    """One line: how many label maps, which ids, how much is ignored."""
    used = np.nonzero(counts.pixels[: classes.num_classes])[0]
    ids = f"{len(used)} of {classes.num_classes} classes occur"
    span = f" (ids {used[0]} to {used[-1]})" if len(used) else ""
    return f"{counts.label_maps:,} label maps: {ids}{span}, {100 * counts.ignored_share:.2f} % of the pixels are 255"


def check_label_map(ids: np.ndarray, classes: ClassTable, dontcare: DontCare, shift: int = 0) -> str:
    """What is wrong with the ids of one label map, uint8 (H, W): value, count, first position, what to do; "" if none.

    shift: what was subtracted from the numbers of the file, so that the message names those.
    """
    strict = dontcare == "error"
    classed = np.where(ids == IGNORE, 0, ids) if strict else ids  # 255 has its own message, below
    try:
        check_ids(classed, classes, "label map", allow_ignore=not strict, shift=shift)
    except LabelMapError as error:
        return error.message + "; give the class table that the label maps were made with (--classes)"
    unknown = ids == IGNORE
    if dontcare != "error" or not unknown.any():
        return ""
    y, x = np.argwhere(unknown)[0]
    value = 0 if shift else IGNORE
    return (
        f"label map: class id {value} (unknown) at x={x}, y={y} ({int(unknown.sum())} such pixels); allowed are "
        f"{shift}..{classes.num_classes - 1 + shift}; give --dontcare ignore (no class) or extra (a class of their own)"
    )


def scan(
    label_maps: Iterable[tuple[str, bytes]], classes: ClassTable, dontcare: DontCare = "ignore"
) -> tuple[LabelCounts, list[str]]:
    """Reads label maps (id, PNG bytes): the counts, and one complaint per map that can't be used."""
    counts, problems = LabelCounts(), []
    for name, data in label_maps:
        try:
            ids = read_ids(data, classes)
        except LabelMapError as error:
            problems.append(f"{name}: {error.message}")
            continue
        counts.add(ids)
        problem = check_label_map(ids, classes, dontcare)
        problems += [f"{name}: {problem}"] * bool(problem)
    return counts, problems


def problem_list(title: str, problems: list[str]) -> str:
    """A title and the first few problems, one per line."""
    more = [f"... and {len(problems) - MAX_REPORTED} more"] * (len(problems) > MAX_REPORTED)
    return "\n  ".join([f"{title}:", *problems[:MAX_REPORTED], *more])


def for_manifest(counts: LabelCounts, classes: ClassTable) -> dict[str, Any]:
    """What a manifest keeps under "label_audit": the counts and the class table they were counted for."""
    return {**counts.to_plain(), "classes_hash": classes.hash}
