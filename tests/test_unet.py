"""The U-Net: shapes, the loss against hand-worked cases, training, state, and where its first weights come from."""

import copy
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F
from torchvision.models import mobilenet_v2

from gaugan import checkpoint
from gaugan.config import from_plain, to_plain
from gaugan.errors import UserError
from gaugan.labels import IGNORE, PORTRAIT_CLASSES, ClassTable
from gaugan.unet import initial
from gaugan.unet.config import UNetConfig, check_encoder_weights
from gaugan.unet.networks import VERSIONS, UNet
from gaugan.unet.objective import class_power_at, class_shares, class_weights, segmentation_loss, soft_dice
from gaugan.unet.system import UNetSystem, learning_rate_factor

TINY = (16, 16, 8, 8, 8)
CPU = torch.device("cpu")
pytestmark = pytest.mark.filterwarnings('ignore:encoder_weights "none"')


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


def make_batch(size: int = 64, count: int = 2) -> dict[str, torch.Tensor]:
    """Left half dark = class 0, right half bright = class 5."""
    label_map = torch.zeros(count, size, size, dtype=torch.long)
    label_map[:, :, size // 2 :] = 5
    image = torch.where(label_map[:, None] == 5, 0.8, -0.8).expand(-1, 3, -1, -1) + 0.1 * torch.randn(
        count, 3, size, size
    )
    return {"image": image, "label_map": label_map}


def make_system(**fields: object) -> UNetSystem:
    config = UNetConfig(**{"encoder_weights": "none", "widths": TINY, "precision": "fp32", "warmup_steps": 1, **fields})  # type: ignore[arg-type]
    return UNetSystem(config, classes=PORTRAIT_CLASSES, image_size=(64, 64), device=CPU)


@pytest.mark.parametrize("version", VERSIONS)
def test_every_version_answers_at_the_size_of_the_picture(version: str) -> None:
    unet = UNet(version, 5, TINY).eval()
    assert unet(torch.zeros(2, 3, 64, 96)).shape == (2, 5, 64, 96)


def test_v1_works_at_128_pixels_whatever_the_picture() -> None:
    unet = UNet("v1", 5, TINY).eval()
    seen: list[torch.Size] = []
    unet.head.register_forward_hook(lambda module, inputs, output: seen.append(output.shape))
    unet(torch.zeros(1, 3, 256, 256))
    assert seen == [(1, 5, 128, 128)]


def test_the_down_path_equals_torchvision_on_normalised_pictures() -> None:
    reference = mobilenet_v2(weights=None).eval()
    unet = UNet("v3", 5, TINY).eval()
    initial._load_features(unet, reference.state_dict(), "test")
    picture = torch.rand(1, 3, 64, 64)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    expected = reference.features[:18]((picture - mean.view(3, 1, 1)) / std.view(3, 1, 1))
    torch.testing.assert_close(unet.down(picture * 2 - 1)[-1], expected, rtol=1e-3, atol=1e-4)


def test_soft_dice_of_a_worked_case() -> None:
    label_map = torch.tensor([[[0, 0, 1, IGNORE]]])
    sure = F.one_hot(torch.tensor([[[0, 1, 1, 2]]]), 3).movedim(-1, 1).float() * 100  # pixel 1 wrong, pixel 3 ignored
    # class 0: (2*1 + 1) / (1 + 2 + 1), class 1: (2*1 + 1) / (2 + 1 + 1), class 2 is absent
    assert soft_dice(sure, label_map).item() == pytest.approx(1 - (3 / 4 + 3 / 4) / 2)


@pytest.mark.parametrize("power", [0.0, 0.5])
def test_cross_entropy_equals_torch_and_ignored_pixels_do_not_count(power: float) -> None:
    logits, label_map = torch.randn(2, 4, 8, 8), torch.randint(0, 4, (2, 8, 8))
    label_map[:, :3] = IGNORE
    weights = class_weights(class_shares(label_map, 4), power)
    loss, _ = segmentation_loss(logits, label_map, dice=0, weights=weights)
    torch.testing.assert_close(loss, F.cross_entropy(logits, label_map, weights, ignore_index=IGNORE))
    changed = logits.clone()
    changed[:, :, :3] += 5 * torch.randn(2, 4, 3, 8)
    torch.testing.assert_close(
        segmentation_loss(changed, label_map, weights=weights)[0],
        segmentation_loss(logits, label_map, weights=weights)[0],
    )


def test_a_batch_of_only_ignored_pixels_has_loss_zero_and_finite_gradients() -> None:
    logits = torch.randn(1, 3, 4, 4, requires_grad=True)
    loss, _ = segmentation_loss(logits, torch.full((1, 4, 4), IGNORE))
    loss.backward()
    assert loss.item() == pytest.approx(0) or loss.item() == pytest.approx(1)
    assert logits.grad is not None and torch.isfinite(logits.grad).all()


def test_class_weights_have_mean_one_over_the_pixels() -> None:
    shares = torch.tensor([0.9, 0.09, 0.01])
    weights = class_weights(shares, 0.5)
    assert (weights * shares).sum().item() == pytest.approx(1)
    assert (weights[2] / weights[0]).item() == pytest.approx((0.9 / 0.01) ** 0.5)


def test_the_power_of_the_class_weights_falls_late_in_a_run_whose_end_is_known() -> None:
    powers = [class_power_at(step, 1.0, 0.5, 100) for step in (0, 60, 75, 90, 99)]
    assert powers == pytest.approx([1.0, 1.0, 0.75, 0.5, 0.5])
    assert class_power_at(0, 1.0, 0.5, 0) == 0.5


def test_training_learns_a_simple_pair_and_evaluate_says_so() -> None:
    system = make_system(ema_half_life_images=4, learning_rate=1e-2)
    for step in range(60):
        metrics = system.train_step(make_batch(), step)
    assert metrics["skipped"] == 0
    scores = system.evaluate([make_batch()])
    assert scores["miou"] > 0.9
    assert set(scores) >= {"miou", "pixel_accuracy", "iou_background", "iou_hair", "specks", "specks_true"}
    assert system.generate(make_batch()).shape == (2, 64, 64)
    assert system.sample(make_batch()).shape == (3, 3 * 64, 2 * 64)


def test_a_restored_system_trains_on_bit_by_bit() -> None:
    first = make_system()
    for step in range(2):
        torch.manual_seed(step)
        first.train_step(make_batch(), step)
    second = make_system()
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for system in (first, second):
        torch.manual_seed(9)
        system.train_step(make_batch(), 2)
    states = [system.state_dict()["networks"]["unet_ema"] for system in (first, second)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_a_step_with_non_finite_pictures_changes_nothing() -> None:
    system = make_system()
    system.train_step(make_batch(), 0)
    before = copy.deepcopy(system.unet.state_dict())
    batch = make_batch()
    batch["image"][0, 0, 0, 0] = float("nan")
    assert system.train_step(batch, 1)["skipped"] == 1
    assert all(torch.equal(before[name], value) for name, value in system.unet.state_dict().items())


def test_the_first_share_of_the_steps_runs_at_half_size() -> None:
    system = make_system(decay_steps=4, half_size_share=0.5)
    seen: list[int] = []
    system.networks["unet"].get_submodule("head").register_forward_hook(
        lambda module, inputs, output: seen.append(output.shape[2])
    )
    for step in range(4):
        system.train_step(make_batch(size=256, count=1), step)
    system.train_step(make_batch(size=128), 0)  # its half would be too small for a mouth
    assert seen == [128, 128, 256, 256, 128]


def test_the_learning_rate_warms_up_and_falls_to_one_percent() -> None:
    assert learning_rate_factor(0, 10, 100) == pytest.approx(0.1)
    assert learning_rate_factor(100, 10, 100) == pytest.approx(0.01)
    assert learning_rate_factor(500, 10, 0) == 1


def test_an_image_size_that_does_not_divide_by_32_is_refused() -> None:
    with pytest.raises(UserError, match="multiples of 32"):
        UNetSystem(UNetConfig(encoder_weights="none"), classes=PORTRAIT_CLASSES, image_size=(100, 128), device=CPU)


def test_encoder_weights_that_are_not_there_are_known_before_torch_is_needed(tmp_path: Path) -> None:
    (tmp_path / "w.pth").touch()
    for spec in ("none", "imagenet", str(tmp_path / "w.pth")):
        check_encoder_weights(UNetConfig(encoder_weights=spec))
    for spec in (f"{tmp_path}/nope.pth", str(tmp_path)):
        with pytest.raises(UserError, match=f"--encoder-weights {spec}: no such file; give"):
            check_encoder_weights(UNetConfig(encoder_weights=spec))
    check_encoder_weights(UNetConfig(encoder_weights="nope.pth", initial="runs/unet"))  # not used then


def test_config_survives_the_round_trip_through_plain_data() -> None:
    config = UNetConfig(version="v2", widths=TINY, dice=0.5)
    assert from_plain(UNetConfig, to_plain(config)) == config


def test_random_weights_are_an_explicit_choice_with_a_warning() -> None:
    with pytest.warns(UserWarning, match="random weights"):
        initial.load_initial_weights(UNet("v3", 7, TINY), initial="", encoder_weights="none", classes=PORTRAIT_CLASSES)


def test_missing_imagenet_weights_are_an_error_that_names_the_alternatives(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*args: object, **kwargs: object) -> dict[str, torch.Tensor]:
        raise OSError("no network")

    monkeypatch.setattr(type(initial.MobileNet_V2_Weights.IMAGENET1K_V2), "get_state_dict", offline)
    with pytest.raises(UserError, match=r"(?s)no network.*s3://.*--encoder-weights none"):
        initial.load_initial_weights(
            UNet("v3", 7, TINY), initial="", encoder_weights="imagenet", classes=PORTRAIT_CLASSES
        )


def test_encoder_weights_load_from_a_file_and_a_wrong_file_is_refused(tmp_path: Path) -> None:
    reference, unet = mobilenet_v2(weights=None), UNet("v3", 7, TINY)
    torch.save(reference.state_dict(), tmp_path / "mobilenet.pth")
    torch.save({"other": torch.zeros(1)}, tmp_path / "other.pth")
    path = str(tmp_path / "mobilenet.pth")
    initial.load_initial_weights(unet, initial="", encoder_weights=path, classes=PORTRAIT_CLASSES)
    assert torch.equal(unet.down.features[0][0].weight, reference.features[0][0].weight)
    for name in ("junk.pth", "junk.safetensors"):
        (tmp_path / name).write_bytes(b"junk")
    for name, message in (
        ("other.pth", "not a torchvision MobileNetV2"),
        ("absent.pth", "absent.pth: no such file; give"),
        ("junk.pth", "junk.pth: refused, it is damaged .*expected is a state dict.*; give"),
        ("junk.safetensors", "junk.safetensors: refused, it is damaged .*expected is a state dict.*; give"),
    ):
        with pytest.raises(UserError, match=f"--encoder-weights .*{message}"):
            path = str(tmp_path / name)
            initial.load_initial_weights(unet, initial="", encoder_weights=path, classes=PORTRAIT_CLASSES)


def test_a_run_starts_from_another_unet_and_refuses_one_of_other_classes_or_widths(tmp_path: Path) -> None:
    first = make_system()
    first.train_step(make_batch(), 0)
    uri = checkpoint.save(
        str(tmp_path / "first"),
        system="unet",
        config=to_plain(first.config),
        classes=PORTRAIT_CLASSES,
        image_size=(64, 64),
        step=1,
        state=first.state_dict(),
    )
    second = make_system(initial=uri)
    trained, started = first.ema.network.state_dict(), second.unet.state_dict()
    assert torch.equal(started["head.weight"], trained["head.weight"])
    with pytest.raises(UserError, match="widths"):
        make_system(initial=uri, widths=(8, 8, 8, 8, 8))
    other = ClassTable(("a", "b"), ((0, 0, 0), (9, 9, 9)))
    with pytest.raises(UserError, match="same class table"):
        UNetSystem(UNetConfig(initial=uri, widths=TINY), classes=other, image_size=(64, 64), device=CPU)
