"""A whole training run on this machine: data, system, resume, loop, checkpoints. Needs no cluster.

    run_training(TrainingPlan(system="unet", config=to_plain(UNetConfig()), data="DIR", output="RUN", steps=1000, ...))

Running the same plan again continues where the newest checkpoint stands, with the numbers of an uninterrupted run.
"""

from __future__ import annotations

import itertools
import json
import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch

from gaugan import checkpoint, images, parallel, storage
from gaugan.augment import PRESETS
from gaugan.batches import BatchSpec, batches, mixed, prefetch, to_device, whole_split
from gaugan.config import from_plain
from gaugan.data_check import check_data
from gaugan.errors import UserError
from gaugan.loop import Hooks, Schedule, System, is_time, train
from gaugan.pairs import Pairs
from gaugan.plan import TrainingPlan
from gaugan.progress import Progress
from gaugan.regions import REGION_PRESETS
from gaugan.resume import check_same_run, open_mixture, run_record, standing
from gaugan.systems import SYSTEMS

Item = TypeVar("Item")
Report = Callable[[int, dict[str, float]], None]
CALIBRATION_BATCHES, CALIBRATION_SIZE = 30, 16
"""Training batches that normalisation statistics are re-estimated from, and how many pictures each has at least: with
smaller ones painting is visibly behind the previews of a training (docs/results.md)."""
HURRIED_S = 5.0
"""So long a run that was asked to stop may still re-estimate, from however many batches (at least one)."""
LOOK_S = 1.0
"""In the middle of re-estimating and measuring it is asked so often whether to stop."""
OPTIMISER_FACTOR = 3
"""A checkpoint's size in units of its weights: Adam keeps two more numbers for each."""


@dataclass
class Run:
    """The state that the hooks of one run share."""

    plan: TrainingPlan
    system: System
    pairs: Pairs
    mixture: list[tuple[Pairs, int]]
    """Further datasets, and how many pictures of a step each gives."""
    device: torch.device
    report: Report
    progress: Progress
    metrics: dict[str, float] = field(default_factory=dict)
    """The held-out metrics of `metrics_step`."""
    metrics_step: int = -1
    saved_step: int = -1
    calibrated_step: int = -1
    should_stop: Callable[[], bool] = lambda: False
    stopping: bool = False
    """Someone waits for the end: nothing but saving."""
    lines: list[str] = field(default_factory=list)
    """The content of metrics.jsonl."""

    @property
    def is_main(self) -> bool:
        return parallel.rank() == 0

    def is_stopping(self) -> bool:
        """Asks whether to stop; also in the middle of long measurements, which are then dropped."""
        self.stopping = self.stopping or self.should_stop()
        return self.stopping

    def note(self, step: int, values: dict[str, float]) -> None:
        """Rank 0 appends to metrics.jsonl (the source of truth for curves); every rank tells its caller."""
        if self.is_main:
            finite = {name: value if math.isfinite(value) else None for name, value in values.items()}
            line = json.dumps({"step": step, "time": round(time.time(), 2), **finite})
            self.lines.append(line)
            uri = storage.join(self.plan.output, "metrics.jsonl")
            if storage.is_local(uri):
                with storage.local_path(uri).open("a") as file:
                    file.write(line + "\n")
        self.report(step, values)

    def flush(self) -> None:
        """Object stores can't append: the whole file is written at each checkpoint."""
        if not storage.is_local(self.plan.output):
            storage.write_text(storage.join(self.plan.output, "metrics.jsonl"), "\n".join(self.lines) + "\n")


def run_training(
    plan: TrainingPlan, report: Report = lambda step, values: None, should_stop: Callable[[], bool] = lambda: False
) -> dict[str, Any]:
    """Trains to `plan.steps`, or until `should_stop()`.

    Returns {"status", "step", "checkpoint", "metrics", "best"}. Every rank calls it; rank 0 writes.
    """
    device = torch.device("cuda", torch.cuda.current_device()) if plan.use_gpu else torch.device("cpu")
    run, start = _prepare(plan, device, report)
    if start >= plan.steps:
        if run.is_main:
            print(f"{plan.output}: already at step {start} of {plan.steps}; nothing to do")
        return standing(plan, "finished", start)
    run.should_stop = should_stop
    hooks = _hooks(run)
    if start and run.is_main and is_time(start, plan.evaluate_every, plan.steps) and not _is_measured(run, start):
        _evaluate(run, start)
    source = prefetch(mixed(_parts(run), start, parallel.rank(), parallel.world_size()))
    schedule = Schedule(plan.steps, plan.report_every, plan.sample_every, plan.evaluate_every, plan.save_every)
    try:
        outcome = train(
            run.system, (to_device(b, device) for b in source), schedule, hooks, seed=plan.seed, start=start
        )
    except RuntimeError as error:
        if isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error):
            raise UserError(
                f"out of memory: lower --batch-size ({plan.batch_size}) or --image-size ({error})"
            ) from error
        raise
    finally:
        source.close()  # type: ignore[attr-defined]
    return standing(plan, outcome.status, outcome.step)


def _prepare(plan: TrainingPlan, device: torch.device, report: Report) -> tuple[Run, int]:
    """Opens the data, builds the system, loads the newest checkpoint. Returns the run and the finished steps."""
    for name, table in (("system", SYSTEMS), ("augment", PRESETS)):
        if getattr(plan, name) not in table:
            raise UserError(f"--{name} {getattr(plan, name)}: choose one of {', '.join(table)}")
    pairs = Pairs.open(plan.data)
    check_data(plan, pairs)
    entry = SYSTEMS[plan.system]
    config: Any = from_plain(entry.config, plan.config)
    is_main = parallel.rank() == 0
    saved = checkpoint.newest(plan.output, log=print if is_main else lambda text: None)
    mixture = open_mixture(plan, pairs)
    if saved is not None:
        check_same_run(plan, config, saved, pairs, mixture)
    torch.manual_seed(plan.seed)
    system = entry.build(config, pairs.classes, plan.image_size, device)
    _check_room(plan, system)
    start = 0
    if saved is not None:
        system.load_state_dict(saved.state)
        start = saved.meta["step"]
    run = Run(plan, system, pairs, mixture, device, report, Progress(plan.steps, start))
    parallel.barrier()  # all have read before anything is removed
    if is_main:
        checkpoint.forget_after(plan.output, start)
        _keep_metrics_up_to(run, start)
        if start:
            print(f"resumes {plan.output} at step {start} of {plan.steps}", flush=True)
    parallel.barrier()
    return run, start


def _check_room(plan: TrainingPlan, system: System) -> None:
    """Refuses before the first step when the disk can't hold the checkpoints that will be kept."""
    networks = system.state_dict()["networks"].values()
    weights = sum(tensor.nbytes for network in networks for tensor in network.values())
    needed = (plan.keep + 2) * OPTIMISER_FACTOR * weights  # the newest, the best, and the one being written
    free = storage.free_bytes(plan.output)
    if free is not None and free < needed:
        raise UserError(
            f"{plan.output}: the checkpoints need up to {needed / 2**20:.0f} MB, {free / 2**20:.0f} MB are free; "
            f"free some space, lower --keep ({plan.keep}), or choose another --output"
        )


def _parts(run: Run) -> list[tuple[Pairs, BatchSpec]]:
    """The datasets of a step and how many pictures each gives."""
    plan = run.plan
    own = plan.batch_size - sum(count for _, count in run.mixture)
    return [(pairs, _spec(plan, "train", count, plan.augment)) for pairs, count in [(run.pairs, own), *run.mixture]]


def _keep_metrics_up_to(run: Run, start: int) -> None:
    """Drops lines of steps that will be done again, so that no step stands twice."""
    uri = storage.join(run.plan.output, "metrics.jsonl")
    storage.make_folder(run.plan.output)
    if storage.exists(uri):
        lines = storage.read_text(uri).splitlines()
        run.lines = [line for line in lines if _step_of(line) <= start]
        storage.write_text(uri, "".join(line + "\n" for line in run.lines))


def _step_of(line: str) -> float:
    """The step of a line of metrics.jsonl; infinity for one that a crash cut off."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return math.inf


def _spec(plan: TrainingPlan, split: str, batch_size: int, augment: str) -> BatchSpec:
    regions = REGION_PRESETS[augment]
    how = PRESETS[augment], regions if regions.used else None, plan.preprocess, plan.load_size
    return BatchSpec(split, plan.image_size, batch_size, plan.seed, *how)


def _hooks(run: Run) -> Hooks:
    """The hooks of one run; only rank 0 writes, evaluates and samples."""
    fixed = _fixed_batch(run)

    def report(step: int, values: dict[str, float]) -> None:
        shown = "  ".join(f"{name} {value:.4g}" for name, value in values.items() if name != "skipped" or value)
        line = run.progress.line(step, shown)
        if run.is_main:
            print(line, flush=True)
        run.note(step, {**values, "images_per_s": run.progress.rate() * run.plan.batch_size})

    def sample(step: int) -> None:
        if run.is_main and not run.stopping:
            _calibrate(run, step)
            picture = images.to_uint8(run.system.sample(fixed))
            uri = storage.join(run.plan.output, "samples", f"step_{step:08d}.png")
            storage.write_bytes(uri, images.encode_png(picture))

    def evaluate(step: int) -> None:
        if run.is_main:
            _evaluate(run, step)
        parallel.barrier()

    def save(step: int) -> None:
        if run.is_main:
            _save(run, step)
        parallel.barrier()

    def skipped(step: int) -> bool:
        return _note_skipped(run, step)

    return Hooks(report, sample, evaluate, save, skipped, run.is_stopping)


def _fixed_batch(run: Run) -> dict[str, torch.Tensor]:
    """The same few pictures for every sample sheet: held-out ones, if there are any."""
    split = "held_out" if run.pairs.num("held_out") else "train"
    spec = _spec(run.plan, split, run.plan.sample_count, "none")
    return to_device(next(whole_split(run.pairs, spec)), run.device)


def _calibrate(run: Run, step: int) -> None:
    """Averaged weights need normalisation statistics of their own before they are looked at, measured or saved.

    Systems that have such weights offer `calibrate(batches)`.
    """
    if run.calibrated_step != step:
        plan = run.plan
        spec = _spec(plan, "train", max(plan.batch_size, CALIBRATION_SIZE), "none")
        few = itertools.islice(batches(run.pairs, spec), CALIBRATION_BATCHES)
        calibrate = getattr(run.system, "calibrate", None)
        if calibrate:
            calibrate(to_device(batch, run.device) for batch in _unless_hurried(run, few))
        run.calibrated_step = step


def _unless_hurried(run: Run, items: Iterable[Item]) -> Iterator[Item]:
    """The items; of a run that was asked to stop, before or meanwhile, only the first and more for HURRIED_S."""
    begun = looked = time.monotonic()
    for item in items:
        yield item
        now = time.monotonic()
        if now - looked >= LOOK_S:
            looked = now
            run.is_stopping()
        if run.stopping and now - begun >= HURRIED_S:
            return


def _evaluate(run: Run, step: int) -> None:
    """Measures on held-out pictures (without any: nothing), notes it, and saves a new best.

    A measurement that a stop falls into is dropped: the resumed run begins with it.
    """
    if run.stopping or not run.pairs.num("held_out"):
        return
    plan = run.plan
    _calibrate(run, step)
    spec = _spec(plan, "held_out", plan.evaluate_batch, "none")
    held_out = _unless_hurried(run, whole_split(run.pairs, spec, plan.evaluate_limit))
    metrics = run.system.evaluate(to_device(batch, run.device) for batch in held_out)
    if run.stopping:
        return
    run.metrics, run.metrics_step = metrics, step
    print(f"held-out at step {step}: " + "  ".join(f"{k} {v:.4g}" for k, v in metrics.items()), flush=True)
    run.note(step, {f"held_out/{name}": value for name, value in metrics.items()})
    if _is_best(run):
        _save(run, step, is_best=True)


def _is_measured(run: Run, step: int) -> bool:
    return any(f'{{"step": {step},' in line and '"held_out/' in line for line in run.lines)


def _is_best(run: Run) -> bool:
    name = run.system.best_metric
    best = (checkpoint.pointed(run.plan.output, "best") or {}).get("metrics", {}).get(name, -math.inf)
    return run.metrics.get(name, -math.inf) > best


def _save(run: Run, step: int, is_best: bool = False) -> None:
    """Writes a checkpoint."""
    plan = run.plan
    if run.saved_step == step:
        return
    _calibrate(run, step)
    measured = run.metrics if run.metrics_step == step else {}
    metrics = {name: value for name, value in measured.items() if math.isfinite(value)}
    checkpoint.save(
        checkpoint.step_uri(plan.output, step),
        system=plan.system,
        config=plan.config,
        classes=run.pairs.classes,
        image_size=plan.image_size,
        step=step,
        state=run.system.state_dict(),
        metrics=metrics,
        run=run_record(plan, run.pairs, run.mixture),
    )
    run.saved_step = step
    checkpoint.point(plan.output, "last", step, metrics)
    if is_best:
        checkpoint.point(plan.output, "best", step, metrics)
    checkpoint.prune(plan.output, plan.keep)
    run.flush()


def _note_skipped(run: Run, step: int) -> bool:
    """Remembers skipped steps beside the run; True when an earlier attempt skipped this one as well."""
    uri = storage.join(run.plan.output, "skipped_steps.json")
    known: list[int] = storage.read_json(uri) if storage.exists(uri) else []
    parallel.barrier()
    if run.is_main and step not in known:
        storage.write_json(uri, [*known, step])
    return step in known
