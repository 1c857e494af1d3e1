"""The server's settings: one frozen dataclass for `python -m serve`, config.yaml and tests."""

from __future__ import annotations

from dataclasses import dataclass

from gaugan.errors import UserError


@dataclass(frozen=True)
class ServeConfig:
    """What to serve, where to listen, and how much to hold at once."""

    model: str
    """Generator to serve: a run folder, a checkpoint folder (path or s3:// URI), or models:/gaugan@champion."""
    segmenter: str | None = None
    """U-Net that turns pictures into label maps (same kinds of URI); without it POST /v1/segment answers 501."""
    styles: str | None = None
    """Folder of pictures offered as styles by GET /v1/styles; without it eight drawn portraits are."""
    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 lets other machines in (there is no password yet)."""
    port: int = 8000
    """Port to listen on."""
    address: str | None = None
    """Ray cluster to join ("auto" = the one on this machine); without it a private one is started and stopped."""
    tracking: str | None = None
    """MLflow tracking URI that resolves models:/ names."""
    num_replicas: int = 1
    """Copies of the generator; each takes its own CPUs or GPU."""
    cpus_per_replica: int = 1
    """CPU cores, and torch threads, of each generator and segmenter replica."""
    use_gpu: bool = False
    """Give each generator replica one GPU."""
    max_batch_size: int = 8
    """Largest number of pictures painted in one batch."""
    max_queued: int = 32
    """Pictures that may wait for one replica; the next request is answered 503 with Retry-After."""
    timeout_s: float = 30.0
    """Longest time for one request; then 504."""

    def __post_init__(self) -> None:
        if not 1 <= self.port <= 65535:
            raise UserError(f"--port {self.port}: expected 1 to 65535")
        for name in ("num_replicas", "cpus_per_replica", "max_batch_size", "max_queued"):
            if getattr(self, name) < 1:
                raise UserError(f"--{name.replace('_', '-')} {getattr(self, name)}: expected at least 1")
        if self.timeout_s <= 0:
            raise UserError(f"--timeout-s {self.timeout_s}: expected a positive number of seconds")
