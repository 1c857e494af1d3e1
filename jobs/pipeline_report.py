"""The report page of jobs/pipeline.py: what was measured, samples of every step, curves, where everything is."""

from __future__ import annotations

import json
from collections.abc import Sequence

from gaugan import storage
from gaugan.images import decode_image
from gaugan.report import Page, Strip

RUNS = {"unet": "The U-Net that labels", "encoder": "The style encoder", "gaugan": "The painter"}
ROWS = {
    "unet": "Rows: picture, label map by hand, label map by the U-Net (held-out pictures).",
    "encoder": "Rows: picture, what the VAE makes of its style and label map, the same in random styles.",
    "gaugan": "Rows: label map, real picture, painted in the real picture's style, painted in random styles.",
}
CURVES = {
    "unet": ("loss", "held_out/miou", "held_out/iou_eye", "held_out/iou_mouth"),
    "encoder": ("reconstruction_l1", "kld", "held_out/reconstruction_psnr", "held_out/active_units"),
    "gaugan": ("g_gan", "g_feat", "g_perceptual", "d_real", "d_fake", "held_out/consistency_miou"),
}
MAX_SHEETS = 4


def write_report(output: str, table: Sequence[tuple[str, str, str]]) -> str:
    """Writes OUTPUT/report/index.html and its pictures; returns its URI."""
    page = Page(
        storage.join(output, "report"), "From annotations to painted portraits", "What this run did and measured."
    )
    page.table(["step", "measured", "time"], [(name, measured, took) for name, measured, took in table])
    links = {
        "Annotated pairs: contact sheet": "annotated/contact_sheet.png",
        "The U-Net on held-out annotations: what it takes for what, worst pictures first": (
            "unet_evaluation/page/index.html"
        ),
        "Labelled pictures, least sure first": "labelled/report/index.html",
        "Evaluation: gallery and metrics": "evaluation/gallery/index.html",
        "Sweep: leaderboard": "sweep/leaderboard.md",
    }
    page.links({name: f"../{path}" for name, path in links.items() if storage.exists(storage.join(output, path))})
    for run, title in RUNS.items():
        page.heading(title, ROWS[run])
        page.sheet([_sample(page, output, run, path) for path in _spread(_samples(output, run))], width_px=560)
        page.curves(_curves(output, run))
    return page.save()


def _samples(output: str, run: str) -> list[str]:
    return [entry.path for entry in storage.list_files(storage.join(output, run, "samples"), suffixes=[".png"])]


def _spread(paths: list[str]) -> list[str]:
    """The last and some evenly before it, so that the progress is seen."""
    if len(paths) <= MAX_SHEETS:
        return paths
    return [paths[round(place * (len(paths) - 1) / (MAX_SHEETS - 1))] for place in range(MAX_SHEETS)]


def _sample(page: Page, output: str, run: str, path: str) -> Strip:
    step = int(path.removeprefix("step_").removesuffix(".png"))
    picture = decode_image(storage.read_bytes(storage.join(output, run, "samples", path)))
    return Strip(page.picture(f"{run}_{step:08d}", picture), f"after {step} steps")


def _curves(output: str, run: str) -> dict[str, list[tuple[float, float]]]:
    uri = storage.join(output, run, "metrics.jsonl")
    lines = [json.loads(line) for line in storage.read_text(uri).splitlines()] if storage.exists(uri) else []
    return {
        name: [(line["step"], line[name]) for line in lines if name in line]
        for name in CURVES[run]
        if any(name in line for line in lines)
    }
