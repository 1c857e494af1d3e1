"""Published SPADE weights in and out.

    python jobs/import_checkpoint.py --input coco_pretrained --output RUN --dontcare-channel --instance-edges
    python jobs/import_checkpoint.py --model RUN --output mine

The first reads latest_net_G.pth (and _D, _E, as far as they are there) and writes a run folder that every other command
takes as --model; the second writes such files from a checkpoint of ours. Official files are read as tensors only and
refused with a list of everything that doesn't fit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from gaugan import storage
from gaugan.errors import UserError
from gaugan.plan import square
from jobs.command import JobConfig, begin, check_room, run
from jobs.recorded import recorded

GENERATOR_SUFFIX = "_net_G.pth"


@dataclass(frozen=True, kw_only=True)
class Config(JobConfig):
    """Flags of jobs/import_checkpoint.py."""

    input: str = ""
    """Import: a folder with NAME_net_G.pth and, if they are there, _D.pth and _E.pth; or that G file itself."""
    model: str = ""
    """Export: a run or checkpoint of ours."""
    name: str = "latest"
    """The NAME of the files: "latest", or an epoch's number."""
    classes: str = ""
    """Import: class table YAML, or coco, ade20k, cityscapes, facades; "" = nameless classes, as many as there are."""
    dontcare_channel: bool = False
    """Import: the channel after the classes stands for ignored pixels (published: --contain_dontcare_label)."""
    instance_edges: bool = False
    """Import: the last label channel holds instance edges (published: unless --no_instance)."""
    unknown_first: bool = False
    """The files' first label channel, not that after the classes, is the one of ignored pixels: published ADE20K."""
    image_size: tuple[int, ...] = (256,)
    """Import: picture size, one number or height and width (published: --crop_size, --aspect_ratio)."""
    upsampling: Literal["normal", "more", "most"] = "normal"
    """Import: published --num_upsampling_layers; normal and more have the same tensors, so it must be told."""
    weights: Literal["averaged", "raw"] = "averaged"
    """Export: the averaged generator with its re-estimated statistics, which paints; or the one in training."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if bool(self.input) == bool(self.model):
            raise UserError("give either --input (published files, to import) or --model (a run of ours, to export)")


def main(config: Config) -> dict[str, Any]:
    """Imports or exports; returns {"checkpoint": URI} or {"files": URIs}."""
    return import_weights(config) if config.input else export_weights(config)


def import_weights(config: Config) -> dict[str, Any]:
    """Published files -> a run folder with one checkpoint."""
    from gaugan import checkpoint
    from gaugan.config import to_plain
    from gaugan.labels import ClassTable
    from gaugan.spade.official import import_networks

    if checkpoint.steps(config.output):
        raise UserError(f"{config.output}: holds a run already; choose another --output or remove it first")
    uris, size = find_files(config), square(config.image_size)
    spade, classes, networks = import_networks(
        uris,
        classes=ClassTable.load(config.classes) if config.classes else None,
        image_size=size,
        upsampling=config.upsampling,
        dontcare=config.dontcare_channel,
        edges=config.instance_edges,
        unknown_first=config.unknown_first,
    )
    print(_summary(uris, networks, classes.num_classes, spade, size), flush=True)
    if not config.classes:
        print(nameless(classes.num_classes + spade.dontcare_channel + spade.instance_edges))
    if config.dry_run:
        return {}
    num_bytes = sum(value.nbytes for state in networks.values() for value in state.values())
    check_room(config.output, num_bytes + 2**20, "the checkpoint")
    begin(config)
    with recorded(config, "import_checkpoint"):
        uri = checkpoint.save(
            checkpoint.step_uri(config.output, 0),
            system="spade",
            config=to_plain(spade),
            classes=classes,
            image_size=size,
            step=0,
            state={"networks": networks},
        )
        checkpoint.point(config.output, "last", 0)
    print(f"written: {uri}")
    return {"checkpoint": uri}


def find_files(config: Config) -> dict[str, str]:
    """{"G": URI, ...} of the published files that --input and --name mean; G must be there."""
    first = config.input
    if not first.endswith(".pth"):
        first = storage.join(config.input, config.name + GENERATOR_SUFFIX)
    if not first.endswith(GENERATOR_SUFFIX):
        raise UserError(f"--input {config.input}: expected a folder, or a file named NAME{GENERATOR_SUFFIX}")
    if not storage.exists(first):
        there = [entry.path for entry in storage.list_files(storage.parent(first), [".pth"], recursive=False)]
        raise UserError(f"--input: no file {first}; .pth files there: {', '.join(sorted(there)) or 'none'}; see --name")
    others = {kind: first.removesuffix("G.pth") + f"{kind}.pth" for kind in ("D", "E")}
    return {"G": first, **{kind: uri for kind, uri in others.items() if storage.exists(uri)}}


def _summary(
    uris: dict[str, str], networks: dict[str, Any], num_classes: int, spade: Any, size: tuple[int, int]
) -> str:
    counts = {name: _num_weights(state) for name, state in networks.items() if name != "style"}
    kept = ", ".join(f"{name} {count / 1e6:.2f} M" for name, count in counts.items())
    norm = spade.generator_norm if spade.generator == "spade" else spade.resnet_norm
    extra = " + ignored pixels" * spade.dontcare_channel + " + instance edges" * spade.instance_edges
    return (
        f"{', '.join(uris.values())}\n{spade.generator}, {norm}, ngf {spade.ngf}, {num_classes} classes{extra}, "
        f"{size[0]}x{size[1]} px, style {spade.style}; weights: {kept}"
    )


def nameless(channels: int) -> str:
    """A hint for who imports without a class table."""
    from gaugan.spade.label_channels import published_flags

    flags = published_flags(channels)
    known = f"; published weights of {channels} label channels: {' or '.join(flags)}" if flags else ""
    return f"note: without --classes the classes have no names, and data with named ones are refused{known}"


def _num_weights(state: dict[str, Any]) -> int:
    moved = ("weight_u", "weight_v", "running_mean", "running_var", "num_batches_tracked")
    return sum(value.numel() for name, value in state.items() if not name.endswith(moved))


def export_weights(config: Config) -> dict[str, Any]:
    """A checkpoint of ours -> files that the published code loads."""
    import io

    import torch

    from gaugan import checkpoint
    from gaugan.config import from_plain
    from gaugan.spade.config import SpadeConfig
    from gaugan.spade.label_channels import unknown_first
    from gaugan.spade.official import unfit_for_published

    loaded = checkpoint.load(checkpoint.find(config.model, "--model"))
    if loaded.meta["system"] != "spade":
        raise UserError(f"--model {config.model}: a checkpoint of system {loaded.meta['system']!r}; needed is spade")
    spade = from_plain(SpadeConfig, loaded.meta["config"], source=config.model)
    networks = loaded.state["networks"]
    problems = unfit_for_published(spade, networks)
    if config.unknown_first and not spade.dontcare_channel:
        problems.append("--unknown-first: it was trained without --dontcare-channel and has no such channel")
    if problems:
        listed = "\n  ".join(problems)
        raise UserError(f"--model {config.model}: the published code can't load it:\n  {listed}")
    generator = "G_ema" if config.weights == "averaged" else "G"
    if generator not in networks:
        raise UserError(f"--model {config.model}: holds no network {generator}; give --weights averaged")
    states = {"G": networks[generator], **{kind: networks[kind] for kind in ("D", "E") if kind in networks}}
    uris = {kind: storage.join(config.output, f"{config.name}_net_{kind}.pth") for kind in states}
    print("\n".join(uris.values()), flush=True)
    if config.dry_run:
        return {}
    begin(config)
    for kind, state in states.items():
        if config.unknown_first and kind != "E":
            state = unknown_first(state, loaded.classes.num_classes)
        buffer = io.BytesIO()
        torch.save(dict(state), buffer)
        storage.write_bytes(uris[kind], buffer.getvalue())
    return {"files": list(uris.values())}


if __name__ == "__main__":
    run(main, Config)
