"""Several processes as one: the few collective calls that training needs, identities when there is one process.

There is no module wrapper: each optimiser step averages its own gradients in one flattened all-reduce. That keeps two
optimisers, passes without gradients and spectral-norm buffers simple (traps of GANs in DDP: torch issues 22095, 65907),
at the price of not overlapping communication with the backward pass.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.distributed as dist


def _active() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def rank() -> int:
    """This process's number, 0 when alone."""
    return dist.get_rank() if _active() else 0


def world_size() -> int:
    """How many processes train together."""
    return dist.get_world_size() if _active() else 1


def average_gradients(parameters: Iterable[torch.nn.Parameter]) -> None:
    """Replaces each gradient by its mean over all processes (same parameters with gradients everywhere)."""
    if _active():
        average_tensors([p.grad for p in parameters if p.grad is not None])


def average_tensors(tensors: list[torch.Tensor]) -> None:
    """Replaces each tensor by its mean over all processes, in place, one all-reduce per dtype."""
    if not _active():
        return
    for dtype in dict.fromkeys(tensor.dtype for tensor in tensors):
        group = [tensor for tensor in tensors if tensor.dtype == dtype]
        flat = torch.cat([tensor.reshape(-1) for tensor in group])
        dist.all_reduce(flat)
        flat /= dist.get_world_size()
        for tensor, mean in zip(group, flat.split([tensor.numel() for tensor in group]), strict=True):
            tensor.copy_(mean.view_as(tensor))


def sum_tensors(tensors: list[torch.Tensor]) -> None:
    """Replaces each tensor by its sum over all processes, in place."""
    if _active():
        for tensor in tensors:
            dist.all_reduce(tensor)


def any_rank(flag: bool) -> bool:
    """True everywhere when true anywhere. All processes must call it at the same point."""
    if not _active():
        return flag
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    value = torch.tensor([float(flag)], device=device)
    dist.all_reduce(value, op=dist.ReduceOp.MAX)
    return bool(value.item())


def barrier() -> None:
    """Waits for all processes."""
    if _active():
        dist.barrier()


def sync_batchnorm(module: torch.nn.Module) -> torch.nn.Module:
    """BatchNorm over all processes on GPUs. On CPU groups torch has none: statistics stay per process."""
    if _active() and dist.get_backend() == "nccl":
        return torch.nn.SyncBatchNorm.convert_sync_batchnorm(module)
    return module
