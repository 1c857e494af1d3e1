"""Removes what a segmenter gets wrong in small: specks, components too small to mean anything."""

import numpy as np

from gaugan.labels import IGNORE
from gaugan.metrics import SPECK_SHARE, num_specks, speck_pixels


def remove_specks(label_map: np.ndarray, share: float = SPECK_SHARE) -> tuple[np.ndarray, int]:
    """uint8 (H, W) -> the same without components under `share` of the picture, and how many there were.

    Specks are filled from their rim inwards, each pixel with the commonest class among its four neighbours (the lowest
    id in a tie). A map of nothing but specks stays as it is. The input is not written to.
    """
    unknown = speck_pixels(label_map, share)
    if not unknown.any() or unknown.all():
        return label_map, 0
    count, filled = num_specks(label_map, share), label_map.copy()
    while unknown.any():
        votes = _votes(filled, unknown)
        rim = unknown & (votes.max(0) > 0)
        if not rim.any():  # enclosed by ignored pixels only
            break
        filled[rim] = votes.argmax(0)[rim]
        unknown &= ~rim
    return filled, count


def _votes(label_map: np.ndarray, unknown: np.ndarray) -> np.ndarray:
    """int8 (K, H, W): how many of a pixel's four neighbours are known to be of class k; ignored ones don't vote."""
    height, width = label_map.shape
    padded = np.pad(np.where(unknown, IGNORE, label_map), 1, constant_values=IGNORE)
    neighbours = np.stack(
        [padded[dy : dy + height, dx : dx + width] for dy, dx in ((0, 1), (2, 1), (1, 0), (1, 2))]
    )  # (4, H, W)
    ids = np.arange(int(neighbours[neighbours != IGNORE].max(initial=0)) + 1)
    return (neighbours[None] == ids[:, None, None, None]).sum(1).astype(np.int8)
