"""The steps of jobs/pipeline.py: each builds one job's config, runs it, and says in a few words what was measured.

Configs are built by functions of their own, so that jobs/pipeline_check.py can have them all checked beforehand.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import yaml

from gaugan import storage
from gaugan.config import to_yaml
from gaugan.errors import UserError
from gaugan.progress import duration
from jobs.command import STOP
from jobs.import_summary import Checked
from jobs.pipeline_config import PipelineConfig, own_flags
from jobs.tracking import shared_tracking


@dataclass
class Road:
    """The steps done so far and what they found."""

    config: PipelineConfig
    total: int
    number: int = 0
    table: list[tuple[str, str, str]] = field(default_factory=list)
    """(step, what was measured, time)."""
    checked: list[Checked] | None = None
    """What the import's check has found in the annotations, when it was made beforehand."""

    def folder(self, name: str) -> str:
        return storage.join(self.config.output, name)

    def step(self, name: str, do: Callable[[], str]) -> None:
        """Runs one step (unless a stop was asked for) and notes what it says."""
        if STOP():
            return
        self.number += 1
        print(f"\n[{self.number}/{self.total}] {name}", flush=True)
        start = time.monotonic()
        with own_flags(name):
            measured = do()
        self.table.append((name, measured, duration(self._took(name, time.monotonic() - start))))

    def _took(self, name: str, seconds: float) -> float:
        """Seconds that a step took, all sittings together."""
        uri = self.folder("times.json")
        times: dict[str, float] = storage.read_json(uri) if storage.exists(uri) else {}
        times[name] = round(times.get(name, 0.0) + seconds, 1)
        storage.write_json(uri, times)
        return times[name]

    def flags(self, name: str, **values: Any) -> dict[str, Any]:
        """The shared flags for a step that writes to the folder `name`."""
        own = self.config
        tracking = shared_tracking(own.tracking, own.output)
        shared = {"seed": own.seed, "tracking": tracking, "num_workers": own.num_workers, "use_gpu": own.use_gpu}
        return {**shared, "cpus_per_worker": own.cpus_per_worker, "output": self.folder(name), **values}


def draw_sample(road: Road) -> str:
    """Portraits with exact labels as labelme would leave them, and more without labels."""
    from gaugan.portraits import write_annotated, write_pictures

    own = road.config
    size = max(own.unet_image_size)
    if not storage.exists(road.folder("sample/done.json")):
        write_annotated(own.annotations, own.sample_annotated, size, own.seed)
        write_pictures(own.images, own.sample_pictures, size, own.seed + 1_000_000)
        storage.write_json(road.folder("sample/done.json"), {"size": size, "seed": own.seed})
    return f"{own.sample_annotated} annotated, {own.sample_pictures} without labels, {size} px"


def import_config(road: Road) -> Any:
    from jobs import import_annotations as job

    own = road.config
    rules = {"classes": own.classes, "map": own.map, "unknown": own.unknown, "z_order": own.z_order}
    return job.Config(**road.flags("annotated", annotations=own.annotations, held_out=own.held_out, **rules))


def import_annotations(road: Road) -> str:
    """labelme -> annotated pairs: augmented copies up to --augment-to, none where the folder holds as many itself."""
    from jobs import import_annotations as job

    if not storage.exists(road.folder("annotated/manifest.json")):
        config = import_config(road)
        checked = job.check_all(config) if road.checked is None else road.checked
        num_train = sum(item.split == "train" for item in checked)
        job.main(dataclasses.replace(config, augment_to=max(road.config.augment_to, num_train)), checked)
    if STOP():
        return ""
    splits = storage.read_json(road.folder("annotated/manifest.json"))["splits"]
    return f"{splits['train']} training pairs (with augmented copies), {splits['held_out']} held out"


def unet_config(road: Road) -> Any:
    return _unet_config(road, "unet", road.config.unet_steps, 0)


def judge_config(road: Road) -> Any:
    return _unet_config(road, "judge", road.config.judge_steps, 1)


def train_unet(road: Road) -> str:
    """The U-Net that labels."""
    return _train_unet(unet_config(road))


def evaluate_unet(road: Road) -> str:
    """The labelling U-Net on held-out annotations at their own size, as the label job will use it."""
    from jobs import evaluate_unet as job

    flags = road.flags("unet_evaluation", model=road.folder("unet"), input=road.folder("annotated"))
    metrics = job.main(job.Config(**flags, mirror=True, remove_specks=True))
    return "" if STOP() else _named(metrics, "miou", "iou_eye", "iou_mouth", "specks")


def train_judge(road: Road) -> str:
    """Another U-Net (other seed), so that paintings are not judged by the one that made their labels."""
    return _train_unet(judge_config(road))


def quarter(steps: int) -> int:
    """Of a run, rounded up: four points of a curve, four and samples, the last of them at its end."""
    return max(1, -(-steps // 4))


def _unet_config(road: Road, name: str, steps: int, seed_offset: int) -> Any:
    from gaugan.unet.config import UNetConfig
    from jobs import train_unet as job

    own = road.config
    return job.TrainUNet(
        **{**road.flags(name), "seed": own.seed + seed_offset},
        input=road.folder("annotated"),
        image_size=own.unet_image_size,
        batch_size=own.unet_batch_size,
        steps=steps,
        report_every=60,
        evaluate_every=quarter(steps),
        sample_every=steps,
        save_every=quarter(steps),
        register=name == "unet",
        unet=UNetConfig(encoder_weights=own.encoder_weights, learning_rate=4e-3),  # short runs: docs/segmenter.md
    )


def _train_unet(config: Any) -> str:
    from jobs import train_unet as job

    result = job.main(config)
    return "" if STOP() else _figures(result, "miou", "iou_eye", "iou_mouth", "specks")


def label_config(road: Road) -> Any:
    from jobs import label_dataset as job

    own = road.config
    flags = road.flags("labelled", input=own.images, model=road.folder("unet"), held_out=own.held_out_labelled)
    return job.Config(**flags, mirror=True, remove_specks=True, max_failure_rate=own.max_failure_rate)


def label_dataset(road: Road) -> str:
    """The U-Net labels every picture."""
    from gaugan.pairs import Pairs
    from jobs import label_dataset as job

    stats = job.main(label_config(road))
    if STOP():
        return ""
    pairs = Pairs.open(road.folder("labelled"))
    if pairs.num("held_out") < 2 or not pairs.num("train"):
        raise UserError(
            f"--images {road.config.images}: {pairs.num('train')} labelled pictures to learn from and "
            f"{pairs.num('held_out')} held out; at least 1 and 2 are needed. The other files were refused, see "
            f"{road.folder('labelled/report/index.html')}: mend or add some, and choose another --output"
        )
    doubtful = stats["review"] + stats["reject"]
    if doubtful > stats["labelled"] / 2:
        print(
            f"warning: {doubtful} of {stats['labelled']} label maps are doubtful, and a painter learns what they say. "
            f"Look at {road.folder('labelled/report/index.html')}; more --unet-steps or annotations make better ones",
            flush=True,
        )
    return (
        f"{stats['labelled']} labelled, {stats['refused']} refused, mean confidence {stats['confidence']['mean']:.3f}"
    )


def encoder_config(road: Road) -> Any:
    from gaugan.spade.config import StyleVAEConfig
    from jobs import train_encoder as job

    vae = StyleVAEConfig(nef=2 * road.config.ngf)
    return job.TrainEncoder(**road.flags("encoder"), **_painting(road, road.config.encoder_steps), vae=vae)


def train_encoder(road: Road) -> str:
    """The style encoder, a VAE."""
    from jobs import train_encoder as job

    result = job.main(encoder_config(road))
    return "" if STOP() else _figures(result, "reconstruction_psnr", "active_units", "kld")


def _painting(road: Road, steps: int) -> dict[str, Any]:
    own = road.config
    return {
        "input": road.folder("labelled"),
        "image_size": own.image_size,
        "batch_size": own.batch_size,
        "steps": steps,
        "report_every": 25,
        "evaluate_every": steps,
        "evaluate_limit": 64,
        "sample_every": quarter(steps),
        "save_every": quarter(steps),
    }


def gaugan_config(road: Road) -> Any:
    from gaugan.spade.config import SpadeConfig
    from jobs.train_gaugan import TrainGauGAN

    own = road.config
    spade = SpadeConfig(
        encoder=road.folder("encoder"),
        features=f"unet:{road.folder('unet')}",
        judge=road.folder("judge"),
        ngf=own.ngf,
        ndf=2 * own.ngf,
        spade_hidden=2 * own.ngf,
        learning_rate=6e-4,  # short runs: the published 2e-4 was clearly behind after 300 steps (docs/results.md)
    )
    return TrainGauGAN(**road.flags("gaugan"), **_painting(road, own.gan_steps), spade=spade)


def sweep_config(road: Road) -> Any:
    from tune import sweep as job

    own = road.config
    flags = road.flags("sweep", base=road.folder("sweep_base.yaml"), trials=own.sweep_trials, steps=own.sweep_steps)
    return job.SweepConfig(**flags, evaluate_every=max(own.sweep_steps // 2, 1))


def sweep(road: Road) -> str:
    """A few short trials over the loss weights; trial 0 has the base's own."""
    from tune import sweep as job

    config = sweep_config(road)
    storage.write_text(config.base, to_yaml(gaugan_config(road)))
    result = job.main(config)
    if STOP():
        return ""
    best = result["rows"][0]
    return f"{len(result['rows'])} trials, best is {best['trial']}"


def train_gaugan(road: Road) -> str:
    """The painter, with the sweep's best loss weights."""
    from gaugan.config import from_plain
    from jobs import train_gaugan as job

    config = gaugan_config(road)
    best = road.folder("sweep/best.yaml")
    if road.config.sweep_trials and storage.exists(best):
        config = from_plain(job.TrainGauGAN, yaml.safe_load(storage.read_text(best)), source=best)
    result = job.main(dataclasses.replace(config, output=road.folder("gaugan")))
    return "" if STOP() else _figures(result, "consistency_miou", "consistency_accuracy", "style_effect")


def evaluate(road: Road) -> str:
    """Paintings of held-out label maps, measured."""
    from jobs import evaluate as job

    flags = road.flags("evaluation", model=road.folder("gaugan"), input=road.folder("labelled"))
    metrics = job.main(job.Config(**flags, judge=road.folder("judge")))
    if STOP():
        return ""
    shown = [
        f"{kind} {metrics[kind]['miou']:.3f}"
        for kind in ("painted", "own_style", "real", "mean_colour")
        if kind in metrics
    ]
    return "judged mIoU: " + "  ".join(shown)


def _figures(result: dict[str, Any], *names: str) -> str:
    """The named held-out figures of a training's best checkpoint."""
    return _named(result["best"]["metrics"], *names)


def _named(metrics: dict[str, Any], *names: str) -> str:
    """Three decimals, none of a whole number."""
    return "  ".join(f"{name} {f'{metrics[name]:.3f}'.removesuffix('.000')}" for name in names if name in metrics)
