"""Where a job's result may go, and paths that survive a change of machine."""

from __future__ import annotations

import dataclasses
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from gaugan import storage
from gaugan.errors import UserError
from gaugan.labels import NAMED_TABLES

if TYPE_CHECKING:
    from jobs.command import JobConfig

Config = TypeVar("Config", bound="JobConfig")
CODE_FOLDERS = {"gaugan", "jobs", "cluster", "tune", "serve", "tests", "benchmarks", "docs"}


def checked_output(config: Config) -> Config:
    """Makes the paths absolute; inside a submitted job a relative output would vanish with its working directory."""
    output = config.output
    for field in dataclasses.fields(config):
        is_needed = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if is_needed and field.name in PATH_FIELDS - {"output"} and not str(getattr(config, field.name)).strip():
            raise UserError(f"--{field.name.replace('_', '-')} is empty: give a path or URI")
    if not output.strip() and not config.needs_output:
        return _with_absolute_paths(config)
    if not output.strip():
        raise UserError("--output is empty: give a folder, local or s3://bucket/prefix")
    refuse_relative("--output", output)
    if storage.is_local(output) and storage.local_path(output).is_file():
        raise UserError(f"--output {output}: is a file; give a folder")
    _refuse_code(output)
    _refuse_another_jobs(config)
    from jobs.tracking import tracking_uri

    tracking_uri(config.tracking, output)  # refused now rather than after the work has begun
    return _with_absolute_paths(config)


def _refuse_code(output: str) -> None:
    """Raises UserError for the folders that this program itself lies in: results among its files harm both."""
    if not storage.is_local(output):
        return
    root = Path(__file__).resolve().parent.parent
    path = storage.local_path(output).resolve()
    if path == root or (root in path.parents and path.relative_to(root).parts[0] in CODE_FOLDERS):
        raise UserError(f"--output {output}: holds the program's own code; choose another folder, such as runs/NAME")


def _refuse_another_jobs(config: JobConfig) -> None:
    """Raises UserError when the output holds the result of another job, which would be overwritten in part."""
    uri = storage.join(config.output, "run.json")
    try:
        job = storage.read_json(uri).get("job") if storage.exists(uri) else None
    except (ValueError, AttributeError):  # damaged: it is written anew
        return
    if job and job != job_name(config):
        raise UserError(f"--output {config.output}: holds the result of {job}; choose another folder")


def job_name(config: JobConfig) -> str:
    """The job whose flags these are, such as train_unet."""
    module = sys.modules[type(config).__module__]
    return Path(getattr(module, "__file__", None) or "").stem.removesuffix("_config")


def refuse_relative(flag: str, uri: str) -> None:
    """Raises UserError for a place to write to that a submitted job would take away with itself."""
    if in_submitted_job() and storage.is_local(uri) and not os.path.isabs(storage.expanded(uri)):
        raise UserError(
            f"{flag} {uri}: a relative path would be lost with the job's temporary working directory; "
            f"give a storage URI such as s3://my-bucket/{uri} or a path on a shared disk"
        )


PATH_FIELDS = {
    "output", "input", "model", "annotations", "images", "classes", "segmenter", "judge", "inception", "base", "search",
    "encoder", "initial", "encoder_weights", "root", "instances", "export_labelme", "metadata",
}  # fmt: skip
NO_PATHS = {"", "none", "imagenet", *NAMED_TABLES}


def _with_absolute_paths(config: Any) -> Any:
    """The config, and those inside it, with every path made absolute: workers run in other folders."""
    changes: dict[str, Any] = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            changes[field.name] = _with_absolute_paths(value)
        elif field.name == "features":  # KIND or KIND:URI
            kind, _, uri = value.partition(":")
            changes[field.name] = f"{kind}:{_absolute(uri)}" if uri else value
        elif field.name == "mix_in":  # URI=PICTURES
            changes[field.name] = tuple(_absolute(uri) + equals + count for uri, equals, count in map(_parted, value))
        elif field.name == "annotated":
            changes[field.name] = tuple(map(_absolute, value))
        elif field.name in PATH_FIELDS and isinstance(value, str):
            changes[field.name] = _absolute(value)
    return dataclasses.replace(config, **changes)


def _parted(entry: str) -> tuple[str, str, str]:
    return entry.rpartition("=")


def _absolute(value: str) -> str:
    return value if value in NO_PATHS or value.startswith("models:/") else storage.absolute(value)


def in_submitted_job() -> bool:
    """True when started by `ray job submit`."""
    return "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ
