"""Label map -> polygons -> label map, and the way back from exported doubts to annotated pairs."""

from pathlib import Path

import numpy as np
import pytest
from tiny_models import make_plan

from gaugan import label_export, label_shards
from gaugan.cleaning import remove_specks
from gaugan.images import encode_png
from gaugan.label_plan import Chunk
from gaugan.labels import IGNORE, PORTRAIT_CLASSES
from gaugan.listing import Item
from gaugan.metrics import confusion, iou
from gaugan.pairs import Pairs
from gaugan.polygons import polygons
from gaugan.portraits import draw_portrait
from gaugan.reading import Picture
from gaugan.shapes import Shape, paint


def painted(label_map: np.ndarray, tolerance_px: float) -> np.ndarray:
    found = polygons(label_map, tolerance_px)
    shapes = [Shape("any", "polygon", polygon.points) for polygon in found]
    return paint(shapes, [polygon.id for polygon in found], label_map.shape).label_map


@pytest.mark.parametrize("seed", range(40))
def test_without_tolerance_any_map_is_painted_back_exactly(seed: int) -> None:
    rng = np.random.default_rng(seed)
    height, width = rng.integers(1, 14, 2)
    label_map = rng.choice([0, 1, 5, IGNORE][: rng.integers(2, 5)], (height, width)).astype(np.uint8)
    assert np.array_equal(painted(label_map, 0.0), label_map)


def test_holes_and_what_lies_in_them_come_back() -> None:
    label_map = np.zeros((20, 20), dtype=np.uint8)
    label_map[2:18, 2:18], label_map[5:15, 5:15], label_map[8:12, 8:12] = 5, 0, 2
    assert np.array_equal(painted(label_map, 0.5), label_map)


def test_simplified_borders_keep_every_class_within_the_stated_iou() -> None:
    counts = sum(
        confusion(label_map, painted(label_map, 0.5), 7) for label_map in (draw_portrait(k, 192)[1] for k in range(6))
    )
    assert iou(counts).min() > 0.97  # type: ignore[arg-type]


ODD = ["deep/er/ü 1.jpg", "deep/er/ü 2.jpg", "new\nline.png", "x.png"]


def export(tmp_path: Path) -> dict[str, np.ndarray]:
    """Labels some portraits with their true maps, half of them unsure, and exports; id -> label map of the unsure."""
    items, output, maps = [Item(name, 1, "train") for name in sorted(ODD)], str(tmp_path / "out"), {}
    plan, pictures = make_plan(items, min_confidence=0.5), []
    for seed, item in enumerate(items):
        image, label_map = draw_portrait(seed, 96)
        confidence = 0.4 if seed % 2 else 0.9
        pictures.append(
            Picture(
                item,
                item.id,
                sha256="0" * 64,
                width=96,
                height=96,
                image=encode_png(image),
                stored_size=(96, 96),
                label_map=label_map,
                confidence=confidence,
                entropy=0.1,
            )  # fmt: skip
        )
        maps |= {item.id: label_map} if seed % 2 else {}
    label_shards.write_chunk(Chunk(0, 0, tuple(items)), pictures, plan, PORTRAIT_CLASSES, output)
    finished = {0: label_shards.merge_shard(0, items, [0], output)}
    assert label_export.export_labelme(str(tmp_path / "doubts"), output, plan, PORTRAIT_CLASSES, finished) == len(maps)
    corrected = next((tmp_path / "doubts" / "labelme").iterdir())
    before = corrected.read_text()
    corrected.write_text(before + "\n")
    assert label_export.export_labelme(str(tmp_path / "doubts"), output, plan, PORTRAIT_CLASSES, finished) == 0
    assert corrected.read_text() == before + "\n", "corrections are left alone"
    return maps


def test_exported_doubts_come_back_through_the_import(tmp_path: Path) -> None:
    from jobs import import_annotations as job

    maps = export(tmp_path)
    flags = {"annotations": str(tmp_path / "doubts"), "output": str(tmp_path / "pairs"), "tracking": "none"}
    job.main(job.Config(**flags, held_out=0.0))
    pairs = Pairs.open(str(tmp_path / "pairs"))
    assert pairs.num("train") == len(maps) == 2
    for place in range(2):
        found = pairs.read("train", place)
        truth = next(m for name, m in maps.items() if label_export.safe_name(name) in found.id)
        counts = confusion(remove_specks(truth)[0], found.label_map, 7)
        assert np.nanmin(iou(counts)) > 0.94 and counts.trace() / counts.sum() > 0.98


def test_names_of_files_are_safe_and_unique() -> None:
    names = ["a/b.png", "a-b.png", "../../etc/passwd", "ü\n.png", "x" * 500 + ".png", ".png"]
    safe = [label_export.safe_name(name) for name in names]
    assert len(set(safe)) == len(names)
    assert all(len(name) < 80 and "/" not in name and name.isascii() and name.isprintable() for name in safe)
