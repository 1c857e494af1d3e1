"""A trained generator in use: label maps and styles in, pictures out.

painter = Painter.load("RUN")
pictures = painter.paint(label_maps, seeds=[1, 2])
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from gaugan import checkpoint
from gaugan.config import from_plain
from gaugan.errors import UserError
from gaugan.images import fit_image, resize_label_map, to_tensor, to_uint8
from gaugan.labels import ClassTable, check_ids
from gaugan.precision import compute_dtype
from gaugan.spade.build import build_generator, instance_edges
from gaugan.spade.config import Precision, SpadeConfig
from gaugan.spade.label_pyramid import LabelPyramid
from gaugan.spade.networks import Generator
from gaugan.spade.render import NetworkPlan, Prepared, RenderPlan
from gaugan.spade.style import Style, StylePrior, style_from_networks

NO_STYLE = "this generator was trained without styles (style=none): seeds and style pictures change nothing"

KEPT_LABEL_MAPS = 2
"""Label maps whose tables are kept, so that another style or seed on the same map costs the convolutions only."""


class Painter:
    """The averaged generator of a checkpoint as a render plan, with its style encoder.

    Pictures are painted one at a time: a picture's bytes don't depend on its company. For a fixed number of torch
    threads they repeat; another number may move the last bits of a float, and with them a few bytes by one.
    """

    def __init__(
        self,
        generator: nn.Module,
        style: Style | None,
        *,
        classes: ClassTable,
        image_size: tuple[int, int],
        checkpoint_hash: str,
        dontcare: bool = False,
        instance_edges: bool = False,
        precision: Precision = "fp32",
        device: torch.device | str = "cpu",
    ) -> None:
        self.classes, self.image_size, self.checkpoint_hash = classes, image_size, checkpoint_hash
        self.precision, self.device = precision, torch.device(device)
        self._dontcare, self._instance_edges = dontcare, instance_edges
        make = RenderPlan if isinstance(generator, Generator) else NetworkPlan
        self._plan: RenderPlan | NetworkPlan = make(generator.to(self.device), compute_dtype(precision, self.device))  # type: ignore[arg-type]
        self._prepared: OrderedDict[bytes, Prepared] = OrderedDict()
        self._lock = threading.Lock()  # servers paint from several threads
        self._style = None if style is None else style.to(self.device)

    @staticmethod
    def load(uri: str, device: torch.device | str = "cpu", precision: Precision = "fp32") -> Painter:
        """From a `spade` checkpoint or run. Raises UserError when it is another system's."""
        loaded = checkpoint.load(checkpoint.find(uri))
        if loaded.meta["system"] != "spade":
            raise UserError(f"{uri}: a checkpoint of system {loaded.meta['system']!r}; painting needs one of spade")
        networks = loaded.state["networks"]
        config = from_plain(SpadeConfig, loaded.meta["config"], source=uri)
        generator = build_generator(config, loaded.classes.num_classes, loaded.image_size)
        generator.load_state_dict(networks["G_ema"])
        style = None if config.style == "none" else style_from_networks(networks)
        return Painter(
            generator,
            style,
            classes=loaded.classes,
            image_size=loaded.image_size,
            checkpoint_hash=loaded.hash,
            dontcare=config.dontcare_channel,
            instance_edges=config.instance_edges,
            precision=precision,
            device=device,
        )

    @property
    def has_style(self) -> bool:
        """False for a generator without z: seeds and styles change nothing."""
        return self._style is not None

    @property
    def prior(self) -> StylePrior:
        """What random styles are drawn from. Raises UserError when the generator has no style."""
        if self._style is None:
            raise UserError(NO_STYLE)
        return self._style.prior

    def paint(
        self,
        label_maps: np.ndarray,
        seeds: Sequence[int] | None = None,
        styles: Sequence[np.ndarray] | None = None,
        styles2: Sequence[np.ndarray] | None = None,
        blend: float = 0.5,
        instance_maps: np.ndarray | None = None,
    ) -> np.ndarray:
        """uint8 (N, h, w) of ids, of any size -> uint8 (N, H, W, 3) of the generator's size.

        The style of picture i: that of the picture `styles[i]` (uint8 (h, w, 3)), blended with `styles2[i]` by `blend`
        (0 = the first, 1 = the second); without pictures a random one from `seeds[i]` (default 0, 1, ..). Each picture
        depends on its own inputs only, not on the rest of the batch. `instance_maps` as in `paint_z`.
        """
        count = len(label_maps)
        given = {"seeds": seeds, "styles": styles, "styles2": styles2, "instance_maps": instance_maps}
        for name, values in given.items():
            if values is not None and len(values) != count:
                raise UserError(f"{name}: {len(values)} given for {count} label maps; give one for each")
        if self._style is None:
            z = None
        elif styles is not None:
            z = self.encode_style(styles)[0]
            if styles2 is not None:
                z = blend_styles(z, self.encode_style(styles2)[0], blend)
        else:
            z = self._style.prior.sample(list(range(count) if seeds is None else seeds))
        return self.paint_z(label_maps, z, instance_maps)

    @torch.no_grad()
    def paint_z(self, label_maps: np.ndarray, z: Tensor | None, instance_maps: np.ndarray | None = None) -> np.ndarray:
        """As `paint`, with the style vectors (N, Z) given.

        A generator that was trained with instance edges takes them from `instance_maps`, integers (N, h, w); without,
        from the label maps: a painted map has no instances, so its borders are those between classes.
        """
        for number, label_map in enumerate(label_maps):
            check_ids(label_map, self.classes, f"label map {number}")
        painted = []
        for number, label_map in enumerate(label_maps):
            ids = resize_label_map(label_map, self.image_size)
            instances = None
            if self._instance_edges:
                given = ids if instance_maps is None else instance_maps[number].astype(np.int32)
                instances = resize_label_map(given, self.image_size)
            style = None if z is None else z[number : number + 1].to(self.device)
            painted.append(to_uint8(self._plan.paint(self._prepare(ids, instances), style)))
        return np.concatenate(painted)

    def _prepare(self, ids: np.ndarray, instances: np.ndarray | None) -> Prepared:
        """Tables of a label map (H, W) of the generator's size: those at hand, or new ones."""
        key = ids.tobytes() + (b"" if instances is None else instances.tobytes())
        with self._lock:
            if key not in self._prepared:
                edges = None if instances is None else instance_edges(self._tensor(instances))[:, 0].bool()
                label_map, dontcare = self._tensor(ids), self._dontcare
                labels = LabelPyramid.from_ids(label_map, self.classes.num_classes, dontcare=dontcare, edges=edges)
                while len(self._prepared) >= KEPT_LABEL_MAPS:
                    self._prepared.popitem(last=False)
                self._prepared[key] = self._plan.prepare(labels)
            self._prepared.move_to_end(key)
            return self._prepared[key]

    def _tensor(self, ids: np.ndarray) -> Tensor:
        return torch.from_numpy(ids.astype(np.int64))[None].to(self.device)

    @torch.no_grad()
    def encode_style(self, images: Sequence[np.ndarray]) -> tuple[Tensor, Tensor]:
        """uint8 pictures (h, w, 3) of any sizes -> mu, logvar (N, Z); each is centre-cropped to the generator's shape.

        Raises UserError when the generator has no style.
        """
        if self._style is None:
            raise UserError(NO_STYLE)
        fitted = np.stack([fit_image(image, self.image_size) for image in images])
        return self._style.encode(to_tensor(fitted).to(self.device))


def blend_styles(first: Tensor, second: Tensor, blend: float) -> Tensor:
    """Linear between two style vectors (N, Z): 0 = first, 1 = second."""
    if not 0.0 <= blend <= 1.0:
        raise UserError(f"blend {blend}: must lie between 0 and 1")
    return torch.lerp(first, second, blend)
