"""Where a U-Net's first weights come from: another U-Net, a MobileNetV2 of the user's, ImageNet, or chance."""

import warnings

from torch import Tensor
from torchvision.models import MobileNet_V2_Weights

from gaugan import checkpoint, storage
from gaugan.errors import UserError
from gaugan.labels import ClassTable
from gaugan.unet.config import CHOICES
from gaugan.unet.networks import UNet
from gaugan.weights import decode_state_dict


def load_initial_weights(unet: UNet, *, initial: str, encoder_weights: str, classes: ClassTable) -> None:
    """Fills `unet` from the checkpoint `initial`, or else its down path as `encoder_weights` says.

    Raises UserError, naming the alternatives, when weights are missing or don't fit. "none" warns.
    """
    if initial:
        _load_unet(unet, initial, classes)
    elif encoder_weights == "none":
        warnings.warn(
            "--encoder-weights none: the U-Net's down path starts from random weights and needs more pictures or a "
            "longer run than one that starts from ImageNet weights (a file of them), or from a trained U-Net "
            "(--initial)",
            stacklevel=2,
        )
    elif encoder_weights == "imagenet":
        _load_features(unet, _imagenet(), "torchvision's ImageNet weights")
    else:
        _load_features(unet, _read_state_dict(encoder_weights), f"--encoder-weights {encoder_weights}")


def _load_unet(unet: UNet, uri: str, classes: ClassTable) -> None:
    saved = checkpoint.load(checkpoint.find(uri, "--initial"))
    if saved.meta["system"] != "unet":
        raise UserError(f'--initial {uri}: a checkpoint of system {saved.meta["system"]!r}, needed is one of "unet"')
    if saved.classes.hash != classes.hash:
        raise UserError(
            f"--initial {uri}: its classes are {', '.join(saved.classes.names)} ({saved.classes.hash}), the data has "
            f"{', '.join(classes.names)} ({classes.hash}); start from a U-Net of the same class table"
        )
    try:
        unet.load_state_dict(saved.state["networks"]["unet_ema"])
    except RuntimeError as error:
        raise UserError(
            f"--initial {uri}: not the same U-Net version or widths as this run's config ({error})"
        ) from error


def _imagenet() -> dict[str, Tensor]:
    try:
        return dict(MobileNet_V2_Weights.IMAGENET1K_V2.get_state_dict(progress=False, check_hash=True))
    except (OSError, RuntimeError) as error:  # no network, or a damaged download
        raise UserError(f"--encoder-weights imagenet: they can't be had here ({error}); {CHOICES}") from error


def _read_state_dict(uri: str) -> dict[str, Tensor]:
    try:
        data = storage.read_bytes(uri)
        return decode_state_dict(data, uri)
    except (OSError, UserError) as error:
        raise UserError(f"--encoder-weights {error}; {CHOICES}") from error


def _load_features(unet: UNet, state: dict[str, Tensor], source: str) -> None:
    """Copies torchvision's `features.0` .. `features.17`; the classifier and features.18 have no place here."""
    wanted = unet.down.state_dict()
    found = {name: state[name] for name in wanted if name in state and state[name].shape == wanted[name].shape}
    if len(found) < len(wanted):
        missing = next(name for name in wanted if name not in found)
        raise UserError(
            f"{source}: not a torchvision MobileNetV2 state dict ({missing} is missing or differs); {CHOICES}"
        )
    unet.down.load_state_dict(found)
