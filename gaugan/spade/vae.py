"""The style encoder, trained first as a variational autoencoder on the pictures and then frozen.

Kingma & Welling 2014 (arXiv:1312.6114). The decoder is small, sees the label map, and is thrown away: what is left for
z is what the label map doesn't say (colours, light, manner).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gaugan import losses
from gaugan.errors import UserError
from gaugan.labels import ClassTable, onehot
from gaugan.nn import RunningStatistics, initialise, make_adam, optimiser_step, power_iteration
from gaugan.precision import autocast
from gaugan.spade.config import StyleVAEConfig
from gaugan.spade.encoder import FINAL_SIDE
from gaugan.spade.label_pyramid import LabelPyramid
from gaugan.spade.style import ACTIVE_VARIANCE, build_style
from gaugan.sync_norm import synchronise

Batch = dict[str, Tensor]


class StyleDecoder(nn.Module):
    """z (and labels) -> picture of `size` x `size`, a power of two.

    With labels, every resolution also receives a vector per class that is linear in z, laid out by the label map: a
    class's colour needs no more than that, so the encoder learns colours within a few hundred steps.
    """

    def __init__(self, *, size: int, z_dim: int, width: int, label_channels: int) -> None:
        super().__init__()
        doublings = (size // FINAL_SIDE).bit_length() - 1
        widths = [width * min(8, 2 ** (doublings - number)) for number in range(doublings + 1)]
        self.start_channels = widths[0]
        self.fc = nn.Linear(z_dim, widths[0] * FINAL_SIDE**2)
        self.layers = nn.ModuleList(
            nn.Conv2d(in_channels + label_channels, out_channels, 3, padding=1)
            for in_channels, out_channels in zip([widths[0], *widths[:-1]], widths, strict=True)
        )
        self.norms = nn.ModuleList(nn.GroupNorm(8, channels) for channels in widths)
        self.class_styles = nn.ModuleList(
            nn.Linear(z_dim, label_channels * channels) if label_channels else nn.Identity() for channels in widths
        )
        self.to_rgb = nn.Conv2d(widths[-1], 3, 3, padding=1)

    def forward(self, z: Tensor, onehot: Tensor | None) -> Tensor:
        """z (N, Z), onehot (N, C, H, W) or None -> float32 (N, 3, size, size) in [-1, 1]."""
        labels = None if onehot is None else LabelPyramid(onehot)
        x = self.fc(z).view(-1, self.start_channels, FINAL_SIDE, FINAL_SIDE)
        for number, (layer, norm, class_style) in enumerate(
            zip(self.layers, self.norms, self.class_styles, strict=True)
        ):
            if number:
                x = F.interpolate(x, scale_factor=2, mode="nearest")
            if labels is None:
                x = norm(layer(x))
            else:
                here = labels.at((x.shape[2], x.shape[3]))
                x = norm(layer(torch.cat([x, here.to(x.dtype)], dim=1))) + self._lay_out(class_style(z), here)
            x = F.leaky_relu(x, 0.2)  # (N, widths[number], h, w)
        return torch.tanh(self.to_rgb(x).float())

    def _lay_out(self, class_vectors: Tensor, onehot: Tensor) -> Tensor:
        """Vectors (N, classes * C), labels (N, classes, h, w) -> (N, C, h, w): each pixel gets its class's vector."""
        n, classes, height, width = onehot.shape
        vectors = class_vectors.view(n, classes, -1)
        pixels = onehot.permute(0, 2, 3, 1).reshape(n, height * width, classes).to(vectors.dtype)
        return torch.bmm(pixels, vectors).view(n, height, width, -1).permute(0, 3, 1, 2)


MAX_GRADIENT_NORM = 5.0
"""Usual norms are 0.5 to 1.5. Now and then a picture gets a variance of e^30, whose KL divergence has a gradient of
1e9: Adam would remember its square for thousands of steps and hardly move until then (docs/what_did_not_work.md)."""


class StyleVAESystem:
    """Encoder E with its prior, and the decoder that trains it."""

    best_metric = "reconstruction_psnr"

    def __init__(
        self, config: StyleVAEConfig, *, classes: ClassTable, image_size: tuple[int, int], device: torch.device
    ) -> None:
        self.config, self.classes, self.device = config, classes, device
        self.style = build_style(config, image_size)
        self.style.encoder.requires_grad_(True)
        label_channels = classes.num_classes if config.labels_to_decoder else 0
        decoder = StyleDecoder(
            size=self.style.encoder.input_size,
            z_dim=config.z_dim,
            width=config.decoder_width,
            label_channels=label_channels,
        )
        self.networks: dict[str, nn.Module] = {"E": self.style.encoder, "decoder": decoder, "style": self.style.prior}
        initialise(decoder, config.init, config.init_gain)
        for network in self.networks.values():
            network.to(device)
            network.to(memory_format=torch.channels_last)
        self.decoder = decoder
        synchronise(self.style.encoder)
        self.trained = [*self.style.encoder.parameters(), *decoder.parameters()]
        self.optimiser = make_adam(self.trained, config.learning_rate, (0.9, 0.999))

    def train_step(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """One update on {"image": (N, 3, H, W) in [-1, 1], "label_map": int64 (N, H, W)}."""
        encoder = self.style.encoder.train()
        statistics = RunningStatistics(encoder)
        power_iteration(encoder)
        image, labels = self._inputs(batch)
        with autocast(self.config.precision, self.device):
            mu, logvar = encoder(image)
            painted = self.decoder(losses.sample_gaussian(mu, logvar), labels)
        reconstruction = F.l1_loss(painted, image)
        kld = losses.kl_divergence(mu, logvar)
        weight = self.config.lambda_kld * min(1.0, (step + 1) / max(1, self.config.kld_warmup_steps))
        skipped = optimiser_step(reconstruction + weight * kld, self.optimiser, self.trained, MAX_GRADIENT_NORM)
        statistics.restore_if(skipped)
        encoder.eval()
        return {"reconstruction_l1": reconstruction.detach(), "kld": kld.detach(), "skipped": skipped}

    @torch.no_grad()
    def calibrate(self, batches: Iterable[Batch]) -> None:
        """Fits the prior anew to the styles that the present encoder gives training pictures; deterministic."""
        self.style.prior.forget()
        for batch in batches:
            with autocast(self.config.precision, self.device):
                mu, logvar = self.style.encoder(self._inputs(batch)[0])
            self.style.prior.update(mu, logvar)

    def _inputs(self, batch: Batch) -> tuple[Tensor, Tensor | None]:
        """The picture as the encoder sees it (a square), and the labels for the decoder."""
        size = (self.style.encoder.input_size,) * 2
        image = batch["image"]
        if tuple(image.shape[2:]) != size:
            image = F.interpolate(image, size=size, mode="bilinear", align_corners=False)
        image = image.contiguous(memory_format=torch.channels_last)
        if not self.config.labels_to_decoder:
            return image, None
        label_map = batch["label_map"]
        if tuple(label_map.shape[1:]) != size:
            label_map = F.interpolate(label_map[:, None].float(), size=size, mode="nearest")[:, 0].long()
        return image, onehot(label_map, self.classes.num_classes).to(memory_format=torch.channels_last)

    @torch.no_grad()
    def generate(self, batch: Batch) -> Tensor:
        """The pictures (N, 3, side, side) rebuilt from their mean style."""
        image, labels = self._inputs(batch)
        with autocast(self.config.precision, self.device):
            return self.decoder(self.style.encoder(image)[0], labels)

    @torch.no_grad()
    def evaluate(self, batches: Iterable[Batch]) -> dict[str, float]:
        """reconstruction_psnr (dB over the [0, 255] range), reconstruction_l1 ([-1, 1] range), kld, active_units."""
        absolute, squared, kld, means = 0.0, 0.0, 0.0, []
        for batch in batches:
            image, labels = self._inputs(batch)
            with autocast(self.config.precision, self.device):
                mu, logvar = self.style.encoder(image)
                painted = self.decoder(mu, labels)
            absolute += float(F.l1_loss(painted, image)) * len(image)
            squared += float(F.mse_loss(painted, image)) * len(image)
            kld += float(losses.kl_divergence(mu, logvar)) * len(image)
            means.append(mu)
        if not means:
            raise UserError("evaluation got no pictures: the split is empty")
        mu = torch.cat(means)
        return {
            "reconstruction_psnr": 10.0 * math.log10(4.0 * len(mu) / max(squared, 1e-12)),
            "reconstruction_l1": absolute / len(mu),
            "kld": kld / len(mu),
            "active_units": float((mu.var(dim=0, unbiased=False) > ACTIVE_VARIANCE).sum()),
        }

    @torch.no_grad()
    def sample(self, batch: Batch) -> Tensor:
        """One picture (3, H', W'): pictures, rebuilt from their style, rebuilt from random styles."""
        image, labels = self._inputs(batch)
        z = self.style.prior.sample(list(range(len(image))))
        with autocast(self.config.precision, self.device):
            random = self.decoder(z, labels)
        rows = [image, self.generate(batch), random]
        return torch.cat([torch.cat(list(row), dim=2) for row in rows], dim=1)

    def state_dict(self) -> dict[str, Any]:
        """Everything that resuming needs; E and style are what the generator takes over."""
        networks = {name: network.state_dict() for name, network in self.networks.items()}
        return {"networks": networks, "optimisers": {"all": self.optimiser.state_dict()}, "extra": {}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of `state_dict`."""
        for name, network in self.networks.items():
            network.load_state_dict(state["networks"][name])
        self.optimiser.load_state_dict(state["optimisers"]["all"])
