"""The SPADE system: equal orders of work, resume, skipped steps, averaged weights, evaluation."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from gaugan.config import from_plain, to_plain
from gaugan.errors import UserError
from gaugan.labels import ClassTable
from gaugan.spade.build import encode_labels
from gaugan.spade.config import SpadeConfig, StyleVAEConfig, held_out_metrics, learning_rate_factor
from gaugan.spade.style import Style, build_style
from gaugan.spade.system import SpadeSystem

torch.set_num_threads(1)

CLASSES = ClassTable(("a", "b", "c"), ((0, 0, 0), (255, 0, 0), (0, 255, 0)))
SIZE = (32, 32)
CONFIG = SpadeConfig(ngf=4, ndf=4, spade_hidden=8, z_dim=6, nef=4, precision="fp32", ema_half_life=50.0)


def make_batch(seed: int, count: int = 3) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    label_map = torch.randint(0, 3, (count, 4, 4), generator=generator).repeat_interleave(8, 1).repeat_interleave(8, 2)
    label_map[:, 0, 0] = 255
    return {"image": torch.rand(count, 3, *SIZE, generator=generator) * 2 - 1, "label_map": label_map}


def make_style() -> Style:
    torch.manual_seed(5)
    style = build_style(StyleVAEConfig(z_dim=6, nef=4), SIZE)
    style.prior.update(torch.randn(8, 6), torch.zeros(8, 6))
    return style


def make_system(config: SpadeConfig = CONFIG, **arguments: object) -> SpadeSystem:
    torch.manual_seed(0)
    if config.style == "frozen_encoder":
        arguments.setdefault("encoder", make_style())
    return SpadeSystem(config, classes=CLASSES, image_size=SIZE, device=torch.device("cpu"), **arguments)  # type: ignore[arg-type]


def run_steps(system: SpadeSystem, start: int, stop: int) -> list[dict[str, Tensor]]:
    results = []
    for step in range(start, stop):
        torch.manual_seed(1000 + step)
        results.append(system.train_step(make_batch(step), step))
    return results


def flat(system: SpadeSystem) -> dict[str, Tensor]:
    return {f"{n}.{k}": v for n, state in system.state_dict()["networks"].items() for k, v in state.items()}


def assert_same(first: dict[str, Tensor], second: dict[str, Tensor]) -> None:
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert torch.equal(value, second[name]), name


@pytest.mark.parametrize("style", ["frozen_encoder", "joint_vae", "none"])
@pytest.mark.parametrize("mode", ["fast", "faithful"])
def test_a_step_trains_both_networks_and_reports_its_terms(style, mode):
    system = make_system(replace(CONFIG, style=style, mode=mode))
    before = copy.deepcopy(flat(system))
    (terms,) = run_steps(system, 0, 1)
    assert {"g_gan", "g_feat", "d_real", "d_fake", "skipped"} <= set(terms)
    assert ("g_kld" in terms) == (style == "joint_vae")
    assert terms["skipped"] == 0 and not any(value.requires_grad for value in terms.values())
    changed = {name for name, value in flat(system).items() if not torch.equal(before[name], value)}
    assert {"G.conv_img.weight", "D.discriminator_0.model0.0.weight", "G_ema.conv_img.weight"} <= changed
    assert ("E.fc_mu.weight" in changed) == (style == "joint_vae")


def test_the_fast_step_equals_two_separate_updates_on_one_fake():
    system, plain = make_system(), make_system()
    run_steps(system, 0, 1)
    run_plain_step(plain, make_batch(0), seed=1000)
    for name, value in flat(plain).items():
        if not name.startswith("G_ema"):
            torch.testing.assert_close(flat(system)[name], value, rtol=1e-4, atol=1e-6, msg=name)


def run_plain_step(system: SpadeSystem, batch: dict[str, Tensor], seed: int) -> None:
    """G's update with D in the graph, then D's on the detached fake, everything computed anew."""
    from gaugan.nn import optimiser_step, power_iteration

    torch.manual_seed(seed)
    labels, image = system._inputs(batch)
    power_iteration(system.G)
    power_iteration(system.D)
    fake = system.G(labels, system._draw_style(image)[0])
    both = system.D(torch.cat([labels, labels]), torch.cat([fake, image]))
    halves = [[[x[part] for x in scale] for scale in both] for part in (slice(0, len(image)), slice(len(image), None))]
    terms = system.objective.generator(fake, image, *halves)
    optimiser_step(torch.stack(list(terms.values())).sum(), system.optimisers["G"], system.G.parameters())
    critic = system.objective.discriminator(system.D(labels, fake.detach()), system.D(labels, image))
    optimiser_step(torch.stack(list(critic.values())).sum(), system.optimisers["D"], system.D.parameters())


def test_resume_equals_a_straight_run():
    straight = make_system()
    run_steps(straight, 0, 4)
    first = make_system()
    run_steps(first, 0, 2)
    state = copy.deepcopy(first.state_dict())
    second = make_system()
    second.load_state_dict(state)
    run_steps(second, 2, 4)
    assert_same(flat(straight), flat(second))


def test_a_batch_that_is_not_finite_is_skipped_and_poisons_nothing():
    system = make_system()
    run_steps(system, 0, 1)
    before = copy.deepcopy(flat(system))
    batch = make_batch(1)
    batch["image"][0, 0, 3, 3] = torch.nan
    terms = system.train_step(batch, 1)
    assert terms["skipped"] == 1
    for name, value in flat(system).items():
        assert torch.isfinite(value).all(), name
        if "weight_u" not in name and "weight_v" not in name and not name.startswith("G_ema"):
            assert torch.equal(before[name], value), name
    (terms,) = run_steps(system, 2, 3)
    assert terms["skipped"] == 0


def test_calibration_is_deterministic_and_leaves_training_alone():
    calibrated, untouched = make_system(), make_system()
    for system in (calibrated, untouched):
        run_steps(system, 0, 2)
    batches = [make_batch(seed) for seed in range(3)]
    calibrated.calibrate(batches)
    first = copy.deepcopy(calibrated.ema.network.state_dict())
    calibrated.calibrate(batches)
    assert_same(first, calibrated.ema.network.state_dict())
    assert not torch.equal(first["up_3.norm_0.param_free_norm.running_mean"],
                           untouched.ema.network.state_dict()["up_3.norm_0.param_free_norm.running_mean"])  # fmt: skip
    for system in (calibrated, untouched):
        run_steps(system, 2, 3)
    assert_same(calibrated.G.state_dict(), untouched.G.state_dict())
    assert_same(calibrated.ema.network.state_dict(), untouched.ema.network.state_dict())


def test_evaluation_measures_consistency_with_the_judge_and_changes_nothing():
    truth = make_batch(0)["label_map"]
    system = make_system(judge=lambda images: truth.where(truth != 255, 0))
    run_steps(system, 0, 1)
    before = copy.deepcopy(flat(system))
    result = system.evaluate([make_batch(0)])
    assert result["consistency_miou"] == 1.0 and result["consistency_accuracy"] == 1.0
    assert result["style_effect"] > 0 and "g_feat" in result
    assert result["active_units"] == system.style.prior.active_units() > 0
    assert result == system.evaluate([make_batch(0)])
    assert_same(before, flat(system))
    with pytest.raises(UserError, match="empty"):
        system.evaluate([])


class Pixels:
    """The plainest features."""

    name, weights = "pixels", (1.0,)

    def __call__(self, image: Tensor) -> list[Tensor]:
        return [image]


@pytest.mark.parametrize(
    "changes",
    [{}, {"lambda_feat": 0.0}, {"style": "none"}, {"judge": "runs/unet"}, {"features": "unet:runs/unet"}],
    ids=str,
)
def test_the_names_of_the_measurements_are_known_beforehand(changes):
    truth = make_batch(0)["label_map"]
    parts = {"judge": lambda images: truth.where(truth != 255, 0), "features": Pixels()}
    config = replace(CONFIG, **changes)
    system = make_system(config, **{name: part for name, part in parts.items() if name in changes})
    measured = list(system.evaluate([make_batch(0)]))
    assert sorted(measured) == sorted(held_out_metrics(config, CLASSES.names))


def test_sample_shows_four_rows_and_generate_paints_the_batch():
    system = make_system()
    sheet = system.sample(make_batch(0))
    assert sheet.shape == (3, 4 * 32, 3 * 32) and sheet.abs().max() <= 1
    assert system.generate(make_batch(0)).shape == (3, 3, 32, 32)
    assert make_system(replace(CONFIG, style="none")).sample(make_batch(0)).shape == (3, 3 * 32, 3 * 32)


def test_ignored_pixels_belong_to_no_class_or_to_one_more():
    label_map = torch.tensor([[[0, 255]]])
    assert encode_labels(label_map, 3)[0, :, 0, 1].tolist() == [0, 0, 0]
    assert encode_labels(label_map, 3, dontcare=True)[0, :, 0].T.tolist() == [[1, 0, 0, 0], [0, 0, 0, 1]]
    system = make_system(replace(CONFIG, dontcare_channel=True))
    assert system.generate(make_batch(0)).shape == (3, 3, 32, 32)


def test_learning_rate_is_a_function_of_the_step():
    assert [learning_rate_factor(step, None, 1) for step in (0, 10**6)] == [1.0, 1.0]
    assert [learning_rate_factor(step, 10, 4) for step in (9, 10, 12, 14, 99)] == [1.0, 1.0, 0.5, 0.0, 0.0]


def test_the_published_stairs_of_the_learning_rate():
    # 3 epochs of 10 steps held, then 5 epochs falling: the rate changes after the epoch that follows the held ones.
    rate = [learning_rate_factor(step, decay_start=30, decay_steps=50, decay_every=10) for step in range(0, 80, 5)]
    assert rate == pytest.approx([1.0] * 8 + [0.8, 0.8, 0.6, 0.6, 0.4, 0.4, 0.2, 0.2])


def test_two_rates_follow_the_published_rule():
    assert make_system().rates == {"G": pytest.approx(1e-4), "D": pytest.approx(4e-4)}
    assert make_system(replace(CONFIG, ttur=False)).rates == {"G": 2e-4, "D": 2e-4}


def test_a_missing_or_unfitting_encoder_is_refused_with_advice():
    with pytest.raises(UserError, match="--encoder"):
        make_system(encoder=None)
    with pytest.raises(UserError, match="trained with z_dim 6"):
        make_system(replace(CONFIG, z_dim=8))


def test_discriminators_with_batch_statistics_see_fake_and_real_together():
    system = make_system(replace(CONFIG, discriminator_norm="spectralbatch"))
    run_steps(system, 0, 2)
    assert torch.isfinite(system.generate(make_batch(0))).all()


def test_config_survives_its_plain_form():
    config = replace(CONFIG, decay_start=5, decay_steps=2)
    assert from_plain(SpadeConfig, to_plain(config)) == config
