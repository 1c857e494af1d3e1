"""A trained network rewritten for inference, with the same answers: batch norms folded into the convolutions before
them, activations computed while a convolution writes its result instead of in a pass over memory of their own.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d)


def fuse_batch_norms(module: nn.Module) -> nn.Module:
    """Folds each batch norm that directly follows a convolution into it, in place; the module must be in eval mode."""
    names = list(module._modules)
    for name, after in zip(names, names[1:], strict=False):
        conv, norm = module._modules[name], module._modules[after]
        if isinstance(conv, CONVOLUTIONS) and isinstance(norm, nn.BatchNorm2d):
            module._modules[name] = fuse_conv_bn_eval(conv, norm, transpose=isinstance(conv, nn.ConvTranspose2d))
            module._modules[after] = nn.Identity()
    for child in module.children():
        fuse_batch_norms(child)
    return module


def fuse_activations(module: nn.Module) -> nn.Module:
    """Replaces each convolution + ReLU or ReLU6 of a Sequential by one oneDNN call, in place: CPU inference only.

    Identities between the two (folded batch norms) are skipped. Without oneDNN nothing changes but the speed.
    """
    if not torch.backends.mkldnn.is_available():
        return module
    for child in module.children():
        fuse_activations(child)
    if isinstance(module, nn.Sequential):
        layers = [layer for layer in module if not isinstance(layer, nn.Identity)]
        fused: list[nn.Module] = []
        for layer in layers:
            if fused and type(fused[-1]) is nn.Conv2d and isinstance(layer, (nn.ReLU, nn.ReLU6)):
                fused[-1] = ActivatedConv2d(fused[-1], layer)
            else:
                fused.append(layer)
        module._modules.clear()
        module.extend(fused)
    return module


class ActivatedConv2d(nn.Module):
    """A zero-padded convolution with its ReLU or ReLU6: (N, C, H, W) -> (N, channels, h, w), the values of the two."""

    def __init__(self, conv: nn.Conv2d, activation: nn.ReLU | nn.ReLU6) -> None:
        super().__init__()
        self.conv = conv
        self.activation = ("hardtanh", [0.0, 6.0]) if isinstance(activation, nn.ReLU6) else ("relu", [])

    def forward(self, x: Tensor) -> Tensor:
        conv, (name, limits) = self.conv, self.activation
        # The operator that torch.compile's CPU backend calls for the same fusion.
        return torch.ops.mkldnn._convolution_pointwise(
            x, conv.weight, conv.bias, conv.padding, conv.stride, conv.dilation, conv.groups, name, limits, ""
        )
