"""The settings of the style encoder and of the SPADE generator. Torch-free: a command line can show them at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from gaugan.config import check_numbers
from gaugan.errors import UserError

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
    init_gain: float = 0.02
    """Of init reference, xavier and orthogonal; of init normal its standard deviation."""
    precision: Precision = "auto"
    """bf16 = autocast with losses in fp32; auto = bf16 where the device computes in it."""

    def __post_init__(self) -> None:
        check_numbers(
            self, ("z_dim", "nef", "decoder_width", "init_gain", "learning_rate"), ("lambda_kld", "kld_warmup_steps")
        )


@dataclass(frozen=True)
class SpadeConfig:
    """Generator, discriminator, losses and their optimisation; the defaults are the published ones unless said."""

    style: Literal["frozen_encoder", "joint_vae", "none"] = "frozen_encoder"
    """Where z comes from: a style encoder trained before, one trained together with the generator, or no z at all."""
    encoder: str = ""
    """URI of the style_vae run or checkpoint, for style=frozen_encoder."""
    initial: str = ""
    """URI of a spade run or of imported weights (jobs/import_checkpoint.py) to begin with; empty = random weights."""
    features: str = "none"
    """Perceptual features: vgg19[:URI of its weights] on pictures in [-1, 1] as published, vgg19-imagenet[:URI] on
    normalised ones, unet:URI of a U-Net checkpoint, or none."""
    judge: str = ""
    """URI of a U-Net that labels painted pictures during evaluation; empty = no consistency figures."""

    generator: Literal["spade", "pix2pixhd"] = "spade"
    """spade, or pix2pixhd: the generator of Wang et al. 2018 as a baseline; it has no style (--style none)."""
    ngf: int = 64
    """Channels of the generator's last block (pix2pixhd: of its first layer)."""
    upsampling: Literal["normal", "more", "most"] = "normal"
    """5, 6 or 7 doublings from the first feature map to the picture."""
    spade_hidden: int = 128
    """Width of the hidden layer of each SPADE modulation; smaller is faster."""
    generator_norm: str = "spectralspadesyncbatch3x3"
    """[spectral]spade(syncbatch|batch|instance)KxK."""
    resnet_norm: str = "spectralinstance"
    """pix2pixhd: [spectral](none|batch|sync_batch|instance); spectralinstance makes it the paper's pix2pixHD++."""
    resnet_downsamplings: int = 4
    """pix2pixhd: halvings of the label map, and doublings back."""
    resnet_blocks: int = 9
    """pix2pixhd: residual blocks in between."""
    resnet_kernel_size: int = 3
    """pix2pixhd: kernel of the residual blocks, odd."""
    resnet_initial_kernel_size: int = 7
    """pix2pixhd: kernel of the first layer, odd."""
    dontcare_channel: bool = False
    """Ignored pixels (255) become one more class; otherwise they belong to no class."""
    instance_edges: bool = False
    """One more label channel: 1 at both sides of every border between instances; the data must have instance maps."""
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
    init_gain: float = 0.02
    """Of init reference, xavier and orthogonal; of init normal its standard deviation."""

    gan_mode: Literal["hinge", "ls", "original", "w"] = "hinge"
    """Adversarial loss."""
    lambda_feat: float = 10.0
    """Weight of the discriminator's feature matching; 0 = off."""
    lambda_perceptual: float = 10.0
    """Weight of the perceptual distance; used when features are given."""
    lambda_kld: float | None = None
    """Weight of the KL divergence for joint_vae: of its mean over pictures, unset = 0.2; with mode=faithful of its sum
    over a worker's pictures, unset = the published 0.05 (the same at the published 4 pictures per GPU)."""

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
    decay_every: int = 1
    """Steps between two changes of the falling rate; the published code changes it once per epoch."""
    d_steps_per_g: int = 1
    """The generator is updated once in so many steps, the discriminator at every step."""
    mode: Literal["fast", "faithful"] = "fast"
    """fast = one pass of each network per step; faithful = as published: a second generator pass for the discriminator
    and so statistics and spectral norm updated twice, KL divergence summed, and the multi-GPU batch norm's own rule."""
    precision: Precision = "auto"
    """bf16 = autocast with losses, statistics and sigma in fp32; auto = bf16 where the device computes in it."""
    ema_half_life: float = 10_000.0
    """Images after which an old weight counts half in the averaged generator, the one that paints."""

    def __post_init__(self) -> None:
        sizes = ("ngf", "spade_hidden", "ndf", "num_discriminators", "discriminator_layers", "z_dim", "nef")
        steps = ("decay_steps", "decay_every", "d_steps_per_g")
        weights = ("lambda_feat", "lambda_perceptual", "lambda_kld", "beta1", "beta2")
        resnet = ("resnet_downsamplings", "resnet_blocks")
        check_numbers(self, (*sizes, *steps, "init_gain", "learning_rate", "ema_half_life"), (*weights, *resnet))
        check_numbers(self, not_negative=("decay_start",))
        for name in ("beta1", "beta2"):
            if getattr(self, name) >= 1:
                raise UserError(f"--{name} {getattr(self, name)}: must be 0 or more and below 1")
        for name in ("resnet_kernel_size", "resnet_initial_kernel_size"):
            if getattr(self, name) % 2 == 0 or getattr(self, name) < 1:
                raise UserError(f"--{name.replace('_', '-')} {getattr(self, name)}: must be odd")
        if self.generator == "pix2pixhd" and self.style != "none":
            raise UserError(f"--generator pix2pixhd takes no style, --style is {self.style}: give --style none")

    @property
    def kld_weight(self) -> float:
        """The weight of `kld_reduction` of the KL divergence."""
        if self.lambda_kld is not None:
            return self.lambda_kld
        return 0.05 if self.mode == "faithful" else 0.2

    @property
    def kld_reduction(self) -> Literal["mean", "sum"]:
        """Over the pictures of a worker."""
        return "sum" if self.mode == "faithful" else "mean"


def held_out_metrics(config: SpadeConfig, class_names: Sequence[str]) -> list[str]:
    """What a run of this config measures on held-out pictures; classes that don't occur there are left out then."""
    terms = {
        "g_gan": True,
        "g_feat": bool(config.lambda_feat),
        "g_perceptual": config.features != "none" and bool(config.lambda_perceptual),
        **dict.fromkeys(("d_real", "d_fake", "l1"), True),
        **dict.fromkeys(("style_effect", "active_units"), config.style != "none"),
    }
    judged = ["miou", "accuracy", *(f"iou_{name}" for name in class_names)] if config.judge else []
    return [*(name for name, measured in terms.items() if measured), *(f"consistency_{name}" for name in judged)]


def better_direction(metric: str) -> Literal["max", "min"]:
    """Whether more or less of one of `held_out_metrics` is better: less of a loss."""
    return "min" if metric == "l1" or metric.startswith(("g_", "d_")) else "max"


def learning_rate_factor(step: int, decay_start: int | None, decay_steps: int, decay_every: int = 1) -> float:
    """1 up to `decay_start`, then linearly down to 0 over `decay_steps`: a function of the step alone.

    With `decay_every` it falls in stairs: constant over the first so many steps after `decay_start`, and so on.
    """
    if decay_start is None or step < decay_start:
        return 1.0
    fallen = (step - decay_start) // decay_every * decay_every
    return max(0.0, 1.0 - fallen / decay_steps)
