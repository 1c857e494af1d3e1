"""A node that is lost in the middle of a run takes no picture with it."""

from __future__ import annotations

from pathlib import Path

import pytest
from label_runs import Undisturbed, files, ids
from processes import Command


@pytest.mark.ray
@pytest.mark.parametrize(
    "count",
    [
        pytest.param(40, id="short"),
        pytest.param(2000, id="long", marks=[pytest.mark.long, pytest.mark.timeout(3600)]),
    ],
)
def test_a_lost_node_loses_no_picture(tmp_path: Path, unet: str, undisturbed: Undisturbed, count: int) -> None:
    straight, lossy = undisturbed(count), tmp_path / "lossy"
    words = ["tests/faults/lost_node.py", "--input", straight.source, "--model", unet, "--output", str(lossy)]
    words += ["--tracking", "none", "--batch-size", "4", "--num-workers", "3"]
    ended = Command(tmp_path / "lossy.log", *words).wait(timeout_s=1500)
    assert ended.code == 0 and "a node is lost" in ended.output and "2 nodes alive" in ended.output, ended.output
    assert ids(lossy) == sorted(path.name for path in Path(straight.source).iterdir())
    assert files(lossy) == files(straight.output)
