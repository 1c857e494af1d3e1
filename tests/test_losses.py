"""Losses against hand-worked values."""

import math

import pytest
import torch
import torch.nn.functional as F

from gaugan import losses

torch.set_num_threads(1)

REAL = [torch.tensor([[2.0, 0.0]]), torch.tensor([[-1.0]])]
FAKE = [torch.tensor([[-2.0, 0.5]]), torch.tensor([[1.0]])]


def test_hinge_averages_per_scale_and_then_over_scales():
    real, fake = losses.discriminator_loss("hinge", REAL, FAKE)
    assert real.item() == pytest.approx(((0 + 1) / 2 + 2) / 2)
    assert fake.item() == pytest.approx(((0 + 1.5) / 2 + 2) / 2)
    assert losses.generator_loss("hinge", FAKE).item() == pytest.approx(-(-0.75 + 1) / 2)


def test_least_squares_original_and_wasserstein_match_their_definitions():
    real, fake = losses.discriminator_loss("ls", REAL, FAKE)
    assert real.item() == pytest.approx(((1 + 1) / 2 + 4) / 2)
    assert fake.item() == pytest.approx(((4 + 0.25) / 2 + 1) / 2)
    real, fake = losses.discriminator_loss("original", REAL, FAKE)
    bce = F.binary_cross_entropy_with_logits
    assert real.item() == pytest.approx(sum(bce(x, torch.ones_like(x)).item() for x in REAL) / 2)
    assert fake.item() == pytest.approx(sum(bce(x, torch.zeros_like(x)).item() for x in FAKE) / 2)
    real, fake = losses.discriminator_loss("w", REAL, FAKE)
    assert real.item() == pytest.approx(-(1 - 1) / 2)
    assert fake.item() == pytest.approx((-0.75 + 1) / 2)


def test_feature_matching_sums_layers_divides_by_scales_and_holds_the_real_side():
    fake = [[torch.zeros(1, 1, 2, 2, requires_grad=True), torch.ones(1, 2, 1, 1)], [torch.zeros(1, 1, 1, 1)] * 2]
    real = [[torch.full((1, 1, 2, 2), 3.0, requires_grad=True), torch.zeros(1, 2, 1, 1)], [torch.ones(1, 1, 1, 1)] * 2]
    loss = losses.feature_matching(fake, real)
    assert loss.item() == pytest.approx((3 + 1 + 1 + 1) / 2)
    loss.backward()
    assert fake[0][0].grad is not None and real[0][0].grad is None


def test_kl_is_the_mean_over_pictures_of_the_sum_over_dimensions():
    mu, logvar = torch.tensor([[1.0, 0.0], [0.0, 2.0]]), torch.tensor([[0.0, math.log(4.0)], [0.0, 0.0]])
    first, second = 0.5 + 0.5 * (4 - 1 - math.log(4.0)), 2.0
    assert losses.kl_divergence(mu, logvar).item() == pytest.approx((first + second) / 2)
    # The published code sums over its 4 pictures with weight 0.05: 0.2 times ours.
    mu, logvar = torch.randn(4, 8), torch.randn(4, 8)
    published = 0.05 * -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())
    torch.testing.assert_close(0.2 * losses.kl_divergence(mu, logvar), published)
    torch.testing.assert_close(0.05 * losses.kl_divergence(mu, logvar, "sum"), published)


def test_the_perceptual_loss_weighs_its_layers_and_holds_the_real_side():
    fake = [torch.zeros(1, 2, 2, 2, requires_grad=True), torch.ones(1, 1, 1, 1)]
    real = [torch.full((1, 2, 2, 2), 0.5, requires_grad=True), torch.full((1, 1, 1, 1), -1.0)]
    loss = losses.perceptual(fake, real, (1 / 4, 1.0))
    assert loss.item() == pytest.approx(0.5 / 4 + 2)
    loss.backward()
    assert fake[0].grad is not None and real[0].grad is None


def test_gaussian_samples_follow_their_generator():
    mu, logvar = torch.zeros(3, 5), torch.full((3, 5), -200.0)
    torch.testing.assert_close(losses.sample_gaussian(mu, logvar), mu)
    draws = [losses.sample_gaussian(mu, mu, torch.Generator().manual_seed(7)) for _ in range(2)]
    assert torch.equal(*draws)
