"""Batch normalisation over the batches of all processes, on GPUs and on CPUs.

Ioffe & Szegedy 2015 (arXiv:1502.03167), with the statistics of the whole step's batch however many workers share it.
Networks are built with `shared_batchnorm` layers, which are torch's own; `synchronise` puts the shared ones in their
place where several processes train, after copies for evaluation were made: those must run on one process alone.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from gaugan import parallel


def shared_batchnorm(channels: int, affine: bool = True) -> nn.BatchNorm2d:
    """A batch norm that `synchronise` will find."""
    layer = nn.BatchNorm2d(channels, affine=affine)
    setattr(layer, "shared", True)  # noqa: B010 (torch's class declares no such attribute)
    return layer


class SyncBatchNorm2d(nn.BatchNorm2d):
    """In training the statistics are those of all processes, which must run the same passes.

    The pictures of a step are shared out equally, so every process counts the same. `clamps`: divides by
    sqrt(max(variance, eps)) instead of sqrt(variance + eps), in training only. That is the published code's rule on
    several GPUs; the two differ by more than 1e-3 only where a channel's variance is below 5e-3.
    """

    clamps = False

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> the same shape."""
        if not self.training:
            return super().forward(x)
        mean, variance, count = _of_all_processes(x.float())
        self._track(mean.detach(), variance.detach(), count)
        scale = variance.clamp(min=self.eps).rsqrt() if self.clamps else (variance + self.eps).rsqrt()
        shift = -mean * scale
        if self.affine:
            shift = shift * self.weight + self.bias
            scale = scale * self.weight
        return torch.addcmul(_per_channel(shift), x, _per_channel(scale)).to(x.dtype)

    @torch.no_grad()
    def _track(self, mean: Tensor, variance: Tensor, count: int) -> None:
        assert self.momentum is not None and self.running_mean is not None and self.running_var is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked += 1
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance * (count / (count - 1)), self.momentum)  # unbiased, as nn.BatchNorm2d keeps it


def synchronise(network: nn.Module, clamps: bool = False) -> None:
    """From now on the network's shared batch norms take their statistics from all processes; nothing when alone.

    Parameters, buffers and key names stay. On GPUs without `clamps` they become torch's fused layers.
    """
    if parallel.world_size() == 1:
        return
    fused = dist.get_backend() == "nccl" and not clamps
    for name, child in network.named_children():
        if getattr(child, "shared", False):
            layer = nn.SyncBatchNorm.convert_sync_batchnorm(child) if fused else _sync(child, clamps)
            setattr(network, name, layer)
        else:
            synchronise(child, clamps)


def _sync(layer: nn.Module, clamps: bool) -> SyncBatchNorm2d:
    assert isinstance(layer, nn.BatchNorm2d)
    found = SyncBatchNorm2d(layer.num_features, layer.eps, layer.momentum, layer.affine)
    found._parameters, found._buffers = layer._parameters, layer._buffers
    found.clamps = clamps
    return found.train(layer.training)


def _of_all_processes(x: Tensor) -> tuple[Tensor, Tensor, int]:
    """Mean and biased variance (C,) over all processes, differentiable, and the number of values of a channel.

    Each process writes its own two rows of a table of zeros; the sum over processes is everybody's table. Combining
    means and variances loses no digits, unlike sums of squares.
    """
    from torch.distributed.nn.functional import all_reduce

    variance, mean = torch.var_mean(x, dim=(0, 2, 3), correction=0)
    row = F.one_hot(torch.tensor(parallel.rank(), device=x.device), parallel.world_size()).to(x.dtype)
    table = all_reduce(row.view(-1, 1, 1) * torch.stack([mean, variance]))  # (world, 2, C)
    means, variances = table[:, 0], table[:, 1]
    mean = means.mean(0)
    variance = (variances + (means - mean).square()).mean(0)
    return mean, variance, parallel.world_size() * x.numel() // x.shape[1]


def _per_channel(values: Tensor) -> Tensor:
    return values.view(1, -1, 1, 1)
