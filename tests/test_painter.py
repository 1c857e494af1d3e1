"""A checkpoint folder in use: one folder is enough, every picture stands for itself."""

from pathlib import Path

import numpy as np
import pytest
import torch

from gaugan import checkpoint
from gaugan.config import to_plain
from gaugan.errors import UserError
from gaugan.features import check_features, load_features
from gaugan.labels import ClassTable
from gaugan.painter import Painter
from gaugan.spade.config import SpadeConfig, StyleVAEConfig
from gaugan.spade.style import build_style
from gaugan.spade.system import SpadeSystem

torch.set_num_threads(1)

CLASSES = ClassTable(("a", "b", "c"), ((0, 0, 0), (255, 0, 0), (0, 255, 0)))
SIZE = (32, 32)


def save_system(uri: Path, style: str = "frozen_encoder") -> SpadeSystem:
    torch.manual_seed(0)
    config = SpadeConfig(style=style, ngf=4, ndf=4, spade_hidden=8, z_dim=6, precision="fp32")  # type: ignore[arg-type]
    encoder = build_style(StyleVAEConfig(z_dim=6, nef=4, encoder_norm="spectralnone"), SIZE)
    encoder.prior.update(torch.randn(8, 6), torch.zeros(8, 6))
    system = SpadeSystem(
        config,
        classes=CLASSES,
        image_size=SIZE,
        device=torch.device("cpu"),
        encoder=None if style == "none" else encoder,
    )
    torch.manual_seed(1)
    system.train_step({"image": torch.rand(2, 3, *SIZE), "label_map": torch.randint(0, 3, (2, *SIZE))}, 0)
    checkpoint.save(
        str(uri),
        system="spade",
        config=to_plain(config),
        classes=CLASSES,
        image_size=SIZE,
        step=1,
        state=system.state_dict(),
    )
    return system


@pytest.fixture(scope="module")
def painter(tmp_path_factory: pytest.TempPathFactory) -> Painter:
    uri = tmp_path_factory.mktemp("model") / "checkpoint"
    save_system(uri)
    return Painter.load(str(uri))


def label_maps(count: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 3, (count, *size)).astype(np.uint8)


def pictures(count: int, size: tuple[int, int] = (40, 30)) -> list[np.ndarray]:
    return list(np.random.default_rng(1).integers(0, 256, (count, *size, 3)).astype(np.uint8))


def test_a_loaded_painter_paints_what_the_system_generates(tmp_path):
    system = save_system(tmp_path / "model")
    batch = {"image": torch.rand(2, 3, *SIZE), "label_map": torch.from_numpy(label_maps(2).astype(np.int64))}
    loaded = Painter.load(str(tmp_path / "model"))
    z = system.style.encode(batch["image"])[0]
    wanted = ((system.generate(batch) + 1) * 127.5).permute(0, 2, 3, 1).numpy()
    assert np.abs(loaded.paint_z(label_maps(2), z).astype(float) - wanted).max() <= 1


def test_a_picture_depends_on_its_own_seed_and_not_on_the_batch(painter):
    maps = label_maps(3)
    together = painter.paint(maps, seeds=[5, 6, 7])
    alone = painter.paint(maps[1:2], seeds=[6])
    assert together.shape == (3, 32, 32, 3) and together.dtype == np.uint8
    assert np.abs(together[1].astype(int) - alone[0]).max() <= 1
    assert (painter.paint(maps[1:2], seeds=[7]) != alone).any()


def test_styles_come_from_pictures_and_blend(painter):
    maps, (first, second) = label_maps(1), pictures(2)
    ends = [painter.paint(maps, styles=[first], styles2=[second], blend=blend) for blend in (0.0, 1.0)]
    assert (ends[0] == painter.paint(maps, styles=[first])).all()
    assert (ends[1] == painter.paint(maps, styles=[second])).all()
    mu, logvar = painter.encode_style([first, second])
    assert mu.shape == logvar.shape == (2, 6)


def test_label_maps_of_another_size_are_resized(painter):
    assert painter.paint(label_maps(1, (64, 64)), seeds=[0]).shape == (1, 32, 32, 3)


def test_wrong_ids_counts_and_blends_are_refused_with_advice(painter):
    with pytest.raises(UserError, match="class id 9"):
        painter.paint(np.full((1, *SIZE), 9, dtype=np.uint8))
    with pytest.raises(UserError, match="seeds: 2 given for 1"):
        painter.paint(label_maps(1), seeds=[1, 2])
    with pytest.raises(UserError, match="between 0 and 1"):
        painter.paint(label_maps(1), styles=pictures(1), styles2=pictures(1), blend=2.0)


def test_a_generator_without_styles_paints_and_says_so(tmp_path):
    save_system(tmp_path / "model", style="none")
    plain = Painter.load(str(tmp_path / "model"))
    assert not plain.has_style and plain.paint(label_maps(2)).shape == (2, 32, 32, 3)
    with pytest.raises(UserError, match="without styles"):
        plain.encode_style(pictures(1))


def test_missing_perceptual_weights_are_an_error_that_names_the_choices(tmp_path, monkeypatch):
    monkeypatch.setenv("GAUGAN_VGG19", str(tmp_path / "missing.pth"))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    for spec in ("vgg19", f"vgg19:{tmp_path}/missing.pth", "resnet"):
        with pytest.raises(UserError, match="unet:URI"):
            load_features(spec)
    assert load_features("none") is None


@pytest.mark.parametrize("name", ["junk.pth", "junk.safetensors", "empty.pth"])
def test_a_damaged_weights_file_is_refused_with_its_name_and_what_is_expected(tmp_path, name):
    (tmp_path / name).write_bytes(b"" if name == "empty.pth" else b"junk")
    with pytest.raises(
        UserError, match=f"--features vgg19:.*{name}: refused, it is damaged .*expected is a state dict"
    ):
        load_features(f"vgg19:{tmp_path}/{name}")


@pytest.mark.parametrize("spec", ["vgg18", "vgg19:", "unet", "unet:", "none:x", ""])
def test_unknown_features_are_known_before_anything_is_loaded(spec):
    with pytest.raises(UserError, match=f"--features {spec}: no such features; choose one of: vgg19 .* or none"):
        check_features(spec)


def test_a_file_of_features_must_be_there(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.delenv("GAUGAN_VGG19", raising=False)
    (tmp_path / "w.pth").touch()
    for spec in ("none", "unet:runs/unet", f"vgg19:{tmp_path}/w.pth", f"vgg19-imagenet:{tmp_path}/w.pth"):
        check_features(spec)
    for spec in (f"vgg19:{tmp_path}/nope.pth", f"vgg19:{tmp_path}"):
        with pytest.raises(UserError, match=f"--features {spec}: no such file"):
            check_features(spec)
    with pytest.raises(UserError, match="--features vgg19: no weights at"):
        check_features("vgg19")


def test_vgg_features_end_after_the_published_layers(tmp_path):
    from torchvision.models import vgg19

    torch.manual_seed(0)
    network = vgg19(weights=None)
    layers = network.features
    state = {f"features.{name}": value for name, value in layers.state_dict().items()}
    torch.save(state, tmp_path / "vgg.pth")
    features = load_features(f"vgg19:{tmp_path}/vgg.pth")
    assert features is not None
    image = torch.rand(1, 3, 32, 32) * 2 - 1
    outputs = features(image)
    assert [tuple(x.shape[1:]) for x in outputs] == [(64, 32, 32), (128, 16, 16), (256, 8, 8), (512, 4, 4), (512, 2, 2)]
    torch.testing.assert_close(outputs[2], layers[:12](image), rtol=1e-4, atol=1e-5)
    assert features.weights == (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1.0)


def test_the_two_vgg_losses_differ_by_the_normalisation_of_their_input(tmp_path):
    from torchvision.models import vgg19

    torch.manual_seed(0)
    torch.save(vgg19(weights=None).features.state_dict(), tmp_path / "vgg.pth")
    published, normalised = (load_features(f"{kind}:{tmp_path}/vgg.pth") for kind in ("vgg19", "vgg19-imagenet"))
    assert published is not None and normalised is not None and normalised.name == "vgg19-imagenet"
    image = torch.rand(1, 3, 32, 32) * 2 - 1
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    by_hand = ((image / 2 + 0.5) - mean.view(1, 3, 1, 1)) / std.view(1, 3, 1, 1)
    for mine, theirs in zip(normalised(image), published(by_hand), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(normalised(image)[0], published(image)[0])


def test_unet_features_come_from_our_own_checkpoint(tmp_path):
    from gaugan.unet.networks import UNet

    network = UNet("v3", 3).eval()
    checkpoint.save(
        str(tmp_path / "unet"), system="unet", config={}, classes=CLASSES, image_size=SIZE, step=1,
        state={"networks": {"unet_ema": network.state_dict()}},
    )  # fmt: skip
    features = load_features(f"unet:{tmp_path / 'unet'}")
    assert features is not None
    image = torch.rand(1, 3, 32, 32)
    for mine, theirs in zip(features(image), network.down(image), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)
    assert "unet:" in features.describe()
