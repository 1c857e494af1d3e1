"""What the HTTP layer needs from the models: one protocol, so that the API runs without Ray in tests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np


@dataclass(frozen=True)
class PaintJob:
    """One picture to paint."""

    label_map: np.ndarray
    """uint8 (H, W) of class ids at the model's size, no 255."""
    seed: int
    style: np.ndarray | None = None
    """uint8 (h, w, 3) picture whose style is taken."""
    style2: np.ndarray | None = None
    blend: float = 0.0
    """0 = style, 1 = style2."""


@dataclass(frozen=True)
class ModelCard:
    """What a client may know of a loaded model."""

    name: str
    version: str
    checkpoint_hash: str
    image_size: tuple[int, int]
    """(height, width)."""
    classes: dict[str, Any]
    """The class table as plain data (gaugan.labels.ClassTable.to_plain)."""
    device: str
    has_style: bool
    """False for a segmenter, and for a generator that paints one picture per label map."""


@dataclass(frozen=True)
class Painted:
    """The pictures of one request, the model that painted them, and where the time went."""

    pictures: list[np.ndarray]
    """uint8 (H, W, 3) per job."""
    card: ModelCard
    queue_s: float = 0.0
    """From the arrival at the model to the first brush stroke."""
    compute_s: float = 0.0
    batch_size: int = 1
    """Pictures that were taken from the queue together with the first one."""


@dataclass(frozen=True)
class Segmented:
    """A label map and how sure the segmenter is."""

    label_map: np.ndarray
    """uint8 (H, W) at the picture's own size."""
    confidence: float


class Backend(Protocol):
    """The models behind the API. Each method raises `serve.problems.Problem` (busy, timeout, not_ready)."""

    async def paint(self, jobs: list[PaintJob]) -> Painted:
        """One picture per job; the same job gives the same picture whatever else is painted beside it."""
        ...

    async def segment(self, picture: np.ndarray) -> Segmented:
        """uint8 (h, w, 3) -> label map of the same size."""
        ...

    async def painter_card(self, fresh: bool = False) -> ModelCard:
        """The generator's card; raises Problem not_ready until its warm-up picture is painted. `fresh`: ask again."""
        ...

    async def segmenter_card(self) -> ModelCard | None:
        """The segmenter's card, None when there is none."""
        ...
