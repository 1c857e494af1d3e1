"""labelme JSON (versions 3 to 6), read; written by `labelme_writer.py`.

Nothing in a file is trusted: paths stay below the root, sizes and counts are capped, and all problems of a file are
collected in one AnnotationError. What the shapes look like as a label map is said in `shapes.py`.
"""

from __future__ import annotations

import base64
import binascii
import json
import posixpath
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gaugan import storage
from gaugan.errors import UserError
from gaugan.images import MAX_PIXELS, ImageError, decode_image_with_note
from gaugan.labelme_shapes import mask_area, read_shape
from gaugan.shapes import Painting, Shape, find_id, paint

MAX_JSON_BYTES = 200_000_000
MAX_PICTURE_BYTES = 1_000_000_000
MAX_SHAPES = 10_000
MAX_SIDES_AWAY = 4
"""A point further than this many picture sides from the picture is a broken file, not a hand that slipped."""


class AnnotationError(UserError):
    """An annotation that can't be used; `problems` are full sentences, each naming the file and the remedy."""

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


@dataclass(frozen=True)
class Annotation:
    """One labelme file."""

    path: str
    """Relative to the root; names the file in messages."""
    image_uris: tuple[str, ...]
    """Where the picture may lie, best first."""
    embedded: bytes | None
    """The picture inside the JSON (`imageData`)."""
    height: int | None
    width: int | None
    """`imageHeight`, `imageWidth` of the JSON; None where it has none."""
    shapes: tuple[Shape, ...]


def find_annotations(root_uri: str) -> list[storage.Entry]:
    """The JSON files below a root, hidden ones left out: those in its folder `labelme/` when it has one, else all."""
    entries = storage.list_files(root_uri, suffixes=[".json"])
    entries = [entry for entry in entries if not any(part.startswith(".") for part in entry.path.split("/"))]
    inside = [entry for entry in entries if entry.path.startswith("labelme/")]
    return inside or entries


def read_labelme(json_uri: str, root_uri: str | None = None) -> Annotation:
    """Reads one file; pictures may lie anywhere below `root_uri` (default: the folder of the JSON).

    Raises AnnotationError with every problem of the file.
    """
    root = storage.absolute(root_uri or storage.parent(json_uri))
    path = storage.absolute(json_uri)
    path = path[len(root) + 1 :] if path.startswith(root + "/") else storage.name(json_uri)
    try:
        return _parse(_load_json(json_uri), path, root)
    except AnnotationError as error:
        raise AnnotationError(*(f"{path}: {problem}" for problem in error.problems)) from error


def parse_labelme(data: bytes, name: str, max_mask_pixels: int) -> Annotation:
    """The shapes of a file that is at hand as bytes; its picture is not looked for.

    Raises AnnotationError, also when its masks together have more than `max_mask_pixels`: before one is decoded.
    """
    content = _decode_json(data)
    pixels = sum(mask_area(entry) for entry in content["shapes"])
    if pixels > max_mask_pixels:
        raise AnnotationError(
            f"{name}: its masks have {pixels:,} pixels together; at most {max_mask_pixels:,} are read"
        )
    return _parse({**content, "imagePath": None, "imageData": None}, name, "")


def read_picture(annotation: Annotation, max_pixels: int = MAX_PIXELS) -> tuple[np.ndarray, str]:
    """The upright picture, uint8 (H, W, 3), and a note ("" = the file at `imagePath` was used as it is).

    Raises AnnotationError when there is none, it can't be decoded, or its size is not the one the JSON gives.
    """
    data, note = _picture_bytes(annotation)
    try:
        image, remark = decode_image_with_note(data, max_pixels)
    except ImageError as error:
        raise AnnotationError(f"{annotation.path}: its picture can't be read: {error.message}; save it anew") from error
    height, width = image.shape[:2]
    expected = (annotation.height or height, annotation.width or width)
    if expected != (height, width):
        turned = "; the picture was turned after it was annotated" if expected == (width, height) else ""
        raise AnnotationError(
            f"{annotation.path}: made for a picture of {expected[1]}x{expected[0]} pixels, but the picture has "
            f"{width}x{height} (upright){turned}; restore the picture that was annotated, or annotate this one anew"
        )
    return image, "; ".join(filter(None, [note, remark]))


def unknown_labels(annotation: Annotation, name_to_id: Mapping[str, int]) -> list[str]:
    """The labels, as written, that `name_to_id` does not know; one entry per shape."""
    return [shape.label for shape in annotation.shapes if find_id(shape.label, name_to_id) is None]


def rasterise(
    annotation: Annotation,
    name_to_id: Mapping[str, int],
    z_order: Sequence[int] | None = None,
    *,
    size: tuple[int, int] | None = None,
    unknown_id: int | None = None,
) -> np.ndarray:
    """uint8 (H, W) of class ids; see `paint_annotation`."""
    return paint_annotation(annotation, name_to_id, z_order, size=size, unknown_id=unknown_id).label_map


def paint_annotation(
    annotation: Annotation,
    name_to_id: Mapping[str, int],
    z_order: Sequence[int] | None = None,
    *,
    size: tuple[int, int] | None = None,
    unknown_id: int | None = None,
) -> Painting:
    """The label map and the hidden shapes; `shapes.paint` with the labels looked up in `name_to_id`.

    `size` is needed only for a file without imageHeight and imageWidth; `unknown_id` is what unknown labels become.
    Raises AnnotationError for unknown labels (unless `unknown_id` is given) and points far outside the picture.
    """
    if size is None:
        if annotation.height is None or annotation.width is None:
            raise AnnotationError(f"{annotation.path}: has no imageHeight and imageWidth; give `size`")
        size = (annotation.height, annotation.width)
    unknown = sorted(set(unknown_labels(annotation, name_to_id)))
    if unknown and unknown_id is None:
        raise AnnotationError(f"{annotation.path}: unknown labels {unknown}; known are {', '.join(name_to_id)}")
    _check_points(annotation, size)
    found = [find_id(shape.label, name_to_id) for shape in annotation.shapes]
    ids = [unknown_id if number is None else number for number in found]
    return paint(annotation.shapes, ids, size, z_order)  # type: ignore[arg-type]


def _load_json(uri: str) -> dict[str, Any]:
    try:
        data = storage.read_bytes(uri, limit=MAX_JSON_BYTES)
    except (OSError, ValueError) as error:
        raise AnnotationError(f"can't be read: {error}") from error
    return _decode_json(data)


def _decode_json(content: bytes) -> dict[str, Any]:
    try:
        data = json.loads(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise AnnotationError(f"is not UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8") from error
    except json.JSONDecodeError as error:
        raise AnnotationError(f"is not valid JSON ({error}); open and save it in labelme, or remove it") from error
    except RecursionError as error:
        raise AnnotationError("is nested too deeply for a labelme file; remove it") from error
    except ValueError as error:  # a number with too many digits
        raise AnnotationError(f"can't be read: {error}") from error
    if not isinstance(data, dict) or not isinstance(data.get("shapes"), list):
        raise AnnotationError("is no labelme file (it has no list `shapes`); move it out of the folder")
    return data


def _parse(data: dict[str, Any], path: str, root: str) -> Annotation:
    problems: list[str] = []
    height, width = (_side(data, key, problems) for key in ("imageHeight", "imageWidth"))
    if height and width and height * width > MAX_PIXELS:
        problems.append(f"is made for {width}x{height} pixels; at most {MAX_PIXELS} are read")
    image_uris = _image_uris(data.get("imagePath"), path, root, problems)
    embedded = _embedded(data.get("imageData"), problems)
    if len(data["shapes"]) > MAX_SHAPES:
        raise AnnotationError(f"has {len(data['shapes'])} shapes; at most {MAX_SHAPES} are read")
    shapes = []
    for place, entry in enumerate(data["shapes"]):
        try:
            shapes.append(read_shape(entry))
        except ValueError as error:
            label = entry.get("label") if isinstance(entry, dict) else None
            problems.append(f"shape {place} ({label!r}): {error}; mend or delete it in labelme")
    if problems:
        raise AnnotationError(*problems)
    return Annotation(path, image_uris, embedded, height, width, tuple(shapes))


def _side(data: dict[str, Any], key: str, problems: list[str]) -> int | None:
    value = data.get(key)
    if value is None or (type(value) is int and value > 0):
        return value
    problems.append(f"{key} is {value!r}, expected a whole number of pixels; remove the field or mend it")
    return None


def _image_uris(image_path: Any, path: str, root: str, problems: list[str]) -> tuple[str, ...]:
    """Where the picture may lie: `imagePath` seen from the JSON, else a file of that name in the root's `images/`."""
    if image_path is None or image_path == "":
        return ()
    if not isinstance(image_path, str) or re.search(r"[\x00-\x1f]", image_path):
        problems.append(f"imagePath is {image_path!r}, expected the path of a picture")
        return ()
    wanted = image_path.replace("\\", "/")  # written on Windows
    folder = root.partition("://")[2] or root  # without a scheme, whose slashes normpath would merge
    full = posixpath.normpath(posixpath.join(folder, posixpath.dirname(path), wanted))
    inside = posixpath.relpath(full, folder)
    if inside.split("/")[0] in (".", "..") or re.match(r"[A-Za-z]:", wanted):
        problems.append(
            f"imagePath {image_path!r} leaves the folder {root}; give --annotations the folder that holds both, or put "
            "the picture beside the JSON and set imagePath to its name"
        )
        return ()
    candidates = [inside, posixpath.join("images", posixpath.basename(inside))]
    # Old versions of labelme sometimes wrote the name of the JSON itself.
    candidates = [name for name in dict.fromkeys(candidates) if not name.lower().endswith(".json")]
    return tuple(storage.join(root, name) for name in candidates)


def _embedded(value: Any, problems: list[str]) -> bytes | None:
    if value is None or value == "":
        return None
    try:
        return base64.b64decode("".join(value.split()), validate=True)  # some writers break its lines
    except (AttributeError, ValueError, binascii.Error) as error:
        problems.append(f"imageData is no base64 text ({error}); set it to null to use the file at imagePath")
        return None


def _picture_bytes(annotation: Annotation) -> tuple[bytes, str]:
    for place, uri in enumerate(annotation.image_uris):
        try:
            data = storage.read_bytes(uri, limit=MAX_PICTURE_BYTES)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise AnnotationError(f"{annotation.path}: its picture can't be read: {error}") from error
        return data, f"picture taken from {uri}, not from imagePath" if place else ""
    if annotation.embedded is not None:
        return annotation.embedded, "picture file missing, imageData used"
    where = " nor ".join(annotation.image_uris) or "imagePath (empty)"
    raise AnnotationError(
        f"{annotation.path}: its picture is missing: not at {where}, and no imageData; copy it there or mend imagePath"
    )


def _check_points(annotation: Annotation, size: tuple[int, int]) -> None:
    reach = MAX_SIDES_AWAY * max(size)
    for place, shape in enumerate(annotation.shapes):
        for x, y in shape.points:
            if not (-reach < x < reach and -reach < y < reach):
                raise AnnotationError(
                    f"{annotation.path}: shape {place} ({shape.label!r}) has a point at [{x:g}, {y:g}], far outside "
                    f"the picture of {size[1]}x{size[0]} pixels; mend or delete it in labelme"
                )
