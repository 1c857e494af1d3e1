"""What jobs/pipeline.py asks before anything is drawn or trained: all that a later step would refuse.

Most of it is asked by the steps' own configs and checks; their errors come out with the pipeline's flags.
"""

from __future__ import annotations

import warnings

import yaml

from gaugan import storage
from gaugan.config import from_plain
from gaugan.errors import UserError
from gaugan.labels import ClassTable
from gaugan.listing import TWO_FROM
from gaugan.spade.config import SpadeConfig
from gaugan.unet.config import UNetConfig
from jobs import pipeline_steps as steps
from jobs.import_summary import Checked
from jobs.pipeline_config import DATA_FIELDS, PipelineConfig, own_flags

AT_LEAST = {
    "sample_annotated": 2,  # one to learn from, one to measure on
    "sample_pictures": TWO_FROM,
    **dict.fromkeys(("augment_to", "unet_steps", "judge_steps", "encoder_steps", "sweep_steps", "gan_steps", "ngf"), 1),
    **dict.fromkeys(("unet_batch_size", "batch_size"), 1),
    "sweep_trials": 0,
}
Size = tuple[int, int]
FIRST_WEIGHTS = ("none", "imagenet")


def check_inputs(config: PipelineConfig) -> list[Checked] | None:
    """Raises UserError for flags and folders that a step would refuse, and when OUTPUT holds a run on other data.

    Returns what the import has found in --annotations; None for the sample, and when they are imported already.
    """
    _check_numbers(config)
    for name in ("annotations", "images"):
        uri = getattr(config, name)
        if uri and not storage.is_folder(uri):
            raise UserError(f"--{name} {uri}: no such folder")
    road = steps.Road(config, 0)
    _check_same_data(config)
    _check_steps(road)
    if not config.annotations:
        return None
    _check_pictures(road)
    return None if storage.exists(road.folder("annotated/manifest.json")) else _check_annotations(road)


def _check_numbers(config: PipelineConfig) -> None:
    for name, least in AT_LEAST.items():
        if getattr(config, name) < least:
            raise UserError(f"--{name.replace('_', '-')} {getattr(config, name)}: must be at least {least}")
    for name in ("held_out", "held_out_labelled"):
        if not 0 < getattr(config, name) < 1:
            flag = f"--{name.replace('_', '-')}"
            raise UserError(f"{flag} {getattr(config, name)}: expected a share above 0 and below 1")
    weights = config.encoder_weights
    if weights not in FIRST_WEIGHTS and not storage.exists(weights):
        raise UserError(
            f"--encoder-weights {weights}: no such file; give a MobileNetV2 state dict (.pth or .safetensors), "
            '"imagenet", or "none" (random)'
        )


def _check_steps(road: steps.Road) -> None:
    """The config of every step checks its own fields; U-Net and painter check their sizes where they are built."""
    from jobs.train_unet import steps_there, with_decay

    steps.import_config(road)
    for name, build in (("train_unet", steps.unet_config), ("train_unet (judge)", steps.judge_config)):
        with own_flags(name):
            unet = build(road)
            there = steps_there(unet)
            if there not in (None, unet.steps):
                raise UserError(
                    f"--steps {unet.steps}: {unet.output} holds a run of {there} steps, over which its learning rate "
                    f"falls; give --steps {there} again, or another --output for the whole road"
                )
            network = with_decay(unet)
            plan = unet.plan("unet", network)
    with own_flags("label_dataset"):
        steps.label_config(road)
    with own_flags("train_encoder"):
        encoder = steps.encoder_config(road)
        encoder.plan("style_vae", encoder.vae)
    if road.config.sweep_trials:
        with own_flags("tune/sweep"):
            steps.sweep_config(road)
    with own_flags("train_gaugan"):
        painter = steps.gaugan_config(road)
        size = painter.plan("spade", painter.spade).image_size
    _check_networks(road, network, plan.image_size, painter.spade, size)


def _check_networks(road: steps.Road, unet: UNetConfig, unet_size: Size, spade: SpadeConfig, size: Size) -> None:
    """Sizes and first weights, by the code that will use them."""
    import torch

    from gaugan.spade.networks import start_size
    from gaugan.systems import build_unet

    classes = ClassTable.load(road.config.classes)
    with own_flags("train_unet"), warnings.catch_warnings(action="ignore"):  # that weights are random is said later
        build_unet(unet, classes, unet_size, torch.device("cpu"))
    with own_flags("train_gaugan"):
        start_size(size, spade.upsampling)


def _check_same_data(config: PipelineConfig) -> None:
    known = storage.join(config.output, "config.yaml")
    made = ("sample/done.json", "annotated/manifest.json")  # before one of them a mistake in the flags binds nothing
    if storage.exists(known) and any(storage.exists(storage.join(config.output, name)) for name in made):
        before = from_plain(PipelineConfig, yaml.safe_load(storage.read_text(known)), source=known)
        different = [name for name in DATA_FIELDS if getattr(before, name) != getattr(config, name)]
        if different:
            details = "; ".join(f"{n}: there {getattr(before, n)!r}, now {getattr(config, n)!r}" for n in different)
            raise UserError(f"{config.output} holds a run on other data ({details}); choose another --output")


def _check_pictures(road: steps.Road) -> None:
    """Lists --images as the label job will: enough on either side of the split, as far as names tell pictures."""
    from gaugan.label_plan import list_inputs
    from gaugan.reading import is_sidecar
    from jobs.label_dataset import open_source

    own = road.config
    with own_flags("label_dataset"):
        source = open_source(steps.label_config(road))
        items = list_inputs(source, held_out=own.held_out_labelled, seed=own.seed)
    splits = [item.split for item in items if not is_sidecar(item.id)]
    if len(splits) < TWO_FROM:
        raise UserError(
            f"--images {own.images}: {len(splits)} picture(s); at least {TWO_FROM} are needed (hundreds for a painter "
            "worth looking at): two to measure on, the others to learn from"
        )
    held_out = splits.count("held_out")
    if held_out < 2 or held_out == len(splits):
        raise UserError(
            f"--held-out-labelled {own.held_out_labelled}: holds out {held_out} of the {len(splits)} pictures in "
            f"{own.images}; two or more have to be held out, and some left to learn from: give another share, or move "
            "files that are no pictures out of the folder"
        )


def _check_annotations(road: steps.Road) -> list[Checked]:
    """The import's own check of every file."""
    from jobs.import_annotations import check_all

    own, checked = road.config, check_all(steps.import_config(road))
    if len({item.split for item in checked}) < 2:
        raise UserError(
            f"--annotations {own.annotations}: one annotated picture (equal ones count once); at least 2 are needed "
            "(tens for a U-Net worth its labels): one to learn from, one to measure on"
        )
    return checked
