"""Class table, label maps and their files: the one place where class ids, names and colours meet.

A label map is a uint8 array (H, W) of class ids; 255 = ignore. On disk it is an 8-bit palette PNG whose indices are the
ids: colours are for people, only the index counts. The class table is data (YAML), its hash travels with everything.
"""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gaugan.errors import UserError

if TYPE_CHECKING:
    import torch
    from PIL import Image

IGNORE = 255
IGNORE_COLOUR = (224, 224, 192)
MAX_CLASSES = 255
NAMED_TABLES = ("coco", "ade20k", "cityscapes", "facades")
"""Class tables of public datasets that come along, in gaugan/classes/."""
NEAR_COLOUR = 8
"""Largest difference per channel at which a colour still counts as a palette colour (colour profiles, farbling)."""
MAX_REPAIRED_SHARE = 0.02
"""Share of antialiased pixels above which an RGB label map is refused."""


class LabelMapError(UserError):
    """A label map that can't be used; `code` is stable, `message` is for people."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


@dataclass(frozen=True)
class ClassTable:
    """The classes of a project: the id of a class is its place in `names`."""

    names: tuple[str, ...]
    colours: tuple[tuple[int, int, int], ...]
    """One RGB colour (0..255) per class, for people's eyes."""
    name: str = "unnamed"
    any_colour: frozenset[str] = frozenset()
    """Classes whose things come in any colour (hair and clothes, not skin): augmentation may recolour them."""

    def __post_init__(self) -> None:
        if not 1 <= len(self.names) <= MAX_CLASSES:
            raise UserError(f"class table {self.name!r}: {len(self.names)} classes, allowed are 1 to {MAX_CLASSES}")
        if len(self.colours) != len(self.names):
            raise UserError(f"class table {self.name!r}: {len(self.names)} names but {len(self.colours)} colours")
        for colour in self.colours:
            if not all(0 <= channel <= 255 for channel in colour):
                raise UserError(f"class table {self.name!r}: colour {colour}: channels are 0 to 255")
        if strange := sorted(self.any_colour - set(self.names)):
            raise UserError(f"class table {self.name!r}: any_colour names {strange[0]!r}, which is no class of it")
        for kind, values in (("name", self.names), ("colour", (*self.colours, IGNORE_COLOUR))):
            repeated = sorted({str(value) for value in values if values.count(value) > 1})
            if repeated:
                raise UserError(f"class table {self.name!r}: {kind} {repeated[0]} stands twice; each must be unique")

    @property
    def num_classes(self) -> int:
        return len(self.names)

    @property
    def ids(self) -> dict[str, int]:
        return {name: number for number, name in enumerate(self.names)}

    @property
    def any_colour_ids(self) -> list[int]:
        return [self.ids[name] for name in self.names if name in self.any_colour]

    @property
    def hash(self) -> str:
        """16 hex digits of a SHA-256 over names and ids; colours change no meaning."""
        text = json.dumps(self.names, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def to_plain(self) -> dict[str, Any]:
        """The YAML form: `name` and a list of {name, colour} and, where it is so, any_colour: true."""
        classes: list[dict[str, Any]] = [
            {"name": name, "colour": list(colour)} | ({"any_colour": True} if name in self.any_colour else {})
            for name, colour in zip(self.names, self.colours, strict=True)
        ]
        return {"name": self.name, "classes": classes}

    @staticmethod
    def from_plain(data: dict[str, Any], source: str = "class table") -> ClassTable:
        """From the YAML form; colours may be left out (a distinct one is made for each class)."""
        listed = data.get("classes") if isinstance(data, dict) else None
        if not isinstance(listed, list):
            raise UserError(f"{source}: expected `classes:` with a list of names or of {{name, colour}}")
        entries = [entry if isinstance(entry, dict) else {"name": entry} for entry in listed]
        given = [_rgb(entry["colour"], source) for entry in entries if "colour" in entry]
        made = (colour for colour in distinct_colours(MAX_CLASSES) if colour not in given)
        names, colours = [], []
        for entry in entries:
            strange = set(entry) - {"name", "colour", "any_colour"} or type(entry.get("any_colour", True)) is not bool
            if not isinstance(entry.get("name"), str) or strange:
                raise UserError(
                    f"{source}: class {entry!r}: expected {{name: TEXT, colour: [R, G, B], any_colour: true}}, "
                    "the last two where wanted"
                )
            names.append(entry["name"])
            colours.append(_rgb(entry["colour"], source) if "colour" in entry else next(made, (0, 0, 0)))
        try:
            free = frozenset(entry["name"] for entry in entries if entry.get("any_colour", False))
            return ClassTable(tuple(names), tuple(colours), str(data.get("name", "unnamed")), free)
        except UserError as error:
            raise UserError(f"{source}: {error}") from error

    @staticmethod
    def load(uri: str) -> ClassTable:
        """Reads a YAML class table: a name of NAMED_TABLES, a path or s3:// URI; "" = the built-in portrait classes."""
        import yaml

        from gaugan import storage

        if not uri:
            return PORTRAIT_CLASSES
        if uri in NAMED_TABLES:
            uri = str(Path(__file__).parent / "classes" / f"{uri}.yaml")
        try:
            data = yaml.safe_load(storage.read_text(uri))
        except OSError as error:
            advice = f"give a class table in YAML, or one of {', '.join(NAMED_TABLES)}"
            raise UserError(f"--classes {error}; {advice}") from error
        except (UnicodeDecodeError, yaml.YAMLError) as error:
            raise UserError(f"{uri}: no class table can be read there: {error}") from error
        return ClassTable.from_plain(data, source=uri)


def _rgb(value: Any, source: str) -> tuple[int, int, int]:
    try:
        red, green, blue = (int(channel) for channel in value)
    except (TypeError, ValueError) as error:
        raise UserError(f"{source}: colour {value!r}: expected [red, green, blue], each 0 to 255") from error
    return red, green, blue


def distinct_colours(count: int) -> list[tuple[int, int, int]]:
    """`count` different colours in a fixed order: the bits of the id spread over R, G, B (the VOC colour map)."""
    colours = []
    for number in range(count):
        channels, rest = [0, 0, 0], number
        for shift in range(7, -1, -1):
            for channel in range(3):
                channels[channel] |= ((rest >> channel) & 1) << shift
            rest >>= 3
        colours.append((channels[0], channels[1], channels[2]))
    return colours


# Found by optimisation: blends of two colours (antialiased edges) are seldom nearest to a third (2.6 % of them); the
# closest two stay apart by 55 (CIE 1976 distance), with red-green blindness (deuteranopia, Machado 2009) by 23.
PORTRAIT_CLASSES = ClassTable(
    names=("background", "skin", "face", "eye", "mouth", "hair", "clothes"),
    colours=(
        (39, 45, 60),
        (232, 176, 74),
        (255, 172, 203),
        (70, 128, 233),
        (240, 26, 73),
        (95, 12, 182),
        (43, 173, 113),
    ),
    name="portraits-v1",
    any_colour=frozenset({"background", "eye", "hair", "clothes"}),
)


def palette(table: ClassTable) -> list[int]:
    """768 numbers: a full 256-entry palette. Shorter ones make some encoders pack to 4 bits and lose 255."""
    colours = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)
    colours[: table.num_classes] = table.colours
    colours[IGNORE] = IGNORE_COLOUR
    return [int(value) for value in colours.reshape(-1)]


def encode_label_map(label_map: np.ndarray, table: ClassTable, compress_level: int = 6) -> bytes:
    """uint8 (H, W) -> bytes of an 8-bit palette PNG whose indices are the class ids; 255 is kept."""
    from PIL import Image

    assert label_map.dtype == np.uint8 and label_map.ndim == 2, (label_map.dtype, label_map.shape)
    picture = Image.frombytes("P", (label_map.shape[1], label_map.shape[0]), np.ascontiguousarray(label_map).tobytes())
    picture.putpalette(palette(table))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", compress_level=compress_level)
    return buffer.getvalue()


def decode_label_map(data: bytes, table: ClassTable, max_pixels: int = 100_000_000) -> np.ndarray:
    """`read_ids`, and unknown_id when an id is not in the table: names value, count and first position."""
    ids = read_ids(data, table, max_pixels)
    check_ids(ids, table, "label map")
    return ids


def read_ids(data: bytes, table: ClassTable, max_pixels: int = 100_000_000) -> np.ndarray:
    """PNG bytes -> uint8 (H, W) of the numbers in the file, whether the table has them or not.

    Palette and grey files are read by index (whatever their bit depth); RGB(A) by the table's colours: exact, near
    (NEAR_COLOUR), and antialiased edge pixels by the majority of their sure 3x3 neighbours; alpha under 128 means
    background. Raises LabelMapError (not_a_png, too_large, truncated, unsupported_mode, unknown_colour).
    """
    picture = open_png(data, max_pixels)
    try:
        picture.load()
    except Exception as error:
        raise LabelMapError("truncated", f"the label map's PNG data is damaged: {error}") from error
    depth = data[IHDR_DEPTH]
    if picture.mode in ("P", "1"):
        ids = np.array(picture).astype(np.uint8)
    elif picture.mode == "L":
        ids = np.array(picture) // GREY_STEP.get(depth, 1)
    elif picture.mode in ("RGB", "RGBA") and depth == 8:
        ids = _ids_from_colours(np.array(picture), table)
    else:
        kind = f"a label map of {depth}-bit {picture.mode}"
        allowed = "allowed are palette, grey ids up to 8 bit, and 8-bit RGB in the class colours"
        raise LabelMapError("unsupported_mode", f"{kind}; {allowed}; save it as 8-bit grey or palette PNG")
    return ids


def holds_colours(data: bytes) -> bool:
    """True for a PNG of RGB(A): its ids are found by colour, not by number."""
    return len(data) > IHDR_COLOUR and data.startswith(b"\x89PNG") and data[IHDR_COLOUR] in (2, 6)


IHDR_DEPTH, IHDR_COLOUR = 24, 25
"""Where a PNG file keeps its bit depth and its colour type."""
GREY_STEP = {2: 85, 4: 17}
"""Pillow stretches grey values of few bits to 0..255; divided by this they are ids again."""


def open_png(data: bytes, max_pixels: int, what: str = "label map") -> Image.Image:
    """A PNG of which only the header was read. Raises LabelMapError (not_a_png, too_large, truncated)."""
    from gaugan.images import ImageError, open_picture

    try:
        return open_picture(data, max_pixels, ("PNG",))
    except ImageError as error:
        code = {"too_large": "too_large", "truncated": "truncated", "corrupt": "truncated"}.get(error.code)
        if code:
            raise LabelMapError(code, error.message) from error
        advice = f"the {what} is not a PNG file; save it as 8-bit PNG (JPEG changes ids at every border)"
        raise LabelMapError("not_a_png", f"{advice} ({error.message})") from error


def check_ids(label_map: np.ndarray, table: ClassTable, source: str, allow_ignore: bool = True, shift: int = 0) -> None:
    """Raises LabelMapError unknown_id when an id is outside 0..num_classes-1 (and not 255, if that is allowed).

    shift: what was subtracted from the numbers of a file; the message names its numbers.
    """
    bad = label_map >= table.num_classes
    if allow_ignore:
        bad &= label_map != IGNORE
    if bad.any():
        y, x = np.argwhere(bad)[0]
        allowed = f"{shift}..{table.num_classes - 1 + shift}" + (f" and {IGNORE} (ignore)" if allow_ignore else "")
        raise LabelMapError(
            "unknown_id",
            f"{source}: class id {int(label_map[y, x]) + shift} at x={x}, y={y} ({int(bad.sum())} such pixels); "
            f"allowed are {allowed}",
        )


def colourise(label_map: np.ndarray, table: ClassTable) -> np.ndarray:
    """uint8 (H, W) of ids -> uint8 (H, W, 3) in the table's colours."""
    return np.array(palette(table), dtype=np.uint8).reshape(256, 3)[label_map]


def onehot(label_map: torch.Tensor, num_classes: int) -> torch.Tensor:
    """int64 (N, H, W) -> float32 (N, num_classes, H, W); ignored pixels are all zero."""
    import torch

    channels = torch.arange(num_classes, device=label_map.device).view(1, -1, 1, 1)
    return (label_map.unsqueeze(1) == channels).float()


def _ids_from_colours(pixels: np.ndarray, table: ClassTable) -> np.ndarray:
    """uint8 (H, W, 3|4) -> ids, by the rules of `decode_label_map`."""
    known = [*range(table.num_classes), IGNORE]
    colours = np.array(palette(table), dtype=np.int16).reshape(256, 3)[known]
    packed = pixels[..., :3].astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], dtype=np.uint32)
    found, place = np.unique(packed, return_inverse=True)
    rgb = np.stack([found >> 16, found >> 8 & 255, found & 255], axis=-1).astype(np.int16)  # (colours, 3)
    near, distance = np.zeros(len(rgb), dtype=np.int16), np.full(len(rgb), 256, dtype=np.int16)
    for number, colour in zip(known, colours, strict=True):
        away = np.abs(rgb - colour).max(axis=-1)
        near[away < distance] = number
        np.minimum(distance, away, out=distance)
    near[distance > _tolerance(colours)] = -1
    ids = near[place].reshape(packed.shape)
    if pixels.shape[-1] == 4:
        ids[pixels[..., 3] < 128] = 0
    unsure = ids < 0
    if unsure.mean() > MAX_REPAIRED_SHARE:
        y, x = np.argwhere(unsure)[0]
        colour, share = tuple(int(v) for v in pixels[y, x, :3]), 100 * unsure.mean()
        raise LabelMapError(
            "unknown_colour",
            f"colour {colour} at x={x}, y={y} is no class colour of {table.name!r} ({int(unsure.sum())} such pixels, "
            f"{share:.1f} %); draw without antialiasing, or send an indexed PNG",
        )
    return _majority_of_neighbours(ids, known)


def _tolerance(colours: np.ndarray) -> int:
    """NEAR_COLOUR, or less where two class colours are so close that a colour could be near both."""
    away = np.abs(colours[:, None] - colours[None]).max(axis=-1)
    closest = away[away > 0].min(initial=256)
    return int(min(NEAR_COLOUR, (closest - 1) // 2))


def _majority_of_neighbours(ids: np.ndarray, known: list[int]) -> np.ndarray:
    """Fills each -1 with the id most frequent among its sure 3x3 neighbours, ring by ring."""
    while (ids < 0).any():
        padded = np.pad(ids, 1, constant_values=-1)
        y, x = np.nonzero(ids < 0)
        around = np.stack([padded[y + dy, x + dx] for dy in range(3) for dx in range(3)])
        votes = np.stack([(around == number).sum(axis=0) for number in known])
        found = votes.max(axis=0) > 0
        ids[y[found], x[found]] = np.array(known)[votes.argmax(axis=0)[found]]
    return ids.astype(np.uint8)
