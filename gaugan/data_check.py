"""Does the data fit the training run? Everything that can be known is asked before any training starts.

Cheap: the label audit is remembered with the dataset, sizes come from the light columns.
"""

from __future__ import annotations

from collections.abc import Callable

from gaugan.errors import UserError
from gaugan.label_audit import audit
from gaugan.label_counts import summary
from gaugan.pairs import SPLITS, Pairs
from gaugan.plan import TrainingPlan
from gaugan.preprocess import Preprocess


def check_data(plan: TrainingPlan, pairs: Pairs, log: Callable[[str], None] = lambda line: None) -> None:
    """Audits the labels of all datasets of a run, and whether their pictures can get the wanted size.

    Raises UserError that names dataset, row, value and what to do.
    """
    if plan.evaluate_every is not None and not pairs.num("held_out"):
        log(
            f"warning: {pairs.uri} holds no pictures out, so nothing is measured and no checkpoint is chosen as the "
            "best: the last one is used. Import the data with --held-out above 0"
        )
    for part in [pairs, *(Pairs.open(uri, pairs.classes) for uri, _ in plan.mixture)]:
        counts = audit(part)
        log(f"label audit of {part.uri}: {summary(counts, part.classes)}")
        _check_unknown_pixels(plan, part)
        _check_instances(plan, part)
        _check_sizes(plan, part)


def _check_unknown_pixels(plan: TrainingPlan, pairs: Pairs) -> None:
    """A dataset imported with --dontcare extra wants a class for its unknown pixels; only a painter can have one."""
    if pairs.manifest.get("dontcare") == "extra" and plan.config.get("dontcare_channel") is False:
        raise UserError(
            f"{pairs.uri}: was imported with --dontcare extra, so its unknown pixels (255) are a class of their own: "
            "give --dontcare-channel; or import the data again with --dontcare ignore"
        )


def _check_instances(plan: TrainingPlan, pairs: Pairs) -> None:
    if plan.config.get("instance_edges") and not pairs.has_instances:
        raise UserError(
            f"--instance-edges: {pairs.uri} has no instance maps; import it again with them "
            "(jobs/import_dataset.py), or leave --instance-edges out"
        )


def _check_sizes(plan: TrainingPlan, pairs: Pairs) -> None:
    preprocess = Preprocess(plan.image_size, plan.preprocess, plan.load_size)
    for split in SPLITS:
        wanted = preprocess if split == "train" else preprocess.for_measuring()
        for row in pairs.light(split):
            problem = wanted.problem((row["height"], row["width"]))
            if problem:
                raise UserError(f"--preprocess {plan.preprocess}: {pairs.uri}: pair {row['id']!r}: {problem}")
