"""Style encoder: picture -> mean and log-variance of its style vector.

Park et al. 2019 (arXiv:1903.07291), figure 14, with the published key names (layer1 .. layer6, fc_mu, fc_var).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor, nn

from gaugan.errors import UserError
from gaugan.spade.discriminator import normalised_conv

FINAL_SIDE = 4
"""Side of the last feature map: each layer halves the square input down to 4 x 4."""


class StyleEncoder(nn.Module):
    """Any picture is resized to `input_size` x `input_size` first.

    input_size 256 has 6 layers and is the published network. 128 has 5, 64 has 4 and so on, always ending at 4 x 4: for
    small pictures that saves the resizing to 256 (16 times the pixels at 64). `nef` is the width of the first layer.
    """

    def __init__(
        self, *, input_size: int = 256, nef: int = 64, z_dim: int = 256, norm: str = "spectralinstance"
    ) -> None:
        super().__init__()
        num_layers = input_size.bit_length() - FINAL_SIDE.bit_length()
        if num_layers < 1 or input_size != FINAL_SIDE << num_layers:
            raise UserError(f"--encoder-size {input_size}: expected a power of two from 8 on, such as 64, 128, 256")
        self.input_size, self.num_layers, self.nef, self.norm = input_size, num_layers, nef, norm
        channels = [3] + [nef * min(2**number, 8) for number in range(num_layers)]
        for number in range(num_layers):
            conv = normalised_conv(channels[number], channels[number + 1], 3, stride=2, padding=1, norm=norm)
            setattr(self, f"layer{number + 1}", conv)
        self.fc_mu = nn.Linear(channels[-1] * FINAL_SIDE**2, z_dim)
        self.fc_var = nn.Linear(channels[-1] * FINAL_SIDE**2, z_dim)

    @staticmethod
    def of_sizes(state: Mapping[str, Tensor]) -> StyleEncoder:
        """An untrained encoder of a state dict's sizes, which are read off its names and shapes."""
        num_layers = len({name.partition(".")[0] for name in state if name.startswith("layer")})
        kind = "none" if not any(name.startswith("layer1.0.") for name in state) else "instance"
        if "layer1.1.running_mean" in state:
            kind = "sync_batch"
        spectral = any(name.endswith("weight_orig") for name in state)
        first = next(value for name, value in state.items() if name.startswith("layer1.") and value.dim() == 4)
        return StyleEncoder(
            input_size=FINAL_SIDE << num_layers,
            nef=first.shape[0],
            z_dim=state["fc_mu.weight"].shape[0],
            norm=("spectral" if spectral else "") + kind,
        )

    @staticmethod
    def from_state(state: Mapping[str, Tensor]) -> StyleEncoder:
        """The encoder that a state dict belongs to, with its weights."""
        encoder = StyleEncoder.of_sizes(state)
        encoder.load_state_dict(state)
        return encoder

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """(N, 3, H, W) in [-1, 1] -> mu, logvar: float32 (N, z_dim) each."""
        size = (self.input_size, self.input_size)
        x = image
        if (image.shape[2], image.shape[3]) != size:
            x = F.interpolate(image, size=size, mode="bilinear", align_corners=False)
        for number in range(self.num_layers):
            x = F.leaky_relu(getattr(self, f"layer{number + 1}")(x), 0.2)
        x = x.flatten(1)  # (N, 8 nef * 16), channel-major as published
        return self.fc_mu(x).float(), self.fc_var(x).float()
