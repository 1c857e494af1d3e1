"""Building blocks shared by the systems: spectral norm, weight initialisation, the optimiser step.

Spectral norm: Miyato et al., "Spectral Normalization for Generative Adversarial Networks", 2018, arXiv:1802.05957.
The key names `weight_orig`, `weight_u`, `weight_v` are those of `torch.nn.utils.spectral_norm`, so that checkpoints of
networks built with it load unchanged.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Iterator
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gaugan import parallel

InitRule = Literal["reference", "xavier", "xavier_uniform", "normal", "kaiming", "orthogonal", "none"]
WARM_UP_STEPS = 15


class SpectralConv2d(nn.Module):
    """A convolution whose weight is divided by its largest singular value sigma = u^T W v.

    `forward` never changes u and v: call `power_iteration(network)` once before a training pass. So reading a weight,
    a pass without gradients or a skipped step leave them alone, and they depend on the weights only.
    sigma is computed in float32 also under autocast.
    """

    weight_u: Tensor
    weight_v: Tensor
    bias: Tensor | None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        stride: int = 1,
        padding: int = 0,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.stride, self.padding = stride, padding
        self.weight_orig = nn.Parameter(self._empty_weight(out_channels, in_channels, kernel_size))
        self.register_parameter("bias", nn.Parameter(torch.zeros(out_channels)) if bias else None)
        self.register_buffer("weight_u", F.normalize(torch.randn(out_channels), dim=0))
        self.register_buffer("weight_v", F.normalize(torch.randn(in_channels * kernel_size**2), dim=0))
        nn.init.kaiming_uniform_(self.weight_orig, a=math.sqrt(5))  # the default of nn.Conv2d

    @staticmethod
    def _empty_weight(out_channels: int, in_channels: int, kernel_size: int) -> Tensor:
        return torch.empty(out_channels, in_channels, kernel_size, kernel_size)

    def matrix(self) -> Tensor:
        """The weight as the matrix whose singular value is meant: (out, in * k * k)."""
        return self.weight_orig.flatten(1)

    @torch.no_grad()
    def power_iteration(self, steps: int = 1) -> None:
        """Brings u and v closer to the singular vectors of the largest singular value (algorithm 1 of the paper)."""
        weight = self.weight_orig
        matrix, v = _as_matrix(weight, self.weight_v)  # (out, in * k * k)
        for _ in range(steps):
            v = F.normalize(torch.mv(matrix.t(), self.weight_u), dim=0, eps=1e-12)
            self.weight_u.copy_(F.normalize(torch.mv(matrix, v), dim=0, eps=1e-12))
        if _is_channels_last(weight):
            v = v.view(*weight.shape[2:], weight.shape[1]).permute(2, 0, 1).flatten()
        self.weight_v.copy_(v)

    def weight(self) -> Tensor:
        """W / sigma, float32; gradients flow through both."""
        with torch.autocast("cuda" if self.weight_orig.is_cuda else "cpu", enabled=False):
            return _DividedBySigma.apply(self.weight_orig, self.weight_u, self.weight_v)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in, H, W) -> (N, out, H', W')."""
        return F.conv2d(x, self.weight(), self.bias, self.stride, self.padding)

    def plain(self) -> nn.Module:
        """The plain layer that computes the same, without gradients."""
        out_channels, in_channels, size, _ = self.weight_orig.shape
        conv = nn.Conv2d(in_channels, out_channels, size, stride=self.stride, padding=self.padding, device="meta")
        return self._fill(conv)

    def _fill(self, layer: nn.Module) -> nn.Module:
        layer.weight = nn.Parameter(self.weight().detach(), requires_grad=False)
        layer.register_parameter("bias", self.bias)  # type: ignore[arg-type]
        return layer


class SpectralConvTranspose2d(SpectralConv2d):
    """The same for a transposed convolution that doubles the size: kernel 3, stride 2."""

    def __init__(self, in_channels: int, out_channels: int, *, bias: bool = True) -> None:
        super().__init__(in_channels, out_channels, 3, stride=2, padding=1, bias=bias)

    @staticmethod
    def _empty_weight(out_channels: int, in_channels: int, kernel_size: int) -> Tensor:
        return torch.empty(in_channels, out_channels, kernel_size, kernel_size)

    def matrix(self) -> Tensor:
        """As torch's hook lays it out: (out, in * k * k)."""
        return self.weight_orig.transpose(0, 1).flatten(1)

    @torch.no_grad()
    def power_iteration(self, steps: int = 1) -> None:
        """As that of SpectralConv2d; these weights' rows don't lie together in memory."""
        matrix = self.matrix()
        for _ in range(steps):
            self.weight_v.copy_(F.normalize(torch.mv(matrix.t(), self.weight_u), dim=0, eps=1e-12))
            self.weight_u.copy_(F.normalize(torch.mv(matrix, self.weight_v), dim=0, eps=1e-12))

    def weight(self) -> Tensor:
        """W / sigma, float32; gradients flow through both."""
        with torch.autocast("cuda" if self.weight_orig.is_cuda else "cpu", enabled=False):
            return self.weight_orig / torch.dot(self.weight_u, torch.mv(self.matrix(), self.weight_v))

    def forward(self, x: Tensor) -> Tensor:
        """(N, in, H, W) -> (N, out, 2 H, 2 W)."""
        return F.conv_transpose2d(x, self.weight(), self.bias, self.stride, self.padding, output_padding=1)

    def plain(self) -> nn.Module:
        """The plain layer that computes the same, without gradients."""
        in_channels, out_channels, _, _ = self.weight_orig.shape
        return self._fill(doubling_conv(in_channels, out_channels, device="meta"))


def doubling_conv(in_channels: int, out_channels: int, bias: bool = True, device: str | None = None) -> nn.Module:
    """The transposed convolution of SpectralConvTranspose2d without spectral norm."""
    return nn.ConvTranspose2d(
        in_channels, out_channels, 3, stride=2, padding=1, output_padding=1, bias=bias, device=device
    )


class _DividedBySigma(torch.autograd.Function):
    """W / (u^T W v) with its gradient written out: three passes over the weights instead of autograd's nine."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, u: Tensor, v: Tensor) -> Tensor:
        matrix, v = _as_matrix(weight, v)
        sigma = torch.dot(u, torch.mv(matrix, v))
        ctx.save_for_backward(weight, sigma, u.clone(), v.clone())  # u and v move on before some backward passes
        return weight / sigma

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        weight, sigma, u, v = ctx.saved_tensors
        result = torch.empty_like(weight).copy_(gradient).div_(sigma)
        through_sigma = torch.dot(_flat(result), _flat(weight)) / sigma
        matrix = result.permute(0, 2, 3, 1).flatten(1) if _is_channels_last(result) else result.flatten(1)
        matrix.addr_(u * -through_sigma, v)  # a view of result
        return result, None, None


def _as_matrix(weight: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """(out, in, k, k), (in * k * k) -> matrix (out, in * k * k) and v in the order in which weights lie in memory."""
    if not _is_channels_last(weight):
        return weight.flatten(1), v
    return weight.permute(0, 2, 3, 1).flatten(1), v.view(weight.shape[1:]).permute(1, 2, 0).flatten()


def _flat(weight: Tensor) -> Tensor:
    """All values in the order in which they lie in memory, without a copy."""
    return (weight.permute(0, 2, 3, 1) if _is_channels_last(weight) else weight).flatten()


def _is_channels_last(weight: Tensor) -> bool:
    return weight.is_contiguous(memory_format=torch.channels_last) and not weight.is_contiguous()


def power_iteration(network: nn.Module, steps: int = 1) -> None:
    """One power step (or several) for every spectral-norm layer; the reference does one per training forward pass."""
    for module in network.modules():
        if isinstance(module, SpectralConv2d):
            module.power_iteration(steps)


def fold_spectral_norm(network: nn.Module) -> nn.Module:
    """Replaces every spectral-norm layer by the plain one that computes the same, in place; for evaluation only."""
    for name, child in network.named_children():
        if isinstance(child, SpectralConv2d):
            setattr(network, name, child.plain())
        else:
            fold_spectral_norm(child)
    return network


def initialise(network: nn.Module, rule: InitRule = "reference", gain: float = 0.02) -> None:
    """Draws weights of all convolutions and linear layers; biases become 0.

    "reference": Xavier normal with `gain` for plain layers, PyTorch's default kept for spectral-norm ones. That is what
    the published SPADE code does on a GPU, where its init no longer reaches the spectral-norm weights. The other rules
    write every layer. The scale of a spectral-norm weight doesn't change its output, but it sets how far one Adam step
    turns it: a smaller weight learns faster. u and v get WARM_UP_STEPS power steps (the published code starts from
    random ones, whose sigma is far too small for the first steps). Learned scales of normalisation layers are drawn
    around 1. "none" leaves everything, biases too, as PyTorch draws it.
    """
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.affine and rule != "none":
            nn.init.normal_(module.weight, 1.0, gain)
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
            _draw(module.weight, "xavier" if rule == "reference" else rule, gain)
        elif isinstance(module, SpectralConv2d):
            if rule not in ("reference", "none"):
                _draw(module.weight_orig, rule, gain)
        else:
            continue
        if rule != "none" and module.bias is not None:
            nn.init.zeros_(module.bias)
    power_iteration(network, WARM_UP_STEPS)


def _draw(weight: Tensor, rule: str, gain: float) -> None:
    if rule == "xavier":
        nn.init.xavier_normal_(weight, gain=gain)
    elif rule == "xavier_uniform":
        nn.init.xavier_uniform_(weight, gain=1.0)
    elif rule == "normal":
        nn.init.normal_(weight, 0.0, gain)
    elif rule == "kaiming":
        nn.init.kaiming_normal_(weight, a=0.0)
    elif rule == "orthogonal":
        nn.init.orthogonal_(weight, gain=gain)


def set_learning_rate(optimiser: torch.optim.Optimizer, value: float) -> None:
    """Sets the learning rate of all parameter groups."""
    for group in optimiser.param_groups:
        group["lr"] = value


def make_adam(parameters: Iterable[nn.Parameter], learning_rate: float, betas: tuple[float, float]) -> torch.optim.Adam:
    """Adam that updates all parameters in one fused pass, on CPU and GPU."""
    return torch.optim.Adam(parameters, lr=learning_rate, betas=betas, fused=True)


def optimiser_step(
    loss: Tensor,
    optimiser: torch.optim.Optimizer,
    parameters: Iterable[nn.Parameter],
    max_norm: float | None = None,
) -> Tensor:
    """Backward, mean of the gradients over all processes, update. Returns `skipped`: a 0/1 float tensor.

    The update is skipped when any gradient is not finite: weights and optimiser state stay as they were.
    """
    parameters = list(parameters)
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    return apply_gradients(optimiser, parameters, max_norm)


@torch.no_grad()
def apply_gradients(
    optimiser: torch.optim.Optimizer, parameters: Iterable[nn.Parameter], max_norm: float | None = None
) -> Tensor:
    """The second half of `optimiser_step`, for gradients that are already there.

    With `max_norm` all gradients are scaled down together when their Euclidean norm is larger.
    """
    parameters = list(parameters)
    parallel.average_gradients(parameters)
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    norms = torch.stack(torch._foreach_norm(gradients))
    skipped = (~torch.isfinite(norms.sum())).float()
    if max_norm is not None:
        torch._foreach_mul_(gradients, (max_norm / (norms.norm() + 1e-6)).clamp(max=1.0))
    if optimiser.defaults.get("fused"):
        # The fused kernels look at this flag themselves: no wait for the GPU.
        setattr(optimiser, "found_inf", skipped)  # noqa: B010 (not declared by Optimizer)
        optimiser.step()
        delattr(optimiser, "found_inf")  # noqa: B043
    elif not skipped:
        optimiser.step()
    return skipped


class RunningStatistics:
    """The running statistics of all BatchNorm layers as they were, to be put back after a skipped step."""

    def __init__(self, network: nn.Module) -> None:
        self.buffers = list(_running_statistics(network))
        self.before = [buffer.clone() for buffer in self.buffers]

    @torch.no_grad()
    def restore_if(self, skipped: Tensor) -> None:
        """Puts the old values back where `skipped` (0/1) is 1."""
        for buffer, before in zip(self.buffers, self.before, strict=True):
            buffer.copy_(torch.where(skipped > 0, before, buffer))


def _running_statistics(network: nn.Module) -> Iterator[Tensor]:
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is not None:
            yield from (module.running_mean, module.running_var, module.num_batches_tracked)  # type: ignore[misc]


@torch.no_grad()
def recalibrate(network: nn.Module, passes: Iterable[None]) -> None:
    """Replaces the running statistics by the plain average over the forward passes that iterating `passes` makes.

    `network` is in training mode during the passes and in evaluation mode afterwards. With no passes at all the
    statistics stay as they were.
    """
    layers = [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.track_running_stats]
    momenta = [layer.momentum for layer in layers]
    before = [copy.deepcopy(layer.state_dict()) for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # cumulative average
    network.train()
    count = sum(1 for _ in passes)
    network.eval()
    for layer, momentum, state in zip(layers, momenta, before, strict=True):
        layer.momentum = momentum
        if count == 0:
            layer.load_state_dict(state)
