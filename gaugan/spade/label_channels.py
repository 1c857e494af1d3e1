"""The label channels of published weights: how many belong to what, and their other order for ADE20K.

Ours are the classes, then ignored pixels, then instance edges, which is what the published code feeds COCO-Stuff and
Cityscapes networks. Its ADE20K loader means to subtract 1 from the ids of the files, but throws the result away: those
networks see the ids as they are in the files, so that channel 0 is the unknown one and class k is channel k + 1.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from gaugan.errors import UserError
from gaugan.labels import ClassTable, distinct_colours
from gaugan.layouts import LAYOUTS

FIRST_LAYERS = re.compile(
    r"(.*mlp_shared\.0\.weight|fc\.weight|model\.1\.(0\.)?weight(_orig)?|discriminator_\d+\.model0\.0\.weight)"
)
"""The tensors that label channels go into: modulations, the start without a style, pix2pixHD, discriminators."""


def classes_for(
    channels: int, table: ClassTable | None, *, dontcare: bool, edges: bool, unknown_first: bool, source: str
) -> ClassTable:
    """`table`, if it fits a network of so many label channels; None = nameless classes, as many as are left.

    Raises UserError with the arithmetic and the flags that would fit.
    """
    if unknown_first and not dontcare:
        raise UserError("--unknown-first: is about the channel of ignored pixels; give --dontcare-channel as well")
    count = channels - dontcare - edges
    known = f"; {channels} channels are {' or '.join(fitting)}" if (fitting := published_flags(channels)) else ""
    if table is None and count >= 1:
        names = tuple(f"class {number}" for number in range(count))
        return ClassTable(names, tuple(distinct_colours(count)), name="nameless")
    num_classes = 0 if table is None else table.num_classes
    if num_classes != count:
        asked = " + 1 for ignored pixels" * dontcare + " + 1 for instance edges" * edges
        raise UserError(
            f"{source}: takes {channels} label channels, but {num_classes} classes{asked} are "
            f"{num_classes + dontcare + edges}{known}. Otherwise give --classes with a table of as many classes as "
            "the network was trained on, --dontcare-channel if 255 was one more, --instance-edges if it had them"
        )
    assert table is not None
    return table


def published_flags(channels: int) -> list[str]:
    """The flags of jobs/import_checkpoint.py for every published data set whose networks have so many channels."""
    found = []
    for name, layout in LAYOUTS.items():
        extra = " --dontcare-channel" * (layout.dontcare == "extra") + " --unknown-first" * bool(layout.shift)
        num_classes = ClassTable.load(layout.classes).num_classes if layout.classes else 0
        for edges in (True, False) if layout.instances else (False,):
            if num_classes and channels == num_classes + (layout.dontcare == "extra") + edges:
                found.append(f"--classes {name}{extra}{' --instance-edges' * edges}")
    return found


def unknown_last(state: Mapping[str, Tensor], num_classes: int) -> dict[str, Tensor]:
    """A published state dict whose channel 0 is the unknown one, in our order: that channel after the classes."""
    return _rolled(state, num_classes + 1, -1)


def unknown_first(state: Mapping[str, Tensor], num_classes: int) -> dict[str, Tensor]:
    """The inverse of `unknown_last`."""
    return _rolled(state, num_classes + 1, 1)


def _rolled(state: Mapping[str, Tensor], count: int, places: int) -> dict[str, Tensor]:
    """The first `count` input channels of every first layer moved round by so many places."""
    found = dict(state)
    for name, weight in state.items():
        if not FIRST_LAYERS.fullmatch(name) or weight.dim() != 4:
            continue
        found[name] = torch.cat([weight[:, :count].roll(places, dims=1), weight[:, count:]], dim=1)
        if name.endswith("_orig"):  # spectral norm's v is (in_channels, height, width), flattened
            size, v_name = weight[0, 0].numel(), name.removesuffix("_orig") + "_v"
            v = state[v_name]
            found[v_name] = torch.cat([v[: count * size].roll(places * size), v[count * size :]])
    return found
