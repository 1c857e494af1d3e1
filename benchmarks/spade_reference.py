"""SPADE as its paper writes it, on the modules of our generator: the slow side of the benchmarks.

NCHW float32, eager, with the library's own convolutions: every pixel is convolved, gamma and beta in two convolutions,
every enlarged, normalised and modulated map is written. What the published code does and nothing slower than it: labels
are resized once per resolution (there, in every layer).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gaugan.spade.label_pyramid import LabelPyramid
from gaugan.spade.networks import Generator, SpadeBlock


class ReferenceGenerator(nn.Module):
    """The same weights and the same answer as `generator`, whose modules it uses, by the plain way."""

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.generator = generator.to(memory_format=torch.contiguous_format)

    def forward(self, onehot: Tensor, z: Tensor | None = None) -> Tensor:
        """onehot (N, label_channels, H, W), z (N, z_dim) -> (N, 3, H, W) in [-1, 1]."""
        network = self.generator
        labels = LabelPyramid(onehot.contiguous())
        if z is None:
            x = network.fc(labels.at(network.start_size))
        else:
            x = network.fc(z).view(-1, network.start_channels, *network.start_size)
        for block, doubled in network.blocks():
            x = reference_block(block, F.interpolate(x, scale_factor=2, mode="nearest") if doubled else x, labels)
        return torch.tanh(network.conv_img(F.leaky_relu(x, 0.2)))


def reference_block(block: SpadeBlock, x: Tensor, labels: LabelPyramid) -> Tensor:
    """(N, in_channels, h, w) -> (N, out_channels, h, w)."""
    shortcut = block.conv_s(block.norm_s.reference(x, labels)) if block.learned_shortcut else x
    x = block.conv_0(F.leaky_relu(block.norm_0.reference(x, labels), 0.2))
    x = block.conv_1(F.leaky_relu(block.norm_1.reference(x, labels), 0.2))
    return shortcut + x
