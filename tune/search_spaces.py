"""A search space: dotted paths into a training job's config, and how their values are drawn.

    spade.lambda_feat: {distribution: loguniform, low: 1.0, high: 40.0}
    spade.gan_mode: {distribution: choice, values: [hinge, ls]}

Every path, both ends of every range and every choice are tried on the base config before anything is started.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import yaml

from gaugan import storage
from gaugan.config import replace_path
from gaugan.errors import UserError

RANGES = ("uniform", "loguniform", "randint")
KEYS = {**dict.fromkeys(RANGES, {"low", "high"}), "choice": {"values"}}
SET_BY_THE_SWEEP = {
    "output",
    "tracking",
    "num_workers",
    "cpus_per_worker",
    "use_gpu",
    "dry_run",
    "steps",
    "evaluate_every",
    "sample_every",
    "save_every",
    "keep",
    "max_failures",
}


@dataclasses.dataclass(frozen=True)
class Distribution:
    """Where the values of one field come from."""

    kind: str
    """uniform, loguniform (both real), randint (whole numbers, both ends included) or choice."""
    low: float = 0.0
    high: float = 0.0
    values: tuple[Any, ...] = ()

    def sample(self, rng: np.random.Generator) -> Any:
        """One value."""
        if self.kind == "choice":
            return self.values[int(rng.integers(len(self.values)))]
        if self.kind == "randint":
            return int(rng.integers(int(self.low), int(self.high) + 1))
        if self.kind == "uniform":
            return float(rng.uniform(self.low, self.high))
        return float(math.exp(rng.uniform(math.log(self.low), math.log(self.high))))

    def corners(self) -> tuple[Any, ...]:
        """Values that must all be allowed for the space to be."""
        if self.kind == "choice":
            return self.values
        number = int if self.kind == "randint" else float
        return number(self.low), number(self.high)


Space = dict[str, Distribution]


def load(uri: str) -> Space:
    """Reads a search space; UserError names the file, the path and what is wrong."""
    try:
        data = yaml.safe_load(storage.read_text(uri))
    except OSError as error:
        raise UserError(f"--search {error}") from error
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"--search {uri}: {error}") from error
    if not isinstance(data, Mapping) or not data:
        raise UserError(f"--search {uri}: expected lines such as spade.lambda_feat: {{distribution: loguniform, ...}}")
    return {str(path): _distribution(f"{uri}: {path}", entry) for path, entry in data.items()}


def _distribution(where: str, entry: Any) -> Distribution:
    if not isinstance(entry, Mapping) or "distribution" not in entry:
        raise UserError(f"{where}: expected {{distribution: {'|'.join(KEYS)}, ...}}, found {entry!r}")
    kind = entry["distribution"]
    if not isinstance(kind, str) or kind not in KEYS:
        raise UserError(f"{where}: distribution {kind!r} is unknown; allowed are {', '.join(KEYS)}")
    given = {str(key) for key in entry} - {"distribution"}
    if given != KEYS[kind]:
        close = [name for key in given - KEYS[kind] for name in difflib.get_close_matches(key, KEYS[kind])]
        hint = f" (did you mean {close[0]}?)" if close else ""
        raise UserError(f"{where}: {kind} takes {' and '.join(sorted(KEYS[kind]))}, found {sorted(given)}{hint}")
    return _choice(where, entry["values"]) if kind == "choice" else _range(where, kind, entry["low"], entry["high"])


def _choice(where: str, values: Any) -> Distribution:
    if not isinstance(values, list) or not values or any(isinstance(value, (list, dict)) for value in values):
        raise UserError(f"{where}: values must be a list of numbers, words or true/false, found {values!r}")
    return Distribution("choice", values=tuple(values))


def _range(where: str, kind: str, low: Any, high: Any) -> Distribution:
    try:
        low, high = float(low), float(high)  # also YAML's 1e-4, which it reads as a word
    except (TypeError, ValueError) as error:
        raise UserError(f"{where}: low and high must be numbers, found {low!r} and {high!r}") from error
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise UserError(f"{where}: low ({low:g}) must be below high ({high:g})")
    if kind == "loguniform" and low <= 0:
        raise UserError(f"{where}: loguniform needs low above 0, found {low:g}; use uniform, or a small low")
    if kind == "randint" and (low % 1 or high % 1):
        raise UserError(f"{where}: randint needs whole numbers, found {low:g} and {high:g}")
    return Distribution(kind, low, high)


def check(space: Space, base: Any, source: str = "search space") -> None:
    """Tries every path and every extreme value on `base`; UserError names path, value and what is allowed."""
    for path, distribution in space.items():
        if path in SET_BY_THE_SWEEP:
            raise UserError(f"{source}: {path}: is set by the sweep itself; search over other fields")
        try:
            current({path: distribution}, base)
        except AttributeError as error:
            raise UserError(f"{source}: {path}: no such field; did you mean {nearest(path, base)}?") from error
        for value in distribution.corners():
            try:
                replace_path(base, path, value)
            except ValueError as error:
                hint = "; use randint for whole numbers" if "expected int" in str(error) else ""
                raise UserError(f"{source}: {path}: value {value!r} is not allowed: {error}{hint}") from error


def nearest(path: str, base: Any) -> str:
    """The paths of `base`, three at most, whose last part is most like that of `path`."""
    known = list(_paths(base))
    by_end = {name.rpartition(".")[2]: name for name in known}
    end = path.rpartition(".")[2]
    close = [end] if end in by_end else difflib.get_close_matches(end, by_end, n=3)
    return " or ".join([by_end[name] for name in close] or difflib.get_close_matches(path, known, n=3, cutoff=0.0))


def _paths(config: Any) -> Iterator[str]:
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            yield from (f"{field.name}.{path}" for path in _paths(value))
        elif field.name not in SET_BY_THE_SWEEP:
            yield field.name


def sample(space: Space, seed: int, number: int) -> dict[str, Any]:
    """The values of trial `number`: a pure function of its arguments, so that a rerun draws the same."""
    rng = np.random.default_rng([seed, number])
    return {path: space[path].sample(rng) for path in sorted(space)}


def current(space: Space, base: Any) -> dict[str, Any]:
    """The base config's own values at the paths of the space."""
    found = {}
    for path in space:
        value = base
        for part in path.split("."):
            value = getattr(value, part)
        found[path] = value
    return found


def apply(base: Any, values: Mapping[str, Any]) -> Any:
    """`base` with the values at their paths."""
    for path, value in values.items():
        base = replace_path(base, path, value)
    return base
