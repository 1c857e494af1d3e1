"""The one place where gaugan's training meets Ray Train: 1..N workers, restarts, stopping, tracking.

Checkpoints are written by rank 0 straight to the output (gaugan.checkpoint), not through ray.train: a checkpoint counts
as soon as its folder stands, a killed worker, driver or node loses at most one interval, and a bare GPU box resumes the
same run.
"""

from __future__ import annotations

import contextlib
import uuid
import warnings
from dataclasses import dataclass
from typing import Any, Literal

from gaugan import storage
from gaugan.config import check_numbers, from_plain, to_plain
from gaugan.errors import UserError
from gaugan.plan import TrainingPlan, square
from gaugan.preprocess import Mode
from jobs.attending import Speaker, Wire, attended, stop_watch
from jobs.command import JobConfig, begin, check_room, start_ray
from jobs.outputs import job_name
from jobs.resources import Workers, check_resources, check_training_memory
from jobs.tracking import Tracker, attach, open_run


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
    """Optimiser steps in all; a finished run continues when it is given more."""
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
        if self.steps < 1:
            raise UserError(f"--steps {self.steps}: must be at least 1")
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
    from gaugan.resume import check_resume, finished
    from gaugan.systems import check_models

    plan = job.plan(system, config)
    pairs = Pairs.open(plan.data)
    check_models(config, pairs.classes, plan.image_size)
    check_resume(plan)
    check_data(plan, pairs, log=print)
    done = None if job.dry_run else finished(plan)
    if done is not None:
        return done
    check_training_memory(plan, pairs.classes.num_classes, job.num_workers)
    if job.dry_run:
        return {"status": "dry-run"}
    check_room(plan.output, 64 * 2**20, "the run")  # its checkpoints are measured once the networks stand
    start_ray(job)
    check_resources(Workers(job.num_workers, job.threads, job.use_gpu))
    begin(job)
    tracker = open_run(job.tracking, job.output, job_name(job), job)
    try:
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
        ended = attended(trainer.fit, wire, Workers(num_workers, threads, plan.use_gpu))
    except ray.train.TrainingFailedError as error:
        if not ended_by_the_system(error):
            raise
        raise UserError(
            f"a worker was ended by the system {max_failures + 1} times, most likely because memory ran out: lower "
            f"--batch-size ({plan.batch_size}), --image-size {plan.image_size} or --num-workers ({num_workers}). "
            f"{advice_to_continue(plan)}. Ray says: {str(error).strip()[-500:]}"
        ) from error
    finally:
        storage.remove(scratch)
    if ended is None:
        return left_behind(plan)
    outcome: dict[str, Any] = ended.return_value
    if "user_error" in outcome:
        raise UserError(outcome["user_error"])
    return outcome


def advice_to_continue(plan: TrainingPlan) -> str:
    """What a run that ended for lack of memory leaves, and how to go on with it."""
    from gaugan.resume import stopped, way_out

    step = stopped(plan)["step"]
    if not step:
        return "Nothing was saved yet, so the same --output may be used with other sizes"
    return f"The checkpoint of step {step} stays; the same sizes continue from it, others need {way_out(plan)}"


def left_behind(plan: TrainingPlan) -> dict[str, Any]:
    """The result of a run whose workers did not answer a stop in time, or had never started."""
    from gaugan.resume import stopped

    result = stopped(plan)
    print(
        f"the workers had not started or did not answer in time; what is saved is of step {result['step']}", flush=True
    )
    return result


def ended_by_the_system(error: Exception) -> bool:
    """True when workers did not fail but vanished: Ray's memory monitor or the kernel killed them."""
    import ray.exceptions
    from ray.train.v2._internal.exceptions import WorkerHealthCheckFailedError

    gone = (
        *(ray.exceptions.OutOfMemoryError, ray.exceptions.ActorDiedError, ray.exceptions.WorkerCrashedError),
        WorkerHealthCheckFailedError,
    )
    return any(isinstance(failure, gone) for failure in getattr(error, "worker_failures", {}).values())


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
