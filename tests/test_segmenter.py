"""The segmenter: sizes, the fast path against the plain network, repeatability, refusals."""

from pathlib import Path

import numpy as np
import pytest
import torch

from gaugan import checkpoint
from gaugan.config import to_plain
from gaugan.errors import UserError
from gaugan.labels import PORTRAIT_CLASSES
from gaugan.segmenter import Segmenter, fit, unfit
from gaugan.unet.fusion import ActivatedConv2d, fuse_activations, fuse_batch_norms
from gaugan.unet.networks import VERSIONS, UNet
from gaugan.unet.system import UNetConfig, UNetSystem

TINY = (16, 16, 8, 8, 8)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


def make_unet(version: str = "v3") -> UNet:
    """Random weights and running statistics that are not the identity, in eval mode."""
    unet = UNet(version, PORTRAIT_CLASSES.num_classes, TINY).train()
    for _ in range(10):
        unet(torch.randn(2, 3, 64, 64))
    return unet.eval()


def make_images() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in ((64, 64), (50, 80), (300, 40), (1, 1))]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> str:
    torch.manual_seed(0)
    config = UNetConfig(encoder_weights="none", widths=TINY)
    with pytest.warns(UserWarning, match="random weights"):
        system = UNetSystem(config, classes=PORTRAIT_CLASSES, image_size=(64, 64), device=torch.device("cpu"))
    folder: Path = tmp_path_factory.mktemp("model")
    return checkpoint.save(
        str(folder / "checkpoint"),
        system="unet",
        config=to_plain(config),
        classes=PORTRAIT_CLASSES,
        image_size=(64, 64),
        step=1,
        state=system.state_dict(),
    )


@pytest.mark.parametrize("version", VERSIONS)
def test_the_fused_network_equals_the_plain_one(version: str) -> None:
    unet, images = make_unet(version), torch.rand(2, 3, 64, 64) * 2 - 1
    plain, fast = (
        Segmenter(unet, PORTRAIT_CLASSES, (64, 64), precision="fp32", fast=fast).probabilities(images)
        for fast in (False, True)
    )
    torch.testing.assert_close(fast, plain, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(plain, unet(images).softmax(1))


def test_fusing_leaves_no_batch_norm_behind() -> None:
    for version in VERSIONS:
        fused = fuse_batch_norms(make_unet(version))
        assert not [module for module in fused.modules() if isinstance(module, torch.nn.BatchNorm2d)]


def test_activations_move_into_the_convolutions_and_change_nothing_else() -> None:
    for version in VERSIONS:
        plain = fuse_batch_norms(make_unet(version))
        image = torch.rand(1, 3, 64, 64) * 2 - 1
        with torch.inference_mode():
            expected = plain(image)
            fused = fuse_activations(plain)
            torch.testing.assert_close(fused(image), expected, rtol=1e-4, atol=1e-6)
        assert sum(isinstance(module, ActivatedConv2d) for module in fused.modules()) > 30


def test_label_maps_have_the_size_of_their_pictures(saved: str) -> None:
    segmenter = Segmenter.load(saved)
    images = make_images()
    for image, answer in zip(images, segmenter.segment(images), strict=True):
        assert answer.label_map.shape == image.shape[:2] and answer.label_map.dtype == np.uint8
        assert answer.label_map.max() < PORTRAIT_CLASSES.num_classes
        assert 1 / 7 <= answer.confidence <= 1 and 0 <= answer.entropy <= 1


def test_an_answer_repeats_and_does_not_depend_on_its_company(saved: str) -> None:
    segmenter = Segmenter.load(saved)
    images = make_images()
    together, again = segmenter.segment(images), segmenter.segment(images)
    alone = [segmenter.segment([image])[0] for image in images]
    for first, second, third in zip(together, again, alone, strict=True):
        assert np.array_equal(first.label_map, second.label_map) and np.array_equal(first.label_map, third.label_map)
        assert first.confidence == second.confidence == third.confidence


def test_with_mirror_a_mirrored_picture_gets_the_mirrored_answer(saved: str) -> None:
    segmenter = Segmenter.load(saved, precision="fp32", mirror=True)
    images = torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(segmenter.probabilities(images.flip(3)), segmenter.probabilities(images).flip(3))


@pytest.mark.parametrize("size", [(64, 64), (32, 64), (100, 40), (7, 300)])
def test_unfit_undoes_fit(size: tuple[int, int]) -> None:
    ramp = torch.linspace(-1, 1, size[1]).expand(1, 3, *size)
    back = unfit(fit(ramp, (64, 64)), size)
    assert back.shape == ramp.shape
    assert (back - ramp).abs().max() < 0.2


def test_a_checkpoint_of_another_system_and_an_unknown_precision_are_refused(saved: str, tmp_path: Path) -> None:
    other = checkpoint.save(
        str(tmp_path / "other"),
        system="spade",
        config={},
        classes=PORTRAIT_CLASSES,
        image_size=(64, 64),
        step=1,
        state={"networks": {}},
    )
    with pytest.raises(UserError, match="'spade'"):
        Segmenter.load(other)
    with pytest.raises(UserError, match="bf16 or fp32"):
        Segmenter.load(saved, precision="int4")
