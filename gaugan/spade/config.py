"""The settings of the style encoder and of the SPADE generator. Torch-free: a command line can show them at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gaugan.config import check_numbers

Precision = Literal["auto", "fp32", "bf16"]


@dataclass(frozen=True)
class StyleVAEConfig:
    """The style encoder and the decoder that trains it."""

    z_dim: int = 256
    """Length of the style vector; the generator's z_dim is the same."""
    nef: int = 64
    """Channels of the encoder's first layer; 64 is the published width."""
    encoder_norm: str = "spectralnone"
    """[spectral](none|batch|sync_batch|instance). Instance norm (published) wipes out colours and learns slower."""
    encoder_size: int | None = None
    """The encoder sees pictures as a square of this side, a power of two; unset = the picture's, at most 256."""
    decoder_width: int = 16
    """Channels of the decoder at full size; it is thrown away after training."""
    labels_to_decoder: bool = True
    """The decoder sees the label map, so that shape stays out of the style vector."""
    lambda_kld: float = 0.0003
    """Weight of the KL divergence per picture against the mean absolute error of a pixel."""
    kld_warmup_steps: int = 200
    """Steps over which that weight grows from 0, against a collapse in the beginning."""
    learning_rate: float = 0.002
    """Adam's learning rate."""
    init: Literal["reference", "xavier", "xavier_uniform", "normal", "kaiming", "orthogonal", "none"] = "none"
    """How weights are drawn; none = PyTorch's own."""
    precision: Precision = "auto"
    """bf16 = autocast with losses in fp32; auto = bf16 where the device computes in it."""

    def __post_init__(self) -> None:
        check_numbers(self, ("z_dim", "nef", "decoder_width", "learning_rate"), ("lambda_kld", "kld_warmup_steps"))


@dataclass(frozen=True)
class SpadeConfig:
    """Generator, discriminator, losses and their optimisation; the defaults are the published ones unless said."""

    style: Literal["frozen_encoder", "joint_vae", "none"] = "frozen_encoder"
    """Where z comes from: a style encoder trained before, one trained together with the generator, or no z at all."""
    encoder: str = ""
    """URI of the style_vae run or checkpoint, for style=frozen_encoder."""
    features: str = "none"
    """Perceptual features: vgg19, vgg19:URI of its weights, unet:URI of a U-Net checkpoint, or none."""
    judge: str = ""
    """URI of a U-Net that labels painted pictures during evaluation; empty = no consistency figures."""

    ngf: int = 64
    """Channels of the generator's last block."""
    upsampling: Literal["normal", "more", "most"] = "normal"
    """5, 6 or 7 doublings from the first feature map to the picture."""
    spade_hidden: int = 128
    """Width of the hidden layer of each SPADE modulation; smaller is faster."""
    generator_norm: str = "spectralspadesyncbatch3x3"
    """[spectral]spade(syncbatch|batch|instance)KxK."""
    dontcare_channel: bool = False
    """Ignored pixels (255) become one more class; otherwise they belong to no class."""
    ndf: int = 64
    """Channels of the discriminator's first layer."""
    num_discriminators: int = 2
    """Discriminators, each at half the size of the one before."""
    discriminator_layers: int = 4
    """Layers of each discriminator."""
    discriminator_norm: str = "spectralinstance"
    """[spectral](none|batch|sync_batch|instance)."""
    z_dim: int = 256
    """Length of the style vector."""
    nef: int = 64
    """Channels of the encoder's first layer, for style=joint_vae (a frozen encoder brings its own)."""
    encoder_norm: str = "spectralinstance"
    """Norm of the encoder, for style=joint_vae."""
    encoder_size: int | None = None
    """Square that the encoder sees, for style=joint_vae; unset = the picture's size, at most 256."""
    init: Literal["reference", "xavier", "xavier_uniform", "normal", "kaiming", "orthogonal", "none"] = "none"
    """How weights are drawn; none = PyTorch's own (learns sooner), reference = as the published code on a GPU."""

    gan_mode: Literal["hinge", "ls", "original", "w"] = "hinge"
    """Adversarial loss."""
    lambda_feat: float = 10.0
    """Weight of the discriminator's feature matching; 0 = off."""
    lambda_perceptual: float = 10.0
    """Weight of the perceptual distance; used when features are given."""
    lambda_kld: float = 0.2
    """Weight of the KL divergence per picture, for joint_vae (0.2 = the published 0.05 summed over 4 pictures)."""

    learning_rate: float = 2e-4
    """Base learning rate."""
    ttur: bool = True
    """Generator at half, discriminator at twice the base learning rate (Heusel et al. 2017)."""
    beta1: float = 0.0
    """Adam's first moment decay."""
    beta2: float = 0.9
    """Adam's second moment decay."""
    decay_start: int | None = None
    """Step from which the learning rate falls linearly; unset = never."""
    decay_steps: int = 1
    """Steps that it takes to fall to 0."""
    mode: Literal["fast", "faithful"] = "fast"
    """fast = one pass of each network per step; faithful = the published order with a second generator pass."""
    precision: Precision = "auto"
    """bf16 = autocast with losses, statistics and sigma in fp32; auto = bf16 where the device computes in it."""
    ema_half_life: float = 10_000.0
    """Images after which an old weight counts half in the averaged generator, the one that paints."""

    def __post_init__(self) -> None:
        sizes = ("ngf", "spade_hidden", "ndf", "num_discriminators", "discriminator_layers", "z_dim", "nef")
        weights = ("lambda_feat", "lambda_perceptual", "lambda_kld", "beta1", "beta2")
        check_numbers(self, (*sizes, "learning_rate", "decay_steps", "ema_half_life"), weights)


def learning_rate_factor(step: int, decay_start: int | None, decay_steps: int) -> float:
    """1 up to `decay_start`, then linearly down to 0 over `decay_steps`: a function of the step alone."""
    if decay_start is None or step < decay_start:
        return 1.0
    return max(0.0, 1.0 - (step - decay_start) / decay_steps)
