"""gaugan.paint_plan, gaugan.painting, gaugan.painting_report: from label maps to pictures, outcomes and a page."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dataset_toys import png
from tiny_models import save_spade, write_pairs

from gaugan import checkpoint, paint_plan, painting
from gaugan.errors import UserError
from gaugan.images import decode_image, encode_png
from gaugan.instances import encode_instance_map
from gaugan.labels import PORTRAIT_CLASSES, encode_label_map
from gaugan.paint_plan import PaintPlan, chunks, list_folder, list_pairs, settle
from gaugan.painter import Painter
from gaugan.painting_report import statistics, write_page
from gaugan.pairs import Pairs
from gaugan.portraits import draw_portrait
from gaugan.style_choice import StyleChoice, Styles

BAD = {
    "a_junk.png": (b"junk", "not_a_png"),
    "b_high.png": (png(np.full((64, 64), 7, np.uint8)), "unknown_id"),
    "c_deep.png": (png(np.zeros((64, 64), np.uint16)), "unsupported_mode"),
    "d_notes.txt": (b"hello", "other_file"),
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_spade(tmp_path_factory.mktemp("model") / "checkpoint", size=32)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Label maps of two shapes, bad files, and for some the real picture."""
    for name, (data, _) in BAD.items():
        (tmp_path / "in" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "in" / name).write_bytes(data)
    (tmp_path / "real").mkdir()
    for number in range(3):
        image, ids = draw_portrait(number, 64 if number else (48, 64))
        (tmp_path / "in" / f"{number}.png").write_bytes(encode_label_map(ids, PORTRAIT_CLASSES))
        if number:
            (tmp_path / "real" / f"{number}.jpg").write_bytes(encode_png(image))
    return tmp_path


def make_plan(items: list[paint_plan.Item], model: str, **changes: Any) -> PaintPlan:
    values: dict = {
        "input": "in", "model": model, "model_hash": checkpoint.load(model).hash, "classes_hash": "c",
        "image_size": (32, 32), "style": StyleChoice(), "seed": 3, "mode": "fixed", "has_real": True,
        "max_pixels": 10**6, "device": "cpu", "precision": "fp32", "gallery": 100, "num_inputs": len(items),
        "inputs_sha256": paint_plan.inputs_sha256(items), "batch_size": 4, "threads": 1,
    }  # fmt: skip
    return PaintPlan(**(values | changes))


def paint(items: list[paint_plan.Item], plan: PaintPlan, output: str) -> list[dict[str, Any]]:
    painter = Painter.load(plan.model)
    styles = Styles(plan.style, painter, plan.seed)
    parts = list(chunks(plan, items))
    for chunk in parts:
        sheets = painting.read_chunk(chunk, plan, PORTRAIT_CLASSES)
        painting.write_chunk(chunk, painting.paint_chunk(sheets, painter, styles), plan, PORTRAIT_CLASSES, output)
    assert painting.staged_chunks(output) == set(range(len(parts)))
    painting.merge_outcomes(output, len(parts))
    return painting.read_outcomes(output)


def listed(folder: Path) -> list[paint_plan.Item]:
    return list_folder(str(folder / "in"), str(folder / "real"), "", None)


def test_every_input_has_one_outcome_row_and_the_good_ones_a_picture(folder: Path, model: str) -> None:
    items = listed(folder)
    rows = paint(items, make_plan(items, model), str(folder / "out"))
    assert [row["id"] for row in rows] == sorted(path.name for path in (folder / "in").iterdir())
    codes = {row["id"]: row["code"] for row in rows}
    assert codes == {name: code for name, (_, code) in BAD.items()} | {f"{number}.png": "" for number in range(3)}
    assert Counter(row["status"] for row in rows) == {"painted": 3, "refused": 3, "skipped": 1}
    for row in rows:
        for path in row["pictures"]:
            assert decode_image((folder / "out" / path).read_bytes()).shape == (32, 32, 3)
    first = rows[0]
    assert first["pictures"] == ["pictures/0.png"] and (first["width"], first["height"]) == (64, 48)
    assert first["styles"] == ["seed 3"] and sum(json.loads(first["areas"]).values()) == pytest.approx(1, abs=1e-3)


def test_a_picture_does_not_depend_on_bad_neighbours_and_is_what_the_painter_paints(folder: Path, model: str) -> None:
    items = listed(folder)
    rows = paint(items, make_plan(items, model), str(folder / "out"))
    ids = draw_portrait(1, 64)[1]
    painter = Painter.load(model)
    place = next(item.place for item in items if item.id == "1.png")
    wanted = painter.paint(ids[None], seeds=[3 + place])[0]
    painted = decode_image((folder / "out" / rows[place]["pictures"][0]).read_bytes())
    assert np.abs(wanted.astype(int) - painted.astype(int)).max() <= 1


def test_several_styles_give_several_pictures_and_one_strip(folder: Path, model: str) -> None:
    items = listed(folder)
    plan = make_plan(items, model, style=StyleChoice(interpolate=("seed:1", "seed:2"), interpolate_steps=3))
    rows = paint(items, plan, str(folder / "out"))
    assert rows[1]["pictures"] == [f"pictures/1~{number}.png" for number in range(3)]
    assert rows[1]["styles"][1] == "seed 1 to seed 2, 0.50"
    drawn = decode_image((folder / "out" / "gallery" / rows[1]["strip"]).read_bytes())
    assert drawn.shape == (32, 5 * 32 + 4 * 2, 3)  # label map, real, three paintings, gaps


def test_own_style_needs_the_real_picture(folder: Path, model: str) -> None:
    items = listed(folder)
    rows = paint(items, make_plan(items, model, style=StyleChoice(style="own")), str(folder / "out"))
    assert {row["id"]: row["code"] for row in rows if row["id"][0].isdigit()} == {
        "0.png": "no_real_picture", "1.png": "", "2.png": ""
    }  # fmt: skip


def test_a_real_picture_that_is_broken_is_missed_on_the_page_only(folder: Path, model: str) -> None:
    (folder / "real" / "1.jpg").write_bytes(b"broken")
    items = listed(folder)
    row = paint(items, make_plan(items, model), str(folder / "out"))[1]
    assert row["status"] == "painted" and "can't be shown" in row["note"]


def test_an_instance_map_of_another_size_is_refused(folder: Path, model: str) -> None:
    (folder / "inst").mkdir()
    (folder / "inst" / "1.png").write_bytes(encode_instance_map(np.zeros((8, 8), np.uint16)))
    items = list_folder(str(folder / "in"), "", str(folder / "inst"), None)
    row = paint(items, make_plan(items, model), str(folder / "out"))[1]
    assert row["code"] == "wrong_size" and "8x8 px, the label map 64x64" in row["message"]


@pytest.mark.parametrize("flag", ["--images", "--instances"])
def test_a_folder_in_which_no_name_fits_is_refused(folder: Path, flag: str) -> None:
    (folder / "other").mkdir()
    (folder / "other" / "elsewhere.png").write_bytes(png(np.zeros((64, 64), np.uint8)))
    folders = {"images": "", "instances": ""} | {flag.removeprefix("--"): str(folder / "other")}
    with pytest.raises(UserError, match=f"{flag} .*other: 1 pictures, none with the name of a label map"):
        list_folder(str(folder / "in"), **folders, limit=None)


def test_pairs_bring_their_own_real_pictures(tmp_path: Path, model: str) -> None:
    pairs = Pairs.open(write_pairs(tmp_path / "data", train=2, held_out=3))
    items = list_pairs(pairs, "held_out", None)
    assert [item.id for item in items] == ["002.png", "003.png", "004.png"]
    assert len(list_pairs(pairs, "all", None)) == 5 and len(list_pairs(pairs, "all", 2)) == 2
    rows = paint(items, make_plan(items, model, style=StyleChoice(style="own")), str(tmp_path / "out"))
    assert all(row["status"] == "painted" and row["styles"] == ["own style"] for row in rows)


def test_a_run_continues_only_with_the_same_decisions(folder: Path, model: str, tmp_path: Path) -> None:
    items, output = listed(folder), str(tmp_path / "out")
    plan = make_plan(items, model)
    assert settle(output, plan, items) == (plan, items)
    again = make_plan(items, model, batch_size=2, gallery=5)
    assert settle(output, again, items) == (plan, items)  # what changes no picture is taken from the run
    with pytest.raises(UserError, match="seed: 3 there, 4 now.*another --output"):
        settle(output, make_plan(items, model, seed=4), items)
    with pytest.raises(UserError, match="num_inputs: 7 there, 6 now"):
        settle(output, make_plan(items[1:], model), items[1:])


def test_names_that_lead_out_of_the_output_or_meet_are_made_safe() -> None:
    names = paint_plan._names(["../x.png", "/abs.png", "a/b.png", "c.png", "c.jpg"])
    assert names == {"../x.png": "", "/abs.png": "", "a/b.png": "a/b", "c.png": "c.png", "c.jpg": "c.jpg"}


def test_an_unsafe_name_is_refused_with_a_row(model: str) -> None:
    item = paint_plan.Item(0, "../x.png", "/x.png")
    assert painting.read_sheet(item, make_plan([item], model), PORTRAIT_CLASSES).code == "unsafe_id"


def test_the_page_shows_strips_classes_and_reasons_and_escapes_names(folder: Path, model: str) -> None:
    (folder / "in" / "<b>.png").write_bytes(b"junk")
    items, output = listed(folder), str(folder / "out")
    plan = make_plan(items, model, gallery=3)
    rows = paint(items, plan, output)
    stats = statistics(rows)
    assert stats["painted"] == 3 and stats["refused"] == 4 and stats["failure_rate"] == pytest.approx(4 / 7, abs=1e-4)
    text = Path(write_page(output, plan, PORTRAIT_CLASSES, rows, stats)).read_text()
    assert "label map, real picture, painted" in text and "hair" in text and "unknown_id" in text
    assert "<b>.png" not in text and "&lt;b&gt;.png" in text
    for row in rows:
        assert not row["strip"] or (folder / "out" / "gallery" / row["strip"]).exists()
