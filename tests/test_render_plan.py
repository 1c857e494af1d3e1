"""The render plan paints what the generator and the plain definition paint."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F

from benchmarks.spade_reference import ReferenceGenerator
from gaugan import native
from gaugan.labels import PORTRAIT_CLASSES
from gaugan.nn import power_iteration, recalibrate
from gaugan.portraits import draw_portrait
from gaugan.spade.build import encode_labels
from gaugan.spade.config import SpadeConfig
from gaugan.spade.label_pyramid import LabelPyramid
from gaugan.spade.networks import Generator
from gaugan.spade.render import RenderPlan
from gaugan.spade.system import SpadeSystem

torch.set_num_threads(1)


def label_map(seed: int, size: int = 64) -> torch.Tensor:
    return torch.from_numpy(draw_portrait(seed, size)[1]).long()[None]


@pytest.fixture(scope="module")
def trained() -> Generator:
    """A small generator after a few steps, with calibrated statistics."""
    torch.manual_seed(0)
    config = SpadeConfig(style="joint_vae", ngf=8, ndf=8, spade_hidden=16, z_dim=8, nef=8, precision="fp32")
    system = SpadeSystem(config, classes=PORTRAIT_CLASSES, image_size=(64, 64), device=torch.device("cpu"))
    images = torch.rand(4, 3, 64, 64) * 2 - 1
    batch = {"image": images, "label_map": torch.cat([label_map(seed) for seed in range(4)])}
    for step in range(4):
        system.train_step(batch, step)
    system.calibrate([batch])
    return system.ema.network.eval()


def test_a_trained_checkpoint_paints_the_same_on_twenty_label_maps(trained) -> None:
    plan = RenderPlan(trained)
    reference = ReferenceGenerator(copy.deepcopy(trained)).eval()
    for seed in range(20):
        z = torch.randn(1, 8, generator=torch.Generator().manual_seed(seed))
        with torch.no_grad():
            wanted = reference(encode_labels(label_map(seed), 7), z)
        painted = plan.paint(plan.prepare(LabelPyramid.from_ids(label_map(seed), 7)), z)
        assert (painted - wanted).abs().max() < 1e-4
    assert wanted.std() > 0.01


def test_another_style_on_the_same_label_map_needs_no_new_tables(trained, monkeypatch) -> None:
    plan = RenderPlan(trained)
    prepared = plan.prepare(LabelPyramid.from_ids(label_map(0), 7))
    first = plan.paint(prepared, torch.ones(1, 8))
    for module in ("modulation", "reuse"):
        monkeypatch.setattr(f"gaugan.spade.{module}.hidden_rows", None)  # computing a table would fail now
    second = plan.paint(prepared, -torch.ones(1, 8))
    assert not torch.equal(first, second)
    assert torch.equal(plan.paint(prepared, torch.ones(1, 8)), first)


def test_bfloat16_stays_close_to_float32(trained) -> None:
    labels, z = LabelPyramid.from_ids(label_map(1), 7), torch.randn(1, 8)
    plans = [RenderPlan(trained, dtype) for dtype in (torch.float32, torch.bfloat16)]
    exact, rough = (plan.paint(plan.prepare(labels), z) for plan in plans)
    psnr = 10 * torch.log10(4 / (exact - rough).square().mean())
    assert rough.dtype == torch.float32 and psnr > 45


@pytest.mark.parametrize("upsampling", ["normal", "more", "most"])
@pytest.mark.parametrize("norm", ["spectralspadebatch3x3", "spadeinstance3x3", "spectralspadesyncbatch5x5"])
@pytest.mark.parametrize("kernels", [True, False])
def test_every_configuration_paints_what_its_generator_paints(upsampling, norm, kernels, monkeypatch) -> None:
    if not kernels:
        monkeypatch.setattr(native, "library", lambda: None)
    torch.manual_seed(0)
    generator = Generator(4, (128, 256), ngf=8, z_dim=None, upsampling=upsampling, norm=norm, hidden=16)
    power_iteration(generator, 10)
    coarse = torch.randint(0, 4, (2, 8, 16)).repeat_interleave(16, 1).repeat_interleave(16, 2)
    with torch.no_grad():
        recalibrate(generator, (generator(encode_labels(coarse, 4)) for _ in range(1)))  # type: ignore[arg-type]
        wanted = ReferenceGenerator(copy.deepcopy(generator)).eval()(encode_labels(coarse, 4))
        mine = generator(encode_labels(coarse, 4))
    plan = RenderPlan(generator)
    painted = plan.paint(plan.prepare(LabelPyramid.from_ids(coarse, 4)))
    torch.testing.assert_close(mine, wanted, rtol=0, atol=1e-3)
    torch.testing.assert_close(painted, wanted, rtol=0, atol=1e-3)


def test_noise_is_painted_too(trained) -> None:
    noise = torch.randint(0, 7, (1, 64, 64))
    with torch.no_grad():
        wanted = ReferenceGenerator(copy.deepcopy(trained)).eval()(encode_labels(noise, 7), torch.ones(1, 8))
    plan = RenderPlan(trained)
    painted = plan.paint(plan.prepare(LabelPyramid.from_ids(noise, 7)), torch.ones(1, 8))
    assert (painted - wanted).abs().max() < 1e-4


def test_a_training_step_on_the_plain_network_has_the_same_losses_and_gradients(trained) -> None:
    fast, plain = copy.deepcopy(trained).train().requires_grad_(True), copy.deepcopy(trained).train()
    plain.requires_grad_(True)
    labels = encode_labels(torch.cat([label_map(0), label_map(1)]), 7)
    z = torch.randn(2, 8)
    ours, theirs = fast(labels, z), ReferenceGenerator(plain)(labels, z)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    for painted in (ours, theirs):
        F.mse_loss(painted, torch.zeros_like(painted)).backward()
    largest = max(float(parameter.grad.abs().max()) for parameter in plain.parameters())
    for (name, mine), other in zip(fast.named_parameters(), plain.parameters(), strict=True):
        scale = max(float(other.grad.abs().max()), 1e-4 * largest)  # biases before a norm have no gradient but rounding
        assert float((mine.grad - other.grad).abs().max()) < 2e-3 * scale, name
