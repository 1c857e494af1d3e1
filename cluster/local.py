"""A small cluster on this machine: a Ray head that takes jobs, and an MLflow server, on loopback only.

    python -m cluster.local up        starts both and prints what to export
    python -m cluster.local status
    python -m cluster.local down      ends what `up` started, and nothing else

Both run in a folder of their own (--folder); another --folder with other ports is another cluster. Other Ray instances
of this machine are not touched, nor is Ray's token in the home directory: the cluster has its own, in its folder.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import tyro

from gaugan import storage
from gaugan.config import from_plain, parse, to_plain
from gaugan.errors import UserError

HOST = "127.0.0.1"
START_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 20.0
LAST_PORT = 65535


@dataclass(frozen=True)
class LocalCluster:
    """Flags of cluster.local."""

    action: tyro.conf.Positional[Literal["up", "down", "status"]]
    """What to do."""
    folder: str = "runs/cluster"
    """Where the cluster keeps its state, MLflow's database and artifacts, and the logs."""
    cpus: int = 0
    """CPU cores that Ray may use; 0 = all."""
    gpus: int = -1
    """GPUs that Ray may use; -1 = all."""
    ray_port: int = 6379
    """Port of Ray's head."""
    dashboard_port: int = 8265
    """Port of the dashboard and of job submission."""
    mlflow_port: int = 5000
    """Port of the MLflow server."""

    def __post_init__(self) -> None:
        if self.action not in ("up", "down", "status"):
            raise UserError(f"{self.action}: give one of up, down, status")
        for name, value, least in (("cpus", self.cpus, 0), ("gpus", self.gpus, -1)):
            if value < least:
                raise UserError(f"--{name} {value}: must be {least} (all) or more")
        self._check_ports()

    def _check_ports(self) -> None:
        """Ray's head and the dashboard each take the port after theirs as well."""
        taken: dict[int, str] = {}
        for name, count in (("ray_port", 2), ("dashboard_port", 2), ("mlflow_port", 1)):
            port, flag = getattr(self, name), f"--{name.replace('_', '-')}"
            if not 1 <= port <= LAST_PORT + 1 - count:
                raise UserError(f"{flag} {port}: allowed are 1 to {LAST_PORT + 1 - count}")
            for used in range(port, port + count):
                if used in taken:
                    raise UserError(f"{flag} {port}: port {used} is {taken[used]}'s already; choose another")
                taken[used] = flag

    @property
    def root(self) -> Path:
        return storage.local_path(self.folder)

    @property
    def token(self) -> Path:
        return self.root / "auth_token"

    @property
    def dashboard(self) -> str:
        return f"http://{HOST}:{self.dashboard_port}"

    @property
    def mlflow(self) -> str:
        return f"http://{HOST}:{self.mlflow_port}"


@dataclass
class Service:
    """A process that `up` started: it leads a process group of its own."""

    name: str
    pid: int
    started: float
    """When the system says that the process began: a pid alone may have been given to another."""

    def is_alive(self) -> bool:
        import psutil

        try:
            process = psutil.Process(self.pid)
            return abs(process.create_time() - self.started) < 1 and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False


@dataclass
class State:
    """state.json in the folder."""

    services: list[Service] = field(default_factory=list)
    settings: dict[str, str | int] = field(default_factory=dict)


def up(config: LocalCluster) -> None:
    """Starts what is not running yet and waits until both answer."""
    services = [service for service in read_state(config).services if service.is_alive()]
    running = {service.name for service in services}
    for name, port in (("ray", config.dashboard_port), ("mlflow", config.mlflow_port)):
        if name not in running:
            _check_port(port, name)
    config.root.mkdir(parents=True, exist_ok=True)
    _make_token(config.token)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"  # jobs are started as `python ...`
    environment = {**os.environ, "PATH": path, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(config.token)}
    environment["RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"] = "0"  # no other node could take over
    environment["MLFLOW_TRACKING_URI"] = config.mlflow  # for the jobs: they inherit the head's environment
    for name, command in commands(config).items():
        if name not in running:
            services.append(_start(config, name, command, environment))
            write_state(config, State(services, to_plain(config)))
    _wait(services, {"ray": f"{config.dashboard}/api/version", "mlflow": f"{config.mlflow}/health"}, config)
    print(
        f"up: dashboard {config.dashboard}, MLflow {config.mlflow}; cluster/submit.md has the jobs\n{exports(config)}"
    )


def commands(config: LocalCluster) -> dict[str, list[str]]:
    """The two commands, both staying in the foreground of their process group."""
    python = str(Path(sys.executable).parent)
    ray = [f"{python}/ray", "start", "--head", "--block", "--disable-usage-stats", f"--node-ip-address={HOST}"]
    ray += [f"--port={config.ray_port}", f"--dashboard-host={HOST}", f"--dashboard-port={config.dashboard_port}"]
    ray += [f"--temp-dir={_ray_folder(config)}", f"--ray-client-server-port={config.ray_port + 1}"]
    ray += [f"--dashboard-agent-listen-port={config.dashboard_port + 1}", "--min-worker-port=0", "--max-worker-port=0"]
    ray += [f"--num-cpus={config.cpus}"] if config.cpus else []
    ray += [f"--num-gpus={config.gpus}"] if config.gpus >= 0 else []
    mlflow = [sys.executable, "-m", "mlflow", "server", "--host", HOST, "--port", str(config.mlflow_port)]
    mlflow += ["--workers", "1", "--backend-store-uri", f"sqlite:///{config.root / 'mlflow.db'}"]
    mlflow += ["--artifacts-destination", str(config.root / "mlartifacts")]
    return {"ray": ray, "mlflow": mlflow}


def exports(config: LocalCluster) -> str:
    """What a shell needs to talk to the cluster."""
    values = {"RAY_ADDRESS": config.dashboard, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": config.token}
    values["RAY_DASHBOARD_ADDRESS"] = config.dashboard  # what `serve deploy` reads
    values["MLFLOW_TRACKING_URI"] = config.mlflow
    return "\n".join(f"  export {name}={value}" for name, value in values.items())


def _ray_folder(config: LocalCluster) -> Path:
    # A short path: the names of Ray's sockets below it may have 107 bytes in all.
    return Path(tempfile.gettempdir(), f"gaugan-ray-{os.getuid()}-{config.ray_port}")


def _make_token(path: Path) -> None:
    """Writes a new token, readable by its owner only, unless there is one."""
    if not path.exists():
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_hex(32))


def _check_port(port: int, name: str) -> None:
    import socket

    with socket.socket() as probe:
        if probe.connect_ex((HOST, port)) == 0:
            flag = "--dashboard-port" if name == "ray" else "--mlflow-port"
            raise UserError(f"{flag} {port}: something listens there already; choose another port, or end it")


def _start(config: LocalCluster, name: str, command: list[str], environment: dict[str, str]) -> Service:
    import psutil

    with (config.root / f"{name}.log").open("a") as log:
        process = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    return Service(name, process.pid, psutil.Process(process.pid).create_time())


def _wait(services: list[Service], addresses: dict[str, str], config: LocalCluster) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    waiting = dict(addresses)
    while waiting:
        for name, address in list(waiting.items()):
            if answers(address):
                del waiting[name]
        dead = [service.name for service in services if not service.is_alive()]
        if dead or time.monotonic() > deadline:
            names = ", ".join(dead or waiting)
            raise UserError(f"{names}: did not start; see {config.root}/{(dead or list(waiting))[0]}.log")
        time.sleep(0.3)


def answers(address: str) -> bool:
    """True when an HTTP server answers there; 401 counts, for Ray's wants a token."""
    try:
        with urllib.request.urlopen(address, timeout=3):  # noqa: S310 (our own loopback address)
            return True
    except urllib.error.HTTPError as error:
        return error.code == 401
    except OSError:
        return False


def down(config: LocalCluster) -> None:
    """Ends the process groups that `up` started: politely, then for good."""
    services = [service for service in read_state(config).services if service.is_alive()]
    for service in services:
        _signal(service, signal.SIGTERM)
    deadline = time.monotonic() + STOP_TIMEOUT_S
    while any(_group_is_alive(service.pid) for service in services) and time.monotonic() < deadline:
        time.sleep(0.2)
    for service in services:
        if _group_is_alive(service.pid):
            _signal(service, signal.SIGKILL)
    (config.root / "state.json").unlink(missing_ok=True)
    print(f"down: ended {', '.join(service.name for service in services) or 'nothing, nothing ran'}")


def _signal(service: Service, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(service.pid, number)


def _group_is_alive(group: int) -> bool:
    """True when the group has a member that is more than a zombie (nobody may be there to reap those)."""
    import psutil

    for process in psutil.process_iter(["status"]):
        with contextlib.suppress(ProcessLookupError):
            if process.info["status"] != psutil.STATUS_ZOMBIE and os.getpgid(process.pid) == group:
                return True
    return False


def status(config: LocalCluster) -> bool:
    """Prints what runs; True when everything does."""
    services = {service.name: service for service in read_state(config).services}
    good = True
    for name, address in (("ray", f"{config.dashboard}/api/version"), ("mlflow", f"{config.mlflow}/health")):
        alive = name in services and services[name].is_alive()
        good = good and alive and answers(address)
        pid = f"pid {services[name].pid}" if alive else "not started here"
        print(f"{name:7} {'answers' if answers(address) else 'silent'}  {pid}  {address}")
    return good


def read_state(config: LocalCluster) -> State:
    """What an earlier `up` left in the folder."""
    uri = str(config.root / "state.json")
    return from_plain(State, storage.read_json(uri), uri) if storage.exists(uri) else State()


def write_state(config: LocalCluster, state: State) -> None:
    """Remembers what runs."""
    storage.write_json(str(config.root / "state.json"), to_plain(state))


def main(argv: list[str] | None = None) -> int:
    """The command line."""
    config = parse(LocalCluster, argv, __doc__ or "", program="python -m cluster.local")
    try:
        if config.action == "status":
            return 0 if status(config) else 1
        up(config) if config.action == "up" else down(config)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
