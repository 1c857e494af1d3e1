"""Draws docs/data_flow.svg, the picture of how the data travels (docs/architecture.md): python docs/make_data_flow.py."""

from __future__ import annotations

from pathlib import Path

BOXES = {  # name: (x, y, width, kind, title, subtitle)
    "annotations": (20, 40, 190, "data", "annotations", "labelme JSON + pictures"),
    "pictures": (20, 190, 190, "data", "pictures", "folder or s3://, unlabelled"),
    "import": (250, 40, 190, "job", "import_annotations", "split by source, augment"),
    "pairs": (480, 40, 190, "data", "annotated pairs", "Parquet shards + manifest"),
    "unet_job": (710, 40, 190, "job", "train_unet", "v1 / v2 / v3"),
    "unet": (940, 40, 190, "model", "U-Net", "picture to label map"),
    "label": (480, 190, 190, "job", "label_dataset", "one outcome row per input"),
    "labelled": (710, 190, 190, "data", "labelled pairs", "+ outcomes, review report"),
    "encoder_job": (480, 330, 190, "job", "train_encoder", "a VAE first, then frozen"),
    "encoder": (710, 330, 190, "model", "style encoder", "picture to style z"),
    "gan_job": (940, 330, 190, "job", "train_gaugan", "SPADE, exact resume"),
    "sweep": (940, 190, 190, "job", "tune/sweep", "loss weights, same trainer"),
    "painter": (940, 470, 190, "model", "painter", "label map + style to portrait"),
    "evaluate": (710, 470, 190, "job", "evaluate", "metrics, gallery"),
    "registry": (480, 470, 190, "data", "MLflow registry", "alias champion"),
    "serve": (250, 470, 190, "job", "serve", "HTTP endpoint + studio"),
    "people": (20, 470, 190, "data", "people and programs", "paint, upload a portrait"),
}
ARROWS = [
    ("annotations", "import"), ("import", "pairs"), ("pairs", "unet_job"), ("unet_job", "unet"), ("pictures", "label"),
    ("unet", "label"), ("label", "labelled"), ("labelled", "encoder_job"), ("encoder_job", "encoder"), ("encoder", "gan_job"),
    ("labelled", "sweep"), ("sweep", "gan_job"), ("gan_job", "painter"), ("painter", "evaluate"), ("evaluate", "registry"),
    ("registry", "serve"), ("serve", "people"),
]  # fmt: skip
COLOURS = {"data": ("#eef3fb", "#5b7db1"), "job": ("#fdf3e4", "#c58a2b"), "model": ("#efe8f8", "#7d55b0")}
HEIGHT = 64


def draw() -> str:
    parts = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1150 570" font-family="system-ui, sans-serif">',
        '<defs><marker id="tip" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0 L10 5 L0 10 z" fill="#555"/></marker></defs>',
        '<rect width="1150" height="570" fill="#ffffff"/>',
    ]
    parts += [arrow(BOXES[start], BOXES[end]) for start, end in ARROWS]
    for x, y, width, kind, title, subtitle in BOXES.values():
        fill, line = COLOURS[kind]
        parts.append(
            f'<rect x="{x}" y="{y}" width="{width}" height="{HEIGHT}" rx="9" fill="{fill}" stroke="{line}" stroke-width="1.6"/>'
        )
        middle = x + width / 2
        parts.append(
            f'<text x="{middle}" y="{y + 28}" text-anchor="middle" font-size="15" font-weight="600" fill="#222">{title}</text>'
        )
        parts.append(
            f'<text x="{middle}" y="{y + 48}" text-anchor="middle" font-size="11.5" fill="#555">{subtitle}</text>'
        )
    for place, (kind, word) in enumerate([("data", "data"), ("job", "job"), ("model", "model")]):
        fill, line = COLOURS[kind]
        parts.append(
            f'<rect x="{20 + 90 * place}" y="545" width="16" height="12" rx="3" fill="{fill}" stroke="{line}"/>'
        )
        parts.append(f'<text x="{42 + 90 * place}" y="555.5" font-size="12" fill="#555">{word}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def arrow(start: tuple, end: tuple) -> str:
    """A line from box to box: straight when they share a row or a column, else with one bend."""
    (x0, y0, w0), (x1, y1, w1) = start[:3], end[:3]
    if y0 == y1:
        left_to_right = x0 < x1
        points = [
            (x0 + w0 if left_to_right else x0, y0 + HEIGHT / 2),
            (x1 if left_to_right else x1 + w1, y1 + HEIGHT / 2),
        ]
    elif x0 == x1:
        points = [(x0 + w0 / 2, y0 + HEIGHT), (x1 + w1 / 2, y1)]
    else:
        middle = (y0 + HEIGHT + y1) / 2
        points = [(x0 + w0 / 2, y0 + HEIGHT), (x0 + w0 / 2, middle), (x1 + w1 / 2, middle), (x1 + w1 / 2, y1)]
    path = " ".join(f"{x:g},{y:g}" for x, y in points)
    return f'<polyline points="{path}" fill="none" stroke="#555" stroke-width="1.5" marker-end="url(#tip)"/>'


if __name__ == "__main__":
    Path(__file__).with_name("data_flow.svg").write_text(draw())
