"""Every configuration trains, saves and resumes bit for bit; gradients reach everything; G and D keep apart."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from gaugan import checkpoint
from gaugan.config import to_plain
from gaugan.errors import UserError
from gaugan.labels import ClassTable
from gaugan.spade.build import build_discriminator, build_generator, encode_labels
from gaugan.spade.config import SpadeConfig, StyleVAEConfig
from gaugan.spade.style import build_style
from gaugan.spade.system import SpadeSystem

torch.set_num_threads(1)

CLASSES = ClassTable(("a", "b", "c"), ((0, 0, 0), (255, 0, 0), (0, 255, 0)))
TINY = SpadeConfig(
    style="none", ngf=4, ndf=4, nef=4, spade_hidden=8, z_dim=6, encoder_size=32, precision="fp32",
    instance_edges=True, dontcare_channel=True,
)  # fmt: skip
JOINT = replace(TINY, style="joint_vae", encoder_norm="spectralinstance")
HD = replace(TINY, generator="pix2pixhd", resnet_downsamplings=2, resnet_blocks=1)
CONFIGS: dict[str, tuple[SpadeConfig, tuple[int, int]]] = {
    "labels": (TINY, (32, 32)),
    "labels, wide": (TINY, (32, 96)),
    "labels, more": (replace(TINY, upsampling="more"), (64, 64)),
    "labels, most": (replace(TINY, upsampling="most"), (128, 128)),
    "5x5, batch": (replace(TINY, generator_norm="spectralspadebatch5x5"), (32, 32)),
    "instance": (replace(TINY, generator_norm="spectralspadeinstance3x3"), (64, 64)),
    "no spectral norm": (replace(TINY, generator_norm="spadesyncbatch3x3"), (32, 32)),
    "joint encoder": (JOINT, (32, 32)),
    "joint encoder, batch norm": (replace(JOINT, encoder_norm="spectralsync_batch", z_dim=9), (32, 64)),
    "joint encoder, faithful": (replace(JOINT, mode="faithful"), (32, 32)),
    "joint encoder, most, tall": (replace(JOINT, upsampling="most"), (256, 128)),
    "frozen encoder": (replace(TINY, style="frozen_encoder"), (32, 32)),
    "frozen encoder, faithful": (replace(TINY, style="frozen_encoder", mode="faithful"), (32, 32)),
    "least squares, three discriminators of three layers": (
        replace(TINY, gan_mode="ls", num_discriminators=3, discriminator_layers=3), (32, 32),
    ),
    "original, batch norm in D": (replace(TINY, gan_mode="original", discriminator_norm="spectralbatch"), (32, 32)),
    "wasserstein, one discriminator without norms": (
        replace(TINY, gan_mode="w", num_discriminators=1, discriminator_norm="none"), (32, 32),
    ),
    "D three times as often, fast": (replace(TINY, d_steps_per_g=3), (32, 32)),
    "D twice as often, faithful": (replace(JOINT, d_steps_per_g=2, mode="faithful"), (32, 32)),
    "falling rate, one rate": (replace(TINY, decay_start=1, decay_steps=4, decay_every=2, ttur=False), (32, 32)),
    "published init": (replace(JOINT, init="reference"), (32, 32)),
    "pix2pixhd": (HD, (32, 48)),
    "pix2pixhd, batch norm, faithful": (replace(HD, resnet_norm="spectralbatch", mode="faithful"), (32, 32)),
    "pix2pixhd without spectral norm": (replace(HD, resnet_norm="instance"), (32, 32)),
}  # fmt: skip


def make_batch(size: tuple[int, int], seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    small = torch.randint(0, 3, (2, size[0] // 8, size[1] // 8), generator=generator)
    label_map = small.repeat_interleave(8, 1).repeat_interleave(8, 2)
    label_map[:, 1, 4:7] = 255
    image = torch.rand(2, 3, *size, generator=generator) * 2 - 1
    return {"image": image, "label_map": label_map, "instance_map": label_map * 300 + small[:, :1, :1]}


def make_system(name: str, **changes: object) -> tuple[SpadeSystem, tuple[int, int]]:
    config, size = CONFIGS[name]
    config = replace(config, **changes)  # type: ignore[arg-type]
    torch.manual_seed(3)
    encoder = build_style(StyleVAEConfig(z_dim=config.z_dim, nef=4), (32, 32))
    encoder.prior.update(torch.randn(8, config.z_dim), torch.zeros(8, config.z_dim))
    given = encoder if config.style == "frozen_encoder" else None
    return SpadeSystem(config, classes=CLASSES, image_size=size, device=torch.device("cpu"), encoder=given), size


def run_steps(system: SpadeSystem, size: tuple[int, int], steps: range) -> None:
    for step in steps:
        torch.manual_seed(100 + step)
        assert system.train_step(make_batch(size, step), step)["skipped"] == 0


@pytest.mark.parametrize("name", CONFIGS)
def test_three_steps_saved_and_resumed_equal_a_straight_run(name: str, tmp_path: Path) -> None:
    straight, size = make_system(name)
    run_steps(straight, size, range(3))
    uri = checkpoint.save(
        str(tmp_path / "checkpoint"), system="spade", config=to_plain(straight.config), classes=CLASSES,
        image_size=size, step=3, state=straight.state_dict(),
    )  # fmt: skip
    resumed, _ = make_system(name)
    resumed.load_state_dict(checkpoint.load(uri, networks_only=False).state)
    for system in (straight, resumed):
        run_steps(system, size, range(3, 5))
    for network in straight.networks:
        mine, theirs = straight.networks[network].state_dict(), resumed.networks[network].state_dict()
        assert mine.keys() == theirs.keys()
        assert all(torch.equal(value, theirs[key]) for key, value in mine.items()), network
    assert straight.generate(make_batch(size, 9)).shape == (2, 3, *size)


def has_no_effect(name: str) -> bool:
    """A bias whose mean the next normalisation takes away again."""
    return name.endswith(("conv_0.bias", "conv_1.bias"))


@pytest.mark.parametrize("name", CONFIGS)
def test_gradients_reach_every_parameter(name: str) -> None:
    system, size = make_system(name)
    labels, image = system._inputs(make_batch(size, 0))
    z, posterior = system._draw_style(image)
    fake = system.G.train()(labels, z)
    on_fake, on_real = system._judge_both(labels, fake, image)
    terms = system.objective.generator(fake, image, on_fake, on_real)
    terms |= system.objective.encoder(*posterior) if posterior else {}
    torch.stack(list(terms.values())).sum().backward()
    trained = {"G": system.G} | ({"E": system.style.encoder} if posterior and system.style else {})
    system.D.zero_grad()
    critic = system.objective.discriminator(*system._judge_both(labels, fake.detach(), image))
    (2 * critic["d_real"] + critic["d_fake"]).backward()  # unequal: else the two sides of the last bias cancel
    for network_name, network in {**trained, "D": system.D}.items():
        for key, parameter in network.named_parameters():
            assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), (network_name, key)
            if not has_no_effect(key):
                assert parameter.grad.abs().max() > 0, (network_name, key)


def parameters(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in network.named_parameters()}


def same(before: dict[str, Tensor], network: nn.Module) -> bool:
    return all(torch.equal(value, before[name]) for name, value in network.named_parameters())


@pytest.mark.parametrize("name", ["joint encoder, faithful", "labels", "pix2pixhd"])
def test_a_step_of_one_network_leaves_the_other_untouched(name: str) -> None:
    system, size = make_system(name)
    labels, image = system._inputs(make_batch(size, 0))
    before_g, before_d = parameters(system.G), parameters(system.D)
    system._update_generator(labels, image)
    assert same(before_d, system.D) and not same(before_g, system.G)
    assert all(parameter.grad is None for parameter in system.D.parameters())
    before_g, before_style = parameters(system.G), parameters(system.style) if system.style else {}
    system._update_discriminator(labels, image)
    assert same(before_g, system.G) and not same(before_d, system.D)
    assert system.style is None or same(before_style, system.style)


def test_between_two_turns_of_g_only_d_is_trained() -> None:
    system, size = make_system("D three times as often, fast")
    run_steps(system, size, range(1))
    before_g, before_d, optimiser = parameters(system.G), parameters(system.D), system.optimisers["G"]
    for step in (1, 2):
        terms = system.train_step(make_batch(size, step), step)
        assert set(terms) == {"d_real", "d_fake", "skipped"}
    assert same(before_g, system.G) and not same(before_d, system.D)
    counts = {int(entry["step"]) for entry in optimiser.state_dict()["state"].values()}
    assert counts == {1}
    assert "g_gan" in system.train_step(make_batch(size, 3), 3) and not same(before_g, system.G)


def test_a_faithful_step_moves_statistics_twice_and_a_fast_one_once() -> None:
    for mode, passes in (("fast", 1), ("faithful", 2)):
        system, size = make_system("joint encoder", mode=mode)
        run_steps(system, size, range(1))
        assert int(system.G.state_dict()["up_3.norm_0.param_free_norm.num_batches_tracked"]) == passes


def test_an_encoder_with_batch_norm_learns_its_statistics_and_is_used_with_them() -> None:
    system, size = make_system("joint encoder, batch norm")
    run_steps(system, size, range(2))
    state = system.networks["E"].state_dict()
    assert state["layer1.1.num_batches_tracked"] == 2 and (state["layer1.1.running_mean"] != 0).any()
    assert not system.networks["E"].training
    before = copy.deepcopy(state)
    system.evaluate([make_batch(size, 0)])
    assert all(torch.equal(value, before[key]) for key, value in system.networks["E"].state_dict().items())


def test_a_step_that_is_not_finite_leaves_the_statistics_of_the_encoder() -> None:
    system, size = make_system("joint encoder, batch norm")
    run_steps(system, size, range(1))
    before = copy.deepcopy(system.networks["E"].state_dict())
    batch = make_batch(size, 1)
    batch["image"][0, 0, 0, 0] = torch.nan
    assert system.train_step(batch, 1)["skipped"] == 1
    for key, value in system.networks["E"].state_dict().items():
        assert key.endswith(("weight_u", "weight_v")) or torch.equal(value, before[key]), key


def test_the_published_weight_of_the_kl_divergence_is_the_default_of_each_mode() -> None:
    mu, logvar = torch.randn(4, 6), torch.randn(4, 6)
    fast, _ = make_system("joint encoder")
    faithful, _ = make_system("joint encoder, faithful")
    mine, published = (system.objective.encoder(mu, logvar)["g_kld"] for system in (fast, faithful))
    torch.testing.assert_close(mine, published)  # at the published four pictures per GPU
    torch.testing.assert_close(published, 0.05 * -0.5 * (1 + logvar - mu.square() - logvar.exp()).sum())
    assert make_system("joint encoder", lambda_kld=0.0)[0].objective.lambda_kld == 0.0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"generator": "pix2pixhd", "style": "joint_vae"}, "--style none"),
        ({"resnet_kernel_size": 4}, "--resnet-kernel-size 4: must be odd"),
        ({"d_steps_per_g": 0}, "--d-steps-per-g 0"),
        ({"decay_every": 0}, "--decay-every 0"),
        ({"lambda_kld": -1.0}, "--lambda-kld -1.0"),
    ],
)
def test_settings_that_make_no_sense_are_refused_by_name(changes: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        replace(TINY, **changes)


def test_sizes_that_the_networks_cannot_paint_are_refused() -> None:
    with pytest.raises(UserError, match="2 downsamplings and blocks of 3x3 needs sides that are multiples of 4"):
        build_generator(HD, 3, (32, 30))
    with pytest.raises(UserError, match="blocks of 5x5 needs sides that are multiples of 4, at least 12"):
        build_generator(replace(HD, resnet_kernel_size=5), 3, (8, 32))  # 2 pixels are left, 2 are to be reflected
    with pytest.raises(UserError, match="expected .spectral. followed by"):
        build_discriminator(replace(TINY, discriminator_norm="spectralgroup"), 3)


def test_data_without_instance_maps_is_refused_with_the_way_out() -> None:
    system, size = make_system("labels")
    batch = make_batch(size, 0)
    del batch["instance_map"]
    with pytest.raises(UserError, match="--no-instance-edges"):
        system.train_step(batch, 0)


def test_instance_edges_mark_both_sides_of_a_border_and_not_the_rim() -> None:
    instances = torch.tensor([[[1, 1, 70_000, 70_000], [1, 1, 70_000, 70_000], [1, 1, 1, 1]]])
    edges = encode_labels(torch.zeros(1, 3, 4, dtype=torch.long), 2, instance_map=instances)
    assert edges.shape == (1, 3, 3, 4)
    assert edges[0, 2].tolist() == [[0, 1, 1, 0], [0, 1, 1, 1], [0, 0, 1, 1]]
    with_ignored = encode_labels(torch.full((1, 3, 4), 255), 2, dontcare=True, instance_map=instances)
    assert with_ignored[0, :, 0, 1].tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize("name", ["labels", "joint encoder", "frozen encoder", "pix2pixhd"])
def test_a_training_begins_with_the_weights_of_another_run(name: str, tmp_path: Path) -> None:
    first, size = make_system(name)
    run_steps(first, size, range(2))
    state = first.state_dict()
    meta = {"system": "spade", "config": to_plain(first.config), "image_size": size, "step": 2, "classes": CLASSES}
    uri = checkpoint.save(str(tmp_path / "run"), state=state, **meta)  # type: ignore[arg-type]
    second, _ = make_system(name, initial=uri)
    for network, values in state["networks"].items():
        assert all(torch.equal(v, second.networks[network].state_dict()[key]) for key, v in values.items()), network
    run_steps(second, size, range(1))

    imported = {kind: value for kind, value in state["networks"].items() if kind != "G"}
    uri = checkpoint.save(str(tmp_path / "imported"), state={"networks": imported}, **meta)  # type: ignore[arg-type]
    third, _ = make_system(name, initial=uri)
    assert all(torch.equal(v, third.G.state_dict()[key]) for key, v in imported["G_ema"].items())


def test_first_weights_that_do_not_fit_are_refused_by_name(tmp_path: Path) -> None:
    first, size = make_system("labels")
    uri = checkpoint.save(
        str(tmp_path / "run"), state=first.state_dict(), system="spade", config=to_plain(first.config), step=0,
        image_size=size, classes=CLASSES,
    )  # fmt: skip
    with pytest.raises(UserError, match="network G: .* tensors do not fit"):
        make_system("labels", initial=uri, ngf=8)
    other = ClassTable(("a", "b", "d"), CLASSES.colours)
    with pytest.raises(UserError, match="the data has"):
        SpadeSystem(replace(TINY, initial=uri), classes=other, image_size=size, device=torch.device("cpu"))
