"""From a chunk of inputs to finished files, step by step; each step is a plain function and may run on any machine.

    read_chunk     CPU    bytes -> decoded picture, or a refusal with a code
    label_chunk    U-Net  picture -> label map, confidence
    write_chunk    CPU    -> OUTPUT/.work/SHARD/CHUNK.parquet (label_shards.py)
    merge_shard    CPU    -> OUTPUT/pairs/part-SHARD.parquet, OUTPUT/outcomes/part-SHARD.parquet

All files are written whole or not at all and hold no times or run ids: doing a step twice writes the same bytes.
"""

from __future__ import annotations

import hashlib
import re
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gaugan import storage
from gaugan.images import (
    ImageError,
    decode_image_with_note,
    encode_jpeg,
    encode_png,
    fit_image,
    read_size,
    resize_image,
)
from gaugan.label_plan import Chunk, Item, LabelPlan

if TYPE_CHECKING:
    from gaugan.segmenter import Segmenter

SIDECARS = frozenset(
    ".json .jsonl .txt .csv .tsv .md .html .xml .yaml .yml .ini .db .parquet .npy .npz .xmp .log .py .lnk".split()
)
"""What commonly lies beside pictures: skipped without being read. All else is tried, and judged by its content."""
MAX_FILE_BYTES = 64 * 2**20
READ_ATTEMPTS = 3
JPEG_QUALITY = 95
WORKING_SCALE = 4
"""Pictures larger than this many times the U-Net's size are reduced for it (not for storage): memory stays bounded."""


@dataclass
class Picture:
    """One input on its way; `code` is set once it is refused or skipped."""

    item: Item
    uri: str
    code: str = ""
    message: str = ""
    sha256: str = ""
    width: int | None = None
    height: int | None = None
    note: str = ""
    image: bytes = b""
    """Encoded, as it will be stored."""
    stored_size: tuple[int, int] = (0, 0)
    """Height, width of `image`."""
    pixels: np.ndarray | None = None
    """uint8 (H, W, 3): what the U-Net sees; dropped once labelled."""
    label_map: np.ndarray | None = None
    """uint8 (H, W) at the size of `pixels`."""
    confidence: float | None = None
    entropy: float | None = None

    @property
    def status(self) -> str:
        if self.code:
            return "skipped" if self.code == "other_file" else "refused"
        return "labelled"


def read_chunk(chunk: Chunk, plan: LabelPlan) -> list[Picture]:
    """Reads and decodes; a bad picture gets a code, no exception leaves this function."""
    if storage.is_local(plan.input):
        return [read_picture(item, plan) for item in chunk.items]
    with ThreadPoolExecutor(max_workers=4) as pool:  # object stores answer slowly but many at once
        return list(pool.map(lambda item: read_picture(item, plan), chunk.items))


def read_picture(item: Item, plan: LabelPlan) -> Picture:
    """One input, decoded, or with the reason why it can't be."""
    picture = Picture(item, storage.join(plan.input, item.id))
    suffix = "." + item.id.rsplit(".", 1)[-1].lower()
    if suffix in SIDECARS:
        picture.code, picture.message = "other_file", f"{suffix} files are not pictures"
        return picture
    try:
        if item.size > MAX_FILE_BYTES:
            raise ImageError("too_large", f"{item.size} bytes; at most {MAX_FILE_BYTES} are read")
        data = _read_bytes(picture.uri)
        picture.sha256 = hashlib.sha256(data).hexdigest()
        _decode(picture, data, plan)
    except ImageError as error:
        picture.code, picture.message = error.code, error.message
    except FileNotFoundError:
        picture.code, picture.message = "missing", "the file was there when the run began, and is gone"
    except OSError as error:
        picture.code, picture.message = "unreadable", f"the file can't be read: {error}"
    except Exception as error:  # one picture never stops a run; the code says that this one is a fault of ours
        picture.code, picture.message = "unexpected", f"{type(error).__name__}: {error}"
    # Some of Pillow's messages name an object by its address, which differs from run to run.
    picture.message = re.sub(r"\s*<[^<>]* at 0x[0-9a-f]+>", "", picture.message)
    return picture


def _read_bytes(uri: str) -> bytes:
    for attempt in range(READ_ATTEMPTS):
        try:
            return storage.read_bytes(uri)
        except FileNotFoundError:
            raise
        except OSError:
            if attempt + 1 == READ_ATTEMPTS:
                raise
            time.sleep(0.5 * 2**attempt)
    raise AssertionError("the last attempt returns or raises")


def _decode(picture: Picture, data: bytes, plan: LabelPlan) -> None:
    try:
        picture.height, picture.width = read_size(data)
    except ImageError:
        pass  # the decoder says why
    image, picture.note = decode_image_with_note(data, plan.max_pixels, min_side=plan.min_side)
    picture.height, picture.width = image.shape[:2]
    fitted = image if plan.image_size is None else fit_image(image, plan.image_size)
    picture.image = stored_bytes(data, fitted, unchanged=fitted is image)
    picture.stored_size = fitted.shape[0], fitted.shape[1]
    picture.pixels = working_pixels(fitted, plan.segment_size)


def stored_bytes(data: bytes, image: np.ndarray, unchanged: bool) -> bytes:
    """What the dataset keeps of a picture: its own bytes when it keeps its size and is PNG or JPEG; else it is encoded,
    as JPEG (quality 95) when it was JPEG or WebP, as PNG when it was PNG or GIF.
    """
    is_jpeg, is_png = data.startswith(b"\xff\xd8\xff"), data.startswith(b"\x89PNG")
    if unchanged and (is_jpeg or is_png):
        return data
    return encode_jpeg(image, JPEG_QUALITY) if is_jpeg or data.startswith(b"RIFF") else encode_png(image)


def working_pixels(image: np.ndarray, segment_size: tuple[int, int]) -> np.ndarray:
    """The picture for the U-Net: at most WORKING_SCALE times its size."""
    scale = WORKING_SCALE * max(segment_size) / max(image.shape[:2])
    if scale >= 1:
        return image
    return resize_image(image, (max(1, round(image.shape[0] * scale)), max(1, round(image.shape[1] * scale))))


def label_chunk(pictures: list[Picture], segmenter: Segmenter) -> list[Picture]:
    """Adds label map, confidence and entropy, in place."""
    good = [picture for picture in pictures if picture.pixels is not None]
    answers = segmenter.segment([picture.pixels for picture in good if picture.pixels is not None])
    for picture, answer in zip(good, answers, strict=True):
        picture.label_map, picture.pixels = answer.label_map, None
        picture.confidence, picture.entropy = round(answer.confidence, 4), round(answer.entropy, 4)
    return pictures
