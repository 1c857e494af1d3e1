"""From an input to a picture that can be labelled, or to the reason why it can't be: one outcome each, whatever comes.

Sizes are checked before anything is decoded. What can't be caught in Python (a decoder that crashes or never returns)
ends the process; the chunk is then read again with every picture decoded in a child process of its own
(gaugan/careful.py), so that the one at fault gets a code and the others their labels.
"""

from __future__ import annotations

import contextlib
import faulthandler
import fcntl
import hashlib
import os
import re
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gaugan import sources, storage
from gaugan.careful import CarefulDecoder
from gaugan.images import (
    ImageError,
    centre_box,
    decode_image_with_note,
    encode_jpeg,
    encode_png,
    fit_image,
    read_size,
    resize_image,
)
from gaugan.label_plan import Chunk, LabelPlan
from gaugan.listing import Item
from gaugan.near_duplicates import picture_hash
from gaugan.patience import ahead, patiently

SIDECARS = frozenset(
    ".json .jsonl .txt .csv .tsv .md .html .xml .yaml .yml .ini .db .parquet .npy .npz .xmp .log .py .lnk".split()
)
"""What commonly lies beside pictures: skipped without being read. All else is tried, and judged by its content."""
SKIPPED = frozenset(["other_file", "filtered_size", "filtered_aspect", "filtered_rating"])
"""Codes of inputs that are left out on purpose; all others are faults."""
REFUSED = frozenset(
    "empty not_an_image unsupported_format too_large too_small truncated corrupt decoder_crash decoder_timeout "
    "out_of_memory missing unreadable unsafe_name unexpected".split()
)
"""Codes of inputs that can't be labelled; --retry-failed takes them."""
MAX_FILE_BYTES = 64 * 2**20
BIG_PIXELS = 16_000_000
"""Larger pictures are decoded one at a time on each machine, so that several at once never fill its memory."""
DECODE_TIMEOUT_S = 180
FETCHES_AT_ONCE = 4
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
    picture_hash: str = ""
    """Of what it looks like, see gaugan.near_duplicates."""

    @property
    def status(self) -> str:
        if self.code:
            return "skipped" if self.code in SKIPPED else "refused"
        return "labelled"

    def refuse(self, code: str, message: str) -> Picture:
        """Sets the reason; returns itself."""
        # Some of Pillow's messages name an object by its address, which differs from run to run.
        self.code, self.message = code, re.sub(r"\s*<[^<>]* at 0x[0-9a-f]+>", "", message)
        return self


def is_sidecar(id: str) -> bool:
    """True for an input that is skipped by its name."""
    return _suffix(id) in SIDECARS


def _suffix(id: str) -> str:
    return "." + id.rsplit(".", 1)[-1].lower()


def read_chunk(chunk: Chunk, plan: LabelPlan, trace: str | None = None) -> list[Picture]:
    """Reads and decodes; a bad picture gets a code, no exception leaves this function.

    trace: the URI of a mark that is set before decoding. When it stands already, an earlier attempt did not come back:
    every picture is then decoded in a child process. None = the caller looks after crashes.
    """
    pictures = _fetched(chunk, plan)
    if trace is None:
        return [picture if data is None else judge(picture, data, plan) for picture, data in pictures]
    if storage.exists(trace):
        with CarefulDecoder(DECODE_TIMEOUT_S) as decoder:
            return [picture if data is None else decoder.judge(picture, data, plan) for picture, data in pictures]
    storage.write_bytes(trace, b"")
    return [picture if data is None else _judge_in_time(picture, data, plan) for picture, data in pictures]


def read_picture(item: Item, plan: LabelPlan) -> Picture:
    """One input, decoded, or with the reason why it can't be."""
    picture, data = _fetch(item, plan)
    return picture if data is None else judge(picture, data, plan)


def judge(picture: Picture, data: bytes, plan: LabelPlan) -> Picture:
    """The input's bytes -> decoded, or with the reason why they can't be; in place."""
    try:
        return _decode(picture, data, plan)
    except ImageError as error:
        return picture.refuse(error.code, error.message)
    except MemoryError:
        return picture.refuse("out_of_memory", "there was not enough memory to decode it")
    except Exception as error:  # one picture never stops a run; the code says that this one is a fault of ours
        return picture.refuse("unexpected", f"{type(error).__name__}: {error}")


def _judge_in_time(picture: Picture, data: bytes, plan: LabelPlan) -> Picture:
    """`judge`, big pictures in turn; the process ends when the decoder does not come back."""
    with _limited_time():
        is_big = _is_big(data)
    with _one_at_a_time(is_big), _limited_time():
        return judge(picture, data, plan)


def _is_big(data: bytes) -> bool:
    try:
        height, width = read_size(data)
        return height * width > BIG_PIXELS
    except Exception:
        return False  # `judge` says what is wrong with it


@contextlib.contextmanager
def _limited_time() -> Iterator[None]:
    """Ends the process after DECODE_TIMEOUT_S: C code can't be stopped in another way."""
    with open(os.devnull, "w") as nowhere:
        faulthandler.dump_traceback_later(DECODE_TIMEOUT_S, exit=True, file=nowhere)
        try:
            yield
        finally:
            faulthandler.cancel_dump_traceback_later()


def _fetched(chunk: Chunk, plan: LabelPlan) -> Iterator[tuple[Picture, bytes | None]]:
    """Each input with its bytes, in order; from object stores, which answer slowly but many at once, a few ahead."""
    if storage.is_local(plan.input) or plan.in_order:
        yield from (_fetch(item, plan) for item in chunk.items)
        return
    yield from ahead(lambda item: _fetch(item, plan), chunk.items, FETCHES_AT_ONCE)


def _fetch(item: Item, plan: LabelPlan) -> tuple[Picture, bytes | None]:
    """An input and its bytes, or None when it has a code already."""
    picture = Picture(item, sources.uri_of(plan.base, item.id, item.place))
    if item.refusal:
        code, _, reason = item.refusal.partition(": ")
        return picture.refuse(code, reason), None
    if is_sidecar(item.id) and not plan.in_order:
        return picture.refuse("other_file", f"{_suffix(item.id)} files are not pictures"), None
    try:
        if item.size > MAX_FILE_BYTES:
            raise ImageError("too_large", f"{item.size} bytes; at most {MAX_FILE_BYTES} are read")
        data = _read_bytes(item, plan)
    except ImageError as error:
        return picture.refuse(error.code, error.message), None
    except FileNotFoundError:
        return picture.refuse("missing", "there is no such file (it may be gone since the run began)"), None
    except Exception as error:  # OSError, or what a damaged archive or table provokes in its reader
        return picture.refuse("unreadable", f"the file can't be read: {error}"), None
    picture.sha256 = hashlib.sha256(data).hexdigest()
    return picture, data


def _read_bytes(item: Item, plan: LabelPlan) -> bytes:
    for attempt in range(READ_ATTEMPTS):
        try:
            return patiently(lambda: sources.read(plan.base, item.id, item.place, MAX_FILE_BYTES))
        except FileNotFoundError:
            raise
        except OSError:
            if attempt + 1 == READ_ATTEMPTS:
                raise
            time.sleep(0.5 * 2**attempt)
    raise AssertionError("the last attempt returns or raises")


def _decode(picture: Picture, data: bytes, plan: LabelPlan) -> Picture:
    with contextlib.suppress(ImageError):  # the decoder says why
        picture.height, picture.width = read_size(data)
    reason = _filtered(picture.height, picture.width, plan)
    if reason:
        return picture.refuse(*reason)
    image, picture.note = decode_image_with_note(data, plan.max_pixels, min_side=plan.min_side)
    picture.height, picture.width = image.shape[:2]
    fitted = _fitted(image, plan)
    picture.image = stored_bytes(data, fitted, unchanged=fitted is image)
    picture.stored_size = fitted.shape[0], fitted.shape[1]
    picture.pixels = working_pixels(fitted, plan.segment_size)
    picture.picture_hash = picture_hash(picture.pixels)
    return picture


def _filtered(height: int | None, width: int | None, plan: LabelPlan) -> tuple[str, str] | None:
    """(code, reason) when the user wants to leave out pictures of this size; no filter is set by default."""
    if not height or not width:
        return None
    short, long = sorted((height, width))
    if plan.skip_below is not None and short < plan.skip_below:
        return "filtered_size", f"{width}x{height} pixels; a side is below --skip-below {plan.skip_below}"
    if plan.skip_above is not None and long > plan.skip_above:
        return "filtered_size", f"{width}x{height} pixels; a side is above --skip-above {plan.skip_above}"
    if plan.skip_aspect is not None and long > plan.skip_aspect * short:
        return "filtered_aspect", f"{width}x{height}: one side is more than {plan.skip_aspect:g} times the other"
    return None


def _fitted(image: np.ndarray, plan: LabelPlan) -> np.ndarray:
    """The picture as it will be stored; the very same object when nothing is to be done."""
    if plan.crop == "face":
        return image  # cropped, and resized, once the face is found: gaugan/face_crop.py
    if plan.image_size is not None:
        return fit_image(image, plan.image_size)
    if plan.crop == "centre" and image.shape[0] != image.shape[1]:
        top, left, height, width = centre_box((image.shape[0], image.shape[1]), 1.0)
        return np.ascontiguousarray(image[top : top + height, left : left + width])
    return image


@contextlib.contextmanager
def _one_at_a_time(is_big: bool) -> Iterator[None]:
    """Waits for the lock that one process of this user on this machine can hold; it ends with its holder."""
    if not is_big:
        yield
        return
    with open(Path(tempfile.gettempdir(), f"gaugan-big-picture-{os.getuid()}.lock"), "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


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
