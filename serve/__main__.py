"""python -m serve --model URI: the paint page and the HTTP API on this machine, until Ctrl-C.

Starts a private Ray (or joins one with --address), waits until the generator has painted a warm-up picture, prints the
address, and on Ctrl-C or SIGTERM stops what it started. Exit codes: 0 after Ctrl-C, 2 usage, 143 after SIGTERM.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import signal
import socket
import sys
import threading
import time
from typing import Any

from cluster.private_ray import start_private_ray
from gaugan.config import parse, to_yaml
from gaugan.errors import UserError
from serve.config import ServeConfig
from serve.guard import TOKEN
from serve.listening import open_port, port_is_taken
from serve.ray_settings import set_environment
from serve.shared_state import CLOSING, INSIDE, LOOK_EVERY_S, RayStore

APP = "gaugan"
PROXY_TIMEOUT_MARGIN_S = 10
QUIET = {"log_level": "WARNING", "enable_access_log": False}
CONNECT_TIMEOUT_S = 5.0
DYING_S = 0.5
OBJECT_STORE_BYTES = 256 * 1024 * 1024


def main(config: ServeConfig) -> int:
    """Serves until a signal comes; returns the exit code."""
    started = time.monotonic()
    set_environment(config)
    import ray
    import ray.serve

    from serve.app import build_application

    application = build_application(config, listens=config.listens_itself)  # bad URIs are refused before Ray is started
    _check_door(config)
    if config.dry_run:
        print(to_yaml(dataclasses.replace(config, dry_run=False)), end="")
        return 0
    if config.address is None:
        open_port(config.host, config.port).close()
    print("starting ...", flush=True)
    _connect(config)
    stop = _catch_signals()
    try:
        _check_gpus(config)
        _quieten()
        _start_serve(config)
        _deploy(application)
        url = f"http://{'127.0.0.1' if config.host == '0.0.0.0' else config.host}:{config.port}"  # noqa: S104
        print(f"ready after {time.monotonic() - started:.1f} s: {url}   (press Ctrl-C to stop)", flush=True)
        code = stop.wait()
        print("stopping: what was begun is finished first (again: at once)", flush=True)
        stop.at_once()
        if _is_gone(ray.get_runtime_context().gcs_address):
            print("Ray was ended by the same signal: nothing is left to be finished", flush=True)
            _leave(code)
        _let_out(config)
        return code
    finally:
        _stop(config)


def _start_serve(config: ServeConfig) -> None:
    """Starts Serve, with its proxy where that has to listen.

    Raises UserError when another program took the port since it was looked at.
    """
    import ray.serve
    from ray.exceptions import RayTaskError

    if config.listens_itself:
        ray.serve.start(proxy_location="Disabled", logging_config=QUIET)
        return
    options = {
        "host": config.host,
        "port": config.port,
        "request_timeout_s": config.timeout_s + PROXY_TIMEOUT_MARGIN_S,
    }
    try:
        ray.serve.start(http_options=options, logging_config=QUIET)
    except RayTaskError as error:
        if "Failed to bind to address" not in str(error):
            raise
        raise port_is_taken(config.host, config.port, "another program listens there by now") from error


def _deploy(application: Any) -> None:
    """Waits until every model is ready. Raises UserError with the reason when one can't be loaded."""
    import ray.serve

    RayStore(APP).delete(CLOSING)  # of a server that was killed while it stopped
    try:
        ray.serve.run(application, name=APP, route_prefix="/", logging_config=QUIET)
    except RuntimeError as error:
        deployments = ray.serve.status().applications[APP].deployments
        messages = [one.message for one in deployments.values() if "Traceback" in one.message]
        reason = messages[0].strip().splitlines()[-1] if messages else str(error)
        reason = reason.removeprefix(f"{UserError.__module__}.{UserError.__name__}: ")
        raise UserError(f"the server can't start: {reason}") from error


class _Stop:
    """Ends the start at once when a signal comes, later lets `wait` return."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._waiting = False
        self._code = 0

    def catch(self, number: int, _frame: object) -> None:
        self._code = 0 if number == signal.SIGINT else 128 + number
        self._event.set()
        if not self._waiting:
            raise SystemExit(self._code)

    def at_once(self) -> None:
        """From now on the next signal ends the process."""
        self._waiting = False

    def wait(self) -> int:
        """Blocks until a signal; returns the exit code."""
        self._waiting = True
        while not self._event.wait(timeout=1.0):  # short waits let Python run signal handlers
            pass
        return self._code


def _check_door(config: ServeConfig) -> None:
    if not (config.only_this_machine or config.allow_anyone or os.environ.get(TOKEN)):
        raise UserError(
            f"--host {config.host} lets other machines in, and no token is asked of them: set {TOKEN} in the "
            "environment, or say --allow-anyone"
        )


def _check_cluster(address: str) -> None:
    """Ray itself would try for more than a minute."""
    host, colon, port = address.rpartition(":")
    if "://" in address or not colon or not port.isdigit():  # a Ray Client address, or "auto"
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_TIMEOUT_S).close()
    except OSError as error:
        raise UserError(f"--address {address}: no Ray cluster answers there ({error})") from error


def _check_gpus(config: ServeConfig) -> None:
    """A private Ray never gets another GPU: its replicas would wait forever."""
    import ray

    found = int(ray.cluster_resources().get("GPU", 0))
    wanted = max(config.num_replicas, config.max_replicas) if config.use_gpu else 0
    if config.address is None and wanted > found:
        raise UserError(
            f"--use-gpu: {wanted} replicas need a GPU each, this machine has {found}; ask for fewer, or none"
        )


def _quieten() -> None:
    """Serve reports its own starting; our two lines say enough."""
    logging.getLogger("ray").setLevel(logging.WARNING)
    logging.getLogger("ray.serve").setLevel(logging.WARNING)


def _connect(config: ServeConfig) -> None:
    """Joins the cluster of --address, or starts a private one with room for the replicas."""
    import ray

    if config.address is not None:
        _check_cluster(config.address)
        ray.init(address=config.address, log_to_driver=False)
        return
    painters = max(config.num_replicas, config.max_replicas) * config.cpus_per_replica
    segmenters = max(config.segmenter_replicas, config.max_segmenter_replicas) * config.cpus_per_segmenter
    start_private_ray(
        num_cpus=max(os.cpu_count() or 1, painters + (segmenters if config.segmenter else 0) + 1),
        log_to_driver=False,
        logging_level=logging.ERROR,
        object_store_memory=OBJECT_STORE_BYTES,
    )


def _catch_signals() -> _Stop:
    """After ray.init, which sets a SIGTERM handler of its own."""
    stop = _Stop()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop.catch)
    return stop


def _is_gone(gcs_address: str) -> bool:
    """Whether Ray's head got our signal too, as when systemd or a terminal ends a whole group of processes."""
    time.sleep(DYING_S)
    host, _, port = gcs_address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_TIMEOUT_S).close()
    except OSError:
        return True
    return False


def _leave(code: int) -> None:
    """Ends this process and its children at once: Ray itself would look for its head for a minute, then abort."""
    import psutil

    children = psutil.Process().children(recursive=True)
    for child in children:
        with contextlib.suppress(psutil.Error):
            child.terminate()
    _, alive = psutil.wait_procs(children, timeout=CONNECT_TIMEOUT_S)
    for child in alive:
        with contextlib.suppress(psutil.Error):
            child.kill()
    os._exit(code)


def _let_out(config: ServeConfig) -> None:
    """No new requests, until those inside are answered (or `timeout_s` is over)."""
    store = RayStore(APP)
    store.put(CLOSING, {})
    time.sleep(2 * LOOK_EVERY_S)
    deadline = time.monotonic() + config.timeout_s
    while time.monotonic() < deadline:
        if not any((store.get(key) or {}).get("inside") for key in store.keys(INSIDE)):
            break
        time.sleep(0.1)


def _stop(config: ServeConfig) -> None:
    """A private Ray goes down with everything in it; on somebody's cluster only our application is taken away."""
    import ray
    import ray.serve

    if config.address is not None:
        ray.serve.delete(APP)
        _forget()
    ray.shutdown()


def _forget() -> None:
    """The shared state of this server, on a cluster that stays."""
    store = RayStore(APP)
    for key in store.keys(""):
        store.delete(key)


def run() -> None:
    """The command line."""
    config = parse(ServeConfig, description=__doc__ or "", program="python -m serve")
    try:
        code = main(config)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        code = 2
    except KeyboardInterrupt:  # before our own handler is there
        code = 0
    sys.exit(code)


if __name__ == "__main__":
    run()
