"""The crop around the face: where it lies, what is stored, and what happens without a face."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from tiny_models import make_plan

from gaugan.errors import UserError
from gaugan.face_crop import NO_FACE, face_box, face_ids
from gaugan.images import decode_image, encode_jpeg, encode_png
from gaugan.labelling import label_chunk
from gaugan.labels import PORTRAIT_CLASSES, ClassTable
from gaugan.listing import Item
from gaugan.reading import Picture, read_picture

FACE = PORTRAIT_CLASSES.names.index("face")


@dataclass
class Answer:
    label_map: np.ndarray
    confidence: float = 0.9
    entropy: float = 0.1


class RedIsFace:
    """A segmenter that takes red pixels for a face."""

    classes = PORTRAIT_CLASSES

    def segment(self, images: list[np.ndarray]) -> list[Answer]:
        return [Answer(np.where(image[..., 0] > 200, FACE, 0).astype(np.uint8)) for image in images]


def portrait(face: tuple[int, int, int, int], size: tuple[int, int] = (80, 120)) -> np.ndarray:
    image = np.zeros((*size, 3), dtype=np.uint8)
    top, left, height, width = face
    image[top : top + height, left : left + width] = (255, 0, 0)
    return image


def cropped(tmp_path: Path, data: bytes, **changes: object) -> Picture:
    (tmp_path / "a.png").write_bytes(data)
    plan = make_plan([], input=str(tmp_path), crop="face", **changes)
    picture = read_picture(Item("a.png", len(data), "train"), plan)
    assert label_chunk([picture], RedIsFace(), plan) == [picture]  # type: ignore[arg-type]
    return picture


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_the_stored_picture_is_a_square_around_the_face_and_the_label_map_fits_it(tmp_path: Path, kind: str) -> None:
    image = portrait((30, 70, 20, 16))
    picture = cropped(tmp_path, encode_png(image) if kind == "PNG" else encode_jpeg(image, 98))
    stored = decode_image(picture.image)
    assert (
        stored.shape == (44, 44, 3) and picture.stored_size == (44, 44) and (picture.height, picture.width) == (80, 120)
    )
    assert np.abs(stored.astype(int) - image[18:62, 56:100]).mean() < 4
    assert picture.label_map is not None and picture.label_map.shape == (44, 44)
    assert abs((picture.label_map == FACE).sum() - 320) < 40 and picture.note == ""


def test_a_crop_stays_within_the_picture_and_takes_the_largest_face() -> None:
    label_map = np.zeros((60, 100), dtype=np.uint8)
    label_map[0:10, 88:100], label_map[50:54, 2:6] = FACE, FACE
    assert face_box(label_map, [FACE]) == (0, 74, 26)
    label_map[:, 40:80] = FACE
    assert face_box(label_map, [FACE]) == (0, 30, 60)
    assert face_box(np.zeros((60, 100), dtype=np.uint8), [FACE]) is None
    label_map[:] = 0
    label_map[5, 5] = FACE
    assert face_box(label_map, [FACE]) is None


def test_without_a_face_the_crop_is_the_central_square_and_the_note_says_so(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 150, (80, 120, 3), dtype=np.uint8)
    picture = cropped(tmp_path, encode_png(image))
    assert picture.note == NO_FACE and np.array_equal(decode_image(picture.image), image[:, 20:100])


def test_a_crop_is_resized_when_a_size_is_given(tmp_path: Path) -> None:
    picture = cropped(tmp_path, encode_png(portrait((30, 70, 20, 16))), image_size=(32, 32))
    assert decode_image(picture.image).shape == (32, 32, 3) == (*picture.stored_size, 3)


def test_a_class_table_without_faces_is_refused() -> None:
    assert face_ids(PORTRAIT_CLASSES) == [FACE, *(PORTRAIT_CLASSES.names.index(name) for name in ("eye", "mouth"))]
    with pytest.raises(UserError, match="have no face; use --crop centre"):
        face_ids(ClassTable.load("facades"))
