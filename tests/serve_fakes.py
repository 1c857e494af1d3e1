"""A backend without models, for tests of the HTTP side: the class colours, shaded by seed and style."""

from __future__ import annotations

import numpy as np

from gaugan import labels
from serve.backend import ModelCard, Painted, PaintJob, Segmented
from serve.problems import Problem

TABLE = labels.PORTRAIT_CLASSES


def card(name: str = "gaugan", size: tuple[int, int] = (64, 64), table: labels.ClassTable = TABLE) -> ModelCard:
    return ModelCard(name, "step-7", "0123456789abcdef", size, table.to_plain(), "cpu", has_style=name == "gaugan")


class FakeBackend:
    """Keeps the jobs it was given; `problem`, when set, is raised by every call."""

    def __init__(self, size: tuple[int, int] = (64, 64), with_segmenter: bool = True) -> None:
        self.size, self.with_segmenter = size, with_segmenter
        self.jobs: list[PaintJob] = []
        self.problem: Exception | None = None

    async def paint(self, jobs: list[PaintJob]) -> Painted:
        self._fail()
        self.jobs += jobs
        return Painted([self._paint(job) for job in jobs], card(size=self.size))

    def _paint(self, job: PaintJob) -> np.ndarray:
        colours = labels.colourise(job.label_map, TABLE).astype(np.int32)
        style = 0 if job.style is None else int(job.style.mean())
        return ((colours + job.seed % 61 + style) % 256).astype(np.uint8)

    async def segment(self, picture: np.ndarray) -> Segmented:
        self._fail()
        return Segmented((picture[..., 0] > 127).astype(np.uint8), 0.875)

    async def painter_card(self, fresh: bool = False) -> ModelCard:
        self._fail(only="not_ready")
        return card(size=self.size)

    async def segmenter_card(self) -> ModelCard | None:
        return card("unet", self.size) if self.with_segmenter else None

    def _fail(self, only: str | None = None) -> None:
        if self.problem is not None and (
            only is None or (isinstance(self.problem, Problem) and self.problem.code == only)
        ):
            raise self.problem
