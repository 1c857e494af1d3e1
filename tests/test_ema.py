"""The moving average of weights."""

import torch
from torch import nn

from gaugan.ema import Ema
from gaugan.nn import SpectralConv2d

torch.set_num_threads(1)


def constant(value: float) -> nn.Linear:
    network = nn.Linear(2, 2)
    for parameter in network.parameters():
        nn.init.constant_(parameter, value)
    return network


def test_an_old_value_counts_half_after_the_half_life():
    ema = Ema(constant(1.0), half_life_images=100)
    for step in range(10):
        ema.update(constant(0.0), batch_images=10, images_seen=1_000_000 + step)
    torch.testing.assert_close(ema.network.weight, torch.full((2, 2), 0.5))


def test_the_same_images_in_larger_batches_give_the_same_average():
    small, large = Ema(constant(1.0), 50), Ema(constant(1.0), 50)
    for step in range(8):
        small.update(constant(0.0), 4, 1_000_000 + step)
    large.update(constant(0.0), 32, 1_000_000)
    torch.testing.assert_close(small.network.weight, large.network.weight)


def test_the_random_start_is_forgotten_early_in_training():
    ema = Ema(constant(1.0), half_life_images=1e9)
    ema.update(constant(0.0), batch_images=16, images_seen=16)
    assert ema.network.weight.abs().max() < 1e-5


def test_buffers_are_copied_and_the_source_is_not_touched():
    source = nn.Sequential(SpectralConv2d(2, 2, 1), nn.BatchNorm2d(2))
    ema = Ema(source, 10)
    source[0].power_iteration()
    source(torch.randn(3, 2, 2, 2))
    ema.update(source, 1, 1000)
    assert torch.equal(ema.network[0].weight_u, source[0].weight_u)
    assert torch.equal(ema.network[1].running_mean, source[1].running_mean)
    assert all(parameter.requires_grad for parameter in source.parameters())
    assert not any(parameter.requires_grad for parameter in ema.network.parameters())


def test_running_statistics_are_averaged_only_when_asked():
    source = nn.BatchNorm1d(1)
    copied, averaged = Ema(source, 10), Ema(source, 10, average_buffers=True)
    source.running_mean.fill_(8.0)
    for ema in (copied, averaged):
        ema.update(source, batch_images=10, images_seen=1_000_000)
    assert copied.network.running_mean.item() == 8.0
    assert averaged.network.running_mean.item() == 4.0
