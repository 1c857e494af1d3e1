"""Table rows known from earlier label maps are taken again, and the picture keeps its bits."""

from __future__ import annotations

import pytest
import torch

from gaugan import native
from gaugan.labels import onehot
from gaugan.nn import recalibrate
from gaugan.portraits import draw_portrait
from gaugan.spade import reuse
from gaugan.spade.label_pyramid import LabelPyramid
from gaugan.spade.networks import Generator
from gaugan.spade.render import RenderPlan

torch.set_num_threads(1)
pytestmark = pytest.mark.skipif(native.library() is None, reason="needs the compiled kernels")
SIZE = 64


@pytest.fixture(scope="module")
def generator() -> Generator:
    torch.manual_seed(0)
    made = Generator(7, (SIZE, SIZE), z_dim=8, ngf=16, hidden=16)
    labels = LabelPyramid.from_ids(label_map(0).expand(2, -1, -1), 7)
    with torch.no_grad():
        recalibrate(made, (made(labels, torch.randn(2, 8)) for _ in range(1)))
    return made.eval()


def label_map(seed: int) -> torch.Tensor:
    return torch.from_numpy(draw_portrait(seed, SIZE)[1]).long()[None]


def paint(plan: RenderPlan, ids: torch.Tensor, **channels: torch.Tensor) -> torch.Tensor:
    return plan.paint(plan.prepare(LabelPyramid.from_ids(ids, 7, **channels)), torch.ones(1, 8))


def test_a_picture_has_the_same_bits_whatever_was_painted_before(generator) -> None:
    used = RenderPlan(generator)
    noise = torch.randint(0, 7, (1, SIZE, SIZE), generator=torch.Generator().manual_seed(0))
    ignored = label_map(3).masked_fill(noise == 0, 255)
    maps = [*(label_map(seed) for seed in range(4)), noise, ignored, label_map(1), label_map(9), label_map(1)]
    for ids in maps:
        assert torch.equal(paint(used, ids), paint(RenderPlan(generator), ids))


def test_a_stroke_computes_the_new_windows_only(generator, monkeypatch) -> None:
    computed: list[int] = []
    make = reuse.packed_table

    def count(windows, hidden, packed):
        computed.append(len(windows.parts))
        return make(windows, hidden, packed)

    monkeypatch.setattr(reuse, "packed_table", count)
    plan, ids = RenderPlan(generator), label_map(0)
    paint(plan, ids)
    first = sum(computed)
    computed.clear()
    paint(plan, ids)
    assert computed == []
    changed = ids.clone()
    changed[:, 30:34, 20:24] = 6
    paint(plan, changed)
    assert 0 < sum(computed) < first / 2


def test_tables_begin_anew_before_they_outgrow_their_room(generator) -> None:
    plan = RenderPlan(generator)
    for seed in range(12):
        ids = label_map(seed)
        paint(plan, ids)
        for size, known in plan._known.items():
            windows = LabelPyramid.from_ids(ids, 7).windows(size, 3, 16, training=False)
            assert windows is None or len(windows.parts) <= len(known._windows) <= len(known._tables[0])
    assert any(len(known._tables[0]) != reuse.ROOM * len(known._windows) for known in plan._known.values())


def test_labels_whose_symbols_are_numbered_anew_are_never_mixed_with_others(generator) -> None:
    plan = RenderPlan(generator)
    paint(plan, label_map(0))
    two_classes = (label_map(1) > 4).long() * 5  # as one-hot channels its symbols are 0 and 1, not 0 and 5
    painted = plan.paint(plan.prepare(LabelPyramid(onehot(two_classes, 7))), torch.ones(1, 8))
    assert torch.allclose(painted, paint(RenderPlan(generator), two_classes), atol=1e-3)


def test_edges_change_the_columns_and_so_begin_anew() -> None:
    torch.manual_seed(0)
    generator = Generator(8, (SIZE, SIZE), z_dim=8, ngf=16, hidden=16).eval()
    plan, ids = RenderPlan(generator), label_map(0)
    edges = torch.zeros(1, SIZE, SIZE, dtype=torch.bool)
    edges[:, ::7] = True
    without = paint(plan, ids, edges=torch.zeros_like(edges))
    with_edges = paint(plan, ids, edges=edges)
    assert not torch.equal(without, with_edges)
    assert torch.equal(with_edges, paint(RenderPlan(generator), ids, edges=edges))
