"""How a job's MLflow run ends, and how an import leaves nothing half-written."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from gaugan import storage
from jobs.command import STOP, JobConfig
from jobs.tracking import Tracker, open_run


@contextlib.contextmanager
def recorded(config: JobConfig, job: str) -> Iterator[Tracker]:
    """The MLflow run of a job: FAILED when the block raises, KILLED when the job was asked to stop, else FINISHED."""
    tracker = open_run(config.tracking, config.output, job, config)
    try:
        yield tracker
    except BaseException:
        tracker.finish("FAILED")
        raise
    tracker.finish("KILLED" if STOP() else "FINISHED")


def recorded_import(config: JobConfig, job: str, write: Callable[[], dict[str, Any] | None]) -> dict[str, Any] | None:
    """`write()` makes a dataset in the output and returns its manifest, or None after a stop; without a manifest
    nothing half-written stays."""
    manifest = None
    with recorded(config, job) as tracker:
        try:
            manifest = write()
        finally:
            if manifest is None:
                storage.remove(storage.join(config.output, "pairs"))
        if manifest is not None:
            tracker.log_metrics({f"pairs/{split}": count for split, count in manifest["splits"].items()})
            tracker.log_artifact(storage.join(config.output, "contact_sheet.png"))
    return manifest
