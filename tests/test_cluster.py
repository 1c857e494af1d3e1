"""cluster/: the launcher files against the schemas of the installed Ray, and what `cluster.local` starts and ends."""

import json
import re
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster import local
from cluster.local import LocalCluster, Service, State

CLUSTER = Path(local.__file__).parent
ROOT = CLUSTER.parent
VERSION = "2.60.0"
KUBERAY = sorted((CLUSTER / "kuberay").glob("ray*.yaml"))
SPEC_KEYS = {
    "RayCluster": {"rayVersion", "authOptions", "enableInTreeAutoscaling", "autoscalerOptions"},
    "RayJob": {
        "entrypoint",
        "runtimeEnvYAML",
        "submissionMode",
        "shutdownAfterJobFinishes",
        "ttlSecondsAfterFinished",
        "backoffLimit",
        "rayClusterSpec",
    },
    "RayService": {"serveConfigV2", "rayClusterConfig"},
}


def cluster_spec(document: dict[str, Any]) -> dict[str, Any]:
    spec = document["spec"]
    return spec.get("rayClusterSpec") or spec.get("rayClusterConfig") or spec


def groups(document: dict[str, Any]) -> list[dict[str, Any]]:
    spec = cluster_spec(document)
    return [spec["headGroupSpec"], *spec["workerGroupSpecs"]]


def test_the_aws_launcher_file_satisfies_ray_s_own_schema() -> None:
    import jsonschema
    import ray

    schema = json.loads((Path(ray.__file__).parent / "autoscaler/ray-schema.json").read_text())
    config = yaml.safe_load((CLUSTER / "aws.yaml").read_text())
    jsonschema.validate(config, schema)
    assert config["head_node_type"] in config["available_node_types"]
    starts = [line for key in ("head", "worker") for line in config[f"{key}_start_ray_commands"] if "start" in line]
    assert len(starts) == 2 and all("RAY_AUTH_MODE=token" in line for line in starts)
    workers = [kind for name, kind in config["available_node_types"].items() if name != config["head_node_type"]]
    assert sum(kind["max_workers"] for kind in workers) <= config["max_workers"]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**config, "cluster_nam": "typo"}, schema)


@pytest.mark.parametrize("path", KUBERAY, ids=lambda path: path.stem)
def test_kuberay_files_name_one_ray_version_ask_for_the_token_and_hold_no_secret(path: Path) -> None:
    document = yaml.safe_load(path.read_text())
    assert document["apiVersion"] == "ray.io/v1"
    kind, spec = document["kind"], cluster_spec(document)
    cluster_keys = SPEC_KEYS["RayCluster"] | {"headGroupSpec", "workerGroupSpecs"}
    assert set(document["spec"]) <= (SPEC_KEYS[kind] if kind != "RayCluster" else cluster_keys)
    assert set(spec) <= cluster_keys
    assert spec["rayVersion"] == VERSION and spec["authOptions"] == {"mode": "token"}
    for group in groups(document):
        for container in group["template"]["spec"]["containers"]:
            assert container["resources"]["requests"] == container["resources"]["limits"]
            assert {entry["name"] for entry in container["env"]}.isdisjoint({"AWS_SECRET_ACCESS_KEY", "RAY_AUTH_TOKEN"})
            mounts = {mount["name"] for mount in container.get("volumeMounts", [])}
            assert mounts <= {volume["name"] for volume in group["template"]["spec"].get("volumes", [])}


@pytest.mark.parametrize("path", KUBERAY, ids=lambda path: path.stem)
def test_gpu_workers_tolerate_the_gpu_taint_and_the_head_does_no_work(path: Path) -> None:
    head, *workers = groups(yaml.safe_load(path.read_text()))
    assert head["rayStartParams"]["num-cpus"] == "0"
    for group in workers:
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
        requests = group["template"]["spec"]["containers"][0]["resources"]["requests"]
        tolerated = [toleration["key"] for toleration in group["template"]["spec"].get("tolerations", [])]
        assert ("nvidia.com/gpu" in requests) == ("nvidia.com/gpu" in tolerated)


def test_the_tracking_server_that_the_others_name_is_one_that_mlflow_starts_and_lets_them_in() -> None:
    from mlflow.cli import server

    documents = list(yaml.safe_load_all((CLUSTER / "kuberay/mlflow.yaml").read_text()))
    volume, deployment, service = documents
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    program, *words = container["command"]
    assert program == "mlflow"
    flags = {flag.partition("=")[0] for flag in words[1:]}
    assert flags <= {option for parameter in server.params for option in parameter.opts}
    address = f"{service['metadata']['name']}:{service['spec']['ports'][0]['port']}"
    for path in KUBERAY:
        assert f"http://{address}" in path.read_text()
    (hosts,) = [word.partition("=")[2].split(",") for word in words if word.startswith("--allowed-hosts")]
    assert address in hosts, "MLflow refuses other names"
    assert service["spec"]["selector"] == deployment["spec"]["template"]["metadata"]["labels"]
    assert (
        deployment["spec"]["template"]["spec"]["volumes"][0]["persistentVolumeClaim"]["claimName"]
        == (volume["metadata"]["name"])
    )


def test_the_service_s_serve_config_is_one_that_ray_serve_and_the_app_accept() -> None:
    from ray.serve.schema import ServeDeploySchema

    from gaugan.config import from_plain
    from serve.config import ServeConfig

    document = yaml.safe_load((CLUSTER / "kuberay/rayservice.yaml").read_text())
    config = yaml.safe_load(document["spec"]["serveConfigV2"])
    (application,) = ServeDeploySchema.model_validate(config).applications
    assert application.import_path == "serve.app:build"
    from_plain(ServeConfig, config["applications"][0]["args"])


def test_the_job_s_command_is_one_that_the_job_accepts() -> None:
    from gaugan.config import parse
    from jobs.train_gaugan import TrainGauGAN

    document = yaml.safe_load((CLUSTER / "kuberay/rayjob.yaml").read_text())
    program, script, *flags = document["spec"]["entrypoint"].split()
    assert (program, script) == ("python", "jobs/train_gaugan.py")
    job = parse(TrainGauGAN, flags)
    plan = job.plan("spade", job.spade)
    assert plan.use_gpu and plan.batch_size % job.num_workers == 0
    gpus = [group for group in groups(document) if group.get("groupName") == "gpu"]
    assert gpus[0]["replicas"] == job.num_workers
    yaml.safe_load(document["spec"]["runtimeEnvYAML"])


def test_one_ray_version_stands_in_every_place_that_names_it() -> None:
    assert f"ray=={VERSION}\n" in (ROOT / "constraints.txt").read_text()
    assert f"rayproject/ray:{VERSION}-py311-gpu" in (CLUSTER / "Dockerfile").read_text()


def test_submit_commands_use_jobs_and_flags_that_exist() -> None:
    import importlib
    import shlex

    from gaugan.config import parse
    from jobs.train_encoder import TrainEncoder
    from jobs.train_gaugan import TrainGauGAN
    from jobs.train_unet import TrainUNet
    from tune.sweep import SweepConfig

    classes: dict[str, Any] = {
        "jobs/train_unet.py": TrainUNet,
        "jobs/train_encoder.py": TrainEncoder,
        "jobs/train_gaugan.py": TrainGauGAN,
        "tune/sweep.py": SweepConfig,
    }
    for name in ("import_annotations", "label_dataset"):
        module = importlib.import_module(f"jobs.{name}")
        classes[f"jobs/{name}.py"] = getattr(module, "Config", None)
    text = (CLUSTER / "submit.md").read_text().replace("\\\n", " ")
    commands = [line.split(" -- ", 1)[1] for line in text.splitlines() if line.startswith("ray job submit --w")]
    assert len(commands) >= 6
    for command in commands:
        _, script, *flags = shlex.split(command)
        assert (ROOT / script).exists()
        if classes.get(script) is not None:
            parse(classes[script], flags)


def test_an_upload_leaves_out_what_is_large_or_private(tmp_path: Path) -> None:
    lines = (ROOT / ".rayignore").read_text().splitlines()
    for name in (".git/", ".venv/", "runs/", "*.safetensors"):
        assert name in lines


def test_local_commands_stay_on_loopback_and_use_the_ports_they_are_given(tmp_path: Path) -> None:
    config = LocalCluster("up", folder=str(tmp_path), ray_port=7001, dashboard_port=7003, mlflow_port=7005, cpus=2)
    commands = local.commands(config)
    assert {"--head", "--block", "--port=7001", "--dashboard-port=7003", "--num-cpus=2"} <= set(commands["ray"])
    assert "--dashboard-host=127.0.0.1" in commands["ray"]
    words = commands["mlflow"]
    assert (words[words.index("--host") + 1], words[words.index("--port") + 1]) == ("127.0.0.1", "7005")
    assert "RAY_AUTH_MODE=token" in local.exports(config) and str(tmp_path) in local.exports(config)


def test_the_token_is_made_once_and_only_its_owner_may_read_it(tmp_path: Path) -> None:
    path = tmp_path / "auth_token"
    local._make_token(path)
    first = path.read_text()
    local._make_token(path)
    assert path.read_text() == first and len(first) == 64 and path.stat().st_mode & 0o077 == 0


def sleeper() -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)


def test_down_ends_what_up_started_and_no_process_that_later_got_its_number(tmp_path: Path) -> None:
    import psutil

    ours, other = sleeper(), sleeper()
    try:
        config = LocalCluster("down", folder=str(tmp_path))
        started = psutil.Process(ours.pid).create_time()
        services = [Service("ray", ours.pid, started), Service("mlflow", other.pid, started - 3600)]
        local.write_state(config, State(services))
        assert [service.is_alive() for service in services] == [True, False]
        reaper = threading.Thread(target=ours.wait)  # else it would stay a zombie of this process
        reaper.start()
        local.down(config)
        reaper.join(10)
        assert ours.returncode is not None and other.poll() is None
        assert local.read_state(config).services == []
    finally:
        for process in (ours, other):
            process.kill()
            process.wait()


def test_up_says_which_log_to_read_when_a_service_dies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "commands", lambda config: {"mlflow": [sys.executable, "-c", "raise SystemExit('oh')"]})
    began = time.monotonic()
    words = ["up", "--folder", str(tmp_path), "--dashboard-port", "17991", "--mlflow-port", "17993"]
    assert local.main(words) == 2
    assert time.monotonic() - began < 20 and "oh" in (tmp_path / "mlflow.log").read_text()


def test_status_tells_that_nothing_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["status", "--folder", str(tmp_path), "--dashboard-port", "17991", "--mlflow-port", "17993"]
    assert local.main(words) == 1
    assert capsys.readouterr().out.count("not started here") == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--cpus", "-4"], "--cpus -4: must be 0 .all. or more"),
        (["--gpus", "-2"], "--gpus -2: must be -1 .all. or more"),
        (["--dashboard-port", "99999999"], "--dashboard-port 99999999: allowed are 1 to 65534"),
        (["--mlflow-port", "0"], "--mlflow-port 0: allowed are 1 to 65535"),
        (["--dashboard-port", "6380"], "--dashboard-port 6380: port 6380 is --ray-port's already"),
    ],
)
def test_numbers_that_cannot_be_are_refused_before_anything_is_written(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        local.main(["up", "--folder", str(tmp_path / "c"), *words])
    assert caught.value.code == 2 and re.fullmatch(f"error: {message}.*\n", capsys.readouterr().err)
    assert not (tmp_path / "c").exists()


def test_a_taken_port_is_refused_before_anything_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        assert (
            local.main(["up", "--folder", str(tmp_path / "c"), "--mlflow-port", port, "--dashboard-port", "17991"]) == 2
        )
    assert f"--mlflow-port {port}: something listens there already" in capsys.readouterr().err
    assert not (tmp_path / "c").exists()


def test_the_help_shows_the_bare_word_that_the_docs_use(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        local.main(["--help"])
    shown = capsys.readouterr().out
    assert shown.startswith("usage: python -m cluster.local [-h] [OPTIONS] {up,down,status}\n")
    assert "\n    python -m cluster.local status\n" in shown and "--action" not in shown
