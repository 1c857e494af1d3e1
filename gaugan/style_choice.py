"""Which style a picture is painted in: its own random one, one for all, a picture's, a mixture, or steps between two.

A style is named by a SOURCE: a picture file, or "seed:N" for the random style of that seed. Styles are chosen apart
from rendering: a choice turns into style vectors, the painter paints with those.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from gaugan import storage
from gaugan.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from gaugan.painter import Painter

SEED = "seed:"


@dataclass(frozen=True)
class StyleChoice:
    """The flags that choose a style."""

    style: Literal["each", "same", "own"] = "each"
    """each: every label map its own random style (seed + its place); same: the random style of --seed for all; own: the
    style of the real picture that belongs to the label map."""
    style_image: str = ""
    """The style of this picture for all."""
    style_mix: tuple[str, ...] = ()
    """A weighted mean of styles, SOURCE=WEIGHT each, such as a.png=0.7 seed:3=0.3; weights are scaled to sum to 1."""
    interpolate: tuple[str, ...] = ()
    """Two SOURCEs: every label map is painted in steps from the first to the second."""
    interpolate_steps: int = 5
    """Paintings per label map for --interpolate, both ends included."""
    variations: int = 1
    """Random styles per label map, for --style each and same."""
    truncation: float = 1.0
    """1 = styles as they are; towards 0 they approach the mean style: less variety, fewer accidents."""

    def __post_init__(self) -> None:
        chosen = [flag for flag in ("style_image", "style_mix", "interpolate") if getattr(self, flag)]
        if self.style != "each":
            chosen.append("style")
        if len(chosen) > 1:
            flags = ", ".join(f"--{flag.replace('_', '-')}" for flag in chosen)
            raise UserError(f"{flags}: each chooses the style of all pictures; give one of them")
        if self.interpolate and len(self.interpolate) != 2:
            raise UserError(f"--interpolate {' '.join(self.interpolate)}: give two pictures, or seed:N")
        if self.interpolate_steps < 2:
            raise UserError(f"--interpolate-steps {self.interpolate_steps}: must be at least 2")
        random = self.style != "own" and chosen in ([], ["style"])
        if self.variations < 1 or (self.variations > 1 and not random):
            raise UserError(f"--variations {self.variations}: 1 or more, with --style each or same only")
        if not 0.0 <= self.truncation <= 1.0:
            raise UserError(f"--truncation {self.truncation}: must lie between 0 (mean style) and 1 (unchanged)")
        parsed_mix(self.style_mix)

    @property
    def per_picture(self) -> int:
        """Paintings per label map."""
        return self.interpolate_steps if self.interpolate else self.variations

    @property
    def sources(self) -> tuple[str, ...]:
        """Every picture and seed that the choice names."""
        mixed = [source for source, _ in parsed_mix(self.style_mix)]
        return tuple(dict.fromkeys([*([self.style_image] if self.style_image else []), *mixed, *self.interpolate]))


def parsed_mix(entries: Sequence[str]) -> list[tuple[str, float]]:
    """["a.png=2", "seed:3=2"] -> [("a.png", 0.5), ("seed:3", 0.5)]. Raises UserError."""
    found = []
    for entry in entries:
        source, _, weight = entry.rpartition("=")
        try:
            number = float(weight)
        except ValueError:
            number = 0.0
        if not source or not 0.0 < number < float("inf"):
            raise UserError(f"--style-mix {entry}: expected SOURCE=WEIGHT with a weight above 0, such as hair.png=0.5")
        found.append((source, number))
    total = sum(number for _, number in found)
    return [(source, number / total) for source, number in found]


def seed_of(source: str) -> int | None:
    """The N of "seed:N"; None for a picture. Raises UserError when N is no number."""
    if not source.startswith(SEED):
        return None
    text = source.removeprefix(SEED)
    if not text.isdecimal():
        raise UserError(f"{source}: expected seed:N with a whole number of at least 0")
    return int(text)


def absolute_sources(choice: StyleChoice) -> StyleChoice:
    """The choice with every picture's path made absolute."""

    def absolute(source: str) -> str:
        return source if not source or source.startswith(SEED) else storage.absolute(source)

    mix = tuple(absolute(entry.rpartition("=")[0]) + "=" + entry.rpartition("=")[2] for entry in choice.style_mix)
    between = tuple(absolute(source) for source in choice.interpolate)
    return replace(choice, style_image=absolute(choice.style_image), style_mix=mix, interpolate=between)


def check_sources(choice: StyleChoice) -> None:
    """Raises UserError when a picture that the choice names can't be read."""
    for source in choice.sources:
        if seed_of(source) is None:
            read_style_picture(source)


def read_style_picture(uri: str) -> np.ndarray:
    """uint8 (H, W, 3). Raises UserError."""
    from gaugan.images import ImageError, decode_image

    try:
        return decode_image(storage.read_bytes(uri))
    except FileNotFoundError as error:
        raise UserError(f"style picture {uri}: no such file; give a picture's path, or seed:NUMBER") from error
    except (OSError, ImageError) as error:
        message = error.message if isinstance(error, ImageError) else str(error)
        raise UserError(f"style picture {uri}: {message}") from error


class Styles:
    """A choice made ready for one painter: the vectors of its sources are computed once."""

    def __init__(self, choice: StyleChoice, painter: Painter, seed: int) -> None:
        self.choice, self.painter, self.seed = choice, painter, seed
        self._vectors = {source: self._vector(source) for source in choice.sources}

    def names(self, place: int) -> list[str]:
        """What the paintings of the label map at `place` are painted in, for people."""
        choice = self.choice
        if not self.painter.has_style:
            return ["no style"]
        if choice.style_image:
            return [storage.name(choice.style_image)]
        if choice.style_mix:
            return [" + ".join(f"{weight:.2g} {_short(source)}" for source, weight in parsed_mix(choice.style_mix))]
        if choice.interpolate:
            first, second = map(_short, choice.interpolate)
            return [f"{first} to {second}, {share:.2f}" for share in self._shares()]
        return ["own style"] if choice.style == "own" else [f"seed {seed}" for seed in self._seeds(place)]

    def vectors(self, places: Sequence[int], pictures: Sequence[np.ndarray | None]) -> list[Tensor | None]:
        """One (N, Z) per painting of a label map, each for all N label maps; [None] for a generator without styles.

        pictures: the real pictures, for --style own.
        """
        if not self.painter.has_style:
            return [None]
        return [self._truncated(vectors) for vectors in self._chosen(places, pictures)]

    def _chosen(self, places: Sequence[int], pictures: Sequence[np.ndarray | None]) -> list[Tensor]:
        import torch

        from gaugan.spade.style import mix_styles, styles_between

        choice, count = self.choice, len(places)
        if choice.style_image:
            return [self._vectors[choice.style_image].expand(count, -1)]
        if choice.style_mix:
            mix = parsed_mix(choice.style_mix)
            mixed = mix_styles(torch.cat([self._vectors[source] for source, _ in mix]), [weight for _, weight in mix])
            return [mixed.expand(count, -1)]
        if choice.interpolate:
            first, second = (self._vectors[source] for source in choice.interpolate)
            return [between.expand(count, -1) for between in styles_between(first, second, self._shares())]
        if choice.style == "own":
            return [self.painter.encode_style([picture for picture in pictures if picture is not None])[0]]
        seeds = [self._seeds(place) for place in places]  # (N, variations)
        return [self.painter.prior.sample(list(column)) for column in zip(*seeds, strict=True)]

    def _vector(self, source: str) -> Tensor:
        seed = seed_of(source)
        if seed is not None:
            return self.painter.prior.sample([seed])
        return self.painter.encode_style([read_style_picture(source)])[0]

    def _truncated(self, vectors: Tensor) -> Tensor:
        from gaugan.spade.style import truncate_styles

        return truncate_styles(vectors, self.painter.prior, self.choice.truncation)

    def _shares(self) -> list[float]:
        steps = self.choice.interpolate_steps
        return [step / (steps - 1) for step in range(steps)]

    def _seeds(self, place: int) -> list[int]:
        first = self.seed + (place * self.choice.variations if self.choice.style == "each" else 0)
        return [first + number for number in range(self.choice.variations)]


def _short(source: str) -> str:
    return source.replace(SEED, "seed ") if source.startswith(SEED) else storage.name(source)
