"""Measures a generator on held-out label maps, beside real pictures (the ceiling) and flat colours (the floor).

python jobs/evaluate.py --model GAUGAN_RUN --input PAIRS --judge UNET_RUN --output EVALUATION

The judge labels the paintings; it should not be the U-Net that labelled the data (the result says when it is). Without
--inception, distances between picture sets are in the judge's own features: never to be called FID.

    OUTPUT/metrics.json              all numbers; its "explained" says what each means
    OUTPUT/gallery/index.html        label maps, real pictures, paintings; the worst judged ones
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from gaugan import storage
from gaugan.errors import UserError
from gaugan.pairs import Pairs
from gaugan.progress import Progress
from jobs.command import STOP, JobConfig, begin, check_room, run, start_ray
from jobs.recorded import recorded
from jobs.resources import Starting, Workers, check_resources
from jobs.tracking import resolve_model

SLICE_ROWS = 8
POLL_S = 1.0


@dataclass(frozen=True, kw_only=True)
class Config(JobConfig):
    """Flags of jobs/evaluate.py."""

    model: str
    """The generator: a run folder, a checkpoint, or models:/gaugan@champion."""
    input: str
    """Dataset of pairs; its held-out split is used."""
    judge: str
    """A U-Net (run folder, checkpoint or models:/...), best another one than the one that labelled the dataset."""
    limit: int = 200
    """At most so many held-out label maps."""
    seeds: int = 4
    """Random styles per label map."""
    inception: str = ""
    """URI of torch-fidelity's Inception weights, for FID and KID."""
    gallery: int = 24
    """Label maps shown in the gallery."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("limit", "seeds"):
            if getattr(self, name) < 1:
                raise UserError(f"--{name} {getattr(self, name)}: must be at least 1")
        if self.gallery < 0:
            raise UserError(f"--gallery {self.gallery}: must be 0 (none) or more")


def main(config: Config) -> dict[str, Any]:
    """Returns the content of metrics.json ({} after a stop or a dry run)."""
    if config.inception and not storage.exists(config.inception):
        raise UserError(f"--inception {config.inception}: no such file; leave it out to use our own feature network")
    models = {name: resolve_model(getattr(config, name), config.tracking) for name in ("model", "judge")}
    pairs = Pairs.open(config.input)
    about = describe(config, pairs, models)
    total = min(config.limit, pairs.num("held_out"))
    print(f"{total} held-out label maps; {about['judge']['note']}", flush=True)
    if config.dry_run:
        return {}
    known = finished(config, about)
    if known is not None:
        print("\n".join([f"{config.output}: measured already; nothing to do", *table(known)]), flush=True)
        return known
    check_room(config.output, 64 * 2**20, "metrics and gallery")
    start_ray(config)
    check_resources(needed(config))
    begin(config)
    with recorded(config, "evaluate") as tracker:
        measured = _measure(config, models, total)
        if measured is None:
            return {}
        metrics, page = _write(config, pairs, about, *measured)
        print("\n".join(table(metrics)))
        print(f"look at {page}", flush=True)
        tracker.log_metrics(flat(metrics))
        tracker.log_artifact(storage.join(config.output, "metrics.json"))
        tracker.log_artifact(storage.parent(page), "gallery")
        return metrics


def finished(config: Config, about: dict[str, Any]) -> dict[str, Any] | None:
    """The metrics that stand in the output when they are of the same models, data and settings, else None."""
    uri = storage.join(config.output, "metrics.json")
    if not storage.exists(uri):
        return None
    known: dict[str, Any] = storage.read_json(uri)
    return known if all(known.get(name) == value for name, value in about.items()) else None


def describe(config: Config, pairs: Pairs, models: dict[str, str]) -> dict[str, Any]:
    """Who is measured by whom. Raises UserError when the class tables differ or nothing is held out."""
    from gaugan import checkpoint

    about: dict[str, Any] = {
        "data": {"uri": config.input, "hash": pairs.hash},
        "settings": {name: getattr(config, name) for name in ("limit", "seeds", "seed", "inception", "gallery")},
    }
    for name, system in (("model", "spade"), ("judge", "unet")):
        found = checkpoint.find(models[name], f"--{name}")
        meta = checkpoint.read_meta(found)
        if meta["system"] != system:
            raise UserError(f"--{name} {getattr(config, name)}: holds a {meta['system']}, not a {system}")
        if meta["classes_hash"] != pairs.classes.hash:
            raise UserError(
                f"--{name} {getattr(config, name)}: class table {meta['classes_hash']}, --input has "
                f"{pairs.classes.hash}; use models and data of one class table"
            )
        hash_ = checkpoint.Checkpoint(found, meta, {}).hash
        about[name] = {"uri": found, "hash": hash_, "step": meta["step"], "image_size": meta["image_size"]}
    if pairs.num("held_out") < 2:
        raise UserError(f"--input {config.input}: {pairs.num('held_out')} held-out pairs; label with more --held-out")
    about["judge"] |= _independence(about["judge"]["hash"], pairs)
    return about


def _independence(judge_hash: str, pairs: Pairs) -> dict[str, Any]:
    maker = pairs.manifest.get("labelled_by", {}).get("model_hash", "")
    if not maker:
        return {"is_the_labeller": False, "note": "the label maps were made by people"}
    if maker == judge_hash:
        return {"is_the_labeller": True, "note": "NOTE: the judge also made the label maps: its scores are too kind"}
    return {"is_the_labeller": False, "note": "the judge is another U-Net than the one that made the label maps"}


def needed(config: Config) -> Workers:
    """What the evaluating workers need."""
    return Workers(config.num_workers, config.threads, config.use_gpu)


def _measure(config: Config, models: dict[str, str], total: int) -> tuple[Any, dict[str, Any]] | None:
    """(all parts added, features of training pictures), or None when asked to stop."""
    import ray

    from gaugan.evaluation import add
    from jobs.evaluate_worker import EvaluateWorker

    create: Any = ray.remote(EvaluateWorker).options(num_cpus=config.threads, num_gpus=1 if config.use_gpu else 0)
    settings = {
        "model": models["model"], "data": config.input, "judge": models["judge"], "inception": config.inception,
        "seeds": config.seeds, "seed": config.seed, "threads": config.threads,
        "device": "cuda" if config.use_gpu else "cpu",
    }  # fmt: skip
    workers = [create.remote() for _ in range(config.num_workers)]
    starting = Starting(needed(config), workers)
    loading = {worker.load.remote(**settings): worker for worker in workers}
    training = workers[0].training_features.remote(total)
    shown = [round(place * (total - 1) / max(1, config.gallery - 1)) for place in range(min(config.gallery, total))]
    slices = [(start, min(start + SLICE_ROWS, total)) for start in range(0, total, SLICE_ROWS)]
    parts: dict[int, Any] = {}
    progress = Progress(total, unit="label map")
    for start, part in _shared_out(loading, slices, total, shown, starting):
        if part is None:
            return None
        parts[start] = part
        print(progress.line(sum(part.rows for part in parts.values())), flush=True)
    return add([parts[start] for start in sorted(parts)]), ray.get(training)


def _shared_out(
    loading: dict[Any, Any], slices: list[tuple[int, int]], total: int, shown: list[int], starting: Starting
) -> Iterator[tuple[int, Any]]:
    """(start, Part) of each slice as it is done, one slice at a time per worker; a None part means: asked to stop.

    loading: what each worker is busy with at first -> the worker.
    """
    import ray

    waiting, workers = list(reversed(slices)), list(loading.values())
    running: dict[Any, tuple[Any, int | None]] = {reference: (worker, None) for reference, worker in loading.items()}
    while running:
        ready, _ = ray.wait(list(running), timeout=POLL_S)
        if STOP():
            for worker in workers:
                ray.kill(worker)
            yield 0, None
            return
        starting.look()
        for reference in ready:
            worker, start = running.pop(reference)
            part = _fetched(reference)
            if start is not None:
                yield start, part
            if waiting:
                start, stop = waiting.pop()
                running[worker.measure.remote(start, stop, total, shown)] = (worker, start)


def _fetched(reference: Any) -> Any:
    """A worker's answer; its UserErrors without Ray's traces around them."""
    import ray

    try:
        return ray.get(reference)
    except UserError as error:
        raise UserError(str(getattr(error, "cause", error))) from None


def _write(config: Config, pairs: Pairs, about: dict[str, Any], part: Any, training: Any) -> tuple[dict[str, Any], str]:
    """metrics.json and the gallery."""
    from gaugan.evaluation import EXPLAINED, summarise
    from gaugan.evaluation_report import write_gallery

    metrics = {**about, **summarise(part, pairs.classes, training), "explained": EXPLAINED}
    storage.write_json(storage.join(config.output, "metrics.json"), metrics)
    page = write_gallery(storage.join(config.output, "gallery"), metrics, part, pairs.classes)
    return metrics, page


def table(metrics: dict[str, Any]) -> list[str]:
    """The printed lines: one column per kind of picture, then the single numbers."""
    from gaugan.evaluation import KINDS

    kinds = [kind for kind in KINDS if kind in metrics]
    names = list(dict.fromkeys(name for kind in kinds for name in metrics[kind]))
    lines = [f"{'':<20}" + "".join(f"{kind:>13}" for kind in kinds)]
    for name in names:
        cells = (f"{metrics[kind][name]:>13.4f}" if name in metrics[kind] else f"{'':>13}" for kind in kinds)
        lines.append(f"{name:<20}" + "".join(cells))
    single = {name: value for name, value in metrics.items() if isinstance(value, float)}
    return [*lines, *(f"{name:<20}{value:>13.4f}" for name, value in single.items())]


def flat(metrics: dict[str, Any]) -> dict[str, float]:
    """{"painted.miou": 0.5, ...}: the numbers for the tracking server."""
    from gaugan.evaluation import KINDS

    numbers = {name: value for name, value in metrics.items() if isinstance(value, float)}
    return numbers | {f"{kind}.{name}": value for kind in KINDS for name, value in metrics.get(kind, {}).items()}


if __name__ == "__main__":
    run(main, Config)
