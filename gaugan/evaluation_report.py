"""The page of an evaluation: numbers, a gallery over the held-out label maps, and the paintings judged worst."""

from __future__ import annotations

from typing import Any

from gaugan.evaluation import EXPLAINED, KINDS, Part
from gaugan.labels import ClassTable
from gaugan.report import Page, Strip

TITLES = {
    "real": "real (ceiling)",
    "painted": "painted",
    "own_style": "own style",
    "mean_colour": "mean colour (floor)",
}


def write_gallery(uri: str, metrics: dict[str, Any], part: Part, classes: ClassTable) -> str:
    """URI/index.html with its pictures; returns its URI."""
    page = Page(uri, "Painted pictures", f"{metrics['model']['uri']} at step {metrics['model']['step']}")
    kinds = [kind for kind in KINDS if kind in metrics]
    page.facts(
        {
            "held-out label maps": metrics["pictures"],
            "mIoU of the paintings": metrics["painted"]["miou"],
            "mIoU of real pictures": metrics["real"]["miou"],
            "diversity over seeds": metrics.get("diversity_pixels", 0.0),
            "style fidelity": metrics.get("style_fidelity", 0.0),
        }
    )
    page.heading("Numbers", f"Judge: {metrics['judge']['uri']}; {metrics['judge']['note']}.")
    names = list(dict.fromkeys(name for kind in kinds for name in metrics[kind]))
    rows = [[name, *(metrics[kind].get(name, "") for kind in kinds)] for name in names]
    page.table(["", *(TITLES[kind] for kind in kinds)], rows)
    page.heading("Does the picture show each class?", "IoU of the judge's label map of the painting, by class.")
    scores = {name: metrics["painted"].get(f"iou_{name}", 0.0) for name in classes.names}
    page.bars(scores, classes.colours, full=1.0)
    own = "the painting in the real picture's style, " if "own_style" in metrics else ""
    page.heading("Gallery", f"Label map, the real picture, {own}then {metrics['settings']['seeds']} random styles.")
    page.legend(classes)
    strips = []
    for place, (name, number, image) in enumerate(part.gallery):
        strips.append(Strip(page.picture(f"gallery-{place:03d}", image), name, number))
    page.sheet(strips, width_px=560)
    page.heading("Worst judged", "Label map, painting, what the judge saw in it; below, the share of agreeing pixels.")
    strips = []
    for place, (value, name, image) in enumerate(part.worst):
        strips.append(Strip(page.picture(f"worst-{place:03d}", image), name, f"{value:.3f}", warn=True))
    page.sheet(strips)
    page.heading("What the numbers mean")
    page.table(["number", "meaning"], [[name, text] for name, text in EXPLAINED.items()])
    return page.save()
