"""A generator's training that begins with other weights than chance: a painter's, or imported published ones."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from gaugan import checkpoint
from gaugan.errors import UserError
from gaugan.labels import ClassTable
from gaugan.spade.official import fill


def load_initial_weights(networks: Mapping[str, nn.Module], uri: str, classes: ClassTable) -> None:
    """Fills G, G_ema and, where the checkpoint has them, D, E and style from a `spade` checkpoint or run.

    Networks not given in `networks` stay untouched (a frozen encoder is the caller's own). Raises UserError with all
    names and shapes that don't fit, for another class table, and for a checkpoint of another system.
    """
    saved = checkpoint.load(checkpoint.find(uri, "--initial"))
    if saved.meta["system"] != "spade":
        raise UserError(f"--initial {uri}: a checkpoint of system {saved.meta['system']!r}; needed is one of 'spade'")
    if saved.classes.hash != classes.hash:
        raise UserError(
            f"--initial {uri}: class table {saved.classes.hash}, the data has {classes.hash}; import the weights with "
            "the data's --classes"
        )
    found = saved.state["networks"]
    for name, network in networks.items():
        state = found.get("G", found["G_ema"]) if name == "G" else found.get(name)
        if state is not None:
            fill(network, state, f"--initial {uri}, network {name}")
