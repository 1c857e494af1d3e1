"""How a stored picture becomes a training picture of the wanted size: scale it, then cut a piece out.

The modes and their arithmetic are those of the published SPADE code (Park et al. 2019, arXiv:1903.07291), and "fit" is
ours. Pictures are resized bicubically, label and instance maps by nearest neighbour, all alike. Where the published
code would pad a picture that is smaller than the cut with black (class 0 in the label map), ours refuses beforehand;
where its scale_shortside scales the longer side alone (640x480 with load size 286 -> 381x480), ours scales both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, get_args

from gaugan.errors import UserError

if TYPE_CHECKING:
    import numpy as np

Mode = Literal[
    "fit",
    "resize_and_crop",
    "crop",
    "scale_width",
    "scale_width_and_crop",
    "scale_shortside",
    "scale_shortside_and_crop",
    "fixed",
    "none",
]
MODES: tuple[str, ...] = get_args(Mode)
MARGIN = 286 / 256
"""The published load_size over its crop_size."""
MULTIPLE = 32
"""Mode "none" rounds each side to a multiple of this."""
Size = tuple[int, int]


@dataclass(frozen=True)
class Preprocess:
    """What is done to every picture of a run."""

    size: Size
    """Height, width of the result."""
    mode: Mode = "fit"
    """fit: the largest centred piece of the wanted shape, resized. fixed: the whole picture, squeezed. crop: a random
    piece as it is. resize_and_crop: squeezed to load_size x load_size, then a random piece. scale_width,
    scale_shortside: width or shorter side becomes load_size; with _and_crop a random piece of that. none: sides rounded
    to multiples of 32."""
    load_size: int | None = None
    """Side before the piece is cut; unset = 286/256 of the larger wanted side (without a cut: the wanted side)."""

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise UserError(f"--preprocess {self.mode}: choose one of {', '.join(MODES)}")
        if self.load_size is not None and self.mode in ("fit", "crop", "fixed", "none"):
            raise UserError(f"--load-size {self.load_size}: --preprocess {self.mode} doesn't use it; leave it out")
        if self.mode == "resize_and_crop" and self._load < max(self.size):
            raise UserError(f"--load-size {self._load}: must be at least the larger side of --image-size {self.size}")

    @property
    def cuts_at_random(self) -> bool:
        """True when the piece's place is drawn anew each time."""
        return self.mode.endswith("crop")

    @property
    def _load(self) -> int:
        if self.load_size is not None:
            return self.load_size
        if self.mode == "scale_width":
            return self.size[1]
        return min(self.size) if self.mode == "scale_shortside" else round(MARGIN * max(self.size))

    def for_measuring(self) -> Preprocess:
        """Without chance, for held-out pictures: the whole picture as far as the mode lets it be seen.

        The published test options set load_size = crop_size: a squeezed picture stays whole, a scaled one keeps its
        centre; a random crop becomes the central one.
        """
        if self.mode == "resize_and_crop":
            return replace(self, mode="fixed", load_size=None)
        if self.mode in ("scale_width_and_crop", "scale_shortside_and_crop"):
            return replace(self, mode="fit", load_size=None)
        return self

    def scaled_size(self, size: Size) -> Size:
        """Height, width of a picture of `size` before the piece is cut."""
        height, width = size
        if self.mode in ("fit", "fixed"):
            return self.size
        if self.mode == "resize_and_crop":
            return self._load, self._load
        if self.mode.startswith("scale_width"):
            return int(self._load * height / width), self._load
        if self.mode.startswith("scale_shortside"):
            short = min(size)
            return tuple(self._load if side == short else int(self._load * side / short) for side in size)  # type: ignore[return-value]
        if self.mode == "none":
            return round(height / MULTIPLE) * MULTIPLE, round(width / MULTIPLE) * MULTIPLE
        return size

    def problem(self, size: Size) -> str:
        """Why a picture of `size` can't become one of the wanted size; "" when it can."""
        height, width = self.scaled_size(size)
        became = f"{size[1]}x{size[0]} px becomes {width}x{height}"
        wanted = f"{self.size[1]}x{self.size[0]}"
        if self.cuts_at_random:
            if height >= self.size[0] and width >= self.size[1]:
                return ""
            larger = "a larger --load-size, " if self.mode != "crop" else ""
            return f"{became}, too small to cut {wanted} out of; give {larger}a smaller --image-size or another mode"
        if (height, width) == self.size:
            return ""
        advice = "all pictures must come out alike: give --image-size to match, or fit, fixed or a mode with _and_crop"
        return f"{became}, not {wanted}; {advice}"

    def scale(self, image: np.ndarray, maps: Sequence[np.ndarray]) -> tuple[np.ndarray, list[np.ndarray]]:
        """uint8 (H, W, 3) and maps (H, W) -> the same at `scaled_size`."""
        return self.scale_image(image), [self.scale_map(each) for each in maps]

    def scale_image(self, image: np.ndarray) -> np.ndarray:
        """uint8 (H, W, 3) -> uint8 (`scaled_size`, 3)."""
        from gaugan.images import resize_image

        piece = self._piece(image)
        return resize_image(piece, self.scaled_size((piece.shape[0], piece.shape[1])))

    def scale_map(self, each: np.ndarray) -> np.ndarray:
        """A map (H, W) of labels or instances -> `scaled_size`, of the same type."""
        from gaugan.images import resize_label_map

        piece = self._piece(each)
        return resize_label_map(piece, self.scaled_size((piece.shape[0], piece.shape[1])))

    def _piece(self, pixels: np.ndarray) -> np.ndarray:
        """For fit: the largest centred piece of the wanted shape."""
        from gaugan.images import centre_box

        if self.mode != "fit":
            return pixels
        top, left, height, width = centre_box((pixels.shape[0], pixels.shape[1]), self.size[1] / self.size[0])
        return pixels[top : top + height, left : left + width]

    def cut(
        self, image: np.ndarray, maps: Sequence[np.ndarray], rng: np.random.Generator | None
    ) -> tuple[np.ndarray, list[np.ndarray]]:
        """From the result of `scale` the piece of the wanted size: at a random place, or central without `rng`.

        Raises UserError when it is too small (`problem` tells beforehand).
        """
        free = image.shape[0] - self.size[0], image.shape[1] - self.size[1]
        if min(free) < 0 or (max(free) > 0 and not self.cuts_at_random):
            raise UserError(f"--preprocess {self.mode}: {self.problem((image.shape[0], image.shape[1]))}")
        top, left = (rng.integers(0, each + 1) if rng else each // 2 for each in free)
        image, *maps = (each[top : top + self.size[0], left : left + self.size[1]] for each in (image, *maps))
        return image, list(maps)
