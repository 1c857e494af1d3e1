"""The server's settings: one frozen dataclass for `python -m serve`, config.yaml and tests."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from gaugan.config import check_numbers
from gaugan.errors import UserError


@dataclass(frozen=True)
class ServeConfig:
    """What to serve, where to listen, and how much to hold at once. Secrets come from the environment: GAUGAN_TOKEN
    (asked of every request) and GAUGAN_ADMIN_TOKEN (asked of those that change the model)."""

    model: str
    """Generator to serve: a run folder, a checkpoint folder (path or s3:// URI), or models:/gaugan@champion."""
    segmenter: str | None = None
    """U-Net that turns pictures into label maps (same kinds of URI); without it POST /v1/segment answers 501."""
    styles: str | None = None
    """Folder of pictures offered as styles by GET /v1/styles; without it eight drawn portraits are."""
    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 lets other machines in (then set GAUGAN_TOKEN)."""
    port: int = 8000
    """Port to listen on."""
    allow_anyone: bool = False
    """Listen to other machines although there is no GAUGAN_TOKEN."""
    allow_origins: tuple[str, ...] = ()
    """Web pages of these origins may call the API, such as https://example.org (CORS); none by default."""
    address: str | None = None
    """Ray cluster to join ("auto" = the one on this machine); without it a private one is started and stopped."""
    tracking: str | None = None
    """MLflow tracking URI that resolves models:/ names."""
    follow_every_s: float = 0.0
    """Look this often whether the alias of --model names another version, and swap to it; 0 = only when asked."""
    gate_maps: str | None = None
    """Folder of PNG label maps that a new model must paint before it is served; without it drawn portraits are used."""
    gate_max_difference: float = 0.35
    """Mean difference from the old model's pictures, as a share of the value range, above which it is refused."""
    num_replicas: int = 1
    """Copies of the generator; each takes its own CPUs or GPU."""
    max_replicas: int = 0
    """Generators are added up to this number while requests wait; 0 = always --num-replicas."""
    cpus_per_replica: int = 1
    """CPU cores, and torch threads, of each generator replica."""
    use_gpu: bool = False
    """Give each generator replica one GPU."""
    max_batch_size: int = 8
    """Largest number of pictures that a generator takes from its queue at once."""
    max_queued: int = 32
    """Pictures that may wait for one replica; the next request is answered 503 with Retry-After."""
    max_wait_s: float = 10.0
    """Longest expected wait in that queue; beyond it a request is answered 503 with Retry-After at once."""
    segmenter_replicas: int = 1
    """Copies of the segmenter."""
    max_segmenter_replicas: int = 0
    """Segmenters are added up to this number while requests wait; 0 = always --segmenter-replicas."""
    cpus_per_segmenter: int = 1
    """CPU cores, and torch threads, of each segmenter replica."""
    ingress_replicas: int = 1
    """Copies of the HTTP side, which decodes uploads and encodes pictures."""
    max_ingress_replicas: int = 0
    """HTTP sides are added up to this number under load; 0 = always --ingress-replicas."""
    timeout_s: float = 30.0
    """Longest time for one request, from its first byte to the answer; then 504."""
    cache_mb: int = 0
    """Memory of each HTTP side for answers that are given again without painting; 0 = none."""
    access_log: str | None = None
    """File for one JSON line per request; without it the lines are in Ray's worker logs."""
    dry_run: bool = False
    """Check the models and folders, print the resolved config and stop."""

    def __post_init__(self) -> None:
        if not 1 <= self.port <= 65535:
            raise UserError(f"--port {self.port}: expected 1 to 65535")
        replicas = ("num_replicas", "segmenter_replicas", "ingress_replicas")
        for name in (*replicas, "cpus_per_replica", "cpus_per_segmenter", "max_batch_size", "max_queued"):
            if getattr(self, name) < 1:
                raise UserError(f"--{name.replace('_', '-')} {getattr(self, name)}: expected at least 1")
        check_numbers(
            self,
            positive=("timeout_s", "max_wait_s", "gate_max_difference"),
            not_negative=("cache_mb", "follow_every_s"),
        )
        for least, most in zip(
            replicas, ("max_replicas", "max_segmenter_replicas", "max_ingress_replicas"), strict=True
        ):
            low, high = getattr(self, least), getattr(self, most)
            if high != 0 and high < low:
                raise UserError(f"--{most.replace('_', '-')} {high}: less than --{least.replace('_', '-')} {low}")
        if self.follow_every_s and not (self.model.startswith("models:/") and "@" in self.model):
            raise UserError(f"--follow-every-s: --model {self.model} is no alias (models:/NAME@ALIAS) to follow")
        for origin in self.allow_origins:
            if not origin.startswith(("http://", "https://")) or origin.count("/") != 2:
                raise UserError(f"--allow-origins {origin}: expected https://host or http://host:port")

    @property
    def listens_itself(self) -> bool:
        """Whether `python -m serve` has its HTTP side listen, without Serve's proxy: there is one, on a Ray of ours."""
        return self.address is None and max(self.ingress_replicas, self.max_ingress_replicas) == 1

    @property
    def only_this_machine(self) -> bool:
        """Whether `host` can't be reached from other machines."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"
