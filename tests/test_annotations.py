"""gaugan.annotations and gaugan.shapes: labelme files of all versions, in and out."""

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from labelme_toys import EYE, FACE, HAIR, IDS, box, painted, png, problem, shape, write
from PIL import Image, ImageDraw

from gaugan.annotations import (
    AnnotationError,
    find_annotations,
    paint_annotation,
    rasterise,
    read_labelme,
    read_picture,
)
from gaugan.errors import UserError
from gaugan.labelme_writer import write_labelme
from gaugan.labels import PORTRAIT_CLASSES, ClassTable
from gaugan.shapes import class_ids, find_id

# Versions


def test_version_3_with_line_colours_and_without_shape_types_and_sizes(tmp_path: Path) -> None:
    old = {"label": "hair", "line_color": None, "fill_color": [0, 255, 0, 128], "points": [[2, 2], [20, 2], [20, 15]]}
    path = write(
        tmp_path, [old], version="3.16.7", lineColor=[0, 255, 0, 128], fillColor=[255, 0, 0, 128],
        imageHeight="absent", imageWidth="absent", flags="absent",
    )  # fmt: skip
    annotation = read_labelme(path)
    image, note = read_picture(annotation)
    label_map = rasterise(annotation, IDS, size=(image.shape[0], image.shape[1]))
    assert label_map.shape == (24, 32) and set(np.unique(label_map)) == {0, HAIR} and note == ""


def test_version_6_with_backslash_path_and_description(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").write_bytes(png(np.zeros((24, 32, 3), np.uint8)))
    path = write(
        tmp_path / "labelme", [shape("eye", [[1, 1], [9, 1], [9, 9]], description="left")], version="6.3.1",
        imagePath="..\\images\\a.png",
    )  # fmt: skip
    annotation = read_labelme(path, str(tmp_path))
    image, _ = read_picture(annotation)
    assert image.shape == (24, 32, 3) and (rasterise(annotation, IDS) == EYE).any()


def test_text_with_byte_order_mark_is_read(tmp_path: Path) -> None:
    path = Path(write(tmp_path, [box("hair", 0, 0, 3, 3)]))
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert len(read_labelme(str(path)).shapes) == 1


# Painting


@pytest.mark.parametrize("corners", [(4, 3, 12, 9), (12, 9, 4, 3), (4, 9, 12, 3)])
def test_rectangle_in_any_corner_order_includes_both_ends(tmp_path: Path, corners: tuple[int, int, int, int]) -> None:
    label_map = painted(tmp_path, [box("hair", *corners)])
    expected = np.zeros((24, 32), np.uint8)
    expected[3:10, 4:13] = HAIR
    np.testing.assert_array_equal(label_map, expected)


def test_every_shape_kind_equals_the_pil_call_that_labelme_makes(tmp_path: Path) -> None:
    calls: dict[str, Any] = {
        "polygon": ([[2.5, 3.1], [28.7, 4], [15, 21.2]], lambda pen, xy: pen.polygon(xy, outline=1, fill=1)),
        "oriented_rectangle": (
            [[10, 2], [25, 9], [20, 20], [5, 13]],
            lambda pen, xy: pen.polygon(xy, outline=1, fill=1),
        ),
        "line": ([[3, 3], [27, 19]], lambda pen, xy: pen.line(xy, fill=1, width=10)),
        "linestrip": ([[3, 3], [20, 5], [27, 19]], lambda pen, xy: pen.line(xy, fill=1, width=10)),
        "point": ([[12, 9]], lambda pen, xy: pen.ellipse([7, 4, 17, 14], outline=1, fill=1)),
        "circle": ([[15, 11], [18, 15]], lambda pen, xy: pen.ellipse([10, 6, 20, 16], outline=1, fill=1)),
    }
    for kind, (points, call) in calls.items():
        canvas = Image.new("L", (32, 24))
        call(ImageDraw.Draw(canvas), [tuple(point) for point in points])
        np.testing.assert_array_equal(
            painted(tmp_path, [shape("hair", points, kind)]) == HAIR, np.array(canvas) == 1, kind
        )


@pytest.mark.parametrize("ink", [1, 255])
def test_mask_shape_is_laid_at_its_corner_and_clipped(tmp_path: Path, ink: int) -> None:
    area = np.random.default_rng(0).random((6, 8)) > 0.5
    text = base64.b64encode(png(area.astype(np.uint8) * ink)).decode()
    label_map = painted(tmp_path, [shape("hair", [[28, 20], [35, 25]], "mask", mask=text)])
    np.testing.assert_array_equal(label_map[20:, 28:] == HAIR, area[:4, :4])
    assert (label_map[:20] == 0).all()


def test_later_shapes_win_and_the_rest_is_background(tmp_path: Path) -> None:
    label_map = painted(
        tmp_path, [box("hair", 0, 0, 20, 20), box("face", 5, 5, 10, 10), box("_background_", 6, 6, 7, 7)]
    )
    assert (label_map[0, 0], label_map[5, 5], label_map[6, 6], label_map[23, 31]) == (HAIR, FACE, 0, 0)


def test_ignore_label_becomes_255(tmp_path: Path) -> None:
    assert painted(tmp_path, [box("__ignore__", 0, 0, 3, 3)])[1, 1] == 255


def test_labels_with_stray_case_and_spaces_are_known(tmp_path: Path) -> None:
    assert painted(tmp_path, [box("  Hair ", 0, 0, 3, 3)])[1, 1] == HAIR


def test_z_order_paints_by_class_with_unnamed_classes_first_and_ignore_last(tmp_path: Path) -> None:
    shapes = [
        box("__ignore__", 0, 0, 1, 20),
        box("eye", 0, 0, 9, 9),
        box("face", 0, 0, 20, 20),
        box("hair", 0, 0, 9, 20),
    ]
    label_map = painted(tmp_path, shapes, z_order=[FACE, EYE])
    assert (label_map[5, 5], label_map[15, 5], label_map[5, 0]) == (EYE, FACE, 255)


def test_shapes_without_a_visible_pixel_are_reported(tmp_path: Path) -> None:
    shapes = [
        box("eye", 5, 5, 8, 8),
        box("face", 0, 0, 20, 20),
        box("mouth", 40, 30, 45, 35),
        shape("hair", [], "points"),
    ]
    painting = paint_annotation(read_labelme(write(tmp_path, shapes)), IDS)
    assert [hidden.label for hidden in painting.hidden] == ["eye", "mouth"]


def test_unknown_labels_are_refused_together_or_become_the_given_id(tmp_path: Path) -> None:
    annotation = read_labelme(write(tmp_path, [box("nose", 0, 0, 3, 3), box("ear", 4, 4, 6, 6)]))
    with pytest.raises(AnnotationError, match="ear.*nose"):
        rasterise(annotation, IDS)
    assert rasterise(annotation, IDS, unknown_id=255)[1, 1] == 255


# Labels -> ids


def test_renames_win_over_the_names_of_the_table() -> None:
    ids = class_ids(PORTRAIT_CLASSES, {"Nose": "face", "skin": "__ignore__"})
    assert (find_id("nose", ids), find_id(" Skin", ids), find_id("hair", ids), find_id("ear", ids)) == (
        FACE,
        255,
        HAIR,
        None,
    )


def test_a_rename_to_no_class_names_the_classes() -> None:
    with pytest.raises(UserError, match="--map nose=fase.*face"):
        class_ids(PORTRAIT_CLASSES, {"nose": "fase"})


def test_names_that_differ_by_case_only_must_be_exact() -> None:
    ids = class_ids(ClassTable(("bg", "Eye", "eye"), ((0, 0, 0), (1, 1, 1), (2, 2, 2))))
    assert (find_id("Eye", ids), find_id("eye", ids), find_id("EYE", ids)) == (1, 2, None)


# Pictures


@pytest.mark.parametrize("orientation", range(1, 9))
def test_label_maps_lie_on_the_upright_picture(tmp_path: Path, orientation: int) -> None:
    upright = np.zeros((16, 24, 3), np.uint8)
    upright[:8, :8] = 255  # top left as people see it
    stored = {
        1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1],
        5: upright.swapaxes(0, 1), 6: np.rot90(upright), 7: np.rot90(upright, 2).swapaxes(0, 1),
        8: np.rot90(upright, -1),
    }  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = Image.fromarray(np.ascontiguousarray(stored[orientation]))
    picture.save(tmp_path / "a.jpg", quality=95, exif=exif)
    annotation = read_labelme(write(tmp_path, [box("hair", 0, 0, 7, 7)], size=(16, 24), imagePath="a.jpg"))
    image, _ = read_picture(annotation)
    label_map = rasterise(annotation, IDS)
    assert image.shape[:2] == label_map.shape
    np.testing.assert_array_equal(image[..., 0] > 128, label_map == HAIR)


def test_a_size_that_is_not_the_pictures_is_refused_with_both_sizes(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(np.zeros((32, 24, 3), np.uint8)))
    message = problem(tmp_path)
    assert "32x24" in message and "24x32" in message and "turned" in message


def test_missing_picture_names_the_place_looked_at(tmp_path: Path) -> None:
    message = problem(tmp_path, imagePath="gone.png")
    assert "missing" in message and str(tmp_path / "gone.png") in message


def test_truncated_picture_is_refused(tmp_path: Path) -> None:
    data = png(np.random.default_rng(0).integers(0, 255, (24, 32, 3), dtype=np.uint8))
    (tmp_path / "a.png").write_bytes(data[: len(data) // 2])
    assert "can't be read" in problem(tmp_path)


@pytest.mark.parametrize("image_path", ["gone.png", "", "a.json"])
def test_embedded_picture_is_used_when_the_file_is_missing(tmp_path: Path, image_path: str) -> None:
    text = base64.b64encode(png(np.full((24, 32, 3), 77, np.uint8))).decode()
    image, note = read_picture(read_labelme(write(tmp_path, [], imagePath=image_path, imageData=text)))
    assert (image == 77).all() and "imageData" in note


def test_the_file_wins_over_the_embedded_picture(tmp_path: Path) -> None:
    text = base64.b64encode(png(np.full((24, 32, 3), 77, np.uint8))).decode()
    image, note = read_picture(read_labelme(write(tmp_path, [], imageData=text)))
    assert (image == 120).all() and note == ""


def test_a_bare_name_is_also_looked_for_in_the_sibling_folder_images(tmp_path: Path) -> None:
    path = write(tmp_path / "labelme", [])
    (tmp_path / "images").mkdir()
    (tmp_path / "labelme" / "a.png").rename(tmp_path / "images" / "a.png")
    image, note = read_picture(read_labelme(path, str(tmp_path)))
    assert image.shape == (24, 32, 3) and "images/a.png" in note


@pytest.mark.parametrize("image_path", ["../data/a.png", "..\\data\\a.png", "sub/../a.png", "./a.png"])
def test_a_roundabout_picture_path_that_stays_in_the_folder_is_followed(tmp_path: Path, image_path: str) -> None:
    path = write(tmp_path / "data", [])
    (tmp_path / "data" / "sub").mkdir()
    write(tmp_path / "data", [], imagePath=image_path)
    assert read_picture(read_labelme(path, str(tmp_path / "data")))[0].shape == (24, 32, 3)


@pytest.mark.parametrize(
    "image_path",
    [
        "../../etc/passwd",
        "..\\..\\secret.png",
        "/etc/passwd",
        "C:\\Users\\me\\a.png",
        "sub/../../a.png",
        "..",
        "//host/x.png",
    ],
)
def test_a_picture_path_that_leaves_the_folder_is_refused(tmp_path: Path, image_path: str) -> None:
    assert "leaves the folder" in problem(tmp_path / "data", imagePath=image_path)


@pytest.mark.parametrize("image_path", ["sub/../a.png", "./a.png", "ABSOLUTE"])
def test_dots_that_stay_inside_are_fine(tmp_path: Path, image_path: str) -> None:
    write(tmp_path, [])
    wanted = str(tmp_path / "a.png") if image_path == "ABSOLUTE" else image_path
    read_picture(read_labelme(write(tmp_path, [], imagePath=wanted)))


# Finding and writing


def test_a_folder_labelme_is_preferred_and_hidden_files_are_left_out(tmp_path: Path) -> None:
    for name in ("b.json", "sub/a.json", ".hidden.json", "c.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("{}")
    assert [entry.path for entry in find_annotations(str(tmp_path))] == ["b.json", "sub/a.json"]
    write(tmp_path / "labelme", [], name="d.json")
    assert [entry.path for entry in find_annotations(str(tmp_path))] == ["labelme/d.json"]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(1, 40))
def test_writing_and_reading_gives_the_same_label_map(
    tmp_path_factory: pytest.TempPathFactory, seed: int, height: int, width: int
) -> None:
    rng = np.random.default_rng(seed)
    label_map = rng.choice(np.array([*range(7), 255], dtype=np.uint8), size=(height, width))
    path = tmp_path_factory.mktemp("trip") / "x.json"
    path.write_text(write_labelme(label_map, PORTRAIT_CLASSES, "x.png"))
    np.testing.assert_array_equal(rasterise(read_labelme(str(path)), IDS), label_map)


def test_written_files_have_the_fields_labelme_asks_for(tmp_path: Path) -> None:
    content = json.loads(write_labelme(np.array([[0, 5], [255, 5]], np.uint8), PORTRAIT_CLASSES, "../images/x.png"))
    assert content["imageData"] is None and content["imagePath"] == "../images/x.png"
    assert (content["imageHeight"], content["imageWidth"]) == (2, 2)
    assert [(entry["label"], entry["points"]) for entry in content["shapes"]] == [
        ("hair", [[1, 0], [1, 1]]),
        ("__ignore__", [[0, 1], [0, 1]]),
    ]
    for entry in content["shapes"]:
        assert {"label", "points", "group_id", "shape_type", "flags", "mask", "description"} == set(entry)
