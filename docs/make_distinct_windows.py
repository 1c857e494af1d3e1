"""Draws docs/distinct_windows.png, the windows of docs/fast_spade.md: python docs/make_distinct_windows.py."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

from gaugan.labels import PORTRAIT_CLASSES
from gaugan.portraits import draw_portrait
from gaugan.spade.windows import find_windows

SIZE = 256


def main() -> None:
    """Left a label map, right how often each pixel's window occurs: grey = often, yellow = once."""
    ids = draw_portrait(3, SIZE)[1]
    windows = find_windows(torch.from_numpy(ids.astype(np.int64))[None], PORTRAIT_CLASSES.num_classes, 3)
    assert windows is not None
    index = windows.index[0].numpy()
    uses = np.bincount(index.ravel())[index]
    colours = np.array(PORTRAIT_CLASSES.colours, dtype=np.uint8)[ids]
    rare = np.where((uses < 50)[..., None], [200, 80, 40], [60, 64, 70])
    heat = np.where((uses == 1)[..., None], [255, 214, 10], rare)
    sheet = Image.new("RGB", (2 * SIZE + 12, SIZE + 24), "white")
    sheet.paste(Image.fromarray(colours), (0, 0))
    sheet.paste(Image.fromarray(heat.astype(np.uint8)), (SIZE + 12, 0))
    saved = 100 * (1 - len(windows.hidden) / index.size)
    text = f"{index.size} pixels, {len(windows.parts)} distinct windows, {len(windows.hidden)} hidden ones: {saved:.1f} % of the products saved"
    ImageDraw.Draw(sheet).text((4, SIZE + 6), text, fill="black")
    sheet.save(Path(__file__).with_name("distinct_windows.png"))
    print(text)


if __name__ == "__main__":
    main()
