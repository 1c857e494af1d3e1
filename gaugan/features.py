"""Fixed networks whose features measure how alike two pictures look (the perceptual loss).

    load_features("vgg19")             torchvision's VGG19, weights in torch's cache or at $GAUGAN_VGG19
    load_features("vgg19:URI")         the same with the weights at URI (.pth state dict)
    load_features("vgg19-imagenet")    the same network on ImageNet-normalised pictures; also with :URI
    load_features("unet:URI")          the down path of a U-Net trained here: needs nothing from outside
    load_features("none")              None

Nothing is ever downloaded. A missing file is an error that names the other choices.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from gaugan import checkpoint, storage
from gaugan.errors import UserError
from gaugan.weights import decode_state_dict

VGG19_FILE = "vgg19-dcbb9e9d.pth"
VGG19_SLICES = ((0, 2), (2, 7), (7, 12), (12, 21), (21, 30))
"""Layers [start, stop) of torchvision's VGG19 `features`: each slice ends after relu1_1, relu2_1, .. relu5_1."""
VGG19_WEIGHTS = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1.0)
UNET_WEIGHTS = (1 / 5,) * 5
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of RGB in [0, 1], as torchvision's weights expect it."""
VGG19_KINDS = ("vgg19", "vgg19-imagenet")
CHOICES = (
    "vgg19 or vgg19:URI (its weights file), vgg19-imagenet or vgg19-imagenet:URI (the same on normalised pictures), "
    "unet:URI (a U-Net checkpoint of ours), or none"
)


class Stages(nn.Sequential):
    """Layers one after the other; returns the output of every one of them."""

    def forward(self, x: Tensor) -> list[Tensor]:
        """(N, C, H, W) -> one (N, c, h, w) map per stage, finest first."""
        outputs = []
        for stage in self:
            x = stage(x)
            outputs.append(x)
        return outputs


class ImageNetInput(nn.Module):
    """Pictures in [-1, 1] -> with the mean and spread that ImageNet networks were trained on."""

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """(N, 3, H, W) -> the same shape."""
        return ((image + 1.0) / 2.0 - self.mean) / self.std


class Features(nn.Module):
    """A network that returns several feature maps, in evaluation mode, its weights without gradients.

    Takes pictures (N, 3, H, W) in [-1, 1]. "vgg19" gets them as they are, as in the published SPADE code;
    "vgg19-imagenet" normalised, as in imaginaire and others. The two give losses of different size.
    """

    def __init__(self, name: str, network: nn.Module, weights: Sequence[float], digest: str) -> None:
        super().__init__()
        self.name, self.digest = name, digest
        self.weights: Sequence[float] = tuple(weights)
        self.network = network
        self.eval().requires_grad_(False)

    def forward(self, image: Tensor) -> list[Tensor]:
        """One (N, C, h, w) map per level, finest first."""
        return self.network(image)

    def describe(self) -> str:
        """One line for the log: which network, which weights."""
        return f"perceptual features: {self.name} (sha256 {self.digest})"


def load_features(spec: str, device: torch.device | str = "cpu") -> Features | None:
    """The feature network that `spec` names; None for "none".

    Raises UserError for an unknown spec and for weights that are missing or don't fit.
    """
    kind, uri = _parsed(spec)
    if kind == "none":
        return None
    features = _unet(uri) if kind == "unet" else _vgg19(kind, uri or _find_vgg19())
    return features.to(device).to(memory_format=torch.channels_last)


def check_features(spec: str) -> None:
    """Raises UserError for an unknown spec, and for weights of VGG19 that are not there; nothing is read."""
    kind, uri = _parsed(spec)
    if kind in VGG19_KINDS and not uri:
        _find_vgg19()
    elif kind in VGG19_KINDS and (not storage.exists(uri) or storage.is_folder(uri)):
        raise UserError(f"--features {spec}: no such file; choose one of: {CHOICES}")


def _parsed(spec: str) -> tuple[str, str]:
    """(kind, URI or "")."""
    kind, colon, uri = spec.partition(":")
    if spec == "none" or (kind in VGG19_KINDS and bool(colon) == bool(uri)) or (kind == "unet" and uri):
        return kind, uri
    raise UserError(f"--features {spec}: no such features; choose one of: {CHOICES}")


def _find_vgg19() -> str:
    candidates = [Path(torch.hub.get_dir(), "checkpoints", VGG19_FILE)]
    if "GAUGAN_VGG19" in os.environ:
        candidates.insert(0, Path(os.environ["GAUGAN_VGG19"]))
    for path in candidates:
        if path.is_file():
            return str(path)
    raise UserError(
        f"--features vgg19: no weights at {' or '.join(map(str, candidates))}. Put torchvision's {VGG19_FILE} there, "
        f"set GAUGAN_VGG19, or choose another of: {CHOICES}"
    )


def _vgg19(name: str, uri: str) -> Features:
    from torchvision.models import vgg19

    try:
        data = storage.read_bytes(uri)
        state = decode_state_dict(data, uri)
    except (OSError, UserError) as error:
        raise UserError(f"--features {name}:{error}; choose one of: {CHOICES}") from error
    with torch.device("meta"):
        layers = vgg19(weights=None).features[: VGG19_SLICES[-1][1]]
    wanted = {name.removeprefix("features."): value for name, value in state.items()}
    try:
        layers.load_state_dict({name: wanted[name] for name in layers.state_dict()}, assign=True)
    except (KeyError, RuntimeError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise UserError(f"--features {name}:{uri}: not a state dict of torchvision's VGG19 ({reason})") from error
    for layer in layers:
        if isinstance(layer, nn.ReLU):
            layer.inplace = False  # a stage's output is used after the next stage has run
    stages = [layers[start:stop] for start, stop in VGG19_SLICES]
    network: nn.Module = Stages(*stages)
    if name == "vgg19-imagenet":
        network = nn.Sequential(ImageNetInput(), network)
    return Features(name, network, VGG19_WEIGHTS, hashlib.sha256(data).hexdigest()[:16])


def _unet(uri: str) -> Features:
    from gaugan.unet.networks import DownPath

    loaded = checkpoint.load(checkpoint.find(uri))
    networks = loaded.state["networks"]
    state = networks.get("unet_ema", networks.get("unet"))
    if state is None:
        raise UserError(f"--features unet:{uri}: a checkpoint of system {loaded.meta['system']!r}, not of a unet")
    down = DownPath()
    down.load_state_dict({name.removeprefix("down."): v for name, v in state.items() if name.startswith("down.")})
    return Features(f"unet:{uri}", down, UNET_WEIGHTS, loaded.hash)
