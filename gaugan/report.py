"""Static HTML pages with pictures: number tiles, bars, histograms, tables and sheets of picture strips.

A page is one index.html (style inside, light and dark, no scripts) and PNG files beside it, addressed relatively: it
can be moved, zipped, mailed, or served from a bucket. Every text is escaped: file names come from strangers.

    page = Page("OUT/report", "Labels", "1,000 pictures")
    page.heading("Least sure first")
    page.sheet([Strip(page.picture("0001", label_strip(image, label_map, table)), "a.png", "0.93")])
    page.save()
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote

import numpy as np

from gaugan import storage
from gaugan.images import encode_png, fit_image, grid, resize_label_map
from gaugan.labels import ClassTable, colourise

CONTENTS_FROM = 4
"""A page with so many sections has links to them at its top."""
STYLE = """
:root { color-scheme: light dark; --ground: #f6f5f2; --card: #ffffff; --ink: #22252a; --soft: #666b73;
  --line: #e2e0da; --bar: #4c6fbf; --warn: #b3471d }
@media (prefers-color-scheme: dark) { :root { --ground: #17191d; --card: #20242a; --ink: #e6e7ea; --soft: #9aa0aa;
  --line: #333841; --bar: #7f9fe6; --warn: #f0936b } }
* { box-sizing: border-box }
body { margin: 0; background: var(--ground); color: var(--ink); font: 15px/1.5 system-ui, sans-serif }
main { max-width: 1240px; margin: 0 auto; padding: 28px 24px 72px }
h1 { font-size: 26px; line-height: 1.2; margin: 0 0 4px }
h2 { font-size: 18px; margin: 36px 0 4px }
p { margin: 4px 0 12px; color: var(--soft); max-width: 80ch; overflow-wrap: anywhere }
.fact, .box, figure { background: var(--card); border: 1px solid var(--line); border-radius: 8px }
.facts { display: grid; grid-template-columns: repeat(auto-fill, minmax(148px, 1fr)); gap: 10px; margin: 14px 0 }
.fact { padding: 10px 12px }
.fact b { display: block; font-size: 20px; font-weight: 600; overflow-wrap: anywhere }
.fact span { color: var(--soft); font-size: 13px }
.fact b, .bars b, td.n, figcaption b { font-variant-numeric: tabular-nums }
.box { padding: 12px 14px; overflow-x: auto }
.legend span { display: inline-flex; align-items: center; gap: 6px; margin: 0 14px 6px 0; font-size: 13px }
.legend i { width: 14px; height: 14px; border-radius: 3px; border: 1px solid var(--line) }
.bars { display: grid; grid-template-columns: max-content 1fr max-content; gap: 5px 12px; align-items: center }
.bars div { height: 14px }
.bars i { display: block; height: 100%; min-width: 1px; border-radius: 3px; background: var(--bar);
  outline: 1px solid var(--line) }
.bars b { font-weight: 400; text-align: right }
.histogram { display: flex; align-items: flex-end; gap: 2px; height: 120px; border-bottom: 1px solid var(--line) }
.histogram i { flex: 1; background: var(--bar); border-radius: 2px 2px 0 0 }
.histogram i.warn { background: var(--warn) }
nav { display: flex; flex-wrap: wrap; gap: 4px 16px; font-size: 14px }
a { color: var(--bar) }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(260px, 1fr)); gap: 12px; margin: 12px 0 }
.charts b { font-size: 13px; font-weight: 600 }
.charts svg { display: block; width: 100%; height: 110px; margin: 6px 0 2px }
.axis { display: flex; justify-content: space-between; gap: 8px }
.axis * { color: var(--soft); font-size: 11px; white-space: nowrap }
table { border-collapse: collapse; width: 100%; font-size: 14px }
th, td { text-align: left; padding: 5px 12px 5px 0; border-bottom: 1px solid var(--line); vertical-align: top }
td { overflow-wrap: anywhere }
td:first-child { min-width: min(11em, 40vw) }
th { color: var(--soft); font-weight: 500; white-space: nowrap }
th.n, td.n { text-align: right }
tr:last-child td { border-bottom: 0 }
.sheet { display: grid; gap: 12px; margin: 12px 0;
  grid-template-columns: repeat(auto-fill, minmax(min(var(--width), 100%), 1fr)) }
figure { margin: 0; overflow: hidden }
figure img { display: block; width: 100%; height: auto }
figcaption { padding: 6px 10px 8px; font-size: 13px; display: flex; gap: 10px; justify-content: space-between }
figcaption span { overflow-wrap: anywhere }
figcaption b { font-weight: 600; white-space: nowrap }
figure.warn figcaption b { color: var(--warn) }
"""


@dataclass(frozen=True)
class Strip:
    """One figure of a sheet: a picture (usually several side by side), what it is, and its number."""

    path: str
    """From `Page.picture`."""
    caption: str
    number: str = ""
    warn: bool = False
    """Shows the number in the colour of warnings."""


class Page:
    """Collects the parts of one page in reading order; nothing but pictures is written before `save`."""

    def __init__(self, uri: str, title: str, subtitle: str = "") -> None:
        self.uri, self.title = uri, title
        self._parts = [f"<h1>{html.escape(title)}</h1>", _paragraph(subtitle)]
        self._headings: list[str] = []

    def picture(self, name: str, image: np.ndarray) -> str:
        """Writes pictures/NAME.png from uint8 (H, W, 3); returns the path for `Strip`."""
        path = f"pictures/{name}.png"
        storage.write_bytes(storage.join(self.uri, path), encode_png(image))
        return path

    def heading(self, text: str, note: str = "") -> None:
        """A section begins; the note is a sentence or two below its title."""
        self._headings.append(text)
        self._parts += [f'<h2 id="part{len(self._headings)}">{html.escape(text)}</h2>', _paragraph(note)]

    def facts(self, facts: Mapping[str, object]) -> None:
        """Number tiles: name -> value."""
        tiles = [
            f'<div class="fact"><b>{_text(value)}</b><span>{_text(name)}</span></div>' for name, value in facts.items()
        ]
        self._parts.append(f'<div class="facts">{"".join(tiles)}</div>')

    def legend(self, table: ClassTable) -> None:
        """The classes and their colours."""
        pairs = zip(table.names, table.colours, strict=True)
        spans = [f'<span><i style="background:{_css(colour)}"></i>{_text(name)}</span>' for name, colour in pairs]
        self._parts.append(f'<div class="legend">{"".join(spans)}</div>')

    def bars(
        self,
        values: Mapping[str, float],
        colours: Sequence[tuple[int, int, int]] = (),
        form: str = "{:.3f}",
        full: float | None = None,
    ) -> None:
        """Horizontal bars from 0 to `full` (None = the largest value), each with its number."""
        largest = full or max([*values.values(), 1e-12])
        cells = []
        for place, (name, value) in enumerate(values.items()):
            colour = f";background:{_css(colours[place])}" if colours else ""
            bar = f'<i style="width:{100 * max(value, 0) / largest:.1f}%{colour}"></i>'
            cells.append(f"<span>{_text(name)}</span><div>{bar}</div><b>{form.format(value)}</b>")
        self._parts.append(f'<div class="box bars">{"".join(cells)}</div>')

    def histogram(self, counts: Sequence[int], low: float, high: float, warn_below: float | None = None) -> None:
        """Columns of equal width over [low, high]; those that begin below `warn_below` in the colour of warnings."""
        largest = max([*counts, 1])
        step = (high - low) / max(len(counts), 1)
        columns = []
        for place, count in enumerate(counts):
            start = low + place * step
            title = f"{start:.3g} to {start + step:.3g}: {count:,}"
            # Half a column's tolerance: sums of steps miss the bound by rounding.
            kind = ' class="warn"' if warn_below is not None and start < warn_below - step / 2 else ""
            columns.append(f'<i{kind} style="height:{100 * count / largest:.1f}%" title="{title}"></i>')
        ticks = "".join(f"<span>{low + part * (high - low) / 4:.3g}</span>" for part in range(5))
        self._parts.append(
            f'<div class="box"><div class="axis"><span>up to {largest:,}</span></div>'
            f'<div class="histogram">{"".join(columns)}</div><div class="axis">{ticks}</div></div>'
        )

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """A table; numbers stand to the right."""
        head = ""
        for place, column in enumerate(columns):
            kind = ' class="n"' if any(_is_number(row[place]) for row in rows) else ""
            head += f"<th{kind}>{_text(column)}</th>"
        body = "".join("<tr>" + "".join(map(_cell, row)) + "</tr>" for row in rows)
        self._parts.append(f'<div class="box"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>')

    def curves(self, series: Mapping[str, Sequence[tuple[float, float]]], unit: str = "step") -> None:
        """Small line charts side by side, one per name, each with its own scale: name -> [(x, y), ...]."""
        charts = [_chart(name, points, unit) for name, points in series.items() if len(points) > 1]
        self._parts.append(f'<div class="charts">{"".join(charts)}</div>')

    def links(self, links: Mapping[str, str]) -> None:
        """Name -> relative path."""
        items = "".join(f'<li><a href="{quote(path)}">{_text(name)}</a></li>' for name, path in links.items())
        self._parts.append(f"<ul>{items}</ul>")

    def sheet(self, strips: Sequence[Strip], width_px: int = 380) -> None:
        """Figures in a grid of columns at least `width_px` wide."""
        self._parts.append(f'<div class="sheet" style="--width:{width_px}px">{"".join(map(_figure, strips))}</div>')

    def save(self) -> str:
        """Writes index.html; returns its URI."""
        policy = "default-src 'none'; img-src * data:; style-src 'unsafe-inline'"
        head = f"<title>{html.escape(self.title)}</title><style>{STYLE}</style>"
        meta = (
            '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        )
        links = [f'<a href="#part{place}">{_text(text)}</a>' for place, text in enumerate(self._headings, start=1)]
        contents = f"<nav>{''.join(links)}</nav>" if len(links) >= CONTENTS_FROM else ""
        title, subtitle, *rest = self._parts
        body = "\n".join(part for part in (title, subtitle, contents, *rest) if part)
        main = f"<main>\n{body}\n</main>"
        page = f'<html lang="en"><head>{meta}{head}</head><body>{main}</body></html>'
        uri = storage.join(self.uri, "index.html")
        storage.write_text(uri, f"<!doctype html>\n{page}\n")
        return uri


def _chart(name: str, points: Sequence[tuple[float, float]], unit: str) -> str:
    """One line chart as inline SVG, 300 x 120 units, lowest and highest value written beside it."""
    xs, ys = np.array([p[0] for p in points]), np.array([p[1] for p in points])
    keep = np.isfinite(ys)
    xs, ys = xs[keep], ys[keep]
    if len(xs) < 2:
        return ""
    low, high = float(ys.min()), float(ys.max())
    across = 300 * (xs - xs[0]) / max(xs[-1] - xs[0], 1e-12)
    down = 114 - 108 * (ys - low) / max(high - low, 1e-12)
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(across, down, strict=True))
    look = 'fill="none" stroke="var(--bar)" stroke-width="1.8" vector-effect="non-scaling-stroke"'
    line = f'<polyline points="{path}" {look}/>'
    middle = f"{low:.3g} to {high:.3g}, last {ys[-1]:.3g}"
    ends = f"<span>{xs[0]:g}</span><span>{middle}</span><span>{xs[-1]:g} {_text(unit)}</span>"
    picture = (
        f'<svg viewBox="0 0 300 120" preserveAspectRatio="none" role="img" aria-label="{_text(name)}">{line}</svg>'
    )
    return f'<div class="box"><b>{_text(name)}</b>{picture}<div class="axis">{ends}</div></div>'


def overlay(image: np.ndarray, label_map: np.ndarray, table: ClassTable, opacity: float = 0.45) -> np.ndarray:
    """The picture tinted with the class colours, borders between classes in full colour: uint8 (H, W, 3)."""
    colours = colourise(label_map, table).astype(np.float32)
    border = np.zeros(label_map.shape, dtype=bool)
    border[1:] |= label_map[1:] != label_map[:-1]
    border[:, 1:] |= label_map[:, 1:] != label_map[:, :-1]
    weight = np.where(border, 1.0, opacity)[..., None].astype(np.float32)
    return (image * (1 - weight) + colours * weight).round().astype(np.uint8)


def label_strip(image: np.ndarray, label_map: np.ndarray, table: ClassTable, side: int = 192) -> np.ndarray:
    """Picture | label map | overlay, each fitted into side x side: uint8 (side, 3 side + gaps, 3)."""
    image, label_map = letterbox(image, side), _letterbox_map(label_map, side)
    coloured = colourise(label_map, table)
    tinted = overlay(image, label_map, table)
    outside = label_map == 255
    for picture in (coloured, tinted):
        picture[outside] = image[outside]
    return strip([image, coloured, tinted])


def strip(images: Sequence[np.ndarray]) -> np.ndarray:
    """Pictures of one size side by side."""
    return grid(list(images), columns=len(images))


def letterbox(image: np.ndarray, side: int, ground: int = 128) -> np.ndarray:
    """uint8 (H, W, 3) -> (side, side, 3): the whole picture, centred on grey."""
    height, width = _inner(image.shape[:2], side)
    sheet = np.full((side, side, 3), ground, dtype=np.uint8)
    top, left = (side - height) // 2, (side - width) // 2
    sheet[top : top + height, left : left + width] = fit_image(image, (height, width))
    return sheet


def _letterbox_map(label_map: np.ndarray, side: int) -> np.ndarray:
    height, width = _inner(label_map.shape, side)
    sheet = np.full((side, side), 255, dtype=np.uint8)
    top, left = (side - height) // 2, (side - width) // 2
    sheet[top : top + height, left : left + width] = resize_label_map(label_map, (height, width))
    return sheet


def _inner(size: tuple[int, ...], side: int) -> tuple[int, int]:
    scale = side / max(size)
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _figure(one: Strip) -> str:
    path, caption = quote(one.path), _text(one.caption)
    number = f"<b>{_text(one.number)}</b>" if one.number else ""
    picture = f'<a href="{path}"><img loading="lazy" src="{path}" alt="{caption}"></a>'
    kind = ' class="warn"' if one.warn else ""
    return f"<figure{kind}>{picture}<figcaption><span>{caption}</span>{number}</figcaption></figure>"


def _cell(value: object) -> str:
    return f'<td class="n">{_text(value)}</td>' if _is_number(value) else f"<td>{_text(value)}</td>"


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:,.4g}"
    return f"{value:,}" if _is_number(value) else html.escape(str(value))


def _paragraph(text: str) -> str:
    return f"<p>{html.escape(text)}</p>" if text else ""


def _css(colour: tuple[int, int, int]) -> str:
    return "rgb({},{},{})".format(*colour)
