"""Starter label maps: portraits drawn by code, so that nobody begins with an empty canvas."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from gaugan import labels, portraits

# id -> (name, seed of gaugan.portraits)
TEMPLATES: dict[str, tuple[str, int]] = {f"portrait-{seed}": (f"Portrait {seed}", seed) for seed in range(1, 7)}


def template_ids(table: labels.ClassTable) -> list[str]:
    """The templates that fit a class table: all for the portrait classes, none for a table of the user's own."""
    return list(TEMPLATES) if table.hash == labels.PORTRAIT_CLASSES.hash else []


@lru_cache(maxsize=64)
def draw_template(template_id: str, size: tuple[int, int]) -> np.ndarray:
    """uint8 `size` (height, width) label map; drawn once, so not to be written to."""
    return portraits.draw_portrait(TEMPLATES[template_id][1], size)[1]
