"""Batch norm over processes: two on loopback act as one, alone it is torch's."""

import copy

import torch
import torch.multiprocessing as mp
from test_parallel import free_port, process
from torch import nn

from gaugan.spade.modulation import Spade, SpadeNorm
from gaugan.sync_norm import SyncBatchNorm2d, shared_batchnorm, synchronise

torch.set_num_threads(1)


def pictures() -> torch.Tensor:
    """(4, 3, 5, 6): every process has two of them, of quite different statistics."""
    values = torch.randn(4, 3, 5, 6, generator=torch.Generator().manual_seed(0))
    return values * torch.tensor([1.0, 2.0, 0.5, 3.0]).view(4, 1, 1, 1) + torch.arange(4.0).view(4, 1, 1, 1)


def layer(affine: bool) -> nn.Sequential:
    torch.manual_seed(1)
    norm = shared_batchnorm(3, affine=affine)
    if affine:
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    return nn.Sequential(norm)


def check_two_act_as_one(rank: int) -> None:
    mine = slice(2 * rank, 2 * rank + 2)
    weights = torch.randn(4, 3, 5, 6, generator=torch.Generator().manual_seed(2))
    for affine in (False, True):
        shared = layer(affine)
        whole, parameters = copy.deepcopy(shared), list(shared.parameters())
        everything, part = pictures().requires_grad_(), pictures()[mine].clone().requires_grad_()
        (whole(everything) * weights).sum().backward()
        synchronise(shared)
        assert all(a is b for a, b in zip(parameters, shared.parameters(), strict=True))
        out = shared(part)
        (out * weights[mine]).sum().backward()
        torch.testing.assert_close(out, whole(everything)[mine], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(part.grad, everything.grad[mine], rtol=1e-4, atol=1e-5)
        shared(part)  # whole ran twice
        for name, value in whole.state_dict().items():
            torch.testing.assert_close(shared.state_dict()[name], value, rtol=1e-4, atol=1e-5)

    narrow = layer(affine=False)
    synchronise(narrow, clamps=True)
    x = pictures() * 1e-3
    mean, variance = x.mean((0, 2, 3), keepdim=True), x.var((0, 2, 3), keepdim=True, correction=0)
    wanted = (x - mean) / variance.clamp(min=1e-5).sqrt()
    torch.testing.assert_close(narrow(x[mine]), wanted[mine], rtol=1e-4, atol=1e-5)

    spade = nn.ModuleList(
        Spade(4, 2, norm=SpadeNorm.parse(text), hidden=2) for text in ("spadesyncbatch3x3", "spadebatch3x3")
    )
    before = copy.deepcopy(spade)
    synchronise(spade)
    assert [type(layer.param_free_norm) for layer in spade] == [SyncBatchNorm2d, nn.BatchNorm2d]
    if rank == 0:  # no other process takes part: neither in evaluation nor in a copy that was made before
        shared.eval()(part)
        assert type(before[0].param_free_norm) is nn.BatchNorm2d
        before[0].param_free_norm(torch.randn(1, 4, 2, 2))


def test_two_processes_normalise_as_one() -> None:
    mp.spawn(process, (check_two_act_as_one, free_port()), nprocs=2)


def test_alone_it_is_torchs_batch_norm_and_stays_so() -> None:
    network = layer(affine=True)
    synchronise(network, clamps=True)
    assert type(network[0]) is nn.BatchNorm2d
