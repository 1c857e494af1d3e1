"""What the SPADE networks minimise (Park et al. 2019, arXiv:1903.07291, section 4 and appendix A)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from torch import Tensor

from gaugan import losses
from gaugan.spade.discriminator import split_outputs

Outputs = list[list[Tensor]]
"""What a Discriminator returns: per scale its features, then its logits."""


class FeatureNetwork(Protocol):
    """A fixed network whose features measure how alike two pictures look."""

    name: str
    weights: Sequence[float]

    def __call__(self, image: Tensor) -> list[Tensor]: ...


@dataclass(frozen=True)
class SpadeObjective:
    """Loss terms by name, already weighted: their sum is minimised."""

    gan_mode: losses.GanMode
    lambda_feat: float
    lambda_perceptual: float
    lambda_kld: float
    features: FeatureNetwork | None = None
    kld_reduction: Literal["mean", "sum"] = "mean"

    def generator(self, fake: Tensor, real: Tensor, on_fake: Outputs, on_real: Outputs) -> dict[str, Tensor]:
        """fake, real (N, 3, H, W) and the discriminator's outputs on them -> terms for the generator."""
        fake_features, fake_logits = split_outputs(on_fake)
        real_features, _ = split_outputs(on_real)
        terms = {"g_gan": losses.generator_loss(self.gan_mode, fake_logits)}
        if self.lambda_feat:
            terms["g_feat"] = self.lambda_feat * losses.feature_matching(fake_features, real_features)
        if self.features is not None and self.lambda_perceptual:
            terms["g_perceptual"] = self.lambda_perceptual * self.perceptual(fake, real)
        return terms

    def perceptual(self, fake: Tensor, real: Tensor) -> Tensor:
        """The perceptual distance, not weighted."""
        assert self.features is not None
        return losses.perceptual(self.features(fake), self.features(real), self.features.weights)

    def encoder(self, mu: Tensor, logvar: Tensor) -> dict[str, Tensor]:
        """Terms for an encoder trained together with the generator."""
        return {"g_kld": self.lambda_kld * losses.kl_divergence(mu, logvar, self.kld_reduction)}

    def discriminator(self, on_fake: Outputs, on_real: Outputs) -> dict[str, Tensor]:
        """Terms for the discriminator."""
        on_real_loss, on_fake_loss = losses.discriminator_loss(
            self.gan_mode, split_outputs(on_real)[1], split_outputs(on_fake)[1]
        )
        return {"d_real": on_real_loss, "d_fake": on_fake_loss}
