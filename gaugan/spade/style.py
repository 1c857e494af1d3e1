"""Styles: the encoder that reads one from a picture and the distribution that new ones are drawn from.

Both travel in every generator's checkpoint, so that one folder is enough to paint.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from gaugan import checkpoint
from gaugan.errors import UserError
from gaugan.nn import initialise
from gaugan.spade.config import SpadeConfig, StyleVAEConfig
from gaugan.spade.encoder import StyleEncoder

ACTIVE_VARIANCE = 0.01
"""A unit whose mean varies more than this over pictures carries information (Burda et al. 2016, arXiv:1509.00519)."""
MIN_ACTIVE_UNITS = 4


WILD_LOGVAR = 8.0
"""The KL divergence wants variances near 1. One picture to which an encoder answers with e^30 would be most of the
averages for thousands of batches, and painting with seeds would give noise."""


class StylePrior(nn.Module):
    """A Gaussian fitted to the style vectors of the training pictures (the aggregate posterior).

    Drawing from it instead of N(0, 1) gives styles that the generator has met. The moments are running averages over
    the pictures seen, each weighing half after `half_life` further batches.
    """

    mean: Tensor
    second: Tensor
    noise: Tensor
    batches: Tensor

    def __init__(self, z_dim: int, half_life: int = 200) -> None:
        super().__init__()
        self.decay = 0.5 ** (1.0 / half_life)
        self.register_buffer("mean", torch.zeros(z_dim))
        self.register_buffer("second", torch.zeros(z_dim, z_dim))  # E[mu mu^T]
        self.register_buffer("noise", torch.ones(z_dim))  # E[sigma^2]
        self.register_buffer("batches", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def update(self, mu: Tensor, logvar: Tensor) -> None:
        """Takes in one batch of posteriors (N, Z), but for pictures with values that are not finite, or wild."""
        weight = torch.clamp(1.0 / (self.batches + 1.0), min=1.0 - self.decay)
        usable = torch.isfinite(mu.sum(1) + logvar.sum(1)) & (logvar.amax(1) < WILD_LOGVAR)
        mu, variance = mu.where(usable[:, None], 0.0), logvar.exp().where(usable[:, None], 0.0)
        count = usable.sum().clamp(min=1)
        moments = (mu.sum(0) / count, mu.t() @ mu / count, variance.sum(0) / count)
        for old, new in zip((self.mean, self.second, self.noise), moments, strict=True):
            old.copy_(torch.where(usable.any(), torch.lerp(old, new.float(), weight), old))
        self.batches += usable.any().long()

    @torch.no_grad()
    def forget(self) -> None:
        """As it was made: the next batch is the first."""
        for buffer, value in ((self.mean, 0.0), (self.second, 0.0), (self.noise, 1.0), (self.batches, 0)):
            buffer.fill_(value)

    def active_units(self) -> int:
        """How many dimensions carry information about the picture."""
        variance = self.second.diagonal() - self.mean.square()
        return int((variance > ACTIVE_VARIANCE).sum())

    @torch.no_grad()
    def sample(self, seeds: list[int]) -> Tensor:
        """float32 (len(seeds), Z); each row depends on its own seed only."""
        z_dim = len(self.mean)
        noise = torch.stack([torch.randn(z_dim, generator=torch.Generator().manual_seed(seed)) for seed in seeds])
        if self.batches == 0:
            return noise.to(self.mean.device)
        mean, second = self.mean.double().cpu(), self.second.double().cpu()
        covariance = second - torch.outer(mean, mean) + torch.diag(self.noise.double().cpu())
        values, vectors = torch.linalg.eigh(covariance)
        factor = vectors * values.clamp(min=0.0).sqrt()  # (Z, Z)
        return (mean + noise.double() @ factor.t()).float().to(self.mean.device)


class Style(nn.Module):
    """A frozen encoder E and its prior, in evaluation mode and without gradients."""

    def __init__(self, encoder: StyleEncoder, prior: StylePrior) -> None:
        super().__init__()
        self.encoder, self.prior = encoder, prior
        self.eval().requires_grad_(False)

    @torch.no_grad()
    def encode(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """(N, 3, H, W) in [-1, 1] -> mu, logvar (N, Z)."""
        mu, logvar = self.encoder(image)
        return mu, logvar


def encoder_input_size(image_size: tuple[int, int], wanted: int | None) -> int:
    """The side of the square that the encoder sees: `wanted`, or the picture's largest power of two, at most 256."""
    return wanted or min(256, 1 << (min(image_size).bit_length() - 1))


def load_style(uri: str, device: torch.device | str = "cpu") -> Style:
    """The frozen style encoder of a `style_vae` (or `spade`) checkpoint or run.

    Raises UserError when the checkpoint has none, or when the encoder has collapsed: it tells pictures apart in fewer
    than MIN_ACTIVE_UNITS dimensions, so every picture would get the same style.
    """
    loaded = checkpoint.load(checkpoint.find(uri))
    networks = loaded.state["networks"]
    if "E" not in networks or "style" not in networks:
        raise UserError(f"{uri}: system {loaded.meta['system']!r} has no style encoder; give a style_vae checkpoint")
    style = style_from_networks(networks)
    active = style.prior.active_units()
    if active < MIN_ACTIVE_UNITS:
        raise UserError(
            f"{uri}: the style encoder has collapsed ({active} of {len(style.prior.mean)} units active, "
            f"at least {MIN_ACTIVE_UNITS} are needed); train it longer (more steps of train_encoder, in a pipeline "
            "more --encoder-steps: the same command goes on) or with a smaller --lambda-kld"
        )
    return style.to(device)


def style_from_networks(networks: Mapping[str, Mapping[str, Tensor]]) -> Style:
    """The Style in a checkpoint's networks "E" and "style"."""
    encoder = StyleEncoder.from_state(networks["E"])
    prior = StylePrior(encoder.fc_mu.out_features)
    prior.load_state_dict(networks["style"])
    return Style(encoder, prior)


def mix_styles(styles: Tensor, weights: Sequence[float]) -> Tensor:
    """The weighted mean (1, Z) of style vectors (N, Z); the weights are scaled to sum to 1."""
    share = torch.tensor(weights, dtype=styles.dtype, device=styles.device)
    return (share / share.sum())[None] @ styles


def styles_between(first: Tensor, second: Tensor, shares: Sequence[float]) -> list[Tensor]:
    """Styles on the straight line between two (N, Z): 0 = the first, 1 = the second."""
    return [torch.lerp(first, second, share) for share in shares]


def truncate_styles(styles: Tensor, prior: StylePrior, truncation: float) -> Tensor:
    """Pulls style vectors (N, Z) towards the mean style: 1 = unchanged, 0 = the mean.

    The truncation trick of Karras et al. 2019 (arXiv:1812.04948, appendix B), here on z: mean + truncation (z - mean).
    """
    if truncation == 1.0:
        return styles
    return torch.lerp(prior.mean.to(styles), styles, truncation)


def build_style(config: StyleVAEConfig | SpadeConfig, image_size: tuple[int, int]) -> Style:
    """An untrained Style of the config's sizes."""
    encoder = untrained_encoder(config, image_size)
    initialise(encoder, config.init, config.init_gain)
    return Style(encoder, StylePrior(config.z_dim))


def untrained_encoder(config: StyleVAEConfig | SpadeConfig, image_size: tuple[int, int]) -> StyleEncoder:
    """An encoder of the config's sizes. Raises UserError when it can't have them."""
    size = encoder_input_size(image_size, config.encoder_size)
    return StyleEncoder(input_size=size, nef=config.nef, z_dim=config.z_dim, norm=config.encoder_norm)


def style_for(config: SpadeConfig, image_size: tuple[int, int], given: Style | None) -> Style | None:
    """The style model that a generator's config asks for: the given frozen one, a new one, or none.

    Raises UserError when it is missing or of another z_dim.
    """
    if config.style == "none":
        return None
    if config.style == "joint_vae":
        return build_style(config, image_size)
    if given is None:
        raise UserError("style=frozen_encoder needs --encoder URI of a trained style_vae; or choose joint_vae or none")
    z_dim = given.encoder.fc_mu.out_features
    if z_dim != config.z_dim:
        raise UserError(f"z_dim {config.z_dim}: the style encoder was trained with z_dim {z_dim}; give --z-dim {z_dim}")
    return given
