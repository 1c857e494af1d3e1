"""Self-training: a U-Net learns from annotations and from what the round before was sure of, and labels all anew.

    OUTPUT                       round 1
    OUTPUT/round2/accepted       its surest pairs
    OUTPUT/round2/unet           the U-Net that continues from --model on annotated and accepted pairs
    OUTPUT/round2/labelled       the dataset of round 2, in the form of OUTPUT

Every step is skipped that is done already, so the same command continues. Recipe: Xie et al. 2020, "Self-training with
Noisy Student" (arXiv 1911.04252), in its simplest form: the strong augmentation is the noise.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from gaugan import storage
from gaugan.errors import UserError
from jobs.command import STOP
from jobs.tracking import resolve_model

if TYPE_CHECKING:
    from jobs.label_dataset import Config

BATCH_SIZE, FROM_ACCEPTED = 12, 6
"""Pictures per step, and how many of them the model before has labelled."""


def label_rounds(config: Config, label: Callable[[Config], dict[str, Any]]) -> dict[str, Any]:
    """All rounds up to `config.round`, each in order; returns the last one's statistics ({} after a stop)."""
    _check(config)
    current = dataclasses.replace(config, round=1, annotated=())
    stats = label(current)
    for number in range(2, config.round + 1):
        if STOP() or config.dry_run:
            return {}
        folder = storage.join(config.output, f"round{number}")
        print(f"\nround {number}: training on {', '.join(config.annotated)} and accepted labels", flush=True)
        unet = _train(config, current, folder)
        if STOP():
            return {}
        export = config.export_labelme and storage.join(config.export_labelme, f"round{number}")
        output = storage.join(folder, "labelled")
        current = dataclasses.replace(current, model=unet, output=output, retry_failed=None, export_labelme=export)
        stats = label(current)
        print(f"round {number}: labels in {output}, by {unet}", flush=True)
    return stats


def _check(config: Config) -> None:
    from gaugan.pairs import Pairs

    if not config.annotated:
        raise UserError(
            f"--round {config.round}: a U-Net is trained; give --annotated PAIRS, what it first learnt from"
        )
    for uri in config.annotated:
        Pairs.open(uri)


def _train(config: Config, before: Config, folder: str) -> str:
    """Trains the next U-Net from the round before; returns its run folder."""
    from gaugan import checkpoint, label_plan, label_shards
    from gaugan.accepted import write_accepted
    from gaugan.labels import ClassTable
    from gaugan.unet.config import UNetConfig
    from jobs import train_unet as job

    start = checkpoint.find(resolve_model(before.model, config.tracking))
    meta = checkpoint.read_meta(start)
    classes = ClassTable.from_plain(meta["classes"], source=start)
    accepted, run = storage.join(folder, "accepted"), storage.join(folder, "unet")
    plan, finished = label_plan.read_plan(before.output), label_shards.finished_shards(before.output)
    count = write_accepted(accepted, before.output, plan, classes, finished)
    if not count:
        raise UserError(
            f"--round: no label of {before.output} reached --min-confidence {plan.min_confidence:g}; annotate more "
            "pictures (--export-labelme writes the doubtful ones), or lower --min-confidence with another --output"
        )
    first, *others = config.annotated
    each = (BATCH_SIZE - FROM_ACCEPTED) // len(config.annotated)
    network = UNetConfig(
        version=meta["config"]["version"], widths=tuple(meta["config"]["widths"]), encoder_weights="none",
        initial=start, learning_rate=1e-3, half_size_share=0.0,
    )  # fmt: skip
    result = job.main(
        job.TrainUNet(
            input=first, output=run, mix_in=(*(f"{uri}={each}" for uri in others), f"{accepted}={FROM_ACCEPTED}"),
            image_size=tuple(meta["image_size"]), batch_size=BATCH_SIZE, steps=config.round_steps, unet=network,
            evaluate_every=max(config.round_steps // 2, 1), save_every=max(config.round_steps // 2, 1),
            seed=config.seed, tracking=config.tracking, use_gpu=config.use_gpu, cpus_per_worker=config.cpus_per_worker,
            num_workers=max(1, config.num_workers) if config.use_gpu else 1,
        )
    )  # fmt: skip
    if not STOP():
        print(f"{count} accepted pairs; held out: {_figures(result)}", flush=True)
    return run


def _figures(result: dict[str, Any]) -> str:
    metrics = result["best"]["metrics"]
    return "  ".join(f"{name} {metrics[name]:.3f}" for name in ("miou", "pixel_accuracy") if name in metrics)
