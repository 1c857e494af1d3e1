"""The networks against the published code: parameter counts, key names, its mathematics written out once more."""

import math
import re

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.spade_reference import ReferenceGenerator
from gaugan.errors import UserError
from gaugan.nn import power_iteration
from gaugan.spade.discriminator import Discriminator
from gaugan.spade.encoder import StyleEncoder
from gaugan.spade.label_pyramid import LabelPyramid
from gaugan.spade.modulation import Spade, SpadeNorm
from gaugan.spade.networks import Generator
from gaugan.spade.pix2pixhd import Pix2PixHDGenerator

torch.set_num_threads(1)


def num_parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize(
    ("label_channels", "image_size", "upsampling", "z_dim", "millions", "tensors"),
    [
        (184, (256, 256), "normal", None, 97.48, 234),  # COCO-Stuff
        (151, (256, 256), "normal", None, 96.49, 234),  # ADE20K
        (36, (256, 512), "more", None, 93.05, 234),  # Cityscapes
        (7, (256, 256), "normal", 256, 108.96, 234),
        (7, (512, 512), "normal", 256, 159.48, 234),
        (7, (512, 512), "more", 256, 108.96, 234),
        (7, (512, 512), "most", 256, 96.75, 272),
    ],
)
def test_generator_sizes_are_the_published_ones(label_channels, image_size, upsampling, z_dim, millions, tensors):
    with torch.device("meta"):
        generator = Generator(label_channels, image_size, z_dim=z_dim, upsampling=upsampling)
    assert num_parameters(generator) / 1e6 == pytest.approx(millions, abs=0.005)
    assert len(generator.state_dict()) == tensors


def billions(network: nn.Module, *inputs: Tensor | None) -> tuple[float, float]:
    """Multiply-adds of a pass, and the share of them in SPADE's modulations; networks live on the meta device."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(*inputs)
    total = counter.get_total_flops()
    modulations = [
        sum(n.values()) for name, n in counter.get_flop_counts().items() if re.search(r"norm_[01s]\.mlp_[a-z]+$", name)
    ]
    return total / 2e9, sum(modulations) / total


@pytest.mark.parametrize(
    ("label_channels", "image_size", "upsampling", "z_dim", "ngf", "wanted", "share"),
    [
        (184, (256, 256), "normal", None, 64, 191.1, 0.78),  # COCO-Stuff
        (151, (256, 256), "normal", None, 64, 181.2, 0.77),  # ADE20K
        (36, (256, 512), "more", None, 64, 281.3, 0.73),  # Cityscapes
        (7, (256, 256), "normal", 256, 64, 137.6, 0.69),
        (7, (512, 512), "normal", 256, 64, 550.3, 0.69),
        (7, (512, 512), "more", 256, 64, 527.6, 0.71),
        (7, (512, 512), "most", 256, 64, 242.8, 0.81),
        (7, (512, 512), "more", 256, 32, 230.5, 0.84),
    ],
)
def test_generators_take_the_published_multiply_adds_by_definition(
    label_channels, image_size, upsampling, z_dim, ngf, wanted, share
):
    with torch.device("meta"):
        generator = Generator(label_channels, image_size, ngf=ngf, z_dim=z_dim, upsampling=upsampling)
        z = None if z_dim is None else torch.empty(1, z_dim)
        # By tables of windows they are far fewer, and depend on the label map.
        total, of_modulations = billions(ReferenceGenerator(generator), torch.empty(1, label_channels, *image_size), z)
    assert total == pytest.approx(wanted, abs=0.06)
    assert of_modulations == pytest.approx(share, abs=0.006)


@pytest.mark.parametrize(
    ("label_channels", "image_size", "wanted"),
    [(184, (256, 256), 8.5), (151, (256, 256), 7.8), (36, (256, 512), 10.5), (7, (256, 256), 4.7), (7, (512, 512), 18)],
)
def test_discriminators_take_the_published_multiply_adds(label_channels, image_size, wanted):
    with torch.device("meta"):
        inputs = torch.empty(1, label_channels, *image_size), torch.empty(1, 3, *image_size)
        assert billions(Discriminator(label_channels + 3), *inputs)[0] == pytest.approx(wanted, abs=0.06)


@pytest.mark.parametrize(("label_channels", "millions"), [(184, 5.90), (151, 5.84), (36, 5.60), (7, 5.54)])
def test_discriminator_sizes_are_the_published_ones(label_channels, millions):
    with torch.device("meta"):
        discriminator = Discriminator(label_channels + 3)
    assert num_parameters(discriminator) / 1e6 == pytest.approx(millions, abs=0.005)
    assert len(discriminator.state_dict()) == 26


def test_encoder_size_is_the_published_one():
    with torch.device("meta"):
        encoder = StyleEncoder()
        assert num_parameters(encoder) / 1e6 == pytest.approx(10.46, abs=0.005)
        assert billions(encoder, torch.empty(1, 3, 256, 256))[0] == pytest.approx(1.127, abs=0.001)  # by hand, below
    sizes = [(3, 64, 128), (64, 128, 64), (128, 256, 32), (256, 512, 16), (512, 512, 8), (512, 512, 4)]
    by_hand = sum(9 * before * after * side**2 for before, after, side in sizes) + 2 * 8192 * 256
    assert by_hand / 1e9 == pytest.approx(1.127, abs=0.001)


def test_the_baselines_size_is_that_of_its_layers():
    with torch.device("meta"):
        generator = Pix2PixHDGenerator(184)
    convolutions = 49 * 184 * 64 + sum(9 * 64 * 2**n * 64 * 2 ** (n + 1) for n in range(4)) * 2 + 9 * 2 * 9 * 1024**2
    assert num_parameters(generator) == convolutions + 49 * 64 * 3 + 3  # instance norm leaves no bias but the last


def test_key_names_are_the_published_ones():
    with torch.device("meta"):
        generator, discriminator, encoder = Generator(7), Discriminator(10), StyleEncoder()
    spade = {"param_free_norm.running_mean", "param_free_norm.running_var", "param_free_norm.num_batches_tracked"}
    spade |= {f"{conv}.{kind}" for conv in ("mlp_shared.0", "mlp_gamma", "mlp_beta") for kind in ("weight", "bias")}
    spectral = {"weight_orig", "weight_u", "weight_v"}
    block = {f"conv_{i}.{key}" for i in (0, 1) for key in spectral | {"bias"}}
    block |= {f"norm_{i}.{key}" for i in (0, 1) for key in spade}
    shortcut = {f"conv_s.{key}" for key in spectral} | {f"norm_s.{key}" for key in spade}
    wanted = {f"{layer}.{kind}" for layer in ("fc", "conv_img") for kind in ("weight", "bias")}
    for name in ("head_0", "G_middle_0", "G_middle_1"):
        wanted |= {f"{name}.{key}" for key in block}
    for name in ("up_0", "up_1", "up_2", "up_3"):
        wanted |= {f"{name}.{key}" for key in block | shortcut}
    assert set(generator.state_dict()) == wanted

    patch = {f"{layer}.{kind}" for layer in ("model0.0", "model4.0") for kind in ("weight", "bias")}
    patch |= {f"model{number}.0.0.{key}" for number in (1, 2, 3) for key in spectral}
    assert set(discriminator.state_dict()) == {f"discriminator_{scale}.{key}" for scale in (0, 1) for key in patch}

    wanted = {f"{layer}.{kind}" for layer in ("fc_mu", "fc_var") for kind in ("weight", "bias")}
    wanted |= {f"layer{number}.0.{key}" for number in range(1, 7) for key in spectral}
    assert set(encoder.state_dict()) == wanted


def test_discriminator_maps_have_the_published_sizes():
    with torch.device("meta"):
        outputs = Discriminator(10)(torch.empty(1, 7, 256, 256), torch.empty(1, 3, 256, 256))
    assert [x.shape[2] for x in outputs[0]] == [129, 65, 33, 34, 35]
    assert [x.shape[2] for x in outputs[1]] == [65, 33, 17, 18, 19]
    assert [x.shape[1] for x in outputs[0]] == [64, 128, 256, 512, 1]
    with torch.device("meta"):
        outputs = Discriminator(10)(torch.empty(1, 7, 512, 512), torch.empty(1, 3, 512, 512))
    assert [x.shape[2] for x in outputs[0]] == [257, 129, 65, 66, 67]
    assert [x.shape[2] for x in outputs[1]] == [129, 65, 33, 34, 35]
    with torch.device("meta"):
        three = Discriminator(10, num_scales=3, num_layers=3)(torch.empty(1, 7, 96, 64), torch.empty(1, 3, 96, 64))
    assert [[tuple(x.shape[2:]) for x in scale] for scale in three] == [
        [(49, 33), (25, 17), (26, 18), (27, 19)],
        [(25, 17), (13, 9), (14, 10), (15, 11)],
        [(13, 9), (7, 5), (8, 6), (9, 7)],
    ]


def block_by_hand(state: dict[str, Tensor], name: str, x: Tensor, onehot: Tensor) -> Tensor:
    """A SPADE residual block in evaluation, from the paper's equations and the state dict alone."""

    def conv(key: str, x: Tensor) -> Tensor:
        weight = state[f"{name}.{key}.weight_orig"]
        sigma = state[f"{name}.{key}.weight_u"] @ weight.flatten(1) @ state[f"{name}.{key}.weight_v"]
        return F.conv2d(x, weight / sigma, state.get(f"{name}.{key}.bias"), padding=weight.shape[2] // 2)

    def spade(key: str, x: Tensor) -> Tensor:
        def part(suffix: str, x: Tensor) -> Tensor:
            return F.conv2d(x, state[f"{name}.{key}.{suffix}.weight"], state[f"{name}.{key}.{suffix}.bias"], padding=1)

        mean, variance = (state[f"{name}.{key}.param_free_norm.running_{k}"].view(1, -1, 1, 1) for k in ("mean", "var"))
        rows = [math.floor(i * onehot.shape[2] / x.shape[2]) for i in range(x.shape[2])]
        columns = [math.floor(i * onehot.shape[3] / x.shape[3]) for i in range(x.shape[3])]
        hidden = part("mlp_shared.0", onehot[:, :, rows][:, :, :, columns]).clamp(min=0)
        return (x - mean) / (variance + 1e-5).sqrt() * (1 + part("mlp_gamma", hidden)) + part("mlp_beta", hidden)

    shortcut = conv("conv_s", spade("norm_s", x)) if f"{name}.conv_s.weight_orig" in state else x
    x = conv("conv_0", F.leaky_relu(spade("norm_0", x), 0.2))
    return shortcut + conv("conv_1", F.leaky_relu(spade("norm_1", x), 0.2))


@pytest.mark.parametrize(("upsampling", "size"), [("normal", (32, 64)), ("more", (64, 64)), ("most", (128, 128))])
@pytest.mark.parametrize("z_dim", [None, 5])
def test_generator_is_the_published_mathematics_in_every_configuration(upsampling, size, z_dim):
    torch.manual_seed(0)
    generator = Generator(4, size, ngf=4, z_dim=z_dim, upsampling=upsampling, hidden=6).double()
    power_iteration(generator, 10)
    labels = F.one_hot(torch.randint(0, 4, (2, *size)), 4).permute(0, 3, 1, 2).double()
    z = None if z_dim is None else torch.randn(2, z_dim).double()
    generator.train()
    with torch.no_grad():
        generator(labels, z)  # running statistics away from 0 and 1
    generator.eval()
    state = generator.state_dict()
    height, width = (side // {"normal": 32, "more": 64, "most": 128}[upsampling] for side in size)
    if z is None:
        start = F.interpolate(labels, size=(height, width), mode="nearest")
        x = F.conv2d(start, state["fc.weight"], state["fc.bias"], padding=1)
    else:
        x = F.linear(z, state["fc.weight"], state["fc.bias"]).view(2, -1, height, width)
    names = ["head_0", "G_middle_0", "G_middle_1", "up_0", "up_1", "up_2", "up_3"] + ["up_4"] * (upsampling == "most")
    for name in names:
        if name != "head_0" and (name != "G_middle_1" or upsampling != "normal"):
            x = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
        x = block_by_hand(state, name, x, labels)
    wanted = torch.tanh(F.conv2d(F.leaky_relu(x, 0.2), state["conv_img.weight"], state["conv_img.bias"], padding=1))
    with torch.no_grad():
        torch.testing.assert_close(generator(labels, z).double(), wanted, rtol=0, atol=1e-6)


def test_channels_last_changes_the_layout_and_not_the_picture():
    torch.manual_seed(0)
    generator = Generator(4, (32, 32), ngf=4, z_dim=5, hidden=6).eval()
    power_iteration(generator, 10)
    labels = F.one_hot(torch.randint(0, 4, (2, 32, 32)), 4).permute(0, 3, 1, 2).float()
    z = torch.randn(2, 5)
    with torch.no_grad():
        wanted = generator(labels, z)
        painted = generator.to(memory_format=torch.channels_last)(labels, z)
    torch.testing.assert_close(painted, wanted, rtol=1e-4, atol=1e-5)


def test_labels_are_resized_by_the_floor_index():
    onehot = torch.arange(8.0).view(1, 1, 1, 8).expand(1, 1, 8, 8)
    assert LabelPyramid(onehot).at((4, 4))[0, 0, 0].tolist() == [0, 2, 4, 6]


def test_instance_and_batch_norm_strings_build_their_layers_and_others_are_refused():
    assert isinstance(Spade(4, 3, norm=SpadeNorm.parse("spadeinstance3x3")).param_free_norm, nn.InstanceNorm2d)
    assert SpadeNorm.parse("spectralspadebatch5x5") == SpadeNorm(True, "batch", 5)
    for text in ("spectralinstance", "spadebatch3x5", "spadebatch4x4", "spectralspadegroup3x3"):
        with pytest.raises(UserError, match="expected"):
            SpadeNorm.parse(text)


def test_a_size_that_cannot_be_halved_so_often_is_refused():
    with pytest.raises(UserError, match="multiples of 32"):
        Generator(4, (48, 64), ngf=4)


@pytest.mark.parametrize("norm", ["spectralinstance", "spectralnone", "none", "spectralbatch", "instance"])
@pytest.mark.parametrize("size", [8, 32])
def test_an_encoder_is_rebuilt_from_its_state_dict(norm, size):
    torch.manual_seed(0)
    encoder = StyleEncoder(input_size=size, nef=4, z_dim=6, norm=norm).eval()
    again = StyleEncoder.from_state(encoder.state_dict()).eval()
    image = torch.rand(2, 3, 40, 30)
    assert all(torch.equal(a, b) for a, b in zip(encoder(image), again(image), strict=True))


def test_small_encoders_end_at_four_by_four_and_odd_sizes_are_refused():
    assert StyleEncoder(input_size=64, nef=4).num_layers == 4
    with pytest.raises(UserError, match="power of two"):
        StyleEncoder(input_size=96)
