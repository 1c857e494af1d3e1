"""Batch norm over processes: two on loopback act as one, alone it is torch's."""

import copy
import os
from pathlib import Path

import pytest
import torch
import torch.multiprocessing as mp
from test_parallel import process
from torch import nn

from benchmarks.ports import free_port
from gaugan import parallel
from gaugan.labels import ClassTable
from gaugan.spade.config import SpadeConfig
from gaugan.spade.label_pyramid import LabelPyramid
from gaugan.spade.modulation import Spade, SpadeNorm
from gaugan.spade.system import SpadeSystem
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

    check_a_spade_under_ddp(mine)
    check_a_training_step(mine)


CLASSES = ClassTable(("a", "b", "c"), ((0, 0, 0), (255, 0, 0), (0, 255, 0)))
TINY = SpadeConfig(style="none", ngf=4, ndf=4, spade_hidden=8, precision="fp32")


def regions(generator: torch.Generator) -> torch.Tensor:
    """int64 (4, 32, 64) in squares of 8: few windows, so that tables are used."""
    coarse = torch.randint(0, 3, (4, 4, 8), generator=generator)
    return coarse.repeat_interleave(8, 1).repeat_interleave(8, 2)


def check_a_spade_under_ddp(mine: slice) -> None:
    """Each process's gradients, averaged by torch's own wrapper, are those of all pictures in one process."""
    torch.manual_seed(8)
    layer = Spade(4, 3, norm=SpadeNorm.parse("spadesyncbatch3x3"), hidden=8)
    whole = copy.deepcopy(layer)
    generator = torch.Generator().manual_seed(9)
    ids, x = regions(generator), torch.randn(4, 4, 32, 64, generator=generator)
    assert LabelPyramid.from_ids(ids[mine], 3).windows((32, 64), 3, 8, training=True) is not None
    whole(x, LabelPyramid.from_ids(ids, 3), slope=0.2).square().mean().backward()
    synchronise(layer)
    wrapped = nn.parallel.DistributedDataParallel(layer)
    wrapped(x[mine], LabelPyramid.from_ids(ids[mine], 3), slope=0.2).square().mean().backward()
    for (name, mine_), wanted in zip(layer.named_parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(mine_.grad, wanted.grad, rtol=1e-4, atol=1e-6, msg=name)


def first_step(mine: slice, world: int) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Loss terms and running statistics of a step on a part of four pictures."""
    torch.manual_seed(5)
    system = SpadeSystem(TINY, classes=CLASSES, image_size=(32, 64), device=torch.device("cpu"))
    generator = torch.Generator().manual_seed(6)
    image = torch.rand(4, 3, 32, 64, generator=generator) * 2 - 1
    label_map = regions(generator)
    terms = system.train_step({"image": image[mine], "label_map": label_map[mine]}, 0)
    assert system.images_seen == 4 and parallel.world_size() == world
    return terms, {name: value for name, value in system.G.state_dict().items() if "running" in name}


def check_a_training_step(mine: slice) -> None:
    terms, statistics = first_step(mine, world=2)
    parallel.average_tensors(list(terms.values()))
    together = torch.load(os.environ[EXPECTED], weights_only=True)
    for found, wanted in zip((terms, statistics), together, strict=True):
        assert found.keys() == wanted.keys()
        for name, value in wanted.items():
            torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-5, msg=name)


EXPECTED = "EXPECTED_OF_ONE_PROCESS"


def test_two_processes_normalise_and_train_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(EXPECTED, str(tmp_path / "one.pt"))
    torch.save(first_step(slice(0, 4), world=1), tmp_path / "one.pt")
    mp.spawn(process, (check_two_act_as_one, free_port()), nprocs=2)


def test_alone_it_is_torchs_batch_norm_and_stays_so() -> None:
    network = layer(affine=True)
    synchronise(network, clamps=True)
    assert type(network[0]) is nn.BatchNorm2d
