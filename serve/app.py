"""The Ray Serve application: a CPU ingress with the HTTP API, the generator, and (optional) the segmenter.

    python -m serve --model URI                     # starts Ray and Serve on this machine
    serve deploy serve/config.yaml                  # on a running cluster

Each model is a deployment of its own, so that pictures are decoded and encoded elsewhere than where they are painted.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass, replace
from typing import Any

import ray
import ray.serve
from ray.serve.handle import DeploymentHandle

from gaugan import labels, storage
from gaugan.config import from_plain
from gaugan.errors import UserError
from serve.config import ServeConfig
from serve.gate import proxy_middlewares
from serve.guard import ADMIN_TOKEN, TOKEN, Door, Tokens
from serve.listening import Listener
from serve.models import ModelSource, resolve
from serve.quality import GateLimits, gate_label_maps
from serve.quality import examine as examine_models
from serve.ray_backend import RayBackend
from serve.replicas import PainterOptions, PainterReplica, SegmenterReplica
from serve.shared_state import CLOSING, INSIDE, LOOK_EVERY_S, RayStore, Watch
from serve.styles import load_styles
from serve.switch import Switch, read_state

LOADING_TRIES = 2
INGRESS_LIMITS = {"max_ongoing_requests": 200, "max_queued_requests": 200}
HEAD_ROOM = 64
"""Requests beyond its queue that a painter replica takes in order to refuse them itself, at once and in our words."""


@dataclass(frozen=True)
class IngressOptions:
    """What an ingress replica is told."""

    started_with: ModelSource
    segmenter: ModelSource | None
    config: ServeConfig
    needs: tuple[str, ...]
    """Variables that the process which built the application had; a replica without them does not start."""
    listens: bool
    """Whether it listens at the host and port of `config` itself; otherwise Serve's proxies do."""


@ray.serve.ingress()
class Ingress:
    """The HTTP side: one API application over the deployment handles."""

    def __init__(self, painter: DeploymentHandle, segmenter: DeploymentHandle | None, options: IngressOptions) -> None:
        self.painter, self.segmenter, self.options = painter, segmenter, options
        self.listener: Listener | None = None

    def check_health(self) -> None:
        """Serve replaces the replica when this raises."""
        if self.listener is not None:
            self.listener.check()

    def __serve_build_asgi_app__(self) -> Any:  # noqa: N807  (the name is Ray's)
        from serve.api import ApiOptions, build_api
        from serve.metrics import Metrics, ray_sink
        from serve.observe import AccessLog

        config = self.options.config
        missing = [name for name in self.options.needs if not os.environ.get(name)]
        if missing:
            raise UserError(f"{missing[0]} is not in the environment of this node; start its Ray with it")
        context = ray.serve.get_replica_context()
        backend, store, door = RayBackend(self.painter, self.segmenter), RayStore(context.app_name), Door()
        switch = make_switch(self.options, store)
        api = build_api(
            backend,
            load_styles(config.styles),
            ApiOptions(
                tokens=Tokens.from_environment(),
                allow_origins=config.allow_origins,
                timeout_s=config.timeout_s,
                cache_bytes=config.cache_mb * 2**20,
                access_log=AccessLog(config.access_log),
            ),
            metrics=Metrics(ray_sink()),
            switch=switch,
            door=door,
        )
        self.watch = _watch(api.state.service, backend, store, door, self.options)
        if self.options.listens:
            (gate,) = proxy_middlewares()
            self.listener = Listener(gate.cls(api, *gate.args, **gate.kwargs), config.host, config.port)
        return api


def _watch(service: Any, backend: RayBackend, store: RayStore, door: Door, options: IngressOptions) -> list[Watch]:
    """Follows the shared state, and the alias when that is wanted."""
    key = INSIDE + ray.serve.get_replica_context().replica_id.unique_id
    seen = {"generation": read_state(store, options.started_with).generation}

    def look() -> None:
        generation = read_state(store, options.started_with).generation
        if generation != seen["generation"]:
            seen["generation"] = generation
            backend.forget_cards()
            service.cache.clear()
        door.closing = store.get(CLOSING) is not None
        service.metrics.record("gaugan_stopping", float(door.closing))
        if door.closing:
            store.put(key, {"inside": door.inside})

    watches = [Watch(look, LOOK_EVERY_S)]
    config = options.config
    if config.follow_every_s and service.switch is not None:
        watches.append(Watch(lambda: asyncio.run(service.switch.follow(config.model)), config.follow_every_s))
    return watches


def make_switch(options: IngressOptions, store: RayStore) -> Switch:
    """Swaps over Ray: the gate runs in a process of its own, which ends with it."""
    config = options.config
    limits = GateLimits(max_difference=config.gate_max_difference)

    async def examine(current: ModelSource, wanted: ModelSource) -> dict[str, Any]:
        task = ray.remote(num_cpus=0, max_retries=0, max_calls=1)(examine_models)
        try:
            return dict(await task.remote(current, wanted, options.segmenter, config.gate_maps, limits))
        except ray.exceptions.RayTaskError as error:
            raise error.cause if isinstance(error.cause, UserError) else error from error

    app_name = ray.serve.get_replica_context().app_name

    def count_replicas() -> int:
        deployment = ray.serve.status().applications[app_name].deployments[PainterReplica.__name__]
        return max(1, sum(count for state, count in deployment.replica_states.items() if state == "RUNNING"))

    return Switch(
        store,
        options.started_with,
        resolve=lambda uri: resolve(uri, "--model", "gaugan", config.tracking),
        examine=examine,
        count_replicas=count_replicas,
    )


def build(settings: dict[str, Any]) -> ray.serve.Application:
    """The application of config.yaml (import_path serve.app:build). Raises UserError as `build_application`."""
    return build_application(from_plain(ServeConfig, settings, source="config.yaml: args"))


def build_application(config: ServeConfig, listens: bool = False) -> ray.serve.Application:
    """The deployments, bound together; listens: the HTTP side does so at the config's host and port by itself.

    Raises UserError when a model is missing or the two models were trained with different class tables.
    """
    Tokens.from_environment()  # refused here rather than on a node
    painter_source = resolve(config.model, "--model", "gaugan", config.tracking)
    segmenter_source = resolve(config.segmenter, "--segmenter", "unet", config.tracking) if config.segmenter else None
    if segmenter_source is not None:
        _check_same_classes(painter_source, segmenter_source)
    _check_folders(config, painter_source)
    options = PainterOptions(
        cpus=config.cpus_per_replica,
        use_gpu=config.use_gpu,
        max_batch_size=config.max_batch_size,
        max_queued=config.max_queued,
        max_wait_s=config.max_wait_s,
    )
    painter = _deployment(
        PainterReplica,
        config,
        (config.num_replicas, config.max_replicas),
        {"num_cpus": config.cpus_per_replica, "num_gpus": 1 if config.use_gpu else 0},
        target=config.max_batch_size / 2,
        max_ongoing_requests=config.max_queued + HEAD_ROOM,
        max_queued_requests=config.max_queued,
    ).bind(painter_source, options)
    segmenter = None
    if segmenter_source is not None:
        segmenter = _deployment(
            SegmenterReplica,
            config,
            (config.segmenter_replicas, config.max_segmenter_replicas),
            {"num_cpus": config.cpus_per_segmenter},
            target=2,
            max_ongoing_requests=config.max_batch_size,
            max_queued_requests=config.max_queued,
        ).bind(segmenter_source, config.cpus_per_segmenter)
    if config.access_log:
        config = replace(config, access_log=storage.absolute(config.access_log))
    ingress = _deployment(
        Ingress, config, (config.ingress_replicas, config.max_ingress_replicas), {"num_cpus": 0.1},
        target=50, **INGRESS_LIMITS,
    )  # fmt: skip
    needs = tuple(name for name in (TOKEN, ADMIN_TOKEN) if os.environ.get(name))
    return ingress.bind(painter, segmenter, IngressOptions(painter_source, segmenter_source, config, needs, listens))


def _deployment(
    replica: type,
    config: ServeConfig,
    replicas: tuple[int, int],
    resources: dict[str, float],
    *,
    target: float,
    **limits: Any,
) -> ray.serve.Deployment:
    """replicas: (least, most; 0 = always the least). A replica that is stopped first answers what it has begun."""
    least, most = replicas
    number: dict[str, Any] = {"num_replicas": least}
    if most > least:
        scaling = {"min_replicas": least, "max_replicas": most, "target_ongoing_requests": target}
        number = {"autoscaling_config": scaling}
    return ray.serve.deployment(
        max_constructor_retry_count=LOADING_TRIES,
        graceful_shutdown_wait_loop_s=0.2,
        graceful_shutdown_timeout_s=config.timeout_s,
        health_check_period_s=2,
        ray_actor_options=resources,
        **number,
        **limits,
    )(replica)


def _check_folders(config: ServeConfig, painter: ModelSource) -> None:
    """What would otherwise be found out by a replica, or by the first swap."""
    from gaugan import checkpoint

    if config.styles is not None:
        load_styles(config.styles)
    if config.gate_maps is not None:
        meta = checkpoint.read_meta(painter.checkpoint_uri())
        table = labels.ClassTable.from_plain(meta["classes"], source=painter.uri)
        gate_label_maps(table, tuple(meta["image_size"]), config.gate_maps)


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
