"""What jobs/import_annotations.py found in each file, and the table of it all for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from gaugan import labels

MAX_REPORTED = 20


@dataclass
class Checked:
    """What the first look at one JSON file found."""

    path: str
    uri: str
    problems: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    notes: list[str] = field(default_factory=list)
    picture_hash: str = ""
    size: tuple[int, int] = (0, 0)
    num_pixels: np.ndarray = field(default_factory=lambda: np.zeros(256, dtype=np.int64))
    """Pixels per class id."""
    source_id: str = ""
    split: str = ""

    @property
    def stem(self) -> str:
        return self.path.removeprefix("labelme/").rsplit(".", 1)[0]


def shares(checked: Iterable[Checked], table: labels.ClassTable) -> dict[str, float]:
    """Class name -> share of all pixels, ignored ones last and only if there are any."""
    total = np.sum([item.num_pixels for item in checked], axis=0)
    found = {name: round(float(total[number] / total.sum()), 6) for name, number in table.ids.items()}
    return found | ({"ignore": round(float(total[labels.IGNORE] / total.sum()), 6)} if total[labels.IGNORE] else {})


def summary(checked: list[Checked], table: labels.ClassTable, num_copies: int) -> str:
    """What was found, as a table for people, with warnings."""
    splits = Counter(item.split for item in checked)
    lines = [
        f"{len(checked)} annotated pictures: {splits['train']} for training (+ {num_copies} augmented), "
        f"{splits['held_out']} held out; classes {table.name} ({table.hash})",
        f"  {'class':<16}{'pixels':>9}{'pictures':>10}",
    ]
    for name, share in shares(checked, table).items():
        number = table.ids.get(name, labels.IGNORE)
        lines.append(f"  {name:<16}{100 * share:>7.2f} %{sum(bool(item.num_pixels[number]) for item in checked):>10}")
    for split in splits:
        seen = np.sum([item.num_pixels for item in checked if item.split == split], axis=0)
        missing = [name for name, number in table.ids.items() if not seen[number]]
        if missing:
            lines.append(f"warning: no pixel of {', '.join(missing)} in the {split} split")
    hidden = [f"{item.path}: {note}" for item in checked for note in item.notes]
    lines += [f"note: {note}" for note in hidden[:MAX_REPORTED]]
    lines += [f"note: ... and {len(hidden) - MAX_REPORTED} more in report.json"] * (len(hidden) > MAX_REPORTED)
    return "\n".join(lines)
