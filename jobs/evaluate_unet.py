"""Measures a U-Net on annotated pictures that it has not seen, at their own size.

python jobs/evaluate_unet.py --model UNET_RUN --input PAIRS --output EVALUATION --mirror

    OUTPUT/metrics.json      miou, pixel_accuracy, iou_<class>, specks per picture (and those of the annotations)
    OUTPUT/page/index.html   the same with the confusions and the worst pictures first
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from gaugan import storage
from gaugan.errors import UserError
from gaugan.pairs import Pairs
from gaugan.plan import square
from gaugan.progress import Progress
from jobs.command import STOP, JobConfig, begin, check_room, run
from jobs.recorded import recorded
from jobs.tracking import resolve_model


@dataclass(frozen=True, kw_only=True)
class Config(JobConfig):
    """Flags of jobs/evaluate_unet.py."""

    model: str
    """The U-Net: a run folder, a checkpoint, or models:/unet@champion."""
    input: str
    """Dataset of annotated pairs."""
    split: Literal["held_out", "train"] = "held_out"
    """Which pictures; "train" tells how well it has learnt them, not how well it labels."""
    segment_size: tuple[int, ...] = ()
    """Size at which the U-Net works (multiples of 32); empty = its training size."""
    mirror: bool = False
    """Average with the answer for the mirrored picture."""
    remove_specks: bool = False
    """Let components under 0.02 % of the picture take the class around them."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Arithmetic of the U-Net."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.segment_size and any(side % 32 for side in square(self.segment_size)):
            raise UserError(f"--segment-size {self.segment_size}: a U-Net needs multiples of 32, for example 256")


def main(config: Config) -> dict[str, Any]:
    """Returns the content of metrics.json ({} after a stop or a dry run)."""
    from gaugan import checkpoint

    pairs = Pairs.open(config.input)
    model = checkpoint.find(resolve_model(config.model, config.tracking), "--model")
    meta = checkpoint.read_meta(model)
    if meta["system"] != "unet":
        raise UserError(f"--model {config.model}: holds a {meta['system']}, not a unet")
    if meta["classes_hash"] != pairs.classes.hash:
        raise UserError(
            f"--model {config.model}: class table {meta['classes_hash']}, --input has {pairs.classes.hash}; "
            "use models and data of one class table"
        )
    if not pairs.num(config.split):
        raise UserError(f"--input {config.input}: its {config.split} split is empty; import with another --held-out")
    if config.dry_run:
        return {}
    check_room(config.output, 64 * 2**20, "metrics and page")
    begin(config)
    with recorded(config, "evaluate_unet") as tracker:
        metrics = _measure(config, model, pairs)
        if not metrics:
            return {}
        numbers = {name: value for name, value in metrics.items() if isinstance(value, float)}
        print("\n".join(f"{name:<18}{value:>9.4f}" for name, value in numbers.items()))
        print(f"look at {storage.join(config.output, 'page', 'index.html')}", flush=True)
        tracker.log_metrics(numbers)
        tracker.log_artifact(storage.join(config.output, "page"), "page")
        return metrics


def _measure(config: Config, model: str, pairs: Pairs) -> dict[str, Any]:
    """metrics.json and the page; {} when asked to stop."""
    import torch

    from gaugan.label_evaluation import LabelScores, write_page
    from gaugan.segmenter import Segmenter

    torch.set_num_threads(config.threads)
    device = "cuda" if config.use_gpu else "cpu"
    segmenter = Segmenter.load(model, device, config.precision, mirror=config.mirror)
    if config.segment_size:
        segmenter.image_size = square(config.segment_size)
    total, scores = pairs.num(config.split), LabelScores.empty(pairs.classes.num_classes)
    progress = Progress(total, unit="picture")
    for index in range(total):
        if STOP():
            return {}
        scores.add(segmenter, pairs.read(config.split, index), clean=config.remove_specks)
        progress.tell(index + 1)
    about = {
        "model": model, "model_hash": segmenter.checkpoint_hash, "data": config.input, "data_hash": pairs.hash,
        "split": config.split, "pictures": pairs.num(config.split), "segment_size": list(segmenter.image_size),
        "mirror": config.mirror, "remove_specks": config.remove_specks,
    }  # fmt: skip
    metrics = about | scores.summary(pairs.classes.names)
    storage.write_json(storage.join(config.output, "metrics.json"), metrics)
    write_page(storage.join(config.output, "page"), about, scores, pairs.classes)
    return metrics


if __name__ == "__main__":
    run(main, Config)
