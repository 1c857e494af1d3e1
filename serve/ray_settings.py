"""The environment variables that a private Ray and its Serve are started with."""

from __future__ import annotations

import os

from serve.config import ServeConfig
from serve.gate import DEFAULT_MOST_INSIDE, MOST_INSIDE, PROXY_CALLBACK

ENVIRONMENT = {
    "RAY_AUTH_MODE": "token",
    "RAY_USAGE_STATS_ENABLED": "0",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    PROXY_CALLBACK: "serve.gate.proxy_middlewares",
    # A person waits for each answer (docs/what_did_not_work.md has the milliseconds): Ray's processes are no less
    # urgent than others, a request changes threads less often, pictures go straight to who asked, the controller looks
    # around twice a second and counters are passed on once instead of ten times, and the threads of a painter that has
    # finished leave their cores at once to the processes that bring the picture home.
    "RAY_worker_niceness": "0",
    "RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "0",
    "RAY_SERVE_RUN_ROUTER_IN_SEPARATE_LOOP": "0",
    "RAY_max_direct_call_object_size": str(2 * 2**20),
    "RAY_SERVE_CONTROL_LOOP_INTERVAL_S": "0.5",
    "RAY_SERVE_METRICS_EXPORT_INTERVAL_MS": "1000",
    "GOMP_SPINCOUNT": "10000",
}
"""Explicit authentication, our gate where requests come in, no usage reports, no pickles from MLflow."""


def set_environment(config: ServeConfig) -> None:
    """What Ray reads when it starts; what the user's environment says stays."""
    waiting = config.max_queued * max(config.num_replicas, config.max_replicas)
    most_inside = {MOST_INSIDE: str(max(DEFAULT_MOST_INSIDE, 2 * waiting))}
    for name, value in (ENVIRONMENT | most_inside).items():
        os.environ.setdefault(name, value)
