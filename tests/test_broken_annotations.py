"""gaugan.annotations: labelme files that are refused, and in which words."""

import base64
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from labelme_toys import box, png, problem, shape, write

from gaugan.annotations import (
    AnnotationError,
    read_labelme,
)
from gaugan.labelme_shapes import MAX_POINTS


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b'{"version": "5.0", ', "not valid JSON"),
        (b"[1, 2]", "no labelme file"),
        (b'{"images": [], "annotations": []}', "no labelme file"),
        (b'{"shapes": 3}', "no labelme file"),
        (b"\xff\xfe\x00", "UTF-8"),
        (b'{"shapes": ' + b"[" * 200_000, "nested too deeply"),
        (b"", "not valid JSON"),
    ],
)
def test_files_that_are_not_labelme_are_named(tmp_path: Path, text: bytes, words: str) -> None:
    (tmp_path / "a.json").write_bytes(text)
    with pytest.raises(AnnotationError, match=words) as caught:
        read_labelme(str(tmp_path / "a.json"))
    assert "a.json" in str(caught.value)


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        (shape("hair", [[1, 1], [2, 2]]), "at least 3"),
        (shape("hair", [[1, 1]], "circle"), "needs 2"),
        (shape("hair", [[1, 1], [2, 2], [3, 3]], "hexagon"), "unknown"),
        (shape("hair", [[1, 1], [2], [3, 3]]), "pairs"),
        (shape("hair", [[1, 1], ["x", 2], [3, 3]]), "pairs"),
        (shape("hair", [[1, 1], [float("nan"), 2], [3, 3]]), "finite"),
        (shape("hair", [[1, 1], [10**400, 2], [3, 3]]), "pairs"),
        (shape("hair", [[0, 0]] * (MAX_POINTS + 1)), "at most"),
        (shape("hair", [[1, 1], [1e9, 2], [3, 3]]), "far outside"),
        (shape("", [[1, 1], [2, 2], [3, 3]]), "label"),
        (shape("hair", [[1, 1], [4, 4]], "mask", mask="AAAA"), "base64 PNG"),
        (shape("hair", [[1, 1], [4, 4]], "mask"), "base64 PNG"),
        (
            shape("hair", [[1, 1], [4, 4]], "mask", mask=base64.b64encode(png(np.ones((9, 9), np.uint8))).decode()),
            "span",
        ),
        ("hair", "object"),
        ({"label": "hair"}, "points"),
    ],
)
def test_a_broken_shape_is_named_by_its_place(tmp_path: Path, entry: Any, words: str) -> None:
    message = problem(tmp_path, [box("face", 0, 0, 1, 1), entry])
    assert "shape 1" in message and words in message


@pytest.mark.parametrize(
    "fields",
    [{"imageHeight": "24"}, {"imageHeight": -1}, {"imagePath": 7}, {"imageData": "AAA"}, {"imageWidth": 10**8}],
)
def test_broken_fields_are_refused(tmp_path: Path, fields: dict[str, Any]) -> None:
    problem(tmp_path, **fields)


def test_all_problems_of_a_file_come_in_one_error(tmp_path: Path) -> None:
    path = write(tmp_path, [shape("hair", []), shape("face", [[1, 1]], "line")], imagePath="../../x.png", imageHeight=0)
    with pytest.raises(AnnotationError) as caught:
        read_labelme(path)
    assert len(caught.value.problems) == 4
