"""The up path with fewer multiplications: the plain network's answers, whatever was asked before."""

from __future__ import annotations

import pytest
import torch

from gaugan import native
from gaugan.unet.fusion import fuse_activations, fuse_batch_norms
from gaugan.unet.networks import UNet, UpsampledUp
from gaugan.unet.packed import PackedUp, pack_up_path

EVEN = (32, 16, 32, 16, 16)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


def networks(version: str = "v3", widths: tuple[int, ...] = EVEN) -> tuple[UNet, UNet]:
    """(plain, rewritten for inference)."""
    plain = UNet(version, 7, widths).train()
    for _ in range(5):
        plain(torch.randn(2, 3, 64, 64))
    fast = UNet(version, 7, widths)
    fast.load_state_dict(plain.state_dict())
    fuse_batch_norms(fast.eval()).to(memory_format=torch.channels_last)
    pack_up_path(fast)
    fuse_activations(fast)
    return plain.eval().requires_grad_(False), fast.requires_grad_(False)


def pictures(count: int, height: int, width: int) -> torch.Tensor:
    return (torch.rand(count, 3, height, width) * 2 - 1).contiguous(memory_format=torch.channels_last)


needs_kernels = pytest.mark.skipif(native.library() is None, reason="no C++ compiler")


@needs_kernels
@pytest.mark.parametrize("size", [(1, 64, 64), (2, 64, 96), (1, 32, 160)])
def test_the_packed_network_gives_the_logits_of_the_plain_one(size: tuple[int, int, int]) -> None:
    plain, fast = networks()
    assert all(isinstance(up, PackedUp) for up in fast.up)
    x = pictures(*size)
    torch.testing.assert_close(fast(x), plain(x), rtol=1e-3, atol=1e-4)


@needs_kernels
def test_answers_repeat_bit_by_bit_and_are_not_overwritten_by_later_ones() -> None:
    _, fast = networks()
    x = pictures(1, 64, 64)
    first = fast(x)
    copy = first.clone()
    fast(pictures(2, 96, 64))
    again = fast(x)
    fast(pictures(1, 64, 64))
    assert torch.equal(first, copy) and torch.equal(again, copy)


def test_networks_that_the_kernels_can_not_take_stay_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    for version, widths in (("v2", EVEN), ("v3", (16, 16, 8, 8, 8))):
        plain, fast = networks(version, widths)
        assert not any(isinstance(up, PackedUp) for up in fast.up)
        x = pictures(1, 64, 64)
        torch.testing.assert_close(fast(x), plain(x), rtol=1e-3, atol=1e-4)
    monkeypatch.setattr(native, "library", lambda: None)
    assert all(isinstance(up, UpsampledUp) for up in networks()[1].up)
