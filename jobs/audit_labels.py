"""Counts the class ids in a dataset's label maps, and names every label map that can't be used.

python jobs/audit_labels.py --input PAIRS

Every label map is read anew, whatever was counted before. Training does the same by itself, once per dataset. For
folders that are not yet a dataset: jobs/import_dataset.py --dry-run.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from gaugan import storage
from gaugan.errors import UserError
from gaugan.label_audit import audit
from gaugan.label_counts import DontCare, LabelCounts, table
from gaugan.pairs import Pairs
from jobs.command import JobConfig, begin, run


@dataclass(frozen=True, kw_only=True)
class Config(JobConfig):
    """Flags of jobs/audit_labels.py."""

    needs_output: ClassVar[bool] = False

    input: str
    """Dataset of pairs."""
    output: str = ""
    """Folder for label_audit.json and config.yaml; "" = print only."""
    dontcare: DontCare = "ignore"
    """What 255 is: error names the label maps that hold it; ignore and extra allow it."""


def main(config: Config) -> LabelCounts:
    """Prints the histogram; raises UserError that lists the offending rows, with value and pixel."""
    pairs = Pairs.open(config.input)
    if config.output and storage.absolute(config.output) == pairs.uri:
        raise UserError(f"--output {config.output}: is the dataset itself, whose config.yaml must stay; leave it out")
    counts = audit(pairs, config.dontcare, recount=True)
    print("\n".join(table(counts, pairs.classes)), flush=True)
    if config.output and not config.dry_run:
        begin(config)
        storage.write_json(storage.join(config.output, "label_audit.json"), counts.to_plain())
    return counts


if __name__ == "__main__":
    run(main, Config)
