"""The faster 3x3 convolution against torch's: values, what is fused into its pass, gradients."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from gaugan import native
from gaugan.convolution import Method, PackedConv, convolve_weight
from gaugan.spade import modulate
from gaugan.spade.modulate import Pass

torch.set_num_threads(1)

needs_kernels = pytest.mark.skipif(native.library() is None, reason="no C++ compiler on this machine")


@needs_kernels
@pytest.mark.parametrize("method", [Method.DIRECT, Method.F2, Method.F4])
@settings(max_examples=15, deadline=None)
@given(st.integers(1, 2), st.integers(1, 14), st.integers(1, 14), st.integers(1, 3), st.integers(1, 40))
def test_minimal_filtering_is_the_convolution(method, n, height, width, sixteens, out_channels) -> None:
    torch.manual_seed(0)
    x = torch.randn(n, 16 * sixteens, height, width).contiguous(memory_format=torch.channels_last)
    weight, bias = torch.randn(out_channels, 16 * sixteens, 3, 3) / 12, torch.randn(out_channels)
    wanted = F.conv2d(x, weight, bias, padding=1)
    answer = PackedConv(weight, bias, method)(x)
    torch.testing.assert_close(answer, wanted, rtol=1e-4, atol=1e-4)
    again = PackedConv(weight, bias, method)(x[-1:].contiguous(memory_format=torch.channels_last))
    assert torch.equal(again[0], answer[-1])  # a picture's answer does not depend on its company


@needs_kernels
def test_modulation_doubling_and_residual_are_one_pass_with_the_convolution() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 16, 5, 7).contiguous(memory_format=torch.channels_last)
    index, table = torch.randint(0, 6, (2, 10, 14), dtype=torch.int32), torch.randn(6, 32)
    weight, residual = torch.randn(20, 16, 3, 3) / 12, torch.randn(2, 20, 10, 14)
    residual = residual.contiguous(memory_format=torch.channels_last)
    how = Pass(index, slope=0.2, doubled=True)
    wanted = residual + F.conv2d(modulate.run_pass(x, table, how), weight, padding=1)
    answer = PackedConv(weight, None, Method.F4)(x, how, table, residual=residual, out=residual)
    assert answer is residual
    torch.testing.assert_close(answer, wanted, rtol=1e-4, atol=1e-4)


@needs_kernels
def test_gradients_of_the_faster_convolution_are_those_of_the_plain_one() -> None:
    torch.manual_seed(0)
    x = torch.randn(1, 16, 64, 66, requires_grad=True)
    weight, bias = (torch.randn(32, 16, 3, 3) / 12).requires_grad_(), torch.randn(32, requires_grad=True)
    mine, theirs = convolve_weight(x, weight, bias), F.conv2d(x, weight, bias, padding=1)
    assert type(mine.grad_fn).__name__ == "_ConvolveBackward"
    torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4)
    factor = torch.linspace(-1, 1, mine.numel()).view_as(mine)
    gradients = [torch.autograd.grad((y * factor).sum(), [x, weight, bias]) for y in (mine, theirs)]
    for ours, plain in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-3, atol=1e-3)
