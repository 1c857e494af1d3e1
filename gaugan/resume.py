"""Whether a run folder can be continued with the settings at hand, decided from its checkpoint's meta.json."""

from __future__ import annotations

from typing import Any

from gaugan import checkpoint
from gaugan.config import from_plain, to_plain
from gaugan.errors import UserError
from gaugan.pairs import Pairs
from gaugan.plan import TrainingPlan
from gaugan.systems import SYSTEMS


def check_resume(plan: TrainingPlan) -> None:
    """Raises UserError when the output holds a run of other settings; reads only a meta.json."""
    known = checkpoint.steps(plan.output)
    if known:
        uri = checkpoint.step_uri(plan.output, known[-1])
        saved = checkpoint.Checkpoint(uri, checkpoint.read_meta(uri), {})
        config: Any = from_plain(SYSTEMS[plan.system].config, plan.config)
        check_same_run(plan, config, saved, Pairs.open(plan.data))


def check_same_run(plan: TrainingPlan, config: Any, saved: checkpoint.Checkpoint, pairs: Pairs) -> None:
    """Settings count as the system resolves them: a field that is at its default need not be written out."""
    same_system = saved.meta["system"] == plan.system
    found = {
        "system": saved.meta["system"],
        "config": to_plain(from_plain(type(config), saved.meta["config"])) if same_system else saved.meta["config"],
        "image_size": tuple(saved.meta["image_size"]),
        "classes": saved.meta["classes_hash"],
    }
    wanted = {
        "system": plan.system,
        "config": to_plain(config),
        "image_size": plan.image_size,
        "classes": pairs.classes.hash,
    }
    different = [name for name in found if found[name] != wanted[name]]
    if different:
        details = "; ".join(_difference(name, found[name], wanted[name]) for name in different)
        raise UserError(
            f"{plan.output} holds a run with other settings ({details}). Use the same settings to continue it, "
            "or another --output to begin a new one"
        )


def _difference(name: str, there: Any, now: Any) -> str:
    if isinstance(there, dict) and isinstance(now, dict):
        fields = [key for key in {**there, **now} if there.get(key) != now.get(key)]
        return "; ".join(_difference(key, there.get(key), now.get(key)) for key in fields)
    return f"{name}: there {there!r}, now {now!r}"
