"""The table per distinct label window against the convolutional definition: values, gradients, choices."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from gaugan import native
from gaugan.labels import IGNORE, onehot
from gaugan.spade import label_pyramid, modulate, tables
from gaugan.spade.build import encode_labels
from gaugan.spade.label_pyramid import LabelPyramid, distinct_columns
from gaugan.spade.modulate import Pass, Statistics
from gaugan.spade.modulation import Spade, SpadeNorm, batch_statistics
from gaugan.spade.windows import find_windows, number_codes, sort_pixels

torch.set_num_threads(1)

needs_kernels = pytest.mark.skipif(native.library() is None, reason="no C++ compiler on this machine")


@pytest.fixture(params=["kernels", "plain torch"])
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Runs a test with the compiled kernels and without them."""
    if request.param == "plain torch":
        monkeypatch.setattr(native, "library", lambda: None)
    elif native.library() is None:
        pytest.skip("no C++ compiler on this machine")
    return request.param


@pytest.fixture
def always_tables(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Tables also where the convolution would be chosen."""
    monkeypatch.setattr(label_pyramid, "is_cheaper", lambda *_: True)
    monkeypatch.setattr(label_pyramid, "cost_of_convolution", lambda *_: 1.0)
    yield


def make_layer(channels: int, label_channels: int, norm: str = "spadebatch3x3", hidden: int = 8) -> Spade:
    torch.manual_seed(0)
    layer = Spade(channels, label_channels, norm=SpadeNorm.parse(norm), hidden=hidden)
    if isinstance(layer.param_free_norm, torch.nn.BatchNorm2d):
        layer.param_free_norm.running_mean.normal_()
        layer.param_free_norm.running_var.uniform_(0.5, 2.0)
    return layer


def blocky(seed: int, n: int, height: int, width: int, num_classes: int, block: int) -> Tensor:
    """int64 (n, height, width): blocks of equal classes."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randint(0, num_classes, (n, -(-height // block), -(-width // block)), generator=generator)
    return coarse.repeat_interleave(block, 1).repeat_interleave(block, 2)[:, :height, :width].contiguous()


MAPS = st.builds(
    lambda seed, n, height, width, num_classes, block, ignored: (
        blocky(seed, n, height, width, num_classes, block).masked_fill(
            torch.rand(n, height, width, generator=torch.Generator().manual_seed(seed)) < ignored, IGNORE
        ),
        num_classes,
    ),
    st.integers(0, 10**6),
    st.integers(1, 2),
    st.integers(1, 17),
    st.integers(1, 17),
    st.integers(1, 200),
    st.integers(1, 6),
    st.sampled_from([0.0, 0.0, 0.1, 1.0]),
)


@settings(max_examples=60, deadline=None)
@given(MAPS, st.booleans(), st.booleans(), st.sampled_from(["spadebatch3x3", "spadebatch5x5", "spadeinstance3x3"]))
def test_any_label_map_gives_what_the_definition_gives(case, dontcare, with_edges, norm) -> None:
    label_map, num_classes = case
    edges = torch.rand(label_map.shape, generator=torch.Generator().manual_seed(1)) < 0.2 if with_edges else None
    given_labels = encode_labels(label_map, num_classes, dontcare=dontcare)
    if edges is not None:
        given_labels = torch.cat([given_labels, edges[:, None].float()], dim=1)
    layer = make_layer(16, given_labels.shape[1], norm).eval()
    x = torch.randn(len(label_map), 16, *label_map.shape[1:])
    if norm == "spadeinstance3x3" and x[0, 0].numel() == 1:
        return  # torch itself refuses instance norm of a single value
    from_ids = LabelPyramid.from_ids(label_map, num_classes, dontcare=dontcare, edges=edges)
    with torch.no_grad(), pytest.MonkeyPatch.context() as patch:
        wanted = layer.reference(x, LabelPyramid(given_labels))
        torch.testing.assert_close(layer(x, LabelPyramid(given_labels)), wanted, rtol=1e-4, atol=2e-5)
        patch.setattr(label_pyramid, "is_cheaper", lambda *_: True)
        patch.setattr(label_pyramid, "cost_of_convolution", lambda *_: 1.0)
        torch.testing.assert_close(layer(x, from_ids), wanted, rtol=1e-4, atol=2e-5)
        torch.testing.assert_close(layer(x, LabelPyramid(given_labels)), wanted, rtol=1e-4, atol=2e-5)
    assert torch.equal(from_ids.at(from_ids.size), given_labels)


def plain_gradients(layer: Spade, x: Tensor, labels: Tensor, doubled: bool) -> tuple[Tensor, list[Tensor]]:
    big = F.interpolate(x, scale_factor=2, mode="nearest") if doubled else x
    y = F.leaky_relu(layer.reference(big, LabelPyramid(labels)), 0.2)
    weight = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view_as(y)
    return y, list(torch.autograd.grad((y * weight).sum(), [x, *layer.parameters()]))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("doubled", [True, False])
@pytest.mark.parametrize("noise", [True, False])
def test_gradients_and_running_statistics_equal_the_definition(backend, training, doubled, noise) -> None:
    layer = make_layer(16, 4).train(training)
    plain = copy.deepcopy(layer)
    label_map = torch.randint(0, 4, (2, 16, 16)) if noise else blocky(0, 2, 16, 16, 4, 8)
    side = 8 if doubled else 16
    x = (torch.randn(2, 16, side, side) + 0.5).requires_grad_()
    labels = onehot(label_map, 4)
    wanted, wanted_gradients = plain_gradients(plain, x, labels, doubled)
    y = layer(x, LabelPyramid(labels), slope=0.2, doubled=doubled)
    weight = torch.linspace(-1, 1, y.numel()).view_as(y)
    gradients = torch.autograd.grad((y * weight).sum(), [x, *layer.parameters()])
    torch.testing.assert_close(y, wanted, rtol=1e-4, atol=1e-5)
    for mine, theirs in zip(gradients, wanted_gradients, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=2e-4, atol=2e-4)
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(layer.state_dict()[name], value, rtol=1e-5, atol=1e-6, msg=name)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("doubled", [True, False])
def test_gradcheck_in_double_precision(backend, always_tables, training, doubled) -> None:
    layer = make_layer(3, 3, hidden=4).double().train(training)
    layer.param_free_norm.momentum = 0.0  # numerical differences must not move the statistics
    labels = onehot(blocky(0, 1, 4, 6, 3, 2), 3).double()
    x = torch.randn(1, 3, *((2, 3) if doubled else (4, 6)), dtype=torch.float64, requires_grad=True)
    names = [name for name, _ in layer.named_parameters()]

    def run(x: Tensor, *parameters: Tensor) -> Tensor:
        arguments = (x, LabelPyramid(labels))
        state = dict(zip(names, parameters, strict=True))
        return torch.func.functional_call(layer, state, arguments, {"slope": 0.2, "doubled": doubled})

    assert torch.autograd.gradcheck(
        run, (x, *(parameter.detach().requires_grad_() for parameter in layer.parameters()))
    )


def test_kernels_equal_plain_torch_in_every_type() -> None:
    if native.library() is None:
        pytest.skip("no C++ compiler on this machine")
    torch.manual_seed(0)
    index = torch.randint(0, 5, (2, 6, 4), dtype=torch.int32)
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 2e-2)):
        wide = torch.float64 if dtype == torch.float64 else torch.float32
        x = torch.randn(2, 7, 3, 2).to(dtype).requires_grad_()
        table = torch.randn(5, 14, dtype=wide, requires_grad=True)
        how = Pass(index, lambda: sort_pixels(index, 5), 0.2, doubled=True)
        statistics = Statistics(torch.randn(7, dtype=wide), torch.rand(7, dtype=wide) + 0.5, count=48)
        answers = []
        for library in (native.library, lambda: None):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(native, "library", library)
                y = modulate.modulate(x, table, how, statistics)
                answers.append((y.detach(), *torch.autograd.grad(y.square().sum(), [x, table])))
        for mine, theirs in zip(*answers, strict=True):
            scale = float(theirs.abs().max())
            torch.testing.assert_close(mine, theirs, rtol=0, atol=tolerance * scale)


@needs_kernels
def test_window_sums_do_not_depend_on_the_number_of_threads() -> None:
    index = blocky(3, 1, 96, 96, 9, 5).int()
    x, y, dy = (torch.randn(1, 16, 96, 96).contiguous(memory_format=torch.channels_last) for _ in range(3))
    how = Pass(index, lambda: sort_pixels(index, 9), 0.2)
    sums = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        sums.append(modulate._window_sums(x, y, dy, how, torch.zeros(16), torch.ones(16), 9))
    torch.set_num_threads(1)
    assert torch.equal(sums[0], sums[1]) and torch.equal(sums[0], sums[2])


def test_windows_are_numbered_alike_with_and_without_kernels(backend) -> None:
    label_map = blocky(1, 2, 9, 12, 5, 3)
    windows = find_windows(label_map, 5, 3)
    assert windows is not None
    padded = F.pad(label_map, (2, 2, 2, 2), value=5)
    seen = padded.unfold(1, 5, 1).unfold(2, 5, 1).reshape(-1, 25)  # every pixel's 5 x 5 window
    assert len(windows.parts) == len(seen.unique(dim=0))
    for number in range(len(windows.parts)):
        assert len(seen[windows.index.flatten() == number].unique(dim=0)) == 1
    order = windows.order.long()
    assert (windows.index.flatten()[order].diff() >= 0).all() and len(order.unique()) == label_map.numel()


def test_a_window_is_described_by_its_symbols(backend) -> None:
    windows = find_windows(torch.tensor([[[0, 1]]]), 2, 3)
    assert windows is not None
    outside = [2, 2, 2]
    centre = windows.contents(2)[windows.index[0, 0, 0].item()][4]
    assert centre.tolist() == [*outside, 2, 0, 1, *outside]


def test_more_codes_than_the_first_hash_table_holds(backend) -> None:
    codes = torch.arange(5000).flip(0).repeat(2) * 2**40
    numbers, first = number_codes(codes)
    assert len(first) == 5000 and torch.equal(codes[first][numbers], codes)


def test_columns_of_many_channels_are_told_apart_exactly() -> None:
    labels = torch.zeros(1, 60, 1, 4)
    labels[0, 0, 0, 0] = labels[0, 25, 0, 1] = labels[0, 59, 0, 2] = 1
    symbols, columns = distinct_columns(labels)
    assert len(columns) == 4
    assert torch.equal(columns[symbols].permute(0, 3, 1, 2), labels)


def test_soft_labels_are_convolved() -> None:
    layer = make_layer(4, 3).eval()
    labels = LabelPyramid(torch.rand(1, 3, 8, 8))
    x = torch.randn(1, 4, 8, 8)
    assert labels.windows((8, 8), 3, 8, training=False) is None
    torch.testing.assert_close(layer(x, labels), layer.reference(x, labels), rtol=1e-4, atol=1e-5)


def test_noise_is_convolved_and_large_regions_are_looked_up() -> None:
    noise = LabelPyramid.from_ids(torch.randint(0, 7, (1, 64, 64)), 7)
    regions = LabelPyramid.from_ids(blocky(0, 1, 64, 64, 7, 32), 7)
    assert noise.windows((64, 64), 3, 128, training=False) is None
    found = regions.windows((64, 64), 3, 128, training=False)
    assert found is not None and found.share < 0.05


def test_a_step_under_autocast_keeps_tables_and_statistics_in_float32() -> None:
    layer = make_layer(16, 4).train()
    x = torch.randn(2, 16, 32, 32, requires_grad=True)
    labels = onehot(blocky(0, 2, 32, 32, 4, 16), 4)
    wanted = layer.reference(x, LabelPyramid(labels))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = layer(x.bfloat16(), LabelPyramid(labels))
    assert y.dtype == torch.bfloat16
    assert (y.float() - wanted).abs().max() < 0.02 * wanted.abs().max()
    y.sum().backward()
    assert layer.mlp_gamma.weight.grad.dtype == torch.float32 and x.grad.isfinite().all()


def test_checkpointing_gives_the_same_gradients() -> None:
    layer = make_layer(16, 4).train()
    labels = LabelPyramid(onehot(blocky(0, 1, 32, 32, 4, 16), 4))
    x = torch.randn(1, 16, 32, 32, requires_grad=True)
    plain = torch.autograd.grad(layer(x, labels, slope=0.2).square().sum(), [x, layer.mlp_beta.weight])
    y = checkpoint(lambda x: layer(x, labels, slope=0.2), x, use_reentrant=False)
    again = torch.autograd.grad(y.square().sum(), [x, layer.mlp_beta.weight])
    assert all(torch.equal(first, second) for first, second in zip(plain, again, strict=True))


def test_statistics_are_those_of_torch_with_and_without_momentum(backend) -> None:
    for momentum in (0.1, None):
        ours, theirs = (torch.nn.BatchNorm2d(3, affine=False, momentum=momentum) for _ in range(2))
        for seed in range(3):
            x = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(seed)) + 3
            theirs(F.interpolate(x, scale_factor=2, mode="nearest"))
            batch_statistics(ours, x, repeats=4)
        for name, value in theirs.state_dict().items():
            torch.testing.assert_close(ours.state_dict()[name], value, rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="more than 1 value"):
        batch_statistics(ours, torch.ones(1, 3, 1, 1))


def test_the_cost_model_grows_with_windows_and_falls_with_faster_convolutions() -> None:
    windows = find_windows(blocky(0, 1, 64, 64, 7, 8), 7, 3)
    assert windows is not None
    threshold = [cost for cost in (0.01, 0.1, 0.3, 1.0, 3.0) if tables.is_cheaper(windows, 128, 9, cost)]
    assert threshold and threshold == [cost for cost in (0.01, 0.1, 0.3, 1.0, 3.0) if cost >= threshold[0]]


def test_a_machine_without_a_compiler_says_so_once_and_works(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    native.library.cache_clear()
    native._load.cache_clear()
    try:
        with pytest.warns(UserWarning, match=r"no-such-compiler.*Install g\+\+"):
            assert native.library() is None
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert native.library() is None and native.compile_seconds() == 0.0
        layer = make_layer(4, 3).eval()
        labels = LabelPyramid(onehot(blocky(0, 1, 16, 16, 3, 8), 3))
        x = torch.randn(1, 4, 16, 16)
        torch.testing.assert_close(layer(x, labels), layer.reference(x, labels), rtol=1e-4, atol=1e-5)
    finally:
        native.library.cache_clear()
        native._load.cache_clear()


@needs_kernels
def test_compiling_again_takes_the_file_from_the_cache(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    seconds = []
    for _ in range(2):
        native._load.cache_clear()
        native.library.cache_clear()
        seconds.append(native.compile_seconds())
    assert seconds[0] > 0 and seconds[1] == 0 and len(list((tmp_path / "gaugan").glob("*.so"))) == 1
