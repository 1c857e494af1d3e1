"""The style encoder: it learns, resumes, keeps its moments, and a collapsed one is refused."""

import copy

import pytest
import torch
from torch import Tensor

from gaugan import checkpoint
from gaugan.config import to_plain
from gaugan.errors import UserError
from gaugan.labels import ClassTable
from gaugan.spade.config import StyleVAEConfig
from gaugan.spade.style import StylePrior, encoder_input_size, load_style
from gaugan.spade.vae import MAX_GRADIENT_NORM, StyleVAESystem

torch.set_num_threads(1)

CLASSES = ClassTable(("a", "b", "c"), ((0, 0, 0), (255, 0, 0), (0, 255, 0)))
SIZE = (16, 16)
CONFIG = StyleVAEConfig(z_dim=8, nef=8, decoder_width=8, precision="fp32", lambda_kld=1e-4, learning_rate=5e-3)


def make_batch(seed: int, count: int = 8) -> dict[str, Tensor]:
    """Two regions per picture, each of its own colour."""
    generator = torch.Generator().manual_seed(seed)
    label_map = torch.zeros(count, *SIZE, dtype=torch.long)
    label_map[:, 4:12, 4:12] = 1
    colours = torch.rand(count, 2, 3, generator=generator) * 2 - 1
    image = colours[torch.arange(count)[:, None, None], label_map].permute(0, 3, 1, 2)
    return {"image": image, "label_map": label_map}


def make_system(config: StyleVAEConfig = CONFIG) -> StyleVAESystem:
    torch.manual_seed(0)
    return StyleVAESystem(config, classes=CLASSES, image_size=SIZE, device=torch.device("cpu"))


def run_steps(system: StyleVAESystem, start: int, stop: int) -> None:
    for step in range(start, stop):
        torch.manual_seed(1000 + step)
        system.train_step(make_batch(step), step)


def save(system: StyleVAESystem, uri: str) -> str:
    return checkpoint.save(
        uri,
        system="style_vae",
        config=to_plain(CONFIG),
        classes=CLASSES,
        image_size=SIZE,
        step=1,
        state=system.state_dict(),
    )


def test_training_rebuilds_colours_and_uses_the_style_vector():
    system = make_system()
    before = system.evaluate([make_batch(-1)])
    run_steps(system, 0, 60)
    after = system.evaluate([make_batch(-1)])
    system.calibrate([make_batch(0)])
    assert after["reconstruction_psnr"] > before["reconstruction_psnr"] + 3
    assert after["active_units"] >= 4 and system.style.prior.active_units() >= 4


def test_resume_equals_a_straight_run():
    straight, first, second = make_system(), make_system(), make_system()
    run_steps(straight, 0, 4)
    run_steps(first, 0, 2)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    run_steps(second, 2, 4)
    for name, network in straight.networks.items():
        for key, value in network.state_dict().items():
            assert torch.equal(value, second.networks[name].state_dict()[key]), (name, key)


def test_a_batch_that_is_not_finite_is_skipped():
    system = make_system()
    run_steps(system, 0, 1)
    batch = make_batch(0)
    batch["image"][0, 0, 0, 0] = torch.inf
    assert system.train_step(batch, 1)["skipped"] == 1
    assert all(torch.isfinite(value).all() for net in system.networks.values() for value in net.state_dict().values())


def test_sample_and_generate_have_the_pictures_size():
    system = make_system()
    assert system.generate(make_batch(0)).shape == (8, 3, 16, 16)
    assert system.sample(make_batch(0, 4)).shape == (3, 3 * 16, 4 * 16)


def test_pictures_of_another_shape_become_the_encoders_square():
    torch.manual_seed(0)
    config = StyleVAEConfig(z_dim=8, nef=8, decoder_width=8, labels_to_decoder=False)
    system = StyleVAESystem(config, classes=CLASSES, image_size=(16, 32), device=torch.device("cpu"))
    batch = {"image": torch.zeros(2, 3, 16, 32), "label_map": torch.zeros(2, 16, 32, dtype=torch.long)}
    assert system.generate(batch).shape == (2, 3, 16, 16)
    assert [encoder_input_size(size, None) for size in ((64, 64), (128, 256), (512, 512), (96, 96))] == [
        64,
        128,
        256,
        64,
    ]


def test_the_prior_fits_the_styles_it_has_seen():
    torch.manual_seed(0)
    prior = StylePrior(3, half_life=1000)
    mix = torch.tensor([[2.0, 0.0, 0.0], [1.0, 0.5, 0.0], [0.0, 0.0, 0.0]])
    for _ in range(100):
        prior.update(
            torch.randn(200, 3) @ mix.T + torch.tensor([1.0, -1.0, 0.0]), torch.tensor([-2.0, -2.0, 0.0]).expand(200, 3)
        )
    drawn = prior.sample(list(range(3000)))
    wanted = mix @ mix.T + torch.diag(torch.tensor([-2.0, -2.0, 0.0]).exp())
    torch.testing.assert_close(drawn.mean(0), torch.tensor([1.0, -1.0, 0.0]), atol=0.15, rtol=0)
    torch.testing.assert_close(drawn.T.cov(), wanted, atol=0.35, rtol=0)
    assert prior.active_units() == 2


def test_a_picture_with_a_wild_or_infinite_style_does_not_reach_the_prior():
    torch.manual_seed(0)
    mu, logvar = torch.randn(6, 3), torch.randn(6, 3)
    clean, disturbed, untouched = StylePrior(3), StylePrior(3), StylePrior(3)
    clean.update(mu[:4], logvar[:4])
    logvar[4, 1], mu[5, 0] = 30.0, torch.nan
    disturbed.update(mu, logvar)
    for name, value in clean.state_dict().items():
        torch.testing.assert_close(disturbed.state_dict()[name], value)
    untouched.update(mu[4:], logvar[4:])
    assert untouched.batches == 0 and torch.equal(untouched.noise, torch.ones(3))


def test_the_prior_is_that_of_the_present_encoder_and_calibrating_twice_gives_the_same():
    system = make_system()
    batches = [make_batch(0), make_batch(1)]
    system.style.prior.update(torch.full((4, 8), 50.0), torch.zeros(4, 8))  # of a time long gone
    system.calibrate(batches)
    first = copy.deepcopy(system.style.prior.state_dict())
    means = torch.cat([system.style.encode(batch["image"])[0] for batch in batches])
    torch.testing.assert_close(first["mean"], means.mean(0), rtol=1e-3, atol=1e-4)
    system.calibrate(batches)
    assert all(torch.equal(value, first[name]) for name, value in system.style.prior.state_dict().items())


def test_one_wild_picture_does_not_lame_the_training():
    """Adam's memory of a gradient stays small whatever a picture does: a step after it moves as far as one before."""
    system = make_system()
    run_steps(system, 0, 3)
    with torch.no_grad():
        system.style.encoder.fc_var.bias[0] = 40.0
    run_steps(system, 3, 4)
    remembered = [state["exp_avg_sq"].max() for state in system.optimiser.state.values()]
    assert max(remembered) < MAX_GRADIENT_NORM**2


def test_a_seed_gives_the_same_style_in_any_company():
    prior = StylePrior(5)
    prior.update(torch.randn(9, 5), torch.zeros(9, 5))
    assert torch.equal(prior.sample([3, 7])[1], prior.sample([7])[0])


def test_a_trained_encoder_is_loaded_frozen(tmp_path):
    system = make_system()
    run_steps(system, 0, 30)
    system.calibrate([make_batch(0)])
    style = load_style(save(system, str(tmp_path / "vae")))
    image = make_batch(0)["image"]
    # Training lays weights out for its convolutions, a checkpoint does not: the last bits may differ.
    torch.testing.assert_close(style.encode(image)[0], system.style.encode(image)[0], rtol=1e-5, atol=1e-5)
    assert not style.training and not any(parameter.requires_grad for parameter in style.parameters())


def test_a_collapsed_encoder_is_refused_with_advice(tmp_path):
    system = make_system()
    system.style.prior.update(torch.zeros(4, 8), torch.zeros(4, 8))
    with pytest.raises(UserError, match="collapsed.*--encoder-steps.*--lambda-kld"):
        load_style(save(system, str(tmp_path / "vae")))
