"""U-Nets that label portraits: a MobileNetV2 down path, skip connections and three up paths.

Down path: Sandler et al. 2018, MobileNetV2 (arXiv 1801.04381), with torchvision's layers and parameter names, so that
its ImageNet weights load. U-shape: Ronneberger et al. 2015 (arXiv 1505.04597). v1 works at 128 px with transposed
convolutions and its answer is interpolated to the picture's size; v2 is the same at full size; v3 has upsampling and
convolution in place of the transposed convolution, whose uneven overlap paints checkerboards (Odena et al. 2016,
"Deconvolution and Checkerboard Artifacts").
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import mobilenet_v2

# Where torchvision's MobileNetV2 `features` halve the size: layers [start, stop) and the channels that leave them.
STAGES = ((0, 2, 16), (2, 4, 24), (4, 7, 32), (7, 14, 96), (14, 18, 320))  # H/2, H/4, H/8, H/16, H/32
STEM_CHANNELS = 16
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def conv_norm_relu(channels_in: int, channels_out: int, kernel_size: int = 3) -> nn.Sequential:
    """Convolution that keeps the size, batch norm, ReLU."""
    conv = nn.Conv2d(channels_in, channels_out, kernel_size, padding=kernel_size // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(channels_out), nn.ReLU(inplace=True))


class DownPath(nn.Module):
    """MobileNetV2 without its last convolution and classifier: (N, 3, H, W) in [-1, 1] -> five maps, H/2 first."""

    scale: Tensor
    shift: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.features = mobilenet_v2(weights=None).features[:18]
        mean, std = torch.tensor(IMAGENET_MEAN).view(3, 1, 1), torch.tensor(IMAGENET_STD).view(3, 1, 1)
        # From [-1, 1] to the range that the ImageNet weights were trained on, in one multiply-add.
        self.register_buffer("scale", 0.5 / std, persistent=False)
        self.register_buffer("shift", (0.5 - mean) / std, persistent=False)

    def forward(self, image: Tensor) -> list[Tensor]:
        x, levels = image * self.scale + self.shift, []
        for start, stop, _ in STAGES:
            for layer in self.features[start:stop]:
                x = layer(x)
            levels.append(x)
        return levels


class TransposedUp(nn.Module):
    """v1, v2: a 4x4 transposed convolution of stride 2, then the skip joins and one convolution mixes."""

    def __init__(self, channels_in: int, channels_skip: int, channels_out: int) -> None:
        super().__init__()
        conv = nn.ConvTranspose2d(channels_in, channels_out, 4, stride=2, padding=1, bias=False)
        self.up = nn.Sequential(conv, nn.BatchNorm2d(channels_out), nn.ReLU(inplace=True))
        self.mix = conv_norm_relu(channels_out + channels_skip, channels_out)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        return self.mix(torch.cat([self.up(x), skip], 1))  # (N, channels_out, 2h, 2w)


class UpsampledUp(nn.Module):
    """v3: a 1x1 convolution, bilinear upsampling x2, then the skip joins and two convolutions mix.

    The 1x1 convolution commutes with the interpolation, so it stands before it, where it costs a quarter.
    """

    def __init__(self, channels_in: int, channels_skip: int, channels_out: int) -> None:
        super().__init__()
        self.reduce = conv_norm_relu(channels_in, channels_out, kernel_size=1)
        self.mix = nn.Sequential(
            conv_norm_relu(channels_out + channels_skip, channels_out), conv_norm_relu(channels_out, channels_out)
        )

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        x = F.interpolate(self.reduce(x), scale_factor=2.0, mode="bilinear")
        return self.mix(torch.cat([x, skip], 1))  # (N, channels_out, 2h, 2w)


# version -> up path, side in pixels at which the network works (None = the picture's own)
VERSIONS: dict[str, tuple[type[TransposedUp] | type[UpsampledUp], int | None]] = {
    "v1": (TransposedUp, 128),
    "v2": (TransposedUp, None),
    "v3": (UpsampledUp, None),
}


class UNet(nn.Module):
    """(N, 3, H, W) in [-1, 1], H and W multiples of 32 -> class logits (N, num_classes, H, W)."""

    def __init__(self, version: str, num_classes: int, widths: tuple[int, ...] = (256, 128, 64, 32, 16)) -> None:
        """widths: channels of the up path at H/16, H/8, H/4, H/2 and H."""
        super().__init__()
        up_path, self.working_size = VERSIONS[version]
        self.down = DownPath()
        self.stem = conv_norm_relu(3, STEM_CHANNELS)  # a skip at full size: a closed mouth is 2-3 px tall
        skips = [channels for _, _, channels in STAGES[-2::-1]] + [STEM_CHANNELS]
        inputs = (STAGES[-1][2], *widths[:-1])
        self.up = nn.ModuleList(up_path(*channels) for channels in zip(inputs, skips, widths, strict=True))
        self.head = nn.Conv2d(widths[-1], num_classes, 1)

    def forward(self, image: Tensor) -> Tensor:
        size = image.shape[2:]
        if self.working_size is not None:
            image = F.interpolate(image, (self.working_size, self.working_size), mode="bilinear", antialias=True)
        *skips, x = self.down(image)  # x: (N, 320, H/32, W/32)
        for up, skip in zip(self.up, [*reversed(skips), self.stem(image)], strict=True):
            x = up(x, skip)
        logits = self.head(x)
        return logits if self.working_size is None else F.interpolate(logits, size, mode="bilinear")
