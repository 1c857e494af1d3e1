"""Near duplicates: pictures that look the same after another size or another compression.

A difference hash: the picture in 9x8 grey pixels, one bit per pixel that is darker than its right neighbour. Integer
arithmetic only, so the same file has the same hash on every machine.
"""

from __future__ import annotations

import numpy as np

HASH_BITS = 64
MAX_DISTANCE = 3
"""Hashes with at most so many different bits count as the same picture."""
NEIGHBOURS = 4
BANDS = MAX_DISTANCE + 1


def picture_hash(image: np.ndarray) -> str:
    """uint8 (H, W, 3) -> 16 hexadecimal digits."""
    from PIL import Image

    grey = Image.fromarray(image).resize((9, 8), Image.Resampling.BOX).convert("L")
    values = np.asarray(grey)
    bits = np.packbits(values[:, :-1] < values[:, 1:])
    return bits.tobytes().hex()


def count_near_duplicates(hashes: np.ndarray) -> int:
    """uint64 (N): how many look like an earlier one (at most MAX_DISTANCE bits apart).

    Two hashes that differ in 3 bits agree in one of 4 bands; sorted by that band first they stand near each other. Only
    the next NEIGHBOURS are compared, so that millions take seconds: in very crowded bands some are missed.
    """
    later = np.zeros(len(hashes), dtype=bool)
    for band in range(BANDS):
        shift = np.uint64(band * HASH_BITS // BANDS)
        turned = (hashes << shift) | (hashes >> (np.uint64(HASH_BITS) - shift)) if band else hashes
        order = np.argsort(turned, kind="stable")
        ranked = turned[order]
        for step in range(1, min(NEIGHBOURS + 1, len(hashes))):
            near = np.bitwise_count(ranked[step:] ^ ranked[:-step]) <= MAX_DISTANCE
            later[np.maximum(order[step:], order[:-step])[near]] = True
    return int(later.sum())
