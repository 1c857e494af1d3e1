"""gaugan.parallel: two processes on loopback (gloo), and identities when there is one."""

import os
from collections.abc import Callable

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from benchmarks.ports import free_port
from gaugan import parallel


def process(rank: int, check: Callable[[int], None], port: int) -> None:
    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    check(rank)
    dist.destroy_process_group()


def check_everything(rank: int) -> None:
    """One start of two processes serves all claims: it is the slow part."""
    assert (parallel.rank(), parallel.world_size()) == (rank, 2)

    tensors = [torch.full((2, 3), float(rank)), torch.tensor(2.0 * rank), torch.full((4,), rank, dtype=torch.float64)]
    parallel.average_tensors(tensors)
    assert torch.equal(tensors[0], torch.full((2, 3), 0.5)) and tensors[1] == 1 and tensors[2].eq(0.5).all()

    torch.manual_seed(0)
    network = torch.nn.Linear(3, 2)
    unused = torch.nn.Parameter(torch.ones(5))
    inputs = torch.arange(12.0).view(4, 3)
    network(inputs[rank::2]).square().mean().backward()
    parallel.average_gradients([*network.parameters(), unused])
    together = torch.nn.Linear(3, 2)
    together.load_state_dict(network.state_dict())
    together(inputs).square().mean().backward()
    for mine, theirs in zip(network.parameters(), together.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad)
    assert unused.grad is None

    counts = [torch.tensor([1, rank]), torch.tensor(1.5)]
    parallel.sum_tensors(counts)
    assert counts[0].tolist() == [2, 1] and counts[1] == 3

    assert parallel.any_rank(rank == 1) and not parallel.any_rank(False)
    parallel.average_tensors([])
    parallel.barrier()
    batchnorm = torch.nn.BatchNorm2d(3)
    assert parallel.sync_batchnorm(batchnorm) is batchnorm


def test_two_processes_act_as_one() -> None:
    mp.spawn(process, (check_everything, free_port()), nprocs=2)


def test_alone_everything_is_the_identity() -> None:
    assert (parallel.rank(), parallel.world_size()) == (0, 1)
    weight = torch.nn.Parameter(torch.ones(2))
    weight.grad = torch.tensor([1.0, 2.0])
    parallel.average_gradients([weight])
    tensor = torch.tensor(3.0)
    parallel.sum_tensors([tensor])
    parallel.barrier()
    assert weight.grad.tolist() == [1, 2] and tensor == 3
    assert parallel.any_rank(True) and not parallel.any_rank(False)
