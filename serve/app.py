"""The Ray Serve application: a CPU ingress with the HTTP API, the generator, and (optional) the segmenter.

    python -m serve --model URI                     # starts Ray and Serve on this machine
    serve deploy serve/config.yaml                  # on a running cluster

Each model is a deployment of its own, so that pictures are decoded and encoded elsewhere than where they are painted.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import numpy as np
import ray.serve
from ray.exceptions import RayActorError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError
from ray.serve.handle import DeploymentHandle

from gaugan import labels
from gaugan.config import from_plain
from gaugan.errors import UserError
from serve.backend import ModelCard, PaintJob, Segmented
from serve.config import ServeConfig
from serve.problems import Problem

if TYPE_CHECKING:
    from serve.models import ModelSource  # imports torch, which the ingress does without

RETRY_AFTER_S = 1
READY_TIMEOUT_S = 5.0
LOADING_TRIES = 2
INGRESS_LIMITS = {"max_ongoing_requests": 200, "max_queued_requests": 200}


class PainterReplica:
    """Holds one generator; ready when its warm-up picture is painted."""

    def __init__(self, source: ModelSource, cpus: int, use_gpu: bool, max_batch_size: int) -> None:
        import torch

        from gaugan.painter import Painter

        torch.set_num_threads(cpus)
        device = "cuda" if use_gpu else "cpu"
        self.painter = Painter.load(source.checkpoint_uri(), device=device)
        # A forward pass always holds this many pictures (the rest is padding), so that a picture's bytes never
        # depend on who else is painted in the same moment. On a CPU one by one costs no more than many at once.
        self.together = max_batch_size if use_gpu else 1
        self.card = ModelCard(
            name=source.name,
            version=source.version,
            checkpoint_hash=self.painter.checkpoint_hash,
            image_size=self.painter.image_size,
            classes=self.painter.classes.to_plain(),
            device=device,
            has_style=self.painter.has_style,
        )
        self.paint.set_max_batch_size(max_batch_size)  # type: ignore[attr-defined]
        self._paint_all([PaintJob(np.zeros(self.painter.image_size, dtype=np.uint8), seed=0)])

    def describe(self) -> ModelCard:
        return self.card

    # No waiting for company: what arrives while a batch is painted makes up the next one.
    @ray.serve.batch(max_batch_size=8, batch_wait_timeout_s=0.0)
    async def paint(self, jobs: list[PaintJob]) -> list[np.ndarray]:
        """One picture per job: uint8 (H, W, 3)."""
        return await asyncio.to_thread(self._paint_all, jobs)

    def _paint_all(self, jobs: list[PaintJob]) -> list[np.ndarray]:
        """Jobs of one kind (random style, one picture, a blend of two) share a pass; the order stays."""
        pictures: dict[int, np.ndarray] = {}
        kinds = [(job.style is None, job.style2 is None, job.blend) for job in jobs]
        for kind in dict.fromkeys(kinds):
            places = [place for place, one in enumerate(kinds) if one == kind]
            for start in range(0, len(places), self.together):
                part = places[start : start + self.together]
                padded = part + [part[-1]] * (self.together - len(part))
                painted = self._paint_pass([jobs[place] for place in padded])
                pictures.update(zip(part, painted, strict=False))
        return [pictures[place] for place in range(len(jobs))]

    def _paint_pass(self, jobs: list[PaintJob]) -> np.ndarray:
        styles = [job.style for job in jobs if job.style is not None]
        styles2 = [job.style2 for job in jobs if job.style2 is not None]
        return self.painter.paint(
            np.stack([job.label_map for job in jobs]),
            seeds=[job.seed for job in jobs],
            styles=styles or None,
            styles2=styles2 or None,
            blend=jobs[0].blend,
        )


class SegmenterReplica:
    """Holds one U-Net; ready when it has seen a warm-up picture."""

    def __init__(self, source: ModelSource, cpus: int) -> None:
        import torch

        from gaugan.segmenter import Segmenter

        torch.set_num_threads(cpus)
        self.segmenter = Segmenter.load(source.checkpoint_uri(), device="cpu")
        self.card = ModelCard(
            name=source.name,
            version=source.version,
            checkpoint_hash=self.segmenter.checkpoint_hash,
            image_size=self.segmenter.image_size,
            classes=self.segmenter.classes.to_plain(),
            device="cpu",
            has_style=False,
        )
        self.segmenter.segment([np.zeros((*self.segmenter.image_size, 3), dtype=np.uint8)])

    def describe(self) -> ModelCard:
        return self.card

    async def segment(self, picture: np.ndarray) -> Segmented:
        """uint8 (h, w, 3) -> its label map, alone in its pass, so that the answer depends on nothing else."""
        found = (await asyncio.to_thread(self.segmenter.segment, [picture]))[0]
        return Segmented(found.label_map, found.confidence)


class RayBackend:
    """The `Backend` of the API over deployment handles; Serve's exceptions become problems."""

    def __init__(self, painter: DeploymentHandle, segmenter: DeploymentHandle | None, timeout_s: float) -> None:
        self.painter, self.segmenter, self.timeout_s = painter, segmenter, timeout_s
        self._cards: dict[str, ModelCard] = {}

    async def paint(self, jobs: list[PaintJob]) -> list[np.ndarray]:
        return await self._answers([self.painter.paint.remote(job) for job in jobs])

    async def segment(self, picture: np.ndarray) -> Segmented:
        assert self.segmenter is not None
        return (await self._answers([self.segmenter.segment.remote(picture)]))[0]

    async def painter_card(self, fresh: bool = False) -> ModelCard:
        return await self._card("painter", self.painter, fresh)

    async def segmenter_card(self) -> ModelCard | None:
        return None if self.segmenter is None else await self._card("segmenter", self.segmenter, fresh=False)

    async def _card(self, name: str, handle: DeploymentHandle, fresh: bool) -> ModelCard:
        if fresh or name not in self._cards:
            try:
                self._cards[name] = await asyncio.wait_for(handle.describe.remote(), READY_TIMEOUT_S)
            except (TimeoutError, RayActorError, DeploymentUnavailableError) as error:
                raise Problem(
                    "not_ready", f"The {name} does not answer yet; try again.", retry_after_s=RETRY_AFTER_S
                ) from error
        return self._cards[name]

    async def _answers(self, responses: list[Any]) -> list[Any]:
        """Waits for all of them; when one fails the others are cancelled."""
        try:
            return list(await asyncio.wait_for(asyncio.gather(*responses), self.timeout_s))
        except BackPressureError as error:
            raise Problem("busy", "Too many pictures are waiting; try again.", retry_after_s=RETRY_AFTER_S) from error
        except (RayActorError, DeploymentUnavailableError) as error:
            raise Problem("not_ready", "The model is restarting; try again.", retry_after_s=RETRY_AFTER_S) from error
        except TimeoutError as error:
            detail = f"No answer within {self.timeout_s:g} s; try again, or ask for fewer pictures."
            raise Problem("timeout", detail) from error
        finally:
            for response in responses:
                response.cancel()


@ray.serve.ingress()
class Ingress:
    """The HTTP side: one API application over the deployment handles."""

    def __init__(
        self, painter: DeploymentHandle, segmenter: DeploymentHandle | None, styles_uri: str | None, timeout_s: float
    ) -> None:
        self.backend = RayBackend(painter, segmenter, timeout_s)
        self.styles_uri = styles_uri

    def __serve_build_asgi_app__(self) -> Any:  # noqa: N807  (the name is Ray's)
        from serve.api import build_api
        from serve.styles import load_styles

        return build_api(self.backend, load_styles(self.styles_uri))


def build(settings: dict[str, Any] | ServeConfig) -> ray.serve.Application:
    """The application that `python -m serve` and config.yaml (import_path serve.app:build) run.

    Raises UserError when a model is missing or the two models were trained with different class tables.
    """
    from serve.models import resolve

    config = (
        settings if isinstance(settings, ServeConfig) else from_plain(ServeConfig, settings, source="config.yaml: args")
    )
    painter_source = resolve(config.model, "--model", "gaugan", config.tracking)
    segmenter_source = resolve(config.segmenter, "--segmenter", "unet", config.tracking) if config.segmenter else None
    if segmenter_source is not None:
        _check_same_classes(painter_source, segmenter_source)
    limits = {"max_ongoing_requests": 2 * config.max_batch_size, "max_queued_requests": config.max_queued}
    cpus = config.cpus_per_replica
    painter = _deployment(
        PainterReplica,
        num_replicas=config.num_replicas,
        ray_actor_options={"num_cpus": cpus, "num_gpus": 1 if config.use_gpu else 0},
        **limits,
    ).bind(painter_source, cpus, config.use_gpu, config.max_batch_size)
    segmenter = None
    if segmenter_source is not None:
        segmenter = _deployment(SegmenterReplica, ray_actor_options={"num_cpus": cpus}, **limits).bind(
            segmenter_source, cpus
        )
    ingress = _deployment(Ingress, ray_actor_options={"num_cpus": 0.1}, **INGRESS_LIMITS)
    return ingress.bind(painter, segmenter, config.styles, config.timeout_s)


def _deployment(replica: type, **options: Any) -> ray.serve.Deployment:
    return ray.serve.deployment(max_constructor_retry_count=LOADING_TRIES, **options)(replica)


def _check_same_classes(painter: ModelSource, segmenter: ModelSource) -> None:
    from gaugan import checkpoint

    tables = []
    for source in (painter, segmenter):
        meta = checkpoint.read_meta(source.checkpoint_uri())
        tables.append(labels.ClassTable.from_plain(meta["classes"], source=source.uri))
    if tables[0].hash != tables[1].hash:
        raise UserError(
            f"--segmenter: its class table {tables[1].name!r} ({tables[1].hash}) is not the generator's "
            f"{tables[0].name!r} ({tables[0].hash}); serve models trained with one table"
        )
