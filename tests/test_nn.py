"""Spectral norm, initialisation and the optimiser step."""

import copy

import pytest
import torch
from torch import nn

from gaugan.nn import (
    RunningStatistics,
    SpectralConv2d,
    SpectralConvTranspose2d,
    fold_spectral_norm,
    initialise,
    make_adam,
    optimiser_step,
    power_iteration,
    recalibrate,
)
from gaugan.precision import autocast

torch.set_num_threads(1)


def pair_of_layers() -> tuple[SpectralConv2d, nn.Conv2d]:
    """Ours, and torch's legacy hook with the same weights, u and v."""
    torch.manual_seed(0)
    reference = torch.nn.utils.spectral_norm(nn.Conv2d(3, 5, 3, padding=1))
    ours = SpectralConv2d(3, 5, 3, padding=1)
    ours.load_state_dict(reference.state_dict())
    return ours, reference


def test_spectral_transposed_conv_equals_the_legacy_hook_and_folds():
    torch.manual_seed(0)
    reference = torch.nn.utils.spectral_norm(nn.ConvTranspose2d(4, 3, 3, stride=2, padding=1, output_padding=1))
    ours = SpectralConvTranspose2d(4, 3)
    ours.load_state_dict(reference.state_dict())
    x = torch.randn(2, 4, 5, 6)
    power_iteration(ours)
    torch.testing.assert_close(ours(x), reference(x))
    torch.testing.assert_close(ours.weight_v, reference.weight_v)
    wanted = ours(x)
    assert wanted.shape == (2, 3, 10, 12)
    torch.testing.assert_close(fold_spectral_norm(nn.Sequential(ours))(x), wanted)


def test_initial_scales_of_normalisation_layers_are_drawn_around_one():
    norm = nn.BatchNorm2d(2000)
    initialise(norm, "none")
    assert (norm.weight == 1).all()
    initialise(norm, "reference")
    assert norm.weight.mean().item() == pytest.approx(1.0, abs=0.01)
    assert norm.weight.std().item() == pytest.approx(0.02, rel=0.1)


def test_spectral_conv_has_the_key_names_of_the_legacy_hook():
    ours, reference = pair_of_layers()
    assert set(ours.state_dict()) == set(reference.state_dict())


def test_spectral_conv_equals_the_legacy_hook_over_training_steps_and_in_evaluation():
    ours, reference = pair_of_layers()
    x = torch.randn(2, 3, 6, 6)
    for _ in range(3):
        power_iteration(ours)
        mine, theirs = ours(x), reference(x)
        torch.testing.assert_close(mine, theirs)
        mine.square().sum().backward()
        theirs.square().sum().backward()
        torch.testing.assert_close(ours.weight_orig.grad, reference.weight_orig.grad)
    torch.testing.assert_close(ours.weight_u, reference.weight_u)
    torch.testing.assert_close(ours(x), reference.eval()(x))


def test_a_forward_pass_never_changes_u_and_v():
    ours, _ = pair_of_layers()
    before = copy.deepcopy(ours.state_dict())
    ours.train()
    ours(torch.randn(1, 3, 4, 4)).sum().backward()
    assert all(torch.equal(before[name], value) for name, value in ours.state_dict().items())


def test_power_iterations_find_the_largest_singular_value():
    ours, _ = pair_of_layers()
    power_iteration(ours, steps=100)
    largest = torch.linalg.matrix_norm(ours.weight().flatten(1), ord=2)
    assert largest.item() == pytest.approx(1.0, abs=1e-4)


def test_sigma_stays_in_float32_under_autocast():
    ours, _ = pair_of_layers()
    with autocast("bf16", torch.device("cpu")):
        weight = ours.weight()
        assert ours(torch.randn(1, 3, 4, 4)).dtype == torch.bfloat16
    assert weight.dtype == torch.float32
    assert torch.equal(weight, ours.weight())


def test_folding_keeps_the_output():
    network = nn.Sequential(
        SpectralConv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Sequential(SpectralConv2d(4, 2, 1, bias=False))
    )
    x = torch.randn(2, 3, 5, 5)
    wanted = network(x)
    folded = fold_spectral_norm(network)
    torch.testing.assert_close(folded(x), wanted)
    assert not any(isinstance(module, SpectralConv2d) for module in folded.modules())


def test_the_reference_init_leaves_spectral_weights_at_torch_defaults():
    network = nn.Sequential(SpectralConv2d(64, 64, 3), nn.Conv2d(64, 64, 3))
    spectral, plain = network[0], network[1]
    before = spectral.weight_orig.clone()
    initialise(network, "reference")
    assert torch.equal(spectral.weight_orig, before)
    assert plain.weight.std().item() == pytest.approx(0.02 * (2 / (2 * 64 * 9)) ** 0.5, rel=0.05)
    assert not plain.bias.any() and not spectral.bias.any()
    initialise(network, "xavier")
    assert spectral.weight_orig.std().item() == pytest.approx(plain.weight.std().item(), rel=0.05)


@pytest.mark.parametrize("optimiser_class", [make_adam, lambda p, lr, betas: torch.optim.Adam(p, lr=lr, betas=betas)])
def test_a_step_with_a_gradient_that_is_not_finite_changes_nothing(optimiser_class):
    torch.manual_seed(0)
    network = nn.Linear(3, 2)
    optimiser = optimiser_class(network.parameters(), 0.1, (0.0, 0.9))
    assert optimiser_step(network(torch.ones(1, 3)).sum(), optimiser, network.parameters()) == 0
    before, state = copy.deepcopy(network.state_dict()), copy.deepcopy(optimiser.state_dict()["state"])
    assert optimiser_step(network(torch.full((1, 3), torch.inf)).sum(), optimiser, network.parameters()) == 1
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    for key, entry in optimiser.state_dict()["state"].items():
        assert all(torch.equal(state[key][name], value) for name, value in entry.items())
    assert optimiser_step(network(torch.ones(1, 3)).sum(), optimiser, network.parameters()) == 0
    assert not torch.equal(before["weight"], network.weight)


def test_fused_adam_agrees_with_plain_adam_on_channels_last_weights():
    torch.manual_seed(0)
    ours = nn.Conv2d(4, 6, 3).to(memory_format=torch.channels_last)
    plain = copy.deepcopy(ours)
    optimisers = make_adam(ours.parameters(), 0.01, (0.0, 0.9)), torch.optim.Adam(plain.parameters(), 0.01, (0.0, 0.9))
    for step in range(3):
        x = torch.randn(2, 4, 5, 5, generator=torch.Generator().manual_seed(step)).to(memory_format=torch.channels_last)
        for network, optimiser in zip((ours, plain), optimisers, strict=True):
            optimiser_step(network(x).square().sum(), optimiser, network.parameters())
    torch.testing.assert_close(ours.weight, plain.weight)


def test_running_statistics_come_back_after_a_skipped_step():
    network = nn.BatchNorm2d(2)
    network(torch.randn(4, 2, 3, 3))
    before = copy.deepcopy(network.state_dict())
    saved = RunningStatistics(network)
    network(torch.full((4, 2, 3, 3), torch.nan))
    saved.restore_if(torch.tensor(1.0))
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    saved = RunningStatistics(network)
    network(torch.randn(4, 2, 3, 3))
    saved.restore_if(torch.tensor(0.0))
    assert not torch.equal(before["running_mean"], network.running_mean)


def test_recalibration_averages_over_the_passes_and_keeps_the_momentum():
    network = nn.BatchNorm1d(2, affine=False)
    batches = [torch.randn(8, 2) + 3, torch.randn(8, 2) - 1]
    recalibrate(network, (None for batch in batches if network(batch) is not None))
    torch.testing.assert_close(network.running_mean, torch.stack([batch.mean(0) for batch in batches]).mean(0))
    assert network.momentum == 0.1 and not network.training
    recalibrate(network, iter(()))
    torch.testing.assert_close(network.running_mean, torch.stack([batch.mean(0) for batch in batches]).mean(0))


def test_gradients_are_scaled_down_to_the_largest_norm_that_is_allowed() -> None:
    weight = torch.nn.Parameter(torch.zeros(4))
    optimiser = torch.optim.SGD([weight], lr=1.0)
    optimiser_step((weight * torch.tensor([3.0, 4.0, 0.0, 0.0])).sum(), optimiser, [weight], max_norm=1.0)
    torch.testing.assert_close(weight.detach(), torch.tensor([-0.6, -0.8, 0.0, 0.0]), rtol=1e-4, atol=1e-6)
    optimiser_step((weight * torch.tensor([0.3, 0.4, 0.0, 0.0])).sum(), optimiser, [weight], max_norm=1.0)
    torch.testing.assert_close(weight.detach(), torch.tensor([-0.9, -1.2, 0.0, 0.0]), rtol=1e-4, atol=1e-6)
