"""From a chunk of label maps to finished pictures, step by step; each step is a plain function, on any machine.

    read_chunk     CPU        files -> label map at the generator's size, or a refusal with a code
    paint_chunk    generator  label maps + styles -> pictures
    write_chunk    CPU        -> OUTPUT/pictures/NAME.png, gallery strips, OUTPUT/.work/INDEX.parquet (the outcomes)

All files are written whole or not at all; a chunk counts as done once its outcomes stand.
"""

from __future__ import annotations

import functools
import hashlib
import io
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from gaugan import storage
from gaugan.images import ImageError, decode_image, encode_png
from gaugan.instances import decode_instance_map
from gaugan.labels import IGNORE, ClassTable, LabelMapError, colourise, decode_label_map
from gaugan.paint_plan import Chunk, Item, PaintPlan
from gaugan.pairs import Pairs
from gaugan.preprocess import Preprocess
from gaugan.report import strip

if TYPE_CHECKING:
    from gaugan.painter import Painter
    from gaugan.style_choice import Styles

OUTCOMES = pa.schema(
    [
        ("id", pa.string()),
        ("uri", pa.string()),
        ("status", pa.string()),  # painted | refused | skipped
        ("code", pa.string()),  # why not painted; "" else
        ("message", pa.string()),
        ("sha256", pa.string()),  # of the label map's file
        ("width", pa.int32()),  # of the label map
        ("height", pa.int32()),
        ("note", pa.string()),
        ("styles", pa.list_(pa.string())),  # of each painting
        ("pictures", pa.list_(pa.string())),  # their paths below OUTPUT
        ("picture_sha256", pa.list_(pa.string())),
        ("strip", pa.string()),  # the picture on the page; "" when this one is not shown
        ("areas", pa.string()),  # JSON: class id -> share of the label map
    ]
)
SIDECARS = frozenset(".json .jsonl .txt .csv .md .html .xml .yaml .yml .parquet .npy .log .db".split())
MAX_FILE_BYTES = 64 * 2**20


@dataclass
class Sheet:
    """One input on its way; `code` is set once it is refused or skipped."""

    item: Item
    code: str = ""
    message: str = ""
    sha256: str = ""
    width: int | None = None
    height: int | None = None
    note: str = ""
    label_map: np.ndarray | None = None
    """uint8 (H, W) at the generator's size."""
    instance_map: np.ndarray | None = None
    real: np.ndarray | None = None
    """uint8 (H, W, 3) at the generator's size, for the page."""
    picture: np.ndarray | None = None
    """The real picture as it is, for its style."""
    styles: list[str] = field(default_factory=list)
    paintings: list[np.ndarray] = field(default_factory=list)
    """uint8 (H, W, 3) each."""

    @property
    def status(self) -> str:
        if self.code:
            return "skipped" if self.code == "other_file" else "refused"
        return "painted"

    def refuse(self, code: str, message: str) -> None:
        self.code, self.message, self.label_map = code, message, None


def read_chunk(chunk: Chunk, plan: PaintPlan, classes: ClassTable) -> list[Sheet]:
    """Reads and checks; a bad file gets a code, no exception leaves this function."""
    return [read_sheet(item, plan, classes) for item in chunk.items]


def read_sheet(item: Item, plan: PaintPlan, classes: ClassTable) -> Sheet:
    """One label map with what belongs to it, at the generator's size; or the reason why it can't be painted."""
    sheet = Sheet(item)
    suffix = "." + item.id.rsplit(".", 1)[-1].lower()
    if not item.split and suffix in SIDECARS:
        sheet.refuse("other_file", f"{suffix} files are no label maps")
        return sheet
    if not item.name:
        sheet.refuse("unsafe_id", "the id leads out of the output folder; it is not painted")
        return sheet
    try:
        _fill(sheet, *(_read_pair(item) if item.split else _read_files(item)), plan, classes)
    except (LabelMapError, ImageError) as error:
        sheet.refuse(error.code, error.message)
    except FileNotFoundError:
        sheet.refuse("missing", "the file was there when the run began, and is gone")
    except OSError as error:
        sheet.refuse("unreadable", f"the file can't be read: {error}")
    except Exception as error:  # one input never stops a run; the code says that this one is a fault of ours
        sheet.refuse("unexpected", f"{type(error).__name__}: {error}")
    return sheet


@functools.lru_cache(maxsize=2)
def _dataset(uri: str) -> tuple[Pairs, dict[tuple[str, str], int]]:
    pairs = Pairs.open(uri)
    return pairs, {(s, name): index for s in ("train", "held_out") for index, name in enumerate(pairs.ids(s))}


def _read_pair(item: Item) -> tuple[bytes, bytes, bytes]:
    pairs, places = _dataset(item.uri)
    row = pairs.encoded(item.split, places[item.split, item.id])
    return row["label_map"], row["image"], row.get("instance_map") or b""


def _read_files(item: Item) -> tuple[bytes, bytes, bytes]:
    uris = (item.uri, item.image_uri, item.instance_uri)
    data = [storage.read_bytes(uri, MAX_FILE_BYTES) if uri else b"" for uri in uris]
    return data[0], data[1], data[2]


def _fill(
    sheet: Sheet, label_data: bytes, image_data: bytes, instance_data: bytes, plan: PaintPlan, classes: ClassTable
) -> None:
    """Decodes; raises LabelMapError or ImageError."""
    preprocess = Preprocess(plan.image_size, plan.mode)
    sheet.sha256 = hashlib.sha256(label_data).hexdigest()
    label_map = decode_label_map(label_data, classes, plan.max_pixels)
    sheet.height, sheet.width = label_map.shape
    if instance_data:
        instance_map = decode_instance_map(instance_data, plan.max_pixels)
        if instance_map.shape != label_map.shape:
            found, wanted = (f"{each.shape[1]}x{each.shape[0]}" for each in (instance_map, label_map))
            raise LabelMapError("wrong_size", f"the instance map has {found} px, the label map {wanted}")
        sheet.instance_map = preprocess.scale_map(instance_map)
    if image_data:
        _fill_real(sheet, image_data, plan, preprocess)
    elif plan.style.style == "own":
        raise ImageError("no_real_picture", "--style own needs the real picture; give --images, or another style")
    sheet.label_map = preprocess.scale_map(label_map)


def _fill_real(sheet: Sheet, image_data: bytes, plan: PaintPlan, preprocess: Preprocess) -> None:
    """A real picture that can't be read is missed on the page only, unless its style is wanted."""
    try:
        picture = decode_image(image_data, plan.max_pixels)
    except ImageError as error:
        if plan.style.style == "own":
            raise
        sheet.note = f"the real picture can't be shown: {error.message}"
        return
    sheet.real = preprocess.scale_image(picture)
    sheet.picture = picture if plan.style.style == "own" else None


def paint_chunk(sheets: list[Sheet], painter: Painter, styles: Styles) -> list[Sheet]:
    """Adds the paintings, in place."""
    good = [sheet for sheet in sheets if sheet.label_map is not None]
    if not good:
        return sheets
    label_maps = np.stack([sheet.label_map for sheet in good if sheet.label_map is not None])
    for vectors in styles.vectors([sheet.item.place for sheet in good], [sheet.picture for sheet in good]):
        painted = painter.paint_z(label_maps, vectors, _instances(good))
        for sheet, painting in zip(good, painted, strict=True):
            sheet.paintings.append(painting)
    for sheet in good:
        sheet.styles, sheet.picture = styles.names(sheet.item.place), None
    return sheets


def _instances(sheets: Sequence[Sheet]) -> np.ndarray | None:
    """(N, H, W); a label map without instances stands in for itself (its borders are those between classes)."""
    if all(sheet.instance_map is None for sheet in sheets):
        return None
    maps = [sheet.label_map if sheet.instance_map is None else sheet.instance_map for sheet in sheets]
    return np.stack([each.astype(np.int32) for each in maps if each is not None])


def write_chunk(chunk: Chunk, sheets: list[Sheet], plan: PaintPlan, classes: ClassTable, output: str) -> Counter[str]:
    """Writes pictures, strips and outcomes; returns how many inputs have each status or code."""
    rows = [_write_sheet(sheet, plan, classes, output) for sheet in sheets]
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema=OUTCOMES), buffer, compression="zstd", use_dictionary=False)
    storage.write_bytes(staged_uri(output, chunk.index), buffer.getvalue())
    return Counter(sheet.code or sheet.status for sheet in sheets)


def _write_sheet(sheet: Sheet, plan: PaintPlan, classes: ClassTable, output: str) -> dict[str, Any]:
    row: dict[str, Any] = {
        "id": sheet.item.id, "uri": sheet.item.uri, "status": sheet.status, "code": sheet.code, "note": sheet.note,
        "message": sheet.message, "sha256": sheet.sha256, "width": sheet.width, "height": sheet.height, "strip": "",
        "styles": sheet.styles, "pictures": [], "picture_sha256": [], "areas": "{}",
    }  # fmt: skip
    if sheet.label_map is None:
        return row
    for number, painting in enumerate(sheet.paintings):
        data = encode_png(painting)
        path = f"pictures/{sheet.item.name}{f'~{number}' if len(sheet.paintings) > 1 else ''}.png"
        storage.write_bytes(storage.join(output, path), data)
        row["pictures"].append(path)
        row["picture_sha256"].append(hashlib.sha256(data).hexdigest())
    row["areas"] = json.dumps(_areas(sheet.label_map))
    if sheet.item.place in plan.shown:
        row["strip"] = f"pictures/{sheet.item.place:07d}.png"
        picture = encode_png(_strip(sheet, sheet.label_map, plan, classes))
        storage.write_bytes(storage.join(output, "gallery", row["strip"]), picture)
    return row


def _areas(label_map: np.ndarray) -> dict[str, float]:
    """Class id -> share of the label map, largest first, 4 decimals."""
    ids, counts = np.unique(label_map, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    return {str(ids[place]): round(float(counts[place] / label_map.size), 4) for place in order}


def _strip(sheet: Sheet, label_map: np.ndarray, plan: PaintPlan, classes: ClassTable) -> np.ndarray:
    """Label map | real picture (grey when this one is missing) | paintings."""
    coloured = colourise(label_map, classes)
    coloured[label_map == IGNORE] = UNKNOWN_COLOUR
    parts = [coloured]
    if plan.has_real:
        parts.append(np.full_like(coloured, 128) if sheet.real is None else sheet.real)
    return strip([*parts, *sheet.paintings])


UNKNOWN_COLOUR = (24, 24, 24)
"""Of pixels without a class, on the page."""


def staged_uri(output: str, index: int) -> str:
    """Where a chunk's outcomes wait until all are done."""
    return storage.join(output, ".work", f"{index:06d}.parquet")


def staged_chunks(output: str) -> set[int]:
    """The chunks that are done."""
    entries = storage.list_files(storage.join(output, ".work"), suffixes=[".parquet"])
    return {int(entry.path.removesuffix(".parquet")) for entry in entries}


def outcomes_uri(output: str) -> str:
    """Where the outcomes of a finished run lie."""
    return storage.join(output, "outcomes", "part-00000.parquet")


def read_outcomes(output: str) -> list[dict[str, Any]]:
    """All rows of a finished run."""
    rows: list[dict[str, Any]] = pq.read_table(io.BytesIO(storage.read_bytes(outcomes_uri(output)))).to_pylist()
    return rows


def merge_outcomes(output: str, num_chunks: int) -> None:
    """Joins the chunks' outcomes into one file, in the order of the listing."""
    tables = [pq.read_table(io.BytesIO(storage.read_bytes(staged_uri(output, index)))) for index in range(num_chunks)]
    buffer = io.BytesIO()
    pq.write_table(pa.concat_tables(tables), buffer, compression="zstd", use_dictionary=False)
    storage.write_bytes(outcomes_uri(output), buffer.getvalue())
