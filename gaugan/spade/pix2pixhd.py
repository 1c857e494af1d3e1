"""The pix2pixHD generator, a baseline without SPADE: the label map goes in at the front and is normalised away inside.

Wang et al., "High-Resolution Image Synthesis with Conditional GANs", 2018, arXiv:1711.11585, the global generator, with
the key names of the published SPADE code. With spectral norm and the other parts of this suite (hinge loss, two rates,
this discriminator) it is the pix2pixHD++ of Park et al. 2019 (arXiv:1903.07291), section 4.
"""

from __future__ import annotations

from torch import Tensor, nn

from gaugan.errors import UserError
from gaugan.nn import SpectralConvTranspose2d, doubling_conv
from gaugan.spade.discriminator import normalised, normalised_conv, parse_norm


class ResnetBlock(nn.Module):
    """x + two normalised convolutions, with reflection at the borders and no activation at the end."""

    def __init__(self, channels: int, kernel_size: int, norm: str) -> None:
        super().__init__()
        self.conv_block = nn.Sequential(
            nn.ReflectionPad2d(kernel_size // 2),
            normalised_conv(channels, channels, kernel_size, stride=1, padding=0, norm=norm),
            nn.ReLU(),
            nn.ReflectionPad2d(kernel_size // 2),
            normalised_conv(channels, channels, kernel_size, stride=1, padding=0, norm=norm),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, h, w) -> the same shape."""
        return x + self.conv_block(x)


class Pix2PixHDGenerator(nn.Module):
    """Label map -> picture: `downsamplings` halvings, `blocks` residual blocks, as many doublings."""

    def __init__(
        self,
        label_channels: int,
        image_size: tuple[int, int] = (256, 256),
        *,
        ngf: int = 64,
        downsamplings: int = 4,
        blocks: int = 9,
        kernel_size: int = 3,
        initial_kernel_size: int = 7,
        norm: str = "spectralinstance",
    ) -> None:
        super().__init__()
        check_size(image_size, downsamplings, kernel_size if blocks else 1, initial_kernel_size)
        first = normalised_conv(label_channels, ngf, initial_kernel_size, stride=1, padding=0, norm=norm)
        layers: list[nn.Module] = [nn.ReflectionPad2d(initial_kernel_size // 2), first, nn.ReLU()]
        channels = ngf
        for _ in range(downsamplings):
            layers += [normalised_conv(channels, 2 * channels, 3, stride=2, padding=1, norm=norm), nn.ReLU()]
            channels *= 2
        layers += [ResnetBlock(channels, kernel_size, norm) for _ in range(blocks)]
        for _ in range(downsamplings):
            layers += [_doubling(channels, norm), nn.ReLU()]
            channels //= 2
        self.model = nn.Sequential(*layers, nn.ReflectionPad2d(3), nn.Conv2d(channels, 3, 7), nn.Tanh())

    def forward(self, onehot: Tensor, z: Tensor | None = None) -> Tensor:
        """onehot (N, label_channels, H, W) float -> float32 (N, 3, H, W) in [-1, 1]; `z` must be None."""
        assert z is None, "this generator has no style"
        return self.model(onehot).float()


def _doubling(channels: int, norm: str) -> nn.Module:
    """(N, channels, h, w) -> (N, channels / 2, 2 h, 2 w)."""
    spectral, kind = parse_norm(norm)
    layer = SpectralConvTranspose2d if spectral else doubling_conv
    return normalised(layer(channels, channels // 2, bias=kind == "none"), channels // 2, kind)


def check_size(image_size: tuple[int, int], downsamplings: int, kernel_size: int, initial_kernel_size: int) -> None:
    """Raises UserError when the picture's sides can't be halved so often, or are smaller than what is reflected."""
    factor = 2**downsamplings
    smallest = max(factor * (kernel_size // 2 + 1), initial_kernel_size // 2 + 1, 4)
    if any(side % factor or side < smallest for side in image_size):
        raise UserError(
            f"--image-size {image_size[0]} {image_size[1]}: pix2pixhd with {downsamplings} downsamplings and blocks "
            f"of {kernel_size}x{kernel_size} needs sides that are multiples of {factor}, at least {smallest}"
        )
