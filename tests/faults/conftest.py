"""What fault tests compare with: one run that nothing disturbs, shared by those of the same size."""

from __future__ import annotations

from pathlib import Path

import pytest
from label_runs import Run, Undisturbed, label, pictures
from tiny_models import save_unet


@pytest.fixture(scope="session")
def unet(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_unet(tmp_path_factory.mktemp("unet") / "checkpoint")


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, unet: str) -> Undisturbed:
    runs: dict[int, Run] = {}

    def run(count: int) -> Run:
        if count not in runs:
            folder: Path = tmp_path_factory.mktemp(f"undisturbed-{count}")
            source, output = pictures(folder / "in", count), folder / "out"
            words = ["--num-workers", "1"]
            ended = label(folder / "out.log", source, unet, str(output), *words).wait(timeout_s=1500)
            assert ended.code == 0, ended.output
            runs[count] = Run(source, output, ended.seconds)
        return runs[count]

    return run
