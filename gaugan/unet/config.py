"""The settings of the U-Net. Torch-free, so that a command line can show them at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gaugan import storage
from gaugan.config import check_numbers
from gaugan.errors import UserError

STRIDE = 32
"""Heights and widths are multiples of it."""
CHOICES = (
    "give --encoder-weights a path or s3:// URI of a MobileNetV2 state dict (.pth or .safetensors), give --initial the "
    "URI of a trained U-Net, or choose random weights with --encoder-weights none"
)


@dataclass(frozen=True)
class UNetConfig:
    """A U-Net and how it is trained."""

    version: Literal["v1", "v2", "v3"] = "v3"
    """v1: works at 128 px, answer interpolated; v2: full size, transposed convolution; v3: upsampling + convolution."""
    widths: tuple[int, int, int, int, int] = (256, 128, 64, 32, 16)
    """Channels of the up path, coarsest first."""
    encoder_weights: str = "imagenet"
    """First weights of the down path: "imagenet" (torchvision's, downloaded once), "none" (random), or the URI of a
    MobileNetV2 state dict (.pth or .safetensors)."""
    initial: str = ""
    """URI of a U-Net checkpoint of the same version and classes to start from; encoder_weights is then not used."""
    learning_rate: float = 2e-3
    """Highest learning rate of AdamW."""
    weight_decay: float = 1e-2
    """AdamW's decoupled weight decay."""
    warmup_steps: int = 100
    """Steps over which the learning rate grows from 0."""
    decay_steps: int = 0
    """Steps until the learning rate has fallen to 1 % (cosine). 0 = constant; in train_unet 0 = --steps."""
    half_size_share: float = 0.5
    """Share of decay_steps that is trained at half the image size, four times cheaper (if that is 128 px or more)."""
    dice: float = 1.0
    """Weight of the soft Dice loss beside cross-entropy, against the imbalance of the classes."""
    first_class_power: float = 1.0
    """Cross-entropy weights ~ (class share)^-power: 0 = none, 0.5 = inverse square root, 1 = inverse frequency. A high
    power finds rare classes such as mouths soon; a run from `initial`, which knows them, leaves it out ..."""
    class_power: float = 0.5
    """... and this lower one draws their borders: the power falls to it in the last part of decay_steps."""
    ema_half_life_images: float = 2000.0
    """The evaluated weights are a moving average with this half-life."""
    clip_norm: float = 1.0
    """Gradients are scaled down to this Euclidean norm."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Arithmetic of the forward pass in training; auto = bf16 where it is faster. Weights and loss stay fp32."""

    def __post_init__(self) -> None:
        if not 0 <= self.half_size_share <= 1:
            raise UserError(f"half_size_share {self.half_size_share}: allowed are 0 to 1")
        check_numbers(self, ("widths", "learning_rate", "ema_half_life_images", "clip_norm"))
        check_numbers(
            self, (), ("weight_decay", "warmup_steps", "decay_steps", "dice", "first_class_power", "class_power")
        )


def check_size(config: UNetConfig, image_size: tuple[int, int]) -> None:
    """Raises UserError when the sides can't be halved as often as the network, and the first part of a run, do it."""
    step = STRIDE * 2 if config.half_size_share * config.decay_steps > 0 else STRIDE
    if any(side % step for side in image_size):
        shown = " ".join(map(str, image_size))
        raise UserError(f"--image-size {shown}: this U-Net needs multiples of {step}, for example 256 or 512")


def check_encoder_weights(config: UNetConfig) -> None:
    """Raises UserError when the file that encoder_weights names is not there; it is not read."""
    uri = config.encoder_weights
    if not config.initial and uri not in ("imagenet", "none") and (not storage.exists(uri) or storage.is_folder(uri)):
        raise UserError(f"--encoder-weights {uri}: no such file; {CHOICES}")
