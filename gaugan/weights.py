"""Files of weights that were made elsewhere: plain state dicts (.pth, .safetensors), never code."""

from __future__ import annotations

import io
from collections.abc import Mapping

import torch
from safetensors.torch import load as load_safetensors
from torch import Tensor

from gaugan.errors import UserError


def decode_state_dict(data: bytes, source: str) -> dict[str, Tensor]:
    """The tensors in the bytes of a file; a `source` that ends in .safetensors is of that format, others are torch's.

    Raises UserError, beginning with `source`, for damaged files and those that hold anything but tensors: nothing else
    is ever loaded (weights_only), so that a file can't run code.
    """
    try:
        if source.endswith(".safetensors"):
            loaded = load_safetensors(data)
        else:
            loaded = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # damaged bytes make torch's reader raise a dozen kinds, struct.error among them
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"{source}: refused, it is damaged or no file of tensors only ({reason}); expected is a state dict, "
            ".pth or .safetensors"
        ) from error
    if not isinstance(loaded, Mapping) or not loaded or not all(isinstance(v, Tensor) for v in loaded.values()):
        raise UserError(f"{source}: not a state dict (names and tensors); save network.state_dict(), not the network")
    return {str(name): value for name, value in loaded.items()}
