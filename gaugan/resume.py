"""What stands in a run folder, and whether it can be continued with the settings at hand: its meta.json tells.

A run is what its numbers follow from: system, config, size and class table, and the record under "run": the data by
content (a moved dataset is the same), seed, batch size and what is done to the pictures. Steps, intervals, workers and
tracking are not part of it.
"""

from __future__ import annotations

from typing import Any

from gaugan import checkpoint, storage
from gaugan.config import from_plain, to_plain
from gaugan.errors import UserError
from gaugan.pairs import Pairs
from gaugan.plan import TrainingPlan
from gaugan.systems import SYSTEMS

RECORDED = ("seed", "batch_size", "augment", "preprocess", "load_size")
Mixture = list[tuple[Pairs, int]]


def check_resume(plan: TrainingPlan) -> None:
    """Raises UserError when the output holds a run of other settings; reads only a meta.json."""
    known = checkpoint.steps(plan.output)
    if known:
        uri = checkpoint.step_uri(plan.output, known[-1])
        saved = checkpoint.Checkpoint(uri, checkpoint.read_meta(uri), {})
        config: Any = from_plain(SYSTEMS[plan.system].config, plan.config)
        pairs = Pairs.open(plan.data)
        check_same_run(plan, config, saved, pairs, open_mixture(plan, pairs))
        if not saved.meta.get("run"):
            names = ", ".join(["input", "mix_in", *RECORDED])
            print(f"{uri}: of an older version, which did not record {names}: these are not compared", flush=True)


def open_mixture(plan: TrainingPlan, pairs: Pairs) -> Mixture:
    """The further datasets of a run, and how many pictures of a step each gives."""
    return [(Pairs.open(uri, pairs.classes), count) for uri, count in plan.mixture]


def run_record(plan: TrainingPlan, pairs: Pairs, mixture: Mixture) -> dict[str, Any]:
    """What decides a run's numbers beside its system: kept in meta.json of every checkpoint."""
    return {
        "input": {"uri": pairs.uri, "hash": pairs.hash},
        "mix_in": [{"uri": other.uri, "hash": other.hash, "pictures": count} for other, count in mixture],
        **{name: getattr(plan, name) for name in RECORDED},
    }


def check_same_run(
    plan: TrainingPlan, config: Any, saved: checkpoint.Checkpoint, pairs: Pairs, mixture: Mixture
) -> None:
    """Settings count as the system resolves them: a field that is at its default need not be written out.

    A record of an older version may lack names; what it lacks is not compared.
    """
    if saved.meta["system"] != plan.system:
        raise UserError(
            f"{plan.output} holds a run of system {saved.meta['system']!r}, this is one of {plan.system!r}; give "
            "another --output"
        )
    recorded = saved.meta.get("run") or {}
    found = {
        "config": to_plain(from_plain(type(config), saved.meta["config"])),
        "image_size": tuple(saved.meta["image_size"]),
        "classes": saved.meta["classes_hash"],
        **recorded,
    }
    wanted = {
        "config": to_plain(config),
        "image_size": plan.image_size,
        "classes": pairs.classes.hash,
        **{name: value for name, value in run_record(plan, pairs, mixture).items() if name in recorded},
    }
    different = [name for name in wanted if _content(found[name]) != _content(wanted[name])]
    if different:
        details = "; ".join(_difference(name, found[name], wanted[name]) for name in different)
        other = "another --output to begin a new one" if "classes" in different else way_out(plan)
        raise UserError(
            f"{plan.output} holds a run with other settings ({details}). Use the same settings to continue it, "
            f"or {other}"
        )


def finished(plan: TrainingPlan) -> dict[str, Any] | None:
    """run_training's result when the output already holds all the steps, else None."""
    known = checkpoint.steps(plan.output)
    if not known or known[-1] < plan.steps:
        return None
    print(f"{plan.output}: already at step {known[-1]} of {plan.steps}; nothing to do", flush=True)
    return standing(plan, "finished", known[-1])


def stopped(plan: TrainingPlan) -> dict[str, Any]:
    """run_training's result for a run of which nothing more is heard."""
    return standing(plan, "stopped", max(checkpoint.steps(plan.output), default=0))


def standing(plan: TrainingPlan, status: str, step: int) -> dict[str, Any]:
    """run_training's result, from what stands in the output."""
    last, best = checkpoint.pointed(plan.output, "last"), checkpoint.pointed(plan.output, "best")
    return {
        "status": status,
        "step": step,
        "checkpoint": storage.join(plan.output, last["checkpoint"]) if last else "",
        "metrics": last["metrics"] if last else {},
        "best": best or last,
    }


def way_out(plan: TrainingPlan) -> str:
    """The flags by which a run with other settings begins."""
    named = "another --output to begin a new one"
    if "initial" in plan.config:
        return f"{named} (with --initial {plan.output} from the weights that are there)"
    return named


def _content(value: Any) -> Any:
    """A dataset counts by its content, wherever it lies."""
    if isinstance(value, list):
        return [_content(item) for item in value]
    if isinstance(value, dict) and "hash" in value:
        return {name: item for name, item in value.items() if name != "uri"}
    return value


def _difference(name: str, there: Any, now: Any) -> str:
    if name == "config" and isinstance(there, dict):
        fields = [key for key in {**there, **now} if there.get(key) != now.get(key)]
        return "; ".join(_difference(key, there.get(key), now.get(key)) for key in fields)
    return f"{name}: there {_shown(there)}, now {_shown(now)}"


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_shown, value)) or "none"
    if isinstance(value, dict) and "hash" in value:
        pictures = f"={value['pictures']}" if "pictures" in value else ""
        return f"{value['uri']}{pictures} (content {value['hash']})"
    return repr(value)
