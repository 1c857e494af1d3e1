"""The endpoint under fire: killed generators, a changed model, too many requests."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator

import httpx
import numpy as np
import psutil
import pytest
from processes import Command
from tiny_models import rescale_last_layer, save_spade

from benchmarks.ports import free_port
from benchmarks.serving_load import Load
from gaugan.labels import PORTRAIT_CLASSES, encode_label_map
from gaugan.portraits import draw_portrait
from serve.client import Client

ADMIN = "an-administrator's-token"
CLIENTS = 4
START_TIMEOUT_S = 120.0
Server = tuple[str, Command, str]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """(address, process, checkpoint) of a service with a tiny generator."""
    folder = tmp_path_factory.mktemp("served")
    model, port = save_spade(folder / "painter"), free_port()
    words = ["-m", "serve", "--model", model, "--port", str(port), "--max-wait-s", "0.5"]
    command = Command(folder / "serve.log", *words, GAUGAN_ADMIN_TOKEN=ADMIN, RAY_AUTH_MODE="disabled")
    until(lambda: "ready after" in command.log.read_text() or not command.runs, START_TIMEOUT_S)
    assert command.runs, command.log.read_text()
    yield f"http://127.0.0.1:{port}", command, model
    command.process.terminate()
    command.process.wait(60)


def until(reached: Callable[[], bool], timeout_s: float) -> float:
    """Seconds until it is so."""
    begun = time.monotonic()
    while not reached():
        assert time.monotonic() - begun < timeout_s, "it never came"
        time.sleep(0.1)
    return time.monotonic() - begun


def label_map(number: int) -> bytes:
    return encode_label_map(draw_portrait(number % 8, 64)[1], PORTRAIT_CLASSES)


class Clients:
    """Some patient clients that paint until told to stop; what fails is kept."""

    def __init__(self, url: str) -> None:
        self.url, self.painted, self.failed, self.stop = url, [0] * CLIENTS, list[str](), threading.Event()
        self.models: set[str] = set()
        self.threads = [threading.Thread(target=self._paint, args=(number,)) for number in range(CLIENTS)]

    def _paint(self, number: int) -> None:
        client = Client(self.url, patience_s=60)
        while not self.stop.is_set():
            try:
                self.models.add(client.paint(label_map(self.painted[number]), seed=number).model)
                self.painted[number] += 1
            except Exception as error:
                self.failed.append(repr(error))

    def __enter__(self) -> Clients:
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        for thread in self.threads:
            thread.join(90)


def long(*values: object) -> object:
    return pytest.param(*values, id="long", marks=[pytest.mark.long, pytest.mark.timeout(3600)])


@pytest.mark.ray
@pytest.mark.parametrize("victim", ["PainterReplica", "Ingress"])
@pytest.mark.parametrize(("kills", "every_s"), [pytest.param(1, 2.0, id="short"), long(24, 5.0)])
def test_killed_generators_and_http_sides_fail_no_request_of_a_patient_client(
    server: Server, victim: str, kills: int, every_s: float
) -> None:
    """A new HTTP side listens on the port of the dead one, whose connections the system remembers for a minute."""
    url, command, _ = server
    with Clients(url) as clients:
        for _ in range(kills):
            time.sleep(every_s)
            until(lambda: command.kill(victim) > 0, 60)
        before = sum(clients.painted)
        until(lambda: sum(clients.painted) > before + 20, 90)
    print(f"{kills} kills of {victim}: {sum(clients.painted)} painted, {len(clients.failed)} failed")
    assert clients.failed == [] and min(clients.painted) > 0


@pytest.mark.ray
@pytest.mark.parametrize("swaps", [pytest.param(1, id="short"), long(20)])
def test_changing_the_model_and_back_fails_no_request(server: Server, swaps: int) -> None:
    url, _, model = server
    other = rescale_last_layer(model, 0.95)
    administrator = Client(url, token=ADMIN, patience_s=120)
    with Clients(url) as clients:
        for _ in range(swaps):
            administrator.swap(other)
            administrator.rollback()
        before = sum(clients.painted)
        until(lambda: sum(clients.painted) > before + 20, 60)
    print(f"{2 * swaps} changes: {sum(clients.painted)} painted, {len(clients.failed)} failed")
    assert clients.failed == []
    assert len(clients.models) == 2, "pictures of both models came"


@pytest.mark.ray
def test_too_many_requests_are_refused_at_once_and_the_rest_is_served_in_time(server: Server) -> None:
    load = Load(server[0], [label_map(number) for number in range(8)])
    usual = load.wait_in_turn(4, 2.0)
    poured = load.pour(min(5 * usual.per_s, 300.0), 3.0)
    assert poured.other == [], "neither painted nor a 503 with Retry-After"
    assert poured.refused_s and poured.painted_s
    assert max(poured.painted_s) < 10.0
    assert until(lambda: httpx.get(f"{server[0]}/v2/health/ready").status_code == 200, 5.0) < 5.0
    assert load.wait_in_turn(1, 1.0).other == []


@pytest.mark.ray
@pytest.mark.long
@pytest.mark.timeout(3600)
def test_twenty_minutes_of_painting_take_no_more_memory_or_files(server: Server) -> None:
    url, command, _ = server
    found = []
    with Clients(url) as clients:
        for _ in range(int(os.environ.get("SOAK_MINUTES", "20"))):
            time.sleep(60)
            found.append((command.memory_bytes() / 2**20, open_files(command)))
            print(f"{found[-1][0]:.0f} MB, {found[-1][1]} files, {sum(clients.painted)} painted", flush=True)
    assert clients.failed == []
    early, late = np.median(found[2:5], axis=0), np.median(found[-3:], axis=0)
    assert late[0] < 1.1 * early[0] and late[1] < 1.1 * early[1]


def open_files(command: Command) -> int:
    """File descriptors of all its processes."""
    total = 0
    for process in command.tree():
        with contextlib.suppress(psutil.Error):
            total += process.num_fds()
    return total
