"""What every job shares: its common flags, its exit codes, and how it ends when asked to.

A job file is a config class, `main(config)` and the two-line guard; `run(main, Config)` does the rest.
Exit codes: 0 ok, 2 usage, 3 too many failures, 130 after Ctrl-C, 143 after SIGTERM.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import platform
import secrets
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

from cluster.private_ray import start_private_ray
from gaugan import __version__, storage
from gaugan.config import parse, to_plain, to_yaml
from gaugan.errors import UserError
from jobs import lock
from jobs.outputs import checked_output, job_name

EXIT_USAGE = 2
EXIT_TOO_MANY_FAILURES = 3
LARGEST_SEED = 2**63 - 1
"""What torch takes."""


class TooManyFailuresError(RuntimeError):
    """The job ran to its end, but more inputs failed than allowed: exit code 3."""


@dataclass(frozen=True, kw_only=True)
class JobConfig:
    """Flags of every job."""

    needs_output: ClassVar[bool] = True

    output: str
    """Where the result goes: a folder, local or s3://bucket/prefix."""
    seed: int = 0
    """Seed of everything random."""
    tracking: str = ""
    """MLflow tracking URI; "" = MLFLOW_TRACKING_URI or OUTPUT/mlflow.db, "none" = no tracking."""
    num_workers: int = 1
    """Parallel workers (processes that share the work)."""
    cpus_per_worker: int = 0
    """CPU cores per worker; 0 = the machine's cores shared evenly. Also its number of threads."""
    use_gpu: bool = False
    """One GPU per worker."""
    s3_endpoint: str = ""
    """Address of an S3-compatible store, such as http://minio:9000; "" = AWS_ENDPOINT_URL, or Amazon's."""
    s3_region: str = ""
    """Region of the buckets; "" = AWS_REGION, or as the bucket says."""
    s3_anonymous: tuple[str, ...] = ()
    """Public buckets to read without credentials, or "all"."""
    dry_run: bool = False
    """Check the inputs, print the resolved config and stop."""

    def __post_init__(self) -> None:
        if self.num_workers < 1:
            raise UserError(f"--num-workers {self.num_workers}: must be at least 1")
        if self.cpus_per_worker < 0:
            raise UserError(f"--cpus-per-worker {self.cpus_per_worker}: must be 0 (a fair share) or more")
        if not 0 <= self.seed <= LARGEST_SEED:
            raise UserError(f"--seed {self.seed}: must be 0 to {LARGEST_SEED}")
        if "@" in self.tracking.partition("://")[2].partition("/")[0]:
            advice = "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD in the environment instead"
            raise UserError(f"--tracking: holds a user name or password, which would be saved with the run; {advice}")

    @property
    def threads(self) -> int:
        """CPU cores, and torch threads, of one worker."""
        return self.cpus_per_worker or max(1, (os.cpu_count() or 1) // self.num_workers)


Config = TypeVar("Config", bound=JobConfig)


class Stop:
    """Set by SIGTERM or Ctrl-C; long work looks at it and ends in good order. A second Ctrl-C ends at once."""

    def __init__(self) -> None:
        self.event = threading.Event()
        self.signal = 0
        self.listens = False

    def listen(self) -> None:
        """Installs the handlers (main thread only; elsewhere the caller decides)."""
        if threading.current_thread() is threading.main_thread():
            self.listens = True
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, _frame: Any) -> None:
        if self.event.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal = number
        self.event.set()
        print(f"\n{signal.Signals(number).name}: saving, then ending ...", file=sys.stderr, flush=True)

    def __call__(self) -> bool:
        return self.event.is_set()

    @property
    def exit_code(self) -> int:
        return 128 + self.signal if self.signal else 0


STOP = Stop()


def run(main: Callable[[Any], Any], config_class: type[JobConfig], description: str = "") -> None:
    """Parses the flags, runs the job, and ends the process with the right exit code."""
    config = parse(config_class, description=description or (sys.modules[main.__module__].__doc__ or ""))
    STOP.listen()
    try:
        storage.use_s3(config.s3_endpoint, config.s3_region, config.s3_anonymous)
        config = checked_output(config)
        if config.dry_run:
            print(to_yaml(dataclasses.replace(config, dry_run=False)), end="")
            with contextlib.redirect_stdout(sys.stderr):  # so that `--dry-run > run.yaml` is a config
                main(config)
        else:
            main(config)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(EXIT_USAGE) from error
    except TooManyFailuresError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(EXIT_TOO_MANY_FAILURES) from error
    except OSError as error:
        print(f"error: {_reason(error)}", file=sys.stderr)
        raise SystemExit(EXIT_USAGE) from error
    except KeyboardInterrupt as error:
        raise SystemExit(128 + signal.SIGINT) from error
    except SystemExit as error:
        if error.code != signal.SIGTERM:  # Ray's own handler, in force while Ray starts, exits with the bare number
            raise
        STOP.signal = signal.SIGTERM
        STOP.event.set()
    if STOP():
        print(f"stopped; what is finished so far is kept. Continue with:\n  {command_line()}", flush=True)
        raise SystemExit(STOP.exit_code)


def _reason(error: OSError) -> str:
    """What the system said, with the path and what to look at."""
    path = error.filename or ""
    advice = "check the path and its permissions; for s3:// also --s3-endpoint, --s3-region and the credentials"
    return f"{path}{': ' if path else ''}{error.strerror or error}; {advice}"


def command_line() -> str:
    """The command that was given, to be repeated."""
    python = os.path.relpath(sys.executable)
    return shlex.join([sys.executable if python.startswith("..") else python, *sys.argv])


def begin(config: JobConfig) -> None:
    """Before work begins: the output folder, its lock, its config.yaml and run.json."""
    storage.make_folder(config.output)
    lock.acquire(config.output, command_line())
    storage.write_text(storage.join(config.output, "config.yaml"), to_yaml(config))
    info = {
        "job": job_name(config),
        "command": command_line(),
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "seed": config.seed,
        "git": _git_state(),
        "versions": _versions(),
        "machine": {"cpus": os.cpu_count(), "platform": platform.platform()},
        "config": to_plain(config),
    }
    storage.write_json(storage.join(config.output, "run.json"), info)


def _git_state() -> str:
    try:
        root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
        words = ["git", "-C", root, "describe", "--always", "--dirty", "--abbrev=12"]
        return subprocess.run(words, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def _versions() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    found = {"gaugan-suite": __version__, "python": platform.python_version()}
    for package in ("torch", "torchvision", "ray", "mlflow", "numpy", "pillow", "pyarrow"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "missing"
    return found


def check_room(uri: str, needed_bytes: int, what: str) -> None:
    """Refuses before long work when the disk under `uri` can't hold the result."""
    free = storage.free_bytes(uri)
    if free is not None and free < needed_bytes:
        raise UserError(
            f"{uri}: {what} needs about {needed_bytes / 2**20:.0f} MB, {free / 2**20:.0f} MB are free; "
            "free some space or choose another --output"
        )


def check_memory(needed_bytes: int, flag: str) -> None:
    """Refuses before long work when the machine's free memory is less than the work is known to need."""
    import psutil

    free = psutil.virtual_memory().available
    if free < needed_bytes:
        raise UserError(
            f"needs about {needed_bytes / 2**30:.1f} GiB of memory, {free / 2**30:.1f} GiB are free; lower {flag}"
        )


def start_ray(config: JobConfig) -> None:
    """Connects to the cluster of a submitted job (RAY_ADDRESS), else starts a private Ray on this machine.

    Ray reads its settings from the environment when it is first imported: nothing may import it before this call.
    """
    attaches = bool(os.environ.get("RAY_ADDRESS"))
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.3")  # a crashed worker is seen sooner
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # the coming default, named to quiet a warning
    if not attaches and "ray" not in sys.modules:
        os.environ.setdefault("RAY_AUTH_MODE", "token")  # what is unset depends on the machine's history
        # This private instance's own token, never written down.
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))

    import logging

    import ray

    if ray.is_initialized():
        return
    quiet: dict[str, Any] = {"logging_level": logging.WARNING, "log_to_driver": False}
    if attaches:
        given = storage.use_s3(config.s3_endpoint, config.s3_region, config.s3_anonymous)
        ray.init(**quiet, runtime_env={"env_vars": given} if given else None)
    else:
        cpus = max(os.cpu_count() or 1, config.num_workers * config.threads)
        start_private_ray(num_cpus=cpus, **quiet)
    if STOP.listens:
        STOP.listen()  # Ray has put its own handlers in place
