"""The page of a painting run: label map, real picture and paintings side by side, and what was not painted and why."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from gaugan import storage
from gaugan.labels import IGNORE, ClassTable
from gaugan.paint_plan import PaintPlan
from gaugan.painting import UNKNOWN_COLOUR
from gaugan.report import Page, Strip

LEGEND_CLASSES, CAPTION_CLASSES = 24, 4
REFUSED_SHOWN = 200
PART_PX = 140
"""Width of one picture of a strip on the page, at least."""
MAX_STRIP_PX = 1100
Row = dict[str, Any]


def statistics(rows: list[Row]) -> dict[str, Any]:
    """Counts that add up to the number of inputs."""
    statuses = Counter(row["status"] for row in rows)
    codes = Counter(row["code"] for row in rows if row["code"])
    tried = statuses["painted"] + statuses["refused"]
    return {
        "inputs": len(rows),
        "painted": statuses["painted"],
        "refused": statuses["refused"],
        "skipped": statuses["skipped"],
        "pictures": sum(len(row["pictures"]) for row in rows),
        "codes": dict(codes.most_common()),
        "failure_rate": round(statuses["refused"] / max(1, tried), 6),
    }


def write_page(output: str, plan: PaintPlan, classes: ClassTable, rows: list[Row], stats: dict[str, Any]) -> str:
    """OUTPUT/gallery/index.html; returns its URI."""
    height, width = plan.image_size
    page = Page(
        storage.join(output, "gallery"),
        "Paintings",
        f"{plan.input}, painted by {plan.model} (model {plan.model_hash}) at {width}x{height} px",
    )
    page.facts(
        {
            "label maps painted": stats["painted"],
            "paintings": stats["pictures"],
            "refused": stats["refused"],
            "skipped (no label maps)": stats["skipped"],
        }
    )
    shown = [row for row in rows if row["strip"]]
    if shown:
        _show_paintings(page, plan, classes, shown, stats)
    _show_refused(page, rows, stats)
    return page.save()


def _show_paintings(page: Page, plan: PaintPlan, classes: ClassTable, shown: list[Row], stats: dict[str, Any]) -> None:
    styles, alike = shown[0]["styles"], all(row["styles"] == shown[0]["styles"] for row in shown)
    paintings = "painted" if len(styles) == 1 else f"painted in {len(styles)} styles"
    parts = ["label map", *["real picture"] * plan.has_real, paintings + (f" ({_ends(styles)})" if alike else "")]
    some = f"{len(shown)} of {stats['painted']} label maps, evenly spread. " if len(shown) < stats["painted"] else ""
    truncation = f" Truncation {plan.style.truncation:g}." if plan.style.truncation < 1 else ""
    legend, num_seen = _legend(classes, shown)
    largest = f" Of {num_seen} classes in them, the {LEGEND_CLASSES} largest:" if num_seen > LEGEND_CLASSES else ""
    page.heading("Gallery", f"{some}From left to right: {', '.join(parts)}.{truncation}{largest}")
    page.legend(legend)
    strips = [Strip(row["strip"], _caption(row, classes), "" if alike else _ends(row["styles"])) for row in shown]
    page.sheet(strips, width_px=min(MAX_STRIP_PX, PART_PX * (len(parts) - 1 + len(styles))))


def _ends(styles: list[str]) -> str:
    return styles[0] if len(styles) == 1 else f"{styles[0]} ... {styles[-1]}"


def _caption(row: Row, classes: ClassTable) -> str:
    """ "a.png: sky 45 %, tree 20 %" """
    areas = [(int(number), share) for number, share in json.loads(row["areas"]).items()]
    names = [f"{_class_name(number, classes)} {100 * share:.0f} %" for number, share in areas[:CAPTION_CLASSES]]
    more = f", {len(areas) - CAPTION_CLASSES} more" if len(areas) > CAPTION_CLASSES else ""
    note = f" ({row['note']})" if row["note"] else ""
    return f"{row['id']}: {', '.join(names)}{more}{note}"


def _class_name(number: int, classes: ClassTable) -> str:
    return "(unknown)" if number == IGNORE else classes.names[number]


def _legend(classes: ClassTable, shown: list[Row]) -> tuple[ClassTable, int]:
    """The classes that fill most of the shown label maps, in the order of their ids; and how many occur at all."""
    areas: Counter[int] = Counter()
    for row in shown:
        areas.update({int(number): share for number, share in json.loads(row["areas"]).items()})
    has_unknown = bool(areas.pop(IGNORE, 0))
    ids = sorted(number for number, _ in areas.most_common(LEGEND_CLASSES))
    names, colours = [classes.names[n] for n in ids], [classes.colours[n] for n in ids]
    if has_unknown or not ids:
        names, colours = [*names, "(unknown)"], [*colours, UNKNOWN_COLOUR]
    return ClassTable(tuple(names), tuple(colours), classes.name), len(areas)


def _show_refused(page: Page, rows: list[Row], stats: dict[str, Any]) -> None:
    refused = [row for row in rows if row["status"] == "refused"]
    if not refused:
        return
    page.heading("Not painted", f"By reason; below, the first {min(len(refused), REFUSED_SHOWN)}.")
    page.bars({code: float(count) for code, count in stats["codes"].items()}, form="{:,.0f}")
    page.table(["file", "code", "reason"], [(r["id"], r["code"], r["message"]) for r in refused[:REFUSED_SHOWN]])
