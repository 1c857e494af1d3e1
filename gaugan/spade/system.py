"""SPADE training: the generator and discriminator steps, evaluation with averaged weights, state.

system = SpadeSystem(SpadeConfig(), classes=classes, image_size=(128, 128), device=device, encoder=load_style(uri))
metrics = system.train_step({"image": ..., "label_map": ...}, step)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gaugan import losses, metrics, parallel
from gaugan.ema import Ema
from gaugan.errors import UserError
from gaugan.labels import IGNORE, ClassTable
from gaugan.nn import (
    RunningStatistics,
    apply_gradients,
    initialise,
    make_adam,
    optimiser_step,
    power_iteration,
    recalibrate,
    set_learning_rate,
)
from gaugan.precision import autocast
from gaugan.spade.build import build_discriminator, build_generator, encode_labels
from gaugan.spade.config import SpadeConfig, learning_rate_factor
from gaugan.spade.initial import load_initial_weights
from gaugan.spade.objective import FeatureNetwork, Outputs, SpadeObjective
from gaugan.spade.style import Style, style_for
from gaugan.sync_norm import synchronise

Batch = dict[str, Tensor]
Judge = Callable[[Tensor], Tensor]
"""Pictures (N, 3, H, W) in [-1, 1] -> label maps int64 (N, H, W)."""


class SpadeSystem:
    """Generator G, its average G_ema, discriminator D; with styles also the encoder E and its prior."""

    best_metric = "consistency_miou"

    def __init__(
        self,
        config: SpadeConfig,
        *,
        classes: ClassTable,
        image_size: tuple[int, int],
        device: torch.device,
        encoder: Style | None = None,
        features: FeatureNetwork | None = None,
        judge: Judge | None = None,
    ) -> None:
        self.config, self.classes, self.device, self.judge = config, classes, device, judge
        self.style = style_for(config, image_size, encoder)
        self.objective = SpadeObjective(
            config.gan_mode,
            config.lambda_feat,
            config.lambda_perceptual,
            config.kld_weight,
            features,
            config.kld_reduction,
        )
        self.G: nn.Module = build_generator(config, classes.num_classes, image_size)
        self.D: nn.Module = build_discriminator(config, classes.num_classes)
        self.networks: dict[str, nn.Module] = {"G": self.G, "D": self.D}
        for name in ("G", "D"):
            initialise(self.networks[name], config.init, config.init_gain)
        if self.style is not None:
            self.networks |= {"E": self.style.encoder, "style": self.style.prior}
            if config.style == "joint_vae":
                self.style.encoder.requires_grad_(True)
        for network in self.networks.values():
            network.to(device)
            network.to(memory_format=torch.channels_last)
        self.ema = Ema(self.G, config.ema_half_life)
        self.networks["G_ema"] = self.ema.network
        self.in_training = [self.G, self.D]
        if self.style is not None and config.style == "joint_vae":
            self.in_training.append(self.style.encoder)
        for network in self.in_training:
            synchronise(network, clamps=config.mode == "faithful")
        if config.initial:
            own = {"E", "style"} if config.style == "frozen_encoder" else set()
            load_initial_weights({n: m for n, m in self.networks.items() if n not in own}, config.initial, classes)
        self.images_seen = 0
        self._make_optimisers()

    def _make_optimisers(self) -> None:
        config = self.config
        self.rates = {"G": config.learning_rate, "D": config.learning_rate}
        if config.ttur:
            self.rates = {"G": config.learning_rate / 2, "D": config.learning_rate * 2}
        self.trained = {"G": list(self.G.parameters()), "D": list(self.D.parameters())}
        if config.style == "joint_vae":
            assert self.style is not None
            self.trained["G"] += list(self.style.encoder.parameters())
        betas = (config.beta1, config.beta2)
        self.optimisers = {name: make_adam(self.trained[name], self.rates[name], betas) for name in ("G", "D")}

    # Training

    def train_step(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """One update of G, then one of D, on {"image": (N, 3, H, W) in [-1, 1], "label_map": int64 (N, H, W)}.

        With d_steps_per_g only D is updated at most steps. Batches also hold an "instance_map" when the config asks
        for instance edges.
        """
        self._set_rates(step)
        labels, image = self._inputs(batch)
        for network in self.in_training:
            network.train()
        statistics = [RunningStatistics(network) for network in self.in_training]
        if step % self.config.d_steps_per_g:
            terms = self._update_discriminator(labels, image)
        elif self.config.mode == "fast":
            terms = self._update_both(labels, image)
        else:
            terms = self._update_generator(labels, image)
            critic = self._update_discriminator(labels, image)
            terms |= critic | {"skipped": torch.maximum(terms["skipped"], critic["skipped"])}
        if self.style is not None:
            self.style.eval()
        for saved in statistics:
            saved.restore_if(terms["skipped"])
        batch_images = len(image) * parallel.world_size()
        self.images_seen += batch_images
        self.ema.update(self.G, batch_images, self.images_seen)
        return {name: value.detach() for name, value in terms.items()}

    def _set_rates(self, step: int) -> None:
        config = self.config
        factor = learning_rate_factor(step, config.decay_start, config.decay_steps, config.decay_every)
        for name, optimiser in self.optimisers.items():
            set_learning_rate(optimiser, self.rates[name] * factor)

    def _update_both(self, labels: Tensor, image: Tensor) -> dict[str, Tensor]:
        """Both updates from one pass of G and one of D.

        G's gradient enters through the painted picture, so D's weights get none from it; D's own loss then uses the
        same outputs. D is unchanged between the two, so this is the usual G-then-D order on one fake.
        """
        power_iteration(self.G)
        power_iteration(self.D)
        with autocast(self.config.precision, self.device):
            z, posterior = self._draw_style(image)
            fake = self.G(labels, z)
            painted = fake.detach().requires_grad_()
            on_fake, on_real = self._judge_both(labels, painted, image)
            terms = self.objective.generator(painted, image, on_fake, on_real)
            others = self.objective.encoder(*posterior) if posterior else {}
            critic = self.objective.discriminator(on_fake, on_real)
        (gradient,) = torch.autograd.grad(_total(terms), painted, retain_graph=True)
        self.optimisers["G"].zero_grad(set_to_none=True)
        torch.autograd.backward([fake, *others.values()], [gradient, *map(torch.ones_like, others.values())])
        skipped = apply_gradients(self.optimisers["G"], self.trained["G"])
        skipped_d = optimiser_step(_total(critic), self.optimisers["D"], self.trained["D"])
        return terms | others | critic | {"skipped": torch.maximum(skipped, skipped_d)}

    def _update_generator(self, labels: Tensor, image: Tensor) -> dict[str, Tensor]:
        """G (and E) alone; D takes part with its weights held, its spectral norm moves on as published."""
        self.D.requires_grad_(False)
        power_iteration(self.G)
        power_iteration(self.D)
        with autocast(self.config.precision, self.device):
            z, posterior = self._draw_style(image)
            fake = self.G(labels, z)
            terms = self.objective.generator(fake, image, *self._judge_both(labels, fake, image))
            terms |= self.objective.encoder(*posterior) if posterior else {}
        skipped = optimiser_step(_total(terms), self.optimisers["G"], self.trained["G"])
        self.D.requires_grad_(True)
        return terms | {"skipped": skipped}

    def _update_discriminator(self, labels: Tensor, image: Tensor) -> dict[str, Tensor]:
        """D alone, on a fake painted without gradients from a style drawn anew.

        As published that pass is one in training mode: it moves G's (and E's) running statistics and spectral norm.
        """
        with autocast(self.config.precision, self.device):
            with torch.no_grad():
                power_iteration(self.G)
                fake = self.G(labels, self._draw_style(image)[0])
            power_iteration(self.D)
            critic = self.objective.discriminator(*self._judge_both(labels, fake, image))
        return critic | {"skipped": optimiser_step(_total(critic), self.optimisers["D"], self.trained["D"])}

    def _judge_both(self, labels: Tensor, fake: Tensor, image: Tensor) -> tuple[Outputs, Outputs]:
        """D's outputs on painted and on real pictures.

        In one pass over both (fake first) when D has batch statistics. Without them two passes give the same numbers,
        and the generator's gradient skips the real half.
        """
        if "batch" not in self.config.discriminator_norm:
            return self.D(labels, fake), self.D(labels, image)
        both = self.D(torch.cat([labels, labels]), torch.cat([fake, image]))
        half = len(fake)
        return [[x[:half] for x in scale] for scale in both], [[x[half:] for x in scale] for scale in both]

    def _draw_style(self, image: Tensor) -> tuple[Tensor | None, tuple[Tensor, Tensor] | None]:
        """z = mu + eps * sigma of the real picture, and (mu, logvar) when the encoder is being trained."""
        if self.style is None:
            return None, None
        if self.config.style == "frozen_encoder":
            mu, logvar = self.style.encode(image)
            return losses.sample_gaussian(mu, logvar), None
        power_iteration(self.style.encoder)
        mu, logvar = self.style.encoder(image)
        if torch.is_grad_enabled():
            self.style.prior.update(mu.detach(), logvar.detach())
        return losses.sample_gaussian(mu, logvar), (mu, logvar)

    def _inputs(self, batch: Batch) -> tuple[Tensor, Tensor]:
        instance_map = batch.get("instance_map") if self.config.instance_edges else None
        if self.config.instance_edges and instance_map is None:
            raise UserError(
                "--instance-edges: the data has no instance maps; import it with them, or give --no-instance-edges"
            )
        labels = encode_labels(
            batch["label_map"],
            self.classes.num_classes,
            dontcare=self.config.dontcare_channel,
            instance_map=instance_map,
        )
        image = batch["image"].to(memory_format=torch.channels_last)
        return labels.to(memory_format=torch.channels_last), image

    # Evaluation

    def calibrate(self, batches: Iterable[Batch]) -> None:
        """Re-estimates the averaged generator's normalisation statistics over training batches (about 30).

        The weights of G_ema never saw the running statistics of G. Deterministic: style noise comes from its own
        generator, and nothing that training uses is touched.
        """
        self.ema.copy_buffers(self.G)  # so that calibrating twice gives the same
        power_iteration(self.ema.network, steps=5)
        recalibrate(self.ema.network, self._calibration_passes(batches))

    @torch.no_grad()
    def _calibration_passes(self, batches: Iterable[Batch]) -> Iterator[None]:
        generator = torch.Generator().manual_seed(0)
        for batch in batches:
            labels, image = self._inputs(batch)
            with autocast(self.config.precision, self.device):
                z = None
                if self.style is not None:
                    z = losses.sample_gaussian(*self.style.encode(image), generator)
                self.ema.network(labels, z)
            yield

    @torch.no_grad()
    def generate(self, batch: Batch) -> Tensor:
        """Pictures (N, 3, H, W) painted by the averaged generator, each in the (mean) style of the batch's picture."""
        labels, image = self._inputs(batch)
        z = None if self.style is None else self.style.encode(image)[0]
        with autocast(self.config.precision, self.device):
            return self.ema.network(labels, z)

    @torch.no_grad()
    def _paint_seeds(self, batch: Batch, first_seed: int) -> Tensor:
        labels, _ = self._inputs(batch)
        assert self.style is not None
        z = self.style.prior.sample(list(range(first_seed, first_seed + len(labels))))
        with autocast(self.config.precision, self.device):
            return self.ema.network(labels, z)

    @torch.no_grad()
    def evaluate(self, batches: Iterable[Batch]) -> dict[str, float]:
        """Means over held-out batches; with a judge also how well painted pictures show the label map they were given.

        consistency_miou, consistency_accuracy: the judge's labels on painted pictures against the given ones.
        style_effect: mean absolute difference between two random styles on one label map (0 = z is ignored).
        active_units: dimensions in which the style encoder tells pictures apart.
        """
        sums: dict[str, float] = {}
        counts: Any = 0
        total = 0
        self.D.eval()
        for seed, batch in enumerate(batches):
            painted = self.generate(batch)
            for name, value in self._held_out_terms(batch, painted, seed).items():
                sums[name] = sums.get(name, 0.0) + float(value) * len(painted)
            total += len(painted)
            if self.judge is not None:
                seen = self.judge(painted).cpu().numpy()
                counts = counts + metrics.confusion(batch["label_map"].cpu().numpy(), seen, self.classes.num_classes)
        if total == 0:
            raise UserError("evaluation got no pictures: the split is empty")
        result = {name: value / total for name, value in sums.items()}
        if self.style is not None:
            result["active_units"] = float(self.style.prior.active_units())
        if self.judge is not None:
            scores = metrics.label_scores(counts, self.classes.names)
            result |= {"consistency_miou": scores["miou"], "consistency_accuracy": scores["pixel_accuracy"]}
            result |= {f"consistency_{name}": value for name, value in scores.items() if name.startswith("iou_")}
        return result

    def _held_out_terms(self, batch: Batch, painted: Tensor, seed: int) -> dict[str, Tensor]:
        labels, image = self._inputs(batch)
        with autocast(self.config.precision, self.device):
            on_fake, on_real = self._judge_both(labels, painted, image)
        terms = self.objective.generator(painted, image, on_fake, on_real)
        terms |= self.objective.discriminator(on_fake, on_real)
        terms["l1"] = F.l1_loss(painted, image)
        if self.style is not None:
            one, other = (self._paint_seeds(batch, first) for first in (seed * 20_000, seed * 20_000 + 10_000))
            terms["style_effect"] = F.l1_loss(one, other)
        return terms

    @torch.no_grad()
    def sample(self, batch: Batch) -> Tensor:
        """One picture (3, H', W'), a row each: label maps, real pictures, painted in their style, in random styles."""
        colours = torch.tensor(self.classes.colours, device=self.device).float().div(127.5).sub(1.0)
        known = batch["label_map"].where(batch["label_map"] != IGNORE, 0)
        rows = [colours[known].permute(0, 3, 1, 2), batch["image"], self.generate(batch)]
        if self.style is not None:
            rows.append(self._paint_seeds(batch, 0))
        return torch.cat([torch.cat(list(row), dim=2) for row in rows], dim=1)

    # State

    def state_dict(self) -> dict[str, Any]:
        """Everything that resuming needs, and everything that painting needs (G_ema, E, style)."""
        return {
            "networks": {name: network.state_dict() for name, network in self.networks.items()},
            "optimisers": {name: optimiser.state_dict() for name, optimiser in self.optimisers.items()},
            "extra": {"images_seen": self.images_seen},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of `state_dict`."""
        for name, network in self.networks.items():
            network.load_state_dict(state["networks"][name])
        for name, optimiser in self.optimisers.items():
            optimiser.load_state_dict(state["optimisers"][name])
        self.images_seen = state["extra"]["images_seen"]


def _total(terms: dict[str, Tensor]) -> Tensor:
    return torch.stack(list(terms.values())).sum()
