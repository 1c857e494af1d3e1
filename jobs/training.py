"""The one place where gaugan's training meets Ray Train: 1..N workers, restarts, stopping, tracking.

Checkpoints are written by rank 0 straight to the output (gaugan.checkpoint), not through ray.train: a checkpoint counts
as soon as its folder stands, a killed worker, driver or node loses at most one interval, and a bare GPU box resumes the
same run.
"""

from __future__ import annotations

import contextlib
import io
import threading
import uuid
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from gaugan import storage
from gaugan.config import check_numbers, from_plain, to_plain
from gaugan.errors import UserError
from gaugan.plan import TrainingPlan, square
from gaugan.preprocess import Mode
from jobs.command import STOP, JobConfig, begin, check_room, start_ray
from jobs.tracking import Tracker, attach, open_run

POLL_S = 0.5


@dataclass(frozen=True, kw_only=True)
class TrainingJob(JobConfig):
    """Flags of every training job."""

    input: str
    """Dataset of pairs (from import_annotations or label_dataset)."""
    image_size: tuple[int, ...] = (128,)
    """Training size: one number (square), or height and width."""
    batch_size: int = 16
    """Pictures per step over all workers."""
    steps: int = 1000
    """Optimiser steps in all; a finished run with more steps continues."""
    mix_in: tuple[str, ...] = ()
    """Further datasets for every step, URI=PICTURES each (such as drawn=6): so many of --batch-size come from there."""
    augment: Literal["none", "flip", "mild", "strong"] = "mild"
    """Random changes of each training picture; flip = the mirror alone, as published for photographs."""
    preprocess: Mode = "fit"
    """How pictures get their size: fit = largest centred piece, resized; the others as published (docs/data.md)."""
    load_size: int | None = None
    """Side before a random piece is cut, for the preprocess modes that use it; unset = 286/256 of the image size."""
    report_every: int = 50
    """Steps between progress lines."""
    sample_every: int | None = 500
    """Steps between sample sheets."""
    evaluate_every: int | None = 500
    """Steps between measurements on held-out pictures."""
    evaluate_limit: int | None = None
    """At most so many held-out pictures per measurement."""
    save_every: int | None = 500
    """Steps between checkpoints."""
    keep: int = 2
    """Newest checkpoints to keep; the best stays as well."""
    register: bool = True
    """Make the finished model a version in the MLflow registry."""
    max_failures: int = 2
    """Crashed workers are restarted from the newest checkpoint so many times."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_numbers(self, not_negative=("max_failures",))

    def plan(self, system: str, config: Any) -> TrainingPlan:
        """The training plan that these flags describe."""
        if self.batch_size % self.num_workers:
            raise UserError(f"--batch-size {self.batch_size} must be a multiple of --num-workers {self.num_workers}")
        shared = {name: getattr(self, name) for name in SHARED}
        size = square(self.image_size)
        return TrainingPlan(system=system, config=to_plain(config), data=self.input, image_size=size, **shared)


SHARED = (
    *("output", "batch_size", "steps", "seed", "mix_in", "augment", "preprocess", "load_size", "keep", "use_gpu"),
    *("report_every", "sample_every", "evaluate_every", "evaluate_limit", "save_every"),
)


def train(job: TrainingJob, system: str, config: Any, registered_name: str = "") -> dict[str, Any]:
    """Runs a training job to its end or to a stop.

    Returns run_training's result, with "registered" = the registered model's URI.
    """
    from gaugan.data_check import check_data
    from gaugan.pairs import Pairs
    from gaugan.resume import check_resume
    from gaugan.systems import check_models
    from gaugan.training import finished

    plan = job.plan(system, config)
    pairs = Pairs.open(plan.data)
    check_models(config, pairs.classes, plan.image_size)
    check_resume(plan)
    check_data(plan, pairs, log=print)
    if job.dry_run:
        return {"status": "dry-run"}
    done = finished(plan)
    if done is not None:
        return done
    check_room(plan.output, 64 * 2**20, "the run")  # its checkpoints are measured once the networks stand
    begin(job)
    tracker = open_run(job.tracking, job.output, system, job)
    try:
        start_ray(job)
        result = fit(plan, tracker, num_workers=job.num_workers, threads=job.threads, max_failures=job.max_failures)
    except BaseException:
        tracker.finish("FAILED")
        raise
    for uri in sorted(entry.uri for entry in storage.list_files(storage.join(plan.output, "samples")))[-1:]:
        tracker.log_artifact(uri, "samples")
    if result["status"] == "diverged":
        tracker.finish("FAILED")
        raise UserError(
            f"diverged at step {result['step']}: gradients were not finite; the last good checkpoint is "
            f"{result['checkpoint'] or 'none'}. Lower the learning rate, or look at the data of that step"
        )
    if result["status"] == "finished" and registered_name and job.register:
        result["registered"] = register(tracker, registered_name, plan.output)
    tracker.finish("KILLED" if result["status"] == "stopped" else "FINISHED")
    return result


def register(tracker: Tracker, name: str, run_uri: str) -> str:
    """Registers a run's best checkpoint with its held-out metric."""
    from gaugan import checkpoint
    from gaugan.systems import SYSTEMS

    uri = checkpoint.find(run_uri)
    found = checkpoint.load(uri)
    metric = SYSTEMS[found.meta["system"]].best_metric
    tags = {"classes_hash": found.meta["classes_hash"], "model_hash": found.hash, "step": str(found.meta["step"])}
    registered = tracker.register_model(name, uri, metric, found.meta["metrics"].get(metric), tags)
    if registered:
        print(f"registered as {registered}")
    return registered


def fit(
    plan: TrainingPlan, tracker: Tracker, *, num_workers: int, threads: int, max_failures: int = 0
) -> dict[str, Any]:
    """run_training on `num_workers` Ray Train workers; resumes after crashed workers, stops when STOP is set."""
    import ray
    import ray.train
    from ray.train.torch import TorchTrainer

    wire = ray.remote(Wire).options(num_cpus=0).remote()
    payload = {"plan": to_plain(plan), "threads": threads, "tracker": tracker.reference(), "wire": wire}
    scratch = storage.join(plan.output, ".ray")
    trainer = TorchTrainer(
        worker,  # type: ignore[arg-type]  # it returns a result, which Ray Train passes on
        train_loop_config=payload,
        scaling_config=ray.train.ScalingConfig(
            num_workers=num_workers,
            use_gpu=plan.use_gpu,
            resources_per_worker={"CPU": threads, **({"GPU": 1} if plan.use_gpu else {})},
        ),
        run_config=ray.train.RunConfig(
            name=f"attempt-{uuid.uuid4().hex[:8]}",
            storage_path=scratch,
            failure_config=ray.train.FailureConfig(max_failures=max_failures),
        ),
    )
    try:
        outcome = attended(trainer.fit, wire).return_value
    except ray.train.TrainingFailedError as error:
        if not ended_by_the_system(error):
            raise
        raise UserError(
            f"a worker was ended by the system {max_failures + 1} times, most likely because memory ran out: lower "
            f"--batch-size ({plan.batch_size}), --image-size {plan.image_size} or --num-workers ({num_workers}). The "
            f"newest checkpoint stays; the same command continues from it. Ray says: {str(error).strip()[-500:]}"
        ) from error
    finally:
        storage.remove(scratch)
    if "user_error" in outcome:
        raise UserError(outcome["user_error"])
    return outcome


def ended_by_the_system(error: Exception) -> bool:
    """True when workers did not fail but vanished: Ray's memory monitor or the kernel killed them."""
    import ray.exceptions
    from ray.train.v2._internal.exceptions import WorkerHealthCheckFailedError

    gone = (
        *(ray.exceptions.OutOfMemoryError, ray.exceptions.ActorDiedError, ray.exceptions.WorkerCrashedError),
        WorkerHealthCheckFailedError,
    )
    return any(isinstance(failure, gone) for failure in getattr(error, "worker_failures", {}).values())


class Wire:
    """An actor between driver and workers: lines to print one way, the wish to stop the other way."""

    def __init__(self) -> None:
        self.stopped = False
        self.lines: list[str] = []

    def stop(self) -> None:
        """The driver asks the workers to save and end."""
        self.stopped = True

    def is_stopped(self) -> bool:
        """A worker asks."""
        return self.stopped

    def say(self, text: str) -> None:
        """A worker's text for the driver's terminal."""
        self.lines.append(text)

    def take(self) -> list[str]:
        """The driver fetches what was said."""
        lines, self.lines = self.lines, []
        return lines


def worker(payload: dict[str, Any]) -> dict[str, Any]:
    """What each Ray Train worker runs."""
    import torch

    from gaugan import parallel
    from gaugan.training import run_training

    torch.set_num_threads(payload["threads"])
    plan = from_plain(TrainingPlan, payload["plan"])
    main = parallel.rank() == 0
    tracker = attach(payload["tracker"] if main else {})
    warnings.showwarning = lambda message, *_: print(f"warning: {message}")
    with contextlib.redirect_stdout(Speaker(payload["wire"], silent=not main)):
        try:
            return run_training(
                plan, lambda step, values: tracker.log_metrics(values, step), stop_watch(payload["wire"])
            )
        except UserError as error:  # a mistake of the user's is not mended by a restart
            return {"user_error": str(error)}


class Speaker(io.TextIOBase):
    """A stdout whose lines go over the wire; other ranks stay silent."""

    def __init__(self, wire: Any, silent: bool) -> None:
        self.wire, self.silent, self.begun = wire, silent, ""

    def write(self, text: str) -> int:
        *lines, self.begun = (self.begun + text).split("\n")
        if lines and not self.silent:
            self.wire.say.remote("".join(f"{line}\n" for line in lines))
        return len(text)


def stop_watch(wire: Any) -> Callable[[], bool]:
    """Asks the wire in the background, so that a step never waits for it."""
    import ray

    seen = threading.Event()

    def poll() -> None:
        while not seen.wait(POLL_S):
            try:
                if ray.get(wire.is_stopped.remote(), timeout=10):
                    seen.set()
            except Exception:
                return

    threading.Thread(target=poll, daemon=True, name="stop-watch").start()
    return seen.is_set


def attended(call: Callable[[], Any], wire: Any) -> Any:
    """Runs `call` in a thread, prints what the workers say, and passes a stop on.

    In a thread, because signals reach the main thread only, where Ray Train would take over Ctrl-C and drop the run.
    """
    import ray

    outcome: dict[str, Any] = {}

    def target() -> None:
        try:
            outcome["value"] = call()
        except BaseException as error:
            outcome["error"] = error

    thread = threading.Thread(target=target, name="ray-train", daemon=True)
    thread.start()
    told = False
    while thread.is_alive():
        thread.join(POLL_S)
        if STOP() and not told:
            told = True
            ray.get(wire.stop.remote())
        print("".join(ray.get(wire.take.remote())), end="", flush=True)
    print("".join(ray.get(wire.take.remote())), end="", flush=True)
    if "error" in outcome:
        raise outcome["error"]
    return outcome["value"]
