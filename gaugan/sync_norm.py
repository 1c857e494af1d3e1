"""Batch normalisation over the batches of all processes, on GPUs and on CPUs.

Ioffe & Szegedy 2015 (arXiv:1502.03167), with the statistics of the whole step's batch however many workers share it.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from gaugan import parallel


class SyncBatchNorm2d(nn.BatchNorm2d):
    """`nn.BatchNorm2d` until `synchronise` is called on the network; then its statistics are those of all processes.

    Every process must then run the same training passes; a pass in evaluation mode needs no other process. The pictures
    of a step are shared out equally, so every process counts the same.
    """

    synchronised = False
    clamps = False
    """Divide by sqrt(max(variance, eps)) instead of sqrt(variance + eps), in training only: the published code's
    multi-GPU rule. The two differ by more than 1e-3 only where a channel's variance is below 5e-3."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> the same shape."""
        if not (self.training and self.synchronised and parallel.world_size() > 1):
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


def synchronise(network: nn.Module, clamps: bool = False) -> nn.Module:
    """From now on the SyncBatchNorm2d layers share their statistics; to be called after copies for evaluation are made.

    On GPUs without `clamps` they become torch's own fused layers, of the same meaning and key names.
    """
    for layer in network.modules():
        if isinstance(layer, SyncBatchNorm2d):
            layer.synchronised, layer.clamps = True, clamps
    if parallel.world_size() > 1 and dist.get_backend() == "nccl" and not clamps:
        _convert(network)
    return network


def _convert(network: nn.Module) -> None:
    for name, child in network.named_children():
        if isinstance(child, SyncBatchNorm2d):
            setattr(network, name, nn.SyncBatchNorm.convert_sync_batchnorm(child))
        else:
            _convert(child)


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
