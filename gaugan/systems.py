"""The systems that can be trained: a literal table, so that a name can be found by searching for it.

Building imports torch and loads the extra models that a config names; reading the table costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gaugan.labels import ClassTable
from gaugan.spade.config import SpadeConfig, StyleVAEConfig
from gaugan.unet.config import UNetConfig, check_encoder_weights, check_size

if TYPE_CHECKING:
    import torch

    from gaugan.loop import System

Size = tuple[int, int]


@dataclass(frozen=True)
class SystemEntry:
    """How to make a system from its config."""

    config: type
    build: Callable[[Any, ClassTable, Size, torch.device], System]
    best_metric: str
    """The held-out metric by which the best checkpoint is chosen; higher is better."""


def build_unet(config: UNetConfig, classes: ClassTable, image_size: Size, device: torch.device) -> System:
    from gaugan.unet.system import UNetSystem

    return UNetSystem(config, classes=classes, image_size=image_size, device=device)


def build_style_vae(config: StyleVAEConfig, classes: ClassTable, image_size: Size, device: torch.device) -> System:
    from gaugan.spade.vae import StyleVAESystem

    return StyleVAESystem(config, classes=classes, image_size=image_size, device=device)


def build_spade(config: SpadeConfig, classes: ClassTable, image_size: Size, device: torch.device) -> System:
    from gaugan import parallel
    from gaugan.features import load_features
    from gaugan.spade.style import load_style
    from gaugan.spade.system import SpadeSystem

    features = load_features(config.features, device)
    if features is not None and parallel.rank() == 0:
        print(features.describe(), flush=True)
    return SpadeSystem(
        config,
        classes=classes,
        image_size=image_size,
        device=device,
        encoder=load_style(config.encoder, device) if config.encoder else None,
        features=features,
        judge=load_judge(config.judge, classes, device) if config.judge else None,
    )


def load_judge(uri: str, classes: ClassTable, device: torch.device) -> Callable[[torch.Tensor], torch.Tensor]:
    """A segmenter as a function of painted pictures (N, 3, H, W) in [-1, 1] -> label maps int64 (N, H, W)."""
    import torch.nn.functional as F

    from gaugan.errors import UserError
    from gaugan.segmenter import Segmenter

    segmenter = Segmenter.load(uri, str(device))
    if segmenter.classes.hash != classes.hash:
        raise UserError(f"--judge {uri}: class table {segmenter.classes.hash}, the data has {classes.hash}")

    def judge(images: torch.Tensor) -> torch.Tensor:
        size = (images.shape[2], images.shape[3])
        fitted = F.interpolate(images, segmenter.image_size, mode="bilinear", antialias=True)
        return F.interpolate(segmenter.probabilities(fitted), size, mode="bilinear").argmax(1)

    return judge


def check_models(config: Any, classes: ClassTable, image_size: Size) -> None:
    """Raises UserError when the networks can't have the config's sizes, or when a file or model that it names is
    missing, of another kind, or of another class table.

    A style encoder to be used frozen is also refused when it has collapsed; its active units are printed.
    """
    from gaugan import checkpoint
    from gaugan.errors import UserError

    _check_networks(config, classes, image_size)
    if getattr(config, "style", "") == "frozen_encoder" and not config.encoder:
        raise UserError(
            "--style frozen_encoder needs --encoder URI of a trained style_vae; or choose joint_vae or none"
        )
    kind, _, features = getattr(config, "features", "").partition(":")
    own = next(name for name, entry in SYSTEMS.items() if isinstance(config, entry.config))
    named = [(name, getattr(config, name, ""), system or own) for name, system in NEEDED.items()]
    for flag, uri, system in [*named, ("features", features if kind == "unet" else "", "unet")]:
        if not uri:
            continue
        meta = checkpoint.read_meta(checkpoint.find(uri, f"--{flag}"))
        if meta["system"] != system:
            raise UserError(f"--{flag} {uri}: a checkpoint of system {meta['system']!r}; needed is one of {system!r}")
        if flag in ("judge", "initial") and meta["classes_hash"] != classes.hash:
            raise UserError(f"--{flag} {uri}: class table {meta['classes_hash']}, the data has {classes.hash}")
        if flag == "encoder" and config.style == "frozen_encoder":
            _check_encoder(config)


def _check_networks(config: Any, classes: ClassTable, image_size: Size) -> None:
    """What building the system would refuse, as far as it can be known without its weights."""
    if isinstance(config, UNetConfig):
        check_size(config, image_size)
        check_encoder_weights(config)
    elif isinstance(config, StyleVAEConfig):
        from gaugan.spade.style import untrained_encoder

        untrained_encoder(config, image_size)
    else:
        from gaugan.features import check_features
        from gaugan.spade.build import check_networks

        check_networks(config, classes.num_classes, image_size)
        check_features(config.features)


def _check_encoder(config: SpadeConfig) -> None:
    """The gate before a generator is trained on a frozen encoder: it must fit and must not have collapsed."""
    from gaugan.spade.style import load_style, style_for

    style = load_style(config.encoder)
    style_for(config, (1, 1), style)
    prior = style.prior
    print(f"style encoder {config.encoder}: {prior.active_units()} of {len(prior.mean)} units active", flush=True)


NEEDED = {"encoder": "style_vae", "judge": "unet", "initial": ""}
"""Fields of configs that name a model -> the system that it must be of; "" = the one that is being trained."""
SYSTEMS: dict[str, SystemEntry] = {
    "unet": SystemEntry(UNetConfig, build_unet, best_metric="miou"),
    "style_vae": SystemEntry(StyleVAEConfig, build_style_vae, best_metric="reconstruction_psnr"),
    "spade": SystemEntry(SpadeConfig, build_spade, best_metric="consistency_miou"),
}
