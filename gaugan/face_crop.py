"""A square around the face, found by the labelling U-Net itself in a first pass over the whole picture.

The crop is cut from the pixels that the U-Net sees (at most reading.WORKING_SCALE times its size): nothing is decoded
twice. Where it finds no face the crop is the central square, and the note says so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gaugan.errors import UserError
from gaugan.images import centre_box, resize_image
from gaugan.labels import ClassTable
from gaugan.metrics import component_map
from gaugan.near_duplicates import picture_hash
from gaugan.reading import Picture, stored_bytes

if TYPE_CHECKING:
    from gaugan.segmenter import Segmenter

FACE_PARTS = ("face", "eye", "mouth")
SCALE = 2.2
"""Side of the crop in heights or widths of the face: hair, neck and some shoulder are in it."""
MIN_SHARE = 0.003
"""A smaller face is none: a few wrong pixels must not decide."""
NO_FACE = "no face: cropped centrally"


def face_ids(classes: ClassTable) -> list[int]:
    """The ids of FACE_PARTS. Raises UserError when the table has no face."""
    if "face" not in classes.names:
        raise UserError(
            f"--crop face: the model's classes ({', '.join(classes.names)}) have no face; use --crop centre"
        )
    return [classes.names.index(name) for name in FACE_PARTS if name in classes.names]


def face_box(label_map: np.ndarray, ids: list[int]) -> tuple[int, int, int] | None:
    """uint8 (H, W) -> (top, left, side) of a square around the largest face, within it; None without a face."""
    height, width = label_map.shape
    numbers, sizes, _ = component_map(np.isin(label_map, ids).astype(np.uint8))
    is_face = np.isin(label_map, ids)
    if not is_face.any():
        return None
    largest = max(np.unique(numbers[is_face]), key=lambda number: sizes[number])
    if sizes[largest] < MIN_SHARE * label_map.size:
        return None
    rows, columns = np.nonzero(numbers == largest)
    top, bottom, left, right = rows.min(), rows.max() + 1, columns.min(), columns.max() + 1
    side = min(height, width, round(SCALE * max(bottom - top, right - left)))
    middle_y, middle_x = (top + bottom) / 2, (left + right) / 2
    return _within(middle_y - side / 2, height - side), _within(middle_x - side / 2, width - side), side


def _within(start: float, largest: int) -> int:
    return int(min(max(0, round(start)), largest))


def crop_to_faces(pictures: list[Picture], segmenter: Segmenter, image_size: tuple[int, int] | None) -> None:
    """Replaces pixels and stored bytes of decoded pictures by their crop, resized to `image_size` if any; in place."""
    ids = face_ids(segmenter.classes)
    answers = segmenter.segment([picture.pixels for picture in pictures if picture.pixels is not None])
    for picture, answer in zip(pictures, answers, strict=True):
        assert picture.pixels is not None
        box = face_box(answer.label_map, ids)
        if box is None:
            picture.note = "; ".join(filter(None, [picture.note, NO_FACE]))
            top, left, side, _ = centre_box((picture.pixels.shape[0], picture.pixels.shape[1]), 1.0)
        else:
            top, left, side = box
        crop = np.ascontiguousarray(picture.pixels[top : top + side, left : left + side])
        crop = crop if image_size is None else resize_image(crop, image_size)
        unchanged = crop.shape[:2] == picture.stored_size and image_size is None
        picture.image = stored_bytes(picture.image, crop, unchanged)
        picture.pixels, picture.stored_size = crop, (crop.shape[0], crop.shape[1])
        picture.picture_hash = picture_hash(crop)
