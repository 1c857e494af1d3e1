"""MLflow, or nothing: parameters, metrics, pictures and the model registry of a run.

A tracking server that is away never stops or slows a job for long: calls time out after seconds, are warned about once
and then left alone for RETRY_AFTER_S; metric points wait in memory and are sent, once each, when it is back.
metrics.jsonl in the output keeps everything.
"""

from __future__ import annotations

import math
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from gaugan import storage
from gaugan.config import to_plain
from gaugan.errors import UserError

EXPERIMENT = "gaugan"
MAX_PARAM_LENGTH = 500
PARAMS_PER_CALL = 100
METRICS_PER_CALL = 1000
MAX_WAITING = 20_000
"""Metric points that wait for a server that is away; older ones are dropped."""
RETRY_AFTER_S = 60.0
SCHEMES = ("http", "https", "file", "sqlite", "postgresql", "mysql", "mssql", "databricks", "databricks-uc")
"""Of the tracking URIs that MLflow knows."""


class Tracker(Protocol):
    """Where a run's numbers go."""

    def log_params(self, config: Any) -> None: ...
    def log_metrics(self, values: dict[str, float], step: int = 0) -> None: ...
    def log_artifact(self, uri: str, folder: str = "") -> None: ...
    def register_model(
        self, name: str, checkpoint_uri: str, metric: str, value: float | None, tags: dict[str, str]
    ) -> str: ...
    def reference(self) -> dict[str, str]: ...
    def finish(self, status: str = "FINISHED") -> None: ...


class NullTracker:
    """Tracking turned off."""

    def log_params(self, config: Any) -> None: ...
    def log_metrics(self, values: dict[str, float], step: int = 0) -> None: ...
    def log_artifact(self, uri: str, folder: str = "") -> None: ...
    def register_model(
        self, name: str, checkpoint_uri: str, metric: str, value: float | None, tags: dict[str, str]
    ) -> str:
        return ""

    def reference(self) -> dict[str, str]:
        return {}

    def finish(self, status: str = "FINISHED") -> None: ...


def tracking_uri(tracking: str, output: str) -> str:
    """--tracking -> an absolute MLflow URI, or "" for none."""
    if tracking == "none":
        return ""
    uri = tracking or os.environ.get("MLFLOW_TRACKING_URI", "")
    if not uri:
        return own_file(output)  # "" on S3; said in open_run
    if uri.startswith("sqlite:///") and not uri.startswith("sqlite:////"):
        return f"sqlite:///{os.path.abspath(uri.removeprefix('sqlite:///'))}"
    scheme = uri.partition("://")[0].partition("+")[0] if "://" in uri else uri.partition(":")[0]
    if scheme not in SCHEMES:
        raise UserError(
            f"--tracking {_without_secret(uri)}: expected an MLflow URI such as sqlite:////path/mlflow.db or "
            "http://host:5000"
        )
    return uri


def own_file(output: str) -> str:
    """The URI of the sqlite file in an output; "" when that is no local disk, which sqlite needs."""
    return f"sqlite:///{storage.local_path(output) / 'mlflow.db'}" if storage.is_local(output) else ""


def shared_tracking(tracking: str, output: str) -> str:
    """--tracking of jobs that lie below one `output`: they share its sqlite file unless the user names another place.

    What MLFLOW_TRACKING_URI says stays there: it may hold a password, and flags are saved with each job.
    """
    return tracking or ("" if os.environ.get("MLFLOW_TRACKING_URI") else own_file(output))


def open_run(tracking: str, output: str, job: str, config: Any, name: str = "") -> Tracker:
    """Starts (or, for the same output, continues) the MLflow run of a job; its name is "JOB: FOLDER" or `name`."""
    uri = tracking_uri(tracking, output)
    if not uri:
        if tracking != "none":
            print("tracking: off (a remote --output needs --tracking http://... of an MLflow server)")
        return NullTracker()
    known = storage.join(output, "mlflow_run.json")
    previous = storage.read_json(known) if storage.exists(known) else {}
    shown = _without_secret(uri)
    try:
        name = name or f"{job}: {storage.name(output)}"
        tracker = MLflowTracker.open(uri, job, name, previous.get("run_id", "") if previous.get("uri") == shown else "")
    except Exception as error:
        print(f"warning: MLflow at {shown} can't be used, the run goes on without it: {error}")
        return NullTracker()
    storage.write_json(known, {"uri": shown, "run_id": tracker.run_id})
    tracker.log_params(config)
    return tracker


def attach(reference: dict[str, str]) -> Tracker:
    """The same run from another process (a training worker)."""
    if not reference:
        return NullTracker()
    return MLflowTracker(reference["uri"], reference["run_id"])


class MLflowTracker:
    """A run on an MLflow server or sqlite file."""

    def __init__(self, uri: str, run_id: str) -> None:
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "5")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "1")
        os.environ.setdefault("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
        import logging

        import mlflow

        for noisy in ("mlflow", "alembic", "mlflow.store.db.utils"):
            logging.getLogger(noisy).setLevel(logging.WARNING)
        self.uri, self.run_id = uri, run_id
        self.client = mlflow.MlflowClient(tracking_uri=uri, registry_uri=uri)
        self._warned, self._retry_at = False, 0.0
        self._waiting: list[tuple[str, float, int, int]] = []
        self._logged: dict[str, set[int]] = {}

    @staticmethod
    def open(uri: str, job: str, name: str, run_id: str) -> MLflowTracker:
        from mlflow.exceptions import MlflowException

        tracker = MLflowTracker(uri, run_id)
        if run_id:
            try:
                tracker.client.update_run(run_id, status="RUNNING")
                return tracker
            except MlflowException as error:
                if error.error_code != "RESOURCE_DOES_NOT_EXIST":  # the store was cleared: a new run
                    raise
        experiment = tracker._experiment(uri)
        tracker.run_id = tracker.client.create_run(experiment, run_name=name, tags={"job": job}).info.run_id
        return tracker

    def _experiment(self, uri: str) -> str:
        from mlflow.exceptions import MlflowException

        place = None
        if uri.startswith("sqlite:///"):  # else artifacts land in the working directory
            place = (Path(uri.removeprefix("sqlite:///")).parent / "mlartifacts").as_uri()
        found = self.client.get_experiment_by_name(EXPERIMENT)
        if found is None:
            try:
                return str(self.client.create_experiment(EXPERIMENT, artifact_location=place))
            except MlflowException:  # another job was faster
                found = self.client.get_experiment_by_name(EXPERIMENT)
                assert found is not None
        return str(found.experiment_id)

    def reference(self) -> dict[str, str]:
        """What `attach` needs."""
        return {"uri": self.uri, "run_id": self.run_id}

    def log_params(self, config: Any) -> None:
        from mlflow.entities import Param

        flat = _flatten(to_plain(config))
        params = [Param(name, str(value)[:MAX_PARAM_LENGTH]) for name, value in flat.items() if name != "tracking"]

        def send() -> None:
            known = self.client.get_run(self.run_id).data.params  # a value that stands can't be changed
            new = [param for param in params if param.key not in known]
            for start in range(0, len(new), PARAMS_PER_CALL):
                self.client.log_batch(self.run_id, params=new[start : start + PARAMS_PER_CALL])

        self._try(send)

    def log_metrics(self, values: dict[str, float], step: int = 0) -> None:
        now = int(time.time() * 1000)
        self._waiting += [(name, float(value), now, step) for name, value in values.items()]
        del self._waiting[:-MAX_WAITING]
        self._try(self._send_waiting)

    def _send_waiting(self) -> None:
        """A step that the run has already (logged before a restart) is not logged again."""
        from mlflow.entities import Metric

        while self._waiting:
            batch = self._waiting[:METRICS_PER_CALL]
            for name in {name for name, *_ in batch} - set(self._logged):
                self._logged[name] = {point.step for point in self.client.get_metric_history(self.run_id, name)}
            new = [point for point in batch if point[3] not in self._logged[point[0]]]
            self.client.log_batch(self.run_id, metrics=[Metric(*point) for point in new])
            for name, _, _, step in new:
                self._logged[name].add(step)
            del self._waiting[: len(batch)]

    def log_artifact(self, uri: str, folder: str = "") -> None:
        """Logs a file or a folder by its URI."""

        def send() -> None:
            with storage.local_copy(uri) as path:
                if path.is_dir():
                    self.client.log_artifacts(self.run_id, str(path), folder or None)
                else:
                    self.client.log_artifact(self.run_id, str(path), folder or None)

        self._try(send)

    def register_model(
        self, name: str, checkpoint_uri: str, metric: str, value: float | None, tags: dict[str, str]
    ) -> str:
        """Logs the checkpoint's networks and makes them a version; alias `champion` when the metric is the best so far.

        The training state (optimisers) stays in the run folder: a registered model is for use.
        """

        place = f"model/{storage.name(checkpoint_uri)}"  # a later version of this run must not replace these files
        measured = {"metric": metric, metric: f"{value:.6f}"} if value is not None and math.isfinite(value) else {}

        def register() -> str:
            with storage.local_copy(checkpoint_uri) as path, tempfile.TemporaryDirectory() as scratch:
                for file in Path(path).iterdir():
                    if file.suffix in (".safetensors", ".json"):
                        os.symlink(file, Path(scratch, file.name))
                self.client.log_artifacts(self.run_id, scratch, place)
            if not self.client.search_registered_models(f"name = '{name}'"):
                self.client.create_registered_model(name)
            source = f"{self.client.get_run(self.run_id).info.artifact_uri}/{place}"
            version = self.client.create_model_version(name, source, self.run_id, tags={**tags, **measured})
            alias = "champion" if self._beats_champion(name, metric, value) else "challenger"
            self.client.set_registered_model_alias(name, alias, version.version)
            return f"models:/{name}@{alias}"

        return self._try(register, patient=True) or ""

    def _beats_champion(self, name: str, metric: str, value: float | None) -> bool:
        champion = self.client.get_registered_model(name).aliases.get("champion")
        if champion is None:
            return True
        best = self.client.get_model_version(name, champion).tags.get(metric)
        return best is None or (value is not None and value >= float(best))

    def finish(self, status: str = "FINISHED") -> None:
        def send() -> None:
            self._send_waiting()
            self.client.set_terminated(self.run_id, status)

        self._try(send, patient=True)

    def _try(self, call: Callable[[], Any], patient: bool = False) -> Any:
        """The call's result, or None. After a failure the server is left alone for a while, unless `patient`."""
        if not patient and time.monotonic() < self._retry_at:
            return None
        try:
            return call()
        except Exception as error:
            if not self._warned:
                shown = str(error).replace(self.uri, _without_secret(self.uri))
                print(f"warning: MLflow at {_without_secret(self.uri)}: {shown}; metrics.jsonl keeps the numbers")
            self._warned, self._retry_at = True, time.monotonic() + RETRY_AFTER_S
            return None


def resolve_model(uri: str, tracking: str = "") -> str:
    """A --model that may be `models:/NAME@ALIAS` or `models:/NAME/VERSION` -> a checkpoint folder on this machine."""
    if not uri.startswith("models:/"):
        return uri
    import mlflow

    from gaugan import checkpoint

    server = (tracking if tracking != "none" else "") or os.environ.get("MLFLOW_TRACKING_URI", "")
    if not server:
        raise UserError(f"{uri}: set MLFLOW_TRACKING_URI (or --tracking) to the server that holds the registry")
    client = mlflow.MlflowClient(tracking_uri=server, registry_uri=server)
    path, _, alias = uri.removeprefix("models:/").partition("@")
    name, _, number = path.partition("/")
    try:
        version = client.get_model_version_by_alias(name, alias) if alias else client.get_model_version(name, number)
        folder = str(mlflow.artifacts.download_artifacts(artifact_uri=version.source, tracking_uri=server))
    except mlflow.exceptions.MlflowException as error:
        raise UserError(f"{uri}: not found in the registry at {_without_secret(server)}: {error}") from error
    found = checkpoint.Checkpoint(folder, checkpoint.read_meta(folder), {}).hash
    if version.tags.get("model_hash", found) != found:
        raise UserError(f"{uri}: its files ({found}) are not those that were registered ({version.tags['model_hash']})")
    return folder


def within_reach(uri: str, folder: str, output: str) -> str:
    """The checkpoint `folder` that `uri` was resolved to, or its copy in `output`.

    A model from a registry lies on this machine only; the other nodes, and a rerun, find it there.
    """
    if not uri.startswith("models:/"):
        return folder
    copy = storage.join(output, "model")
    storage.upload_folder(folder, copy, last="meta.json")
    return copy


def _flatten(data: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in data.items():
        flat.update(_flatten(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value})
    return flat


def _without_secret(uri: str) -> str:
    """The URI without user:password@."""
    scheme, separator, rest = uri.partition("://")
    return scheme + separator + rest.rpartition("@")[2]
