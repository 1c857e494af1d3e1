"""What a sweep leaves behind: leaderboard.csv and .md, a sheet of the trials' last samples, best.yaml."""

from __future__ import annotations

import csv
import dataclasses
import io
from typing import Any

from gaugan import storage
from gaugan.config import to_yaml
from tune import search_spaces, trials
from tune.trials import Record, Setup

SHEET_WIDTH = 480
CAPTION_HEIGHT = 34
SHEET_COLUMNS = 3


def ranked(records: list[Record], metric: str, mode: str) -> list[Record]:
    """Best first; failed trials, and those without a measurement, last."""
    sign = 1.0 if mode == "max" else -1.0

    def key(record: Record) -> tuple[bool, float, int]:
        best = record.best(metric, mode)
        if best is None:
            return True, 0.0, record.number
        return record.status == trials.FAILED, -sign * best[metric], record.number

    return sorted(records, key=key)


def rows(setup: Setup) -> list[dict[str, Any]]:
    """One row per trial, best first."""
    table = []
    for rank, record in enumerate(ranked(trials.read_all(setup.output), setup.metric, setup.mode), start=1):
        best = record.best(setup.metric, setup.mode) or {}
        table.append(
            {
                "rank": rank,
                "trial": f"{record.number:03d}",
                "status": record.status,
                setup.metric: best.get(setup.metric, ""),
                "at_step": best.get("step", ""),
                "last_step": record.reports[-1]["step"] if record.reports else 0,
                **record.values,
                "message": record.message,
            }
        )
    return table


def write(setup: Setup) -> list[dict[str, Any]]:
    """Writes leaderboard.csv and leaderboard.md; returns the rows."""
    table = rows(setup)
    if table:
        buffer = io.StringIO()
        writer = csv.DictWriter(buffer, list(table[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(table)
        storage.write_text(storage.join(setup.output, "leaderboard.csv"), buffer.getvalue())
        storage.write_text(storage.join(setup.output, "leaderboard.md"), markdown(table))
    return table


def markdown(table: list[dict[str, Any]]) -> str:
    """The table as Markdown, numbers to four digits."""
    names = list(table[0])
    lines = ["| " + " | ".join(names) + " |", "|" + " --- |" * len(names)]
    for row in table:
        cells = [f"{value:.4g}" if isinstance(value, float) else str(value).replace("|", "/") for value in row.values()]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def write_best(setup: Setup) -> str:
    """Writes best.yaml: the base config with the best trial's values, the base's steps. "" when no trial counts."""
    best = next(iter(ranked(trials.read_all(setup.output), setup.metric, setup.mode)), None)
    if best is None or best.status == trials.FAILED or best.best(setup.metric, setup.mode) is None:
        return ""
    job = dataclasses.replace(setup.base, output=storage.join(setup.output, "best_run"))
    uri = storage.join(setup.output, "best.yaml")
    storage.write_text(uri, to_yaml(search_spaces.apply(job, best.values)))
    return uri


def write_sheet(setup: Setup) -> str:
    """Writes samples.png: each trial's last sample sheet under its number and score, best first. "" without any."""
    from PIL import Image

    tiles = []
    for row in rows(setup):
        files = storage.list_files(storage.join(setup.output, "trials", row["trial"], "samples"), suffixes=[".png"])
        if files:
            score = f"{row[setup.metric]:.4g}" if row[setup.metric] != "" else "not measured"
            tiles.append(_tile(storage.read_bytes(files[-1].uri), f"trial {row['trial']}  {score}  {row['status']}"))
    if not tiles:
        return ""
    columns, height = min(SHEET_COLUMNS, len(tiles)), max(tile.height for tile in tiles)
    sheet = Image.new("RGB", (columns * SHEET_WIDTH, -(-len(tiles) // columns) * height), "white")
    for place, tile in enumerate(tiles):
        sheet.paste(tile, (place % columns * SHEET_WIDTH, place // columns * height))
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG")
    uri = storage.join(setup.output, "samples.png")
    storage.write_bytes(uri, buffer.getvalue())
    return uri


def _tile(data: bytes, caption: str) -> Any:
    """A sample sheet scaled to the sheet's column, with a caption above."""
    from PIL import Image, ImageDraw

    picture = Image.open(io.BytesIO(data)).convert("RGB")
    scale = (SHEET_WIDTH - 8) / picture.width
    picture = picture.resize((SHEET_WIDTH - 8, max(1, round(picture.height * scale))))
    tile = Image.new("RGB", (SHEET_WIDTH, picture.height + CAPTION_HEIGHT), "white")
    ImageDraw.Draw(tile).text((6, 8), caption, fill="black", font_size=16)
    tile.paste(picture, (4, CAPTION_HEIGHT - 4))
    return tile
