"""`python -m serve` for real: a private Ray, tiny models, HTTP, and a clean end."""

from __future__ import annotations

import importlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest
import yaml
from serve_models import save_generator, save_unet

from benchmarks.ports import free_port
from gaugan import images, labels, storage
from gaugan.config import from_plain
from gaugan.errors import UserError
from gaugan.labels import PORTRAIT_CLASSES, ClassTable
from serve.client import Client
from serve.config import ServeConfig
from serve.models import resolve

Server = tuple[str, subprocess.Popen[str]]
START_TIMEOUT_S = 180
STOP_TIMEOUT_S = 40


def label_png(seed: int) -> bytes:
    ids = np.random.default_rng(seed).integers(0, 7, (64, 64), dtype=np.uint8)
    return labels.encode_label_map(ids, PORTRAIT_CLASSES)


def serve_command(*flags: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "RAY_AUTH_MODE": "disabled"}
    return subprocess.Popen(
        [sys.executable, "-m", "serve", *flags],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment,
        cwd=Path(__file__).parents[1],
    )  # fmt: skip


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """(address, process) of a server with a tiny generator and a tiny U-Net."""
    folder = tmp_path_factory.mktemp("models")
    model, segmenter = save_generator(str(folder / "generator")), save_unet(str(folder / "unet"))
    port = free_port()
    process = serve_command("--model", model, "--segmenter", segmenter, "--port", str(port))
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if line.startswith("ready"):
            break
    else:
        pytest.fail(f"the server did not start: {''.join(lines)}")
    assert "Ctrl-C" in lines[-1]
    yield f"http://127.0.0.1:{port}", process
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        process.wait(STOP_TIMEOUT_S)


@pytest.mark.ray
@pytest.mark.timeout(START_TIMEOUT_S)
def test_served_painting_does_not_depend_on_what_is_painted_beside_it(
    server: Server,
) -> None:
    client = Client(server[0])
    assert client.ready() and client.classes()["hash"] == PORTRAIT_CLASSES.hash
    alone = [client.paint(label_png(seed), seed=seed).png for seed in range(6)]
    with ThreadPoolExecutor(12) as pool:
        crowd = list(pool.map(lambda n: client.paint(label_png(n % 6), seed=n % 6).png, range(36)))
    assert len(set(alone)) == 6
    assert all(png == alone[number % 6] for number, png in enumerate(crowd))


@pytest.mark.ray
def test_served_segmenter_labels_a_picture(server: Server) -> None:
    picture = np.random.default_rng(0).integers(0, 255, (50, 70, 3), dtype=np.uint8)
    png, confidence = Client(server[0]).segment(images.encode_png(picture))
    assert labels.decode_label_map(png, PORTRAIT_CLASSES).shape == (50, 70)
    assert 0 < confidence <= 1


@pytest.mark.ray
def test_upload_without_end_is_cut_in_the_proxy(server: Server) -> None:
    kind = {"Content-Type": "multipart/form-data; boundary=x"}
    head = b'--x\r\nContent-Disposition: form-data; name="label_map"; filename="m"\r\n\r\n'
    pieces = (head if number == 0 else bytes(2**20) for number in range(40))
    answer = httpx.post(server[0] + "/v1/paint", content=pieces, headers=kind, timeout=30)
    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")
    assert httpx.get(server[0] + "/nothing").json()["code"] == "not_found"


@pytest.mark.ray
def test_full_queue_is_answered_with_retry_after(server: Server) -> None:
    files = {"label_map": ("m.png", label_png(0))}
    limits = httpx.Limits(max_connections=120)
    with httpx.Client(base_url=server[0], timeout=60, limits=limits) as http, ThreadPoolExecutor(120) as pool:
        answers = list(
            pool.map(lambda n: http.post("/v1/paint", files=files, data={"n": "8", "seed": "1"}), range(120))
        )
    assert {answer.status_code for answer in answers} <= {200, 503}
    refused = [answer for answer in answers if answer.status_code == 503]
    assert refused and all(answer.json()["code"] == "busy" and answer.headers["retry-after"] for answer in refused)
    assert Client(server[0]).paint(label_png(1), seed=1).seed == 1  # and it recovers


@pytest.mark.ray
def test_sigterm_ends_the_server_and_everything_it_started(server: Server) -> None:
    url, process = server
    family = psutil.Process(process.pid).children(recursive=True)
    assert len(family) > 3
    process.send_signal(signal.SIGTERM)
    assert process.wait(STOP_TIMEOUT_S) == 143
    _, alive = psutil.wait_procs(family, timeout=15)
    assert alive == []
    assert not Client(url).ready()


def test_a_head_that_died_of_the_same_signal_is_noticed() -> None:
    from serve.__main__ import _is_gone

    with socket.create_server(("127.0.0.1", 0)) as head:
        address = f"127.0.0.1:{head.getsockname()[1]}"
        assert not _is_gone(address)
    assert _is_gone(address)


def test_unusable_model_is_refused_before_ray_starts(tmp_path: Path) -> None:
    process = serve_command("--model", str(tmp_path / "nothing"))
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "--model" in output and "nothing" in output and "Traceback" not in output


def test_models_of_two_class_tables_are_not_served_together(tmp_path: Path) -> None:
    from serve.app import build_application

    other = ClassTable(("a", "b"), ((0, 0, 0), (9, 9, 9)), name="other")
    model, segmenter = save_generator(str(tmp_path / "g")), save_unet(str(tmp_path / "u"), classes=other)
    with pytest.raises(UserError, match="class table"):
        build_application(ServeConfig(model=model, segmenter=segmenter))


def test_registered_model_is_resolved_by_alias_and_by_version(tmp_path: Path) -> None:
    from mlflow import MlflowClient

    tracking = f"sqlite:///{tmp_path}/mlflow.db"
    uri = save_generator(str(tmp_path / "generator"))
    client = MlflowClient(tracking_uri=tracking, registry_uri=tracking)
    client.create_registered_model("gaugan")
    version = client.create_model_version("gaugan", uri).version
    client.set_registered_model_alias("gaugan", "champion", version)
    for model_uri, told in (("models:/gaugan@champion", "v1@champion"), ("models:/gaugan/1", "v1")):
        source = resolve(model_uri, "--model", "x", tracking)
        assert (source.name, source.version, source.checkpoint_uri()) == ("gaugan", told, uri)
    for model_uri in ("models:/gaugan@nobody", "models:/gaugan", "models:/@champion"):
        with pytest.raises(UserError, match="--model"):
            resolve(model_uri, "--model", "x", tracking)


def test_a_generator_on_s3_paints_the_bytes_of_its_local_copy(tmp_path: Path, bucket: str) -> None:
    from serve.backend import PaintJob
    from serve.replicas import load_painter, paint_one

    local, remote = save_generator(str(tmp_path / "generator")), f"{bucket}/models/generator"
    storage.upload_folder(local, remote)
    painted, cards = [], []
    for uri in (local, remote):
        painter, card = load_painter(resolve(uri, "--model", "gaugan"), "cpu")
        painted.append(paint_one(painter, PaintJob(np.ones(card.image_size, np.uint8), seed=3)))
        cards.append(card.checkpoint_hash)
    assert np.array_equal(*painted) and len(set(cards)) == 1


def test_replicas_grow_between_the_two_numbers_that_were_given(tmp_path: Path) -> None:
    from serve.app import build

    model = save_generator(str(tmp_path / "generator"))
    for most, least_and_most in ((3, (1, 3)), (0, None)):
        application = build({"model": model, "num_replicas": 1, "max_replicas": most})
        painter = application._bound_deployment.init_args[0]._bound_deployment
        scaling = painter._deployment_config.autoscaling_config
        assert (scaling and (scaling.min_replicas, scaling.max_replicas)) == least_and_most


def test_folders_that_are_no_use_are_refused_before_ray_starts(tmp_path: Path) -> None:
    from serve.app import build

    model = save_generator(str(tmp_path / "generator"))
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "a.png").write_bytes(b"no picture")
    for name, folder in (
        ("styles", "nothing"),
        ("gate_maps", "nothing"),
        ("styles", "broken"),
        ("gate_maps", "broken"),
    ):
        with pytest.raises(UserError, match="--" + name.replace("_", "-")):
            build({"model": model, name: str(tmp_path / folder)})


def test_a_dry_run_prints_the_resolved_config_and_starts_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from serve import __main__ as command

    monkeypatch.setattr(command, "set_environment", lambda config: None)  # this process serves other tests
    monkeypatch.setattr(command, "_connect", lambda config: pytest.fail("started"))
    model = save_generator(str(tmp_path / "generator"))
    for words, code in (([model], 0), ([str(tmp_path / "nothing")], 2), ([model, "--host", "0.0.0.0"], 2)):
        monkeypatch.setattr(sys, "argv", ["serve", "--dry-run", "--port", "8123", "--model", *words])
        with pytest.raises(SystemExit) as caught:
            command.run()
        assert caught.value.code == code
        shown = capsys.readouterr()
        if code == 0:
            printed = from_plain(ServeConfig, yaml.safe_load(shown.out))
            assert printed == ServeConfig(model=model, port=8123)
        else:
            assert shown.out == "" and shown.err.startswith("error: --")


def test_places_that_nobody_answers_at_are_refused_soon_and_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    from gaugan import checkpoint
    from serve.__main__ import _check_cluster

    def fail(uri: str) -> str:
        raise OSError("could not resolve host")

    with pytest.raises(UserError, match="--address 127.0.0.1:9"):
        _check_cluster("127.0.0.1:9")
    begun = time.monotonic()
    with pytest.raises(UserError, match="--model: models:/gaugan@champion"):
        resolve("models:/gaugan@champion", "--model", "gaugan", "http://127.0.0.1:9")
    assert time.monotonic() - begun < 60
    monkeypatch.setattr(checkpoint, "find", fail)
    with pytest.raises(UserError, match="--model: s3://nobody/x can't be read: could not resolve"):
        resolve("s3://nobody/x", "--model", "gaugan")


def test_a_port_lost_while_ray_started_is_one_line_of_advice(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray.serve
    from ray.exceptions import RayTaskError

    from serve.__main__ import _start_serve

    def fail(**options: object) -> None:
        raise RayTaskError("ready", "Failed to bind to address '127.0.0.1:8123'.", RuntimeError("no"))

    monkeypatch.setattr(ray.serve, "start", fail)
    with pytest.raises(UserError, match="--port 8123: another program listens there by now; choose another --port"):
        _start_serve(ServeConfig(model="m", port=8123, ingress_replicas=2))


@pytest.mark.parametrize("values", [{"port": 0}, {"max_batch_size": 0}, {"timeout_s": 0.0}])
def test_settings_that_make_no_sense_name_their_flag(values: dict[str, float]) -> None:
    with pytest.raises(UserError, match="--" + next(iter(values)).replace("_", "-")):
        ServeConfig(model="m", **values)  # type: ignore[arg-type]


def test_the_clusters_config_is_one_that_ray_serve_and_the_app_accept() -> None:
    from ray.serve.schema import ServeDeploySchema

    text = (Path(__file__).parents[1] / "serve" / "config.yaml").read_text()
    app = ServeDeploySchema.model_validate(yaml.safe_load(text)).applications[0]
    module, _, builder = app.import_path.partition(":")
    assert callable(getattr(importlib.import_module(module), builder))
    assert from_plain(ServeConfig, app.args, source="config.yaml").model == "models:/gaugan@champion"


def test_ingress_does_without_torch() -> None:
    code = "import sys, serve.app, serve.api; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[1], timeout=60).returncode == 0
