"""A generator made ready for painting: what depends on the label map alone is computed once per label map.

plan = RenderPlan(generator)
prepared = plan.prepare(LabelPyramid.from_ids(label_map, num_classes))
pictures = [plan.paint(prepared, z) for z in styles]

Spectral norms are divided out, running statistics are folded into the weights of gamma and beta, weights lie in the
layout of the fastest convolution for their map's size, and the larger maps live in memory that is kept from picture to
picture. float32 on a CPU with compiled kernels: modulation, activation, convolution, bias and residual are one pass.
Everywhere else: one pass for modulation and activation, then the library's convolution.
"""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gaugan.convolution import CHANNEL_STEP, SMALLEST_F4, Method, PackedConv, can_convolve, choose_method
from gaugan.nn import SpectralConv2d, fold_spectral_norm
from gaugan.spade.label_pyramid import LabelPyramid
from gaugan.spade.modulate import Pass, run_pass
from gaugan.spade.modulation import Mlp, Spade
from gaugan.spade.networks import SLOPE, Generator, SpadeBlock
from gaugan.spade.reuse import KnownTables

Size = tuple[int, int]
Table = tuple[Tensor, Tensor]
"""Rows (K, 2 C) and index int32 (N, h, w)."""


class Memory:
    """Flat buffers that are used again: on a CPU, touching fresh memory takes longer than the work done in it."""

    def __init__(self, dtype: torch.dtype, device: torch.device) -> None:
        self.dtype, self.device = dtype, device
        self._free: list[Tensor] = []
        self._lent: dict[int, Tensor] = {}

    def take(self, n: int, channels: int, size: Size) -> Tensor:
        """An unwritten channels-last (n, channels, *size)."""
        count = n * channels * math.prod(size)
        fitting = [buffer for buffer in self._free if buffer.numel() >= count]
        if fitting:
            buffer = min(fitting, key=torch.numel)
            self._free = [other for other in self._free if other is not buffer]
        else:
            buffer = torch.empty(count, dtype=self.dtype, device=self.device)
        self._lent[buffer.data_ptr()] = buffer
        return buffer[:count].view(n, *size, channels).permute(0, 3, 1, 2)

    def give(self, map_: Tensor) -> None:
        """Takes back what `take` gave (other maps are ignored) and keeps the two largest free buffers."""
        buffer = self._lent.pop(map_.data_ptr(), None)
        if buffer is not None:
            self._free = sorted([*self._free, buffer], key=torch.numel)[-2:]


class FoldedSpade:
    """A SPADE layer with its running statistics folded into gamma and beta: one scale and shift per pixel."""

    def __init__(self, spade: Spade, size: Size) -> None:
        norm = spade.param_free_norm
        gamma, beta = spade.mlp_gamma, spade.mlp_beta
        assert gamma.bias is not None and beta.bias is not None
        self.normalise: nn.Module | None = None
        weights, bias = [gamma.weight, beta.weight], (gamma.bias + 1, beta.bias)
        if isinstance(norm, nn.modules.batchnorm._BatchNorm):
            assert norm.running_mean is not None and norm.running_var is not None
            rate = (norm.running_var + norm.eps).rsqrt()
            offset = norm.running_mean * rate
            weights = [gamma.weight * _wide(rate), beta.weight - gamma.weight * _wide(offset)]
            bias = bias[0] * rate, bias[1] - bias[0] * offset
        else:
            self.normalise = norm  # statistics of the picture itself
        shared = spade.mlp_shared[0]
        assert isinstance(shared, nn.Conv2d) and shared.bias is not None
        both, biases, packed = torch.cat(weights), torch.cat(bias), None
        if can_convolve(both, both) and both.shape[2] == 3 and len(both) % CHANNEL_STEP == 0:
            packed = PackedConv(both, biases, Method.DIRECT)
            weights = weights if math.prod(size) >= SMALLEST_F4 else []
        self.mlp = Mlp(shared.weight, shared.bias, weights, biases, packed)


def _wide(per_channel: Tensor) -> Tensor:
    return per_channel[:, None, None, None]


class Step:
    """Modulation, leaky ReLU and the convolution behind them, for maps of one size."""

    def __init__(self, spade: Spade | None, conv: nn.Module, size: Size, slope: float, dtype: torch.dtype) -> None:
        assert isinstance(conv, (nn.Conv2d, SpectralConv2d))
        weight = conv.weight() if isinstance(conv, SpectralConv2d) else conv.weight
        weight = weight.detach().to(dtype)
        bias = None if conv.bias is None else conv.bias.detach().to(dtype)
        self.spade = None if spade is None else FoldedSpade(spade, size)
        self.size, self.slope, self.out_channels = size, slope, len(weight)
        self.packed: PackedConv | None = None
        if can_convolve(weight, weight):
            self.packed = PackedConv(weight, bias, choose_method(math.prod(size), weight.shape[2]))
            return
        self.weight, self.bias = weight.contiguous(memory_format=torch.channels_last), bias

    def table(self, labels: LabelPyramid) -> Table | None:
        """What `run` needs for these labels; None when it is a row per pixel, too much to keep."""
        if self.spade is None or self.spade.mlp.windows(labels, self.size) is None:
            return None
        rows, how = self.spade.mlp.table(labels, self.size)
        return rows, how.index

    def run(
        self,
        x: Tensor,
        prepared: Prepared,
        memory: Memory,
        *,
        doubled: bool = False,
        residual: Tensor | None = None,
        out: Tensor | None = None,
    ) -> Tensor:
        """(N, C, h, w), or half that size when doubled -> (N, out_channels, h, w), added to residual."""
        table, how = self._modulation(prepared, doubled)
        if self.spade is not None and self.spade.normalise is not None:
            x = self.spade.normalise(x).contiguous(memory_format=torch.channels_last)
        if self.packed is not None:
            out = memory.take(len(x), self.out_channels, self.size) if out is None else out
            return self.packed(x, how, table, residual=residual, out=out)
        if table is None:
            y = F.leaky_relu(x, self.slope)
        else:
            y = run_pass(x, table, how, memory.take(len(x), x.shape[1], self.size))
        answer = F.conv2d(y, self.weight, self.bias, padding=self.weight.shape[2] // 2)
        memory.give(y)
        if residual is None:
            return answer
        answer.add_(residual)
        memory.give(residual)
        return answer

    def _modulation(self, prepared: Prepared, doubled: bool) -> tuple[Tensor | None, Pass]:
        if self.spade is None:
            return None, Pass(prepared.labels.every_pixel(self.size), slope=self.slope)
        kept = prepared.tables[self]
        if kept is None:
            table, how = self.spade.mlp.table(prepared.labels, self.size)
            kept = table, how.index
        return kept[0], Pass(kept[1], slope=self.slope, doubled=doubled)


class Block:
    """One residual block as steps."""

    def __init__(self, block: SpadeBlock, size: Size, doubled: bool, dtype: torch.dtype) -> None:
        self.doubled, self.size = doubled, size
        self.step_0 = Step(block.norm_0, block.conv_0, size, SLOPE, dtype)
        self.step_1 = Step(block.norm_1, block.conv_1, size, SLOPE, dtype)
        self.shortcut = Step(block.norm_s, block.conv_s, size, 1.0, dtype) if block.learned_shortcut else None

    def steps(self) -> list[Step]:
        """All of them."""
        return [self.step_0, self.step_1, *([self.shortcut] if self.shortcut else [])]

    def run(self, x: Tensor, prepared: Prepared, memory: Memory) -> Tensor:
        """The block's output; x goes back to `memory`."""
        if self.shortcut is not None:
            residual = self.shortcut.run(x, prepared, memory, doubled=self.doubled)
        else:
            residual = _double(x) if self.doubled else x
        hidden = self.step_0.run(x, prepared, memory, doubled=self.doubled)
        if residual is not x:
            memory.give(x)
        out = self.step_1.run(hidden, prepared, memory, residual=residual, out=residual)
        memory.give(hidden)
        return out


def _double(x: Tensor) -> Tensor:
    """Twice the size, channels-last (which interpolate forgets for 1 x 1 maps)."""
    return F.interpolate(x, scale_factor=2, mode="nearest").contiguous(memory_format=torch.channels_last)


@dataclass
class Prepared:
    """All that depends on a batch of label maps."""

    labels: LabelPyramid
    tables: dict[Step, Table | None]


class RenderPlan:
    """A trained generator in evaluation, on its own device. It keeps copies: the generator may be dropped."""

    @torch.no_grad()
    def __init__(self, generator: Generator, dtype: torch.dtype = torch.float32) -> None:
        """dtype: of feature maps and convolutions (float32 or bfloat16); tables stay in float32."""
        generator.eval()
        self.dtype, self.z_dim = dtype, generator.z_dim
        self.device = generator.conv_img.weight.device
        self.start_size, self.start_channels, self.fc = generator.start_size, generator.start_channels, generator.fc
        size = self.start_size
        self.blocks = []
        for block, doubled in generator.blocks():
            size = (size[0] << doubled, size[1] << doubled)
            self.blocks.append(Block(block, size, doubled, dtype))
        self.to_rgb = Step(None, generator.conv_img, size, SLOPE, dtype)
        self._memory = Memory(dtype, self.device)
        self._steps: dict[Size, list[Step]] = {}
        for one in self.blocks:
            self._steps.setdefault(one.size, []).extend(one.steps())
        self._known: dict[Size, KnownTables] = {}
        self._lock, self._known_lock = threading.Lock(), threading.Lock()

    def forget(self) -> None:
        """Frees the table rows kept from earlier label maps."""
        with self._known_lock:
            self._known.clear()

    @torch.inference_mode()
    def prepare(self, labels: LabelPyramid) -> Prepared:
        """Windows and tables of a batch of label maps, for any number of styles."""
        tables: dict[Step, Table | None] = {}
        for size, steps in self._steps.items():
            tables |= self._tables(labels, size, steps)
        return Prepared(labels, tables)

    def _tables(self, labels: LabelPyramid, size: Size, steps: list[Step]) -> dict[Step, Table | None]:
        """Of the steps of one size, which share their windows; rows known from earlier label maps are taken again."""
        layers = [step.spade.mlp for step in steps if step.spade is not None]
        windows = layers[0].windows(labels, size)
        if windows is None or not KnownTables.possible(layers, labels):
            return {step: step.table(labels) for step in steps}
        with self._known_lock:
            known = self._known.setdefault(size, KnownTables(layers))
            tables, index = known.look_up(labels, windows)
        return {step: (table, index) for step, table in zip(steps, tables, strict=True)}

    @torch.inference_mode()
    def paint(self, prepared: Prepared, z: Tensor | None = None) -> Tensor:
        """z (N, z_dim), or None for a generator without -> float32 (N, 3, H, W) in [-1, 1]."""
        with self._lock:
            x = self._start(prepared.labels, z)
            for block in self.blocks:
                x = block.run(x, prepared, self._memory)
            painted = self.to_rgb.run(x, prepared, self._memory)
            self._memory.give(x)
            answer = torch.tanh(painted.float())
            self._memory.give(painted)
        return answer

    def _start(self, labels: LabelPyramid, z: Tensor | None) -> Tensor:
        if self.z_dim is None:
            x = self.fc(labels.at(self.start_size))
        else:
            if z is None:
                raise ValueError(f"this generator starts from a style vector: pass z of shape (N, {self.z_dim})")
            x = self.fc(z).view(-1, self.start_channels, *self.start_size)
        return x.to(self.dtype).contiguous(memory_format=torch.channels_last)


class NetworkPlan:
    """Any other generator behind the same two calls: nothing is known of how it uses its labels."""

    def __init__(self, generator: nn.Module, dtype: torch.dtype = torch.float32) -> None:
        """dtype: of convolutions, by autocast (float32 = none)."""
        generator = fold_spectral_norm(generator).eval().requires_grad_(False)
        self._generator, self._dtype = generator.to(memory_format=torch.channels_last), dtype

    def prepare(self, labels: LabelPyramid) -> Prepared:
        """The labels as they are."""
        return Prepared(labels, {})

    @torch.inference_mode()
    def paint(self, prepared: Prepared, z: Tensor | None = None) -> Tensor:
        """z (N, z_dim), or None for a generator without -> float32 (N, 3, H, W) in [-1, 1]."""
        onehot = prepared.labels.at(prepared.labels.size).contiguous(memory_format=torch.channels_last)
        with torch.autocast(onehot.device.type, self._dtype, enabled=self._dtype != torch.float32):
            painted: Tensor = self._generator(onehot, z)
        return painted.float()
