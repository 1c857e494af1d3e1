"""The result of a labelling run: counts that must add up, the manifest, and a page to look at, least sure first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np

from gaugan import storage
from gaugan.images import decode_image, grid
from gaugan.label_counts import LabelCounts, for_manifest
from gaugan.label_plan import LabelPlan
from gaugan.label_rows import verdict
from gaugan.label_statistics import BINS, REFUSED_SHOWN, Row, Statistics, collect, labelled_rows
from gaugan.labels import ClassTable, decode_label_map
from gaugan.pairs import SPLITS, write_manifest
from gaugan.report import Page, Strip, label_strip

SHEET_ROWS = 24
COLUMNS = 25
"""Of a histogram at least: a few wide blocks would look like nothing."""
Shards = dict[int, dict[str, Any]]
"""Shard -> its summary."""


def write_result(
    output: str, plan: LabelPlan, classes: ClassTable, finished: Shards, speed: dict[str, float]
) -> tuple[dict[str, Any], str]:
    """Checks that every input has its row, then writes report, stats.json and, last, manifest.json.

    finished: shard -> summary, of all shards; speed: numbers of this invocation, added to the statistics.
    Returns the statistics and the page's URI.
    """
    rows = sum(summary["rows"] for summary in finished.values())
    if rows != plan.num_inputs:
        raise RuntimeError(f"{output}: {rows} outcome rows for {plan.num_inputs} inputs; this must never happen")
    statistics = collect(output, finished)
    splits = Counter(dict.fromkeys(SPLITS, 0))
    for summary in finished.values():
        splits.update(summary["splits"])
    stats = {**statistics.to_plain(classes), "splits": dict(splits), **speed}
    page = write_report(output, plan, classes, statistics, finished)
    storage.write_json(storage.join(output, "stats.json"), stats)
    files = [
        {"path": f"pairs/part-{shard:05d}.parquet", "rows": summary["pairs"], "sha256": summary["pairs_sha256"]}
        for shard, summary in sorted(finished.items())
        if summary["pairs"]
    ]
    decided = ("model", "model_hash", "device", "precision", "mirror", "inference_batch", "threads")
    maker = {"system": "unet", **{name: getattr(plan, name) for name in decided}}
    more = {"labelled_by": maker, "label_audit": _label_audit(classes, finished), "outcomes": statistics.outcomes}
    write_manifest(output, classes, files, dict(splits), more)
    return stats, page


def _label_audit(classes: ClassTable, finished: Shards) -> dict[str, Any]:
    """The manifest's "label_audit"."""
    # In the order of the shards, not of their ends: the manifest's bytes are the same for any number of workers.
    shards = sorted(finished.items())
    counts = sum((LabelCounts.from_plain(each["labels"]) for _, each in shards), LabelCounts())
    return for_manifest(counts, classes)


def write_report(output: str, plan: LabelPlan, classes: ClassTable, statistics: Statistics, finished: Shards) -> str:
    """OUTPUT/report/index.html with its pictures; returns its URI."""
    stats = statistics.to_plain(classes)
    page = Page(
        storage.join(output, "report"),
        "Labelled pictures",
        f"{plan.input} labelled by {plan.model} (model {plan.model_hash}, classes {plan.classes_hash})",
    )
    page.facts(
        {
            "inputs": stats["inputs"],
            "labelled": stats["labelled"],
            "refused": stats["refused"],
            "skipped": stats["skipped"],
            "accepted": stats["accept"],
            f"to review (confidence below {plan.min_confidence:g})": stats["review"],
            f"rejected (below {plan.reject_confidence:g})": stats["reject"],
            "mean confidence": stats["confidence"]["mean"],
            "specks per picture": stats["specks"]["mean"],
            "byte-identical copies": stats["duplicates"],
            "look like an earlier one": stats["near_duplicates"],
        }
    )
    if stats["labelled"]:
        _show_statistics(page, stats, plan, classes)
        _show_pictures(page, output, plan, classes, statistics, finished)
    _show_refused(page, stats, statistics)
    return page.save()


def _show_statistics(page: Page, stats: dict[str, Any], plan: LabelPlan, classes: ClassTable) -> None:
    doubtful = f"Red: below {plan.min_confidence:g}, to be reviewed."
    page.heading("Confidence", f"Mean over a picture's pixels of the U-Net's largest class probability. {doubtful}")
    _show_shares(page, stats["confidence"]["histogram"], plan.min_confidence)
    page.heading("Entropy", "Mean over a picture's pixels: 0 = sure, 1 = all classes are as likely.")
    _show_shares(page, stats["entropy"]["histogram"])
    removal = "before any removal" if stats["specks"]["mean"] else "there are none"
    page.heading("Specks", f"How many pictures have so many components under 0.02 % of the area ({removal}).")
    edges = stats["specks"]["from"]
    names = [
        str(low) if high == low + 1 else f"{low} to {high - 1}" for low, high in zip(edges, edges[1:], strict=False)
    ]
    columns = zip([*names, f"{edges[-1]} or more"], map(float, stats["specks"]["histogram"]), strict=True)
    page.bars(dict(columns), form="{:,.0f}")
    page.heading("Classes", "Mean share of the area, in percent; in brackets, how many pictures show the class.")
    names = [f"{name} ({100 * share:.0f} %)" for name, share in stats["class_present"].items()]
    values = dict(zip(names, (100 * share for share in stats["class_share"].values()), strict=True))
    page.bars(values, classes.colours, form="{:.1f}")


def _show_shares(page: Page, counts: list[int], warn_below: float | None = None) -> None:
    """A histogram over [0, 1], cut to where there is something, and to no fewer than COLUMNS."""
    places = [place for place, count in enumerate(counts) if count]
    first = max(0, min(places[0], (places[0] + places[-1] - COLUMNS) // 2))
    last = min(BINS, max(places[-1] + 1, first + COLUMNS))
    first = min(first, last - COLUMNS)
    page.histogram(counts[first:last], first / BINS, last / BINS, warn_below)


def _show_pictures(
    page: Page, output: str, plan: LabelPlan, classes: ClassTable, statistics: Statistics, finished: Shards
) -> None:
    note = "Picture, label map, overlay. If these are usable, so is the rest; if not, correct some of them by hand."
    sections = [
        ("Least sure first", note, statistics.worst, "worst"),
        ("A fair sample", "Drawn by the hash of the name.", statistics.sampled, "sample"),
    ]
    for title, note, shown, name in sections:
        page.heading(title, note)
        page.legend(classes)
        order = [(key, shard) for _, key, shard in sorted(shown, reverse=True)]
        strips, sheet = [], []
        for place, (row, picture) in enumerate(_strips(output, order, classes, finished)):
            path = page.picture(f"{name}-{place:03d}", picture)
            judged = verdict(row["confidence"], plan)
            number = f"{row['confidence']:.3f}" + ("" if judged == "accept" else f" {judged}")
            strips.append(Strip(path, row["id"], number, warn=judged != "accept"))
            sheet.append(picture)
        page.sheet(strips)
        page.picture(f"sheet-{name}", grid(sheet[:SHEET_ROWS], columns=2))


def _strips(
    output: str, order: list[tuple[str, int]], classes: ClassTable, finished: Shards
) -> Iterator[tuple[Row, np.ndarray]]:
    """(row, picture | label map | overlay) of each (id, shard), one shard in memory at a time."""
    drawn: dict[str, tuple[Row, np.ndarray]] = {}
    for shard in sorted({shard for _, shard in order}):
        wanted = {key for key, place in order if place == shard}
        columns = ["id", "image", "label_map", "confidence"]
        for row in labelled_rows(output, finished[shard], columns, filters=[("id", "in", wanted)]):
            image, label_map = decode_image(row.pop("image")), decode_label_map(row.pop("label_map"), classes)
            drawn[row["id"]] = row, label_strip(image, label_map, classes)
    for key, _ in order:
        yield drawn[key]


def _show_refused(page: Page, stats: dict[str, Any], statistics: Statistics) -> None:
    if not stats["codes"]:
        return
    page.heading("Not labelled", f"By reason; below, up to {REFUSED_SHOWN} refused files of each, rare reasons first.")
    page.bars({code: float(count) for code, count in stats["codes"].items()}, form="{:,.0f}")
    rare_first = [code for code in reversed(stats["codes"]) if code in statistics.refused]
    rows = [(row["id"], code, row["message"]) for code in rare_first for row in statistics.refused[code]]
    if rows:
        page.table(["file", "code", "reason"], rows)
