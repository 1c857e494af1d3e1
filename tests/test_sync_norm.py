"""Batch norm over processes: two on loopback act as one, alone it is torch's."""

import copy

import pytest
import torch
import torch.multiprocessing as mp
from test_parallel import free_port, process
from torch import nn

from gaugan.spade.modulation import Spade, SpadeNorm
from gaugan.sync_norm import SyncBatchNorm2d, synchronise

torch.set_num_threads(1)


def pictures() -> torch.Tensor:
    """(4, 3, 5, 6): every process has two of them, of quite different statistics."""
    values = torch.randn(4, 3, 5, 6, generator=torch.Generator().manual_seed(0))
    return values * torch.tensor([1.0, 2.0, 0.5, 3.0]).view(4, 1, 1, 1) + torch.arange(4.0).view(4, 1, 1, 1)


def layer(affine: bool) -> SyncBatchNorm2d:
    torch.manual_seed(1)
    norm = SyncBatchNorm2d(3, affine=affine)
    if affine:
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    return norm


def check_two_act_as_one(rank: int) -> None:
    mine = slice(2 * rank, 2 * rank + 2)
    weights = torch.randn(4, 3, 5, 6, generator=torch.Generator().manual_seed(2))
    for affine in (False, True):
        whole, shared = nn.BatchNorm2d(3, affine=affine), layer(affine)
        whole.load_state_dict(shared.state_dict())
        everything, part = pictures().requires_grad_(), pictures()[mine].clone().requires_grad_()
        (whole(everything) * weights).sum().backward()
        synchronise(shared)
        out = shared(part)
        (out * weights[mine]).sum().backward()
        torch.testing.assert_close(out, whole(everything)[mine], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(part.grad, everything.grad[mine], rtol=1e-4, atol=1e-5)
        shared(part)  # whole ran twice
        for name, value in whole.state_dict().items():
            torch.testing.assert_close(shared.state_dict()[name], value, rtol=1e-4, atol=1e-5)

    narrow = synchronise(layer(affine=False), clamps=True)
    x = pictures() * 1e-3
    mean, variance = x.mean((0, 2, 3), keepdim=True), x.var((0, 2, 3), keepdim=True, correction=0)
    wanted = (x - mean) / variance.clamp(min=1e-5).sqrt()
    torch.testing.assert_close(narrow(x[mine]), wanted[mine], rtol=1e-4, atol=1e-5)

    if rank == 0:  # no other process takes part: neither in evaluation nor before `synchronise`
        shared.eval()(part)
        layer(affine=False)(part)


def test_two_processes_normalise_as_one() -> None:
    mp.spawn(process, (check_two_act_as_one, free_port()), nprocs=2)


@pytest.mark.parametrize("training", [True, False])
def test_alone_it_is_torchs_batch_norm(training: bool) -> None:
    ours = synchronise(layer(affine=True), clamps=True).train(training)
    theirs = nn.BatchNorm2d(3).train(training)
    theirs.load_state_dict(ours.state_dict())
    assert torch.equal(ours(pictures()), theirs(pictures()))
    for name, value in theirs.state_dict().items():
        assert torch.equal(ours.state_dict()[name], value)


def test_only_what_is_named_sync_is_shared_and_copies_made_before_stay_alone() -> None:
    spade = nn.ModuleList(
        Spade(4, 2, norm=SpadeNorm.parse(text), hidden=2) for text in ("spadesyncbatch3x3", "spadebatch3x3")
    )
    before = copy.deepcopy(spade)
    synchronise(spade)
    assert [isinstance(layer.param_free_norm, SyncBatchNorm2d) for layer in spade] == [True, False]  # type: ignore[union-attr]
    assert spade[0].param_free_norm.synchronised and not before[0].param_free_norm.synchronised  # type: ignore[union-attr]
