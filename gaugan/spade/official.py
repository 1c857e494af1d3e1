"""The published weight files (NAME_net_G.pth, _net_D.pth, _net_E.pth) and ours: names, sizes, both ways.

The published SPADE code saves plain state dicts whose names are ours too. What may differ is a "module." in front, and
how spectral norm is written down; what a file doesn't say is asked for.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gaugan import storage
from gaugan.errors import UserError
from gaugan.labels import ClassTable
from gaugan.spade.build import build_discriminator, build_generator
from gaugan.spade.config import SpadeConfig
from gaugan.spade.encoder import StyleEncoder
from gaugan.spade.label_channels import classes_for, unknown_last
from gaugan.spade.networks import Upsampling
from gaugan.spade.style import StylePrior
from gaugan.weights import decode_state_dict

State = dict[str, Tensor]
MAX_LISTED = 40
REFERENCE_HIDDEN, REFERENCE_Z_DIM, REFERENCE_ENCODER_LAYERS = 128, 256, 6
"""Written into the published code: width of a modulation, length of a style, layers of the encoder."""


def read_state(uri: str) -> State:
    """The tensors of a published file under our names. Raises UserError when it is no plain state dict.

    Nothing but tensors is loaded (weights_only): the file can't run code.
    """
    return our_names(decode_state_dict(storage.read_bytes(uri), uri))


def our_names(state: Mapping[str, Tensor]) -> State:
    """Without "module.", and spectral norm as weight_orig, weight_u, weight_v.

    torch's newer parametrization is renamed. Files of torch 0.4 hold no weight_v: it is put together so that sigma is
    the one their weights were divided by, and the pictures stay the same.
    """
    found: State = {}
    for name, value in state.items():
        name = name.removeprefix("module.")
        name = name.replace("parametrizations.weight.original", "weight_orig")
        name = re.sub(r"parametrizations\.weight\.0\._([uv])$", r"weight_\1", name)
        found[name] = value
    for name in [name for name in found if name.endswith("weight_orig")]:
        root = name.removesuffix("_orig")
        divided = found.pop(root, None)
        if f"{root}_v" not in found and f"{root}_u" in found:
            found[f"{root}_v"] = _missing_v(found[name], found[f"{root}_u"], divided)
    return found


def _missing_v(weight: Tensor, u: Tensor, divided: Tensor | None) -> Tensor:
    """v with u^T W v = sigma, where W / sigma = `divided`; without it half a power step, as in the paper."""
    matrix = weight if len(u) == weight.shape[0] else weight.transpose(0, 1)  # transposed convolutions
    back = matrix.flatten(1).t() @ u
    if divided is None:
        return F.normalize(back, dim=0)
    sigma = weight.norm() / divided.norm()
    return back * (sigma / back.square().sum())


def generator_settings(state: State, source: str) -> tuple[dict[str, Any], int]:
    """The SpadeConfig fields that a generator's tensors show, and its number of label channels.

    Not shown: "normal" or "more" doublings, and the picture's size. Raises UserError for tensors of something else.
    """
    try:
        if any(name.startswith("model.") for name in state):
            return _pix2pixhd_settings(state)
        return _spade_settings(state)
    except (KeyError, StopIteration, IndexError, ZeroDivisionError) as error:
        raise UserError(f"{source}: not the weights of a SPADE or pix2pixHD generator; {_shown(state)}") from error


def _spade_settings(state: State) -> tuple[dict[str, Any], int]:
    hidden, channels, size, _ = state["head_0.norm_0.mlp_shared.0.weight"].shape
    spectral = "spectral" if "head_0.conv_0.weight_orig" in state else ""
    kind = "syncbatch" if "head_0.norm_0.param_free_norm.running_mean" in state else "instance"
    settings: dict[str, Any] = {
        "generator": "spade",
        "ngf": state["head_0.norm_0.mlp_gamma.weight"].shape[0] // 16,
        "spade_hidden": hidden,
        "generator_norm": f"{spectral}spade{kind}{size}x{size}",
    }
    if "up_4.conv_0.bias" in state:
        settings["upsampling"] = "most"
    first = state["fc.weight"]
    if first.dim() == 2:
        settings["z_dim"] = first.shape[1]
    return settings, channels


def _pix2pixhd_settings(state: State) -> tuple[dict[str, Any], int]:
    ngf, channels, initial_size, _ = _weight(state, r"model\.1\.(0\.)?").shape
    block = _weight(state, r"model\.\d+\.conv_block\.1\.(0\.)?")
    blocks = {name.split(".")[1] for name in state if ".conv_block." in name}
    spectral, kind = _norm_of(state, "model.1")
    return {
        "generator": "pix2pixhd",
        "ngf": ngf,
        "resnet_norm": spectral + kind,
        "resnet_downsamplings": (block.shape[0] // ngf).bit_length() - 1,
        "resnet_blocks": len(blocks),
        "resnet_kernel_size": block.shape[2],
        "resnet_initial_kernel_size": initial_size,
    }, channels


def discriminator_settings(state: State, source: str) -> dict[str, Any]:
    """The SpadeConfig fields that a discriminator's tensors show. Raises UserError for tensors of something else."""
    try:
        ndf = state["discriminator_0.model0.0.weight"].shape[0]
        layers = {int(name.split(".")[1].removeprefix("model")) for name in state}
        spectral, kind = _norm_of(state, "discriminator_0.model1.0")
    except (KeyError, StopIteration, IndexError, ValueError) as error:
        raise UserError(f"{source}: not the weights of a multi-scale discriminator; {_shown(state)}") from error
    return {
        "ndf": ndf,
        "num_discriminators": len({name.partition(".")[0] for name in state}),
        "discriminator_layers": max(layers),
        "discriminator_norm": spectral + kind,
    }


def read_encoder(state: State, source: str) -> StyleEncoder:
    """The encoder with its weights. Raises UserError with what does not fit."""
    try:
        encoder = StyleEncoder.of_sizes(state)
    except (KeyError, StopIteration, UserError) as error:
        raise UserError(f"{source}: not the weights of a style encoder; {_shown(state)}") from error
    fill(encoder, state, source)
    return encoder


def _weight(state: State, prefix: str) -> Tensor:
    """The convolution weight, with or without spectral norm, below the first name that matches."""
    return next(value for name, value in state.items() if re.fullmatch(prefix + r"weight(_orig)?", name))


def _norm_of(state: State, layer: str) -> tuple[str, str]:
    """("spectral" or "", kind) of a normalised convolution: batch norm is seen by its statistics."""
    spectral = "spectral" if any(name.startswith(layer) and name.endswith("weight_orig") for name in state) else ""
    if f"{layer}.1.running_mean" in state:
        return spectral, "sync_batch"
    alone = f"{layer}.weight" in state or f"{layer}.weight_orig" in state
    return spectral, "none" if alone else "instance"


def fill(network: nn.Module, state: State, source: str) -> None:
    """Loads the tensors. Raises UserError that lists every name and every shape that doesn't fit."""
    wanted = network.state_dict()
    counts = {name for name in wanted if name.endswith("num_batches_tracked")}  # old files have no such count
    problems = [f"missing: {name} {_size(wanted[name])}" for name in sorted(wanted.keys() - state.keys() - counts)]
    problems += [f"not known: {name} {_size(state[name])}" for name in sorted(state.keys() - wanted.keys())]
    for name in sorted(wanted.keys() & state.keys()):
        if wanted[name].shape != state[name].shape:
            problems.append(f"shape: {name} is {_size(state[name])}, expected {_size(wanted[name])}")
        elif not torch.isfinite(state[name]).all():
            problems.append(f"not finite: {name}")
    if problems:
        more = [f"... and {len(problems) - MAX_LISTED} more"] * (len(problems) > MAX_LISTED)
        listed = "\n  ".join(problems[:MAX_LISTED] + more)
        raise UserError(f"{source}: {len(problems)} tensors do not fit:\n  {listed}")
    network.load_state_dict({**{name: wanted[name] for name in counts}, **state})


def _size(value: Tensor) -> str:
    return "x".join(map(str, value.shape)) or "scalar"


def _shown(state: State) -> str:
    names = list(state)
    return f"it holds {len(names)} tensors: {', '.join(names[:4])}{', ...' if len(names) > 4 else ''}"


def import_networks(
    uris: Mapping[str, str],
    *,
    classes: ClassTable | None,
    image_size: tuple[int, int],
    upsampling: Upsampling = "normal",
    dontcare: bool = False,
    edges: bool = False,
    unknown_first: bool = False,
) -> tuple[SpadeConfig, ClassTable, dict[str, State]]:
    """Published files {"G": URI, "D": URI, "E": URI} (D and E may be absent) -> config, classes, networks.

    `classes` None = nameless ones, as many as the generator's label channels leave beside `dontcare` and `edges`.
    `unknown_first`: the files' channel 0 is that of ignored pixels (ADE20K).
    Raises UserError, before anything is written, with all that doesn't fit.
    """
    states = {name: read_state(uri) for name, uri in uris.items()}
    settings, channels = generator_settings(states["G"], uris["G"])
    table = classes_for(
        channels, classes, dontcare=dontcare, edges=edges, unknown_first=unknown_first, source=uris["G"]
    )
    networks: dict[str, State] = {}
    if "E" in states:
        encoder = read_encoder(states["E"], uris["E"])
        networks |= {"E": encoder.state_dict(), "style": StylePrior(encoder.fc_mu.out_features).state_dict()}
        settings |= {"nef": encoder.nef, "encoder_norm": encoder.norm, "encoder_size": encoder.input_size}
    if "D" in states:
        settings |= discriminator_settings(states["D"], uris["D"])
    config = SpadeConfig(
        **{"upsampling": upsampling, **settings},
        style=_style_of(settings, states, uris["G"]),
        dontcare_channel=dontcare,
        instance_edges=edges,
    )
    built: dict[str, nn.Module] = {"G": build_generator(config, table.num_classes, image_size)}
    if "D" in states:
        built["D"] = build_discriminator(config, table.num_classes)
    for name, network in built.items():
        fill(network, states[name], uris[name])
        if unknown_first:
            network.load_state_dict(unknown_last(network.state_dict(), table.num_classes))
        networks["G_ema" if name == "G" else name] = network.state_dict()
    return config, table, networks


def _style_of(settings: Mapping[str, Any], states: Mapping[str, State], source: str) -> Literal["joint_vae", "none"]:
    if "z_dim" in settings and "E" not in states:
        raise UserError(
            f"{source}: this generator starts from a style vector: give its encoder (..._net_E.pth) as well"
        )
    if "z_dim" not in settings and "E" in states:
        raise UserError(f"{source}: this generator takes no style vector; leave out the encoder (..._net_E.pth)")
    if "z_dim" in settings and settings["z_dim"] != len(states["E"]["fc_mu.weight"]):
        there = len(states["E"]["fc_mu.weight"])
        raise UserError(f"{source}: takes styles of {settings['z_dim']} numbers, the encoder gives {there}")
    return "joint_vae" if "E" in states else "none"


def unfit_for_published(config: SpadeConfig, networks: Mapping[str, State]) -> list[str]:
    """What the published code can't load of a checkpoint of ours; each line names the setting."""
    problems = []
    norms = {"discriminator_norm": config.discriminator_norm}
    if config.generator == "pix2pixhd":
        norms["resnet_norm"] = config.resnet_norm
    elif config.spade_hidden != REFERENCE_HIDDEN:
        problems.append(f"spade_hidden {config.spade_hidden}: the published code has {REFERENCE_HIDDEN} built in")
    for name, norm in norms.items():
        if not norm.startswith("spectral"):
            problems.append(f"{name} {norm}: the published code needs a norm that begins with spectral")
    if config.style != "none":
        problems += _unfit_encoder(networks["E"], config)
    return problems


def _unfit_encoder(state: Mapping[str, Tensor], config: SpadeConfig) -> list[str]:
    problems = []
    z_dim, layers = state["fc_mu.weight"].shape[0], len({n.partition(".")[0] for n in state if n.startswith("layer")})
    if z_dim != REFERENCE_Z_DIM:
        problems.append(f"z_dim {z_dim}: the published encoder has {REFERENCE_Z_DIM} built in")
    if layers != REFERENCE_ENCODER_LAYERS:
        problems.append(f"encoder_size {4 << layers}: the published encoder works with 256")
    if not any(name.endswith("weight_orig") for name in state):
        problems.append("encoder_norm without spectral: the published code needs a norm that begins with spectral")
    nef = next(value for name, value in state.items() if name.startswith("layer1.") and value.dim() == 4).shape[0]
    if nef != config.ngf:
        problems.append(f"nef {nef}: the published encoder is as wide as the generator, ngf {config.ngf}")
    return problems
