"""MLflow, or nothing: parameters, metrics, pictures and the model registry of a run.

A tracking server that is away never stops or slows a job for long: calls time out after seconds, are warned about once, and
metrics.jsonl in the output keeps everything.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from gaugan import storage
from gaugan.config import UserError, to_plain

MAX_PARAM_LENGTH = 500


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
        if not storage.is_local(output):
            return ""  # sqlite needs a local disk; say so in open_run
        return f"sqlite:///{storage.local_path(output) / 'mlflow.db'}"
    if uri.startswith("sqlite:///") and not uri.startswith("sqlite:////"):
        return f"sqlite:///{os.path.abspath(uri.removeprefix('sqlite:///'))}"
    if "://" not in uri:
        raise UserError(
            f"--tracking {uri}: expected an MLflow URI such as sqlite:////path/mlflow.db or http://host:5000"
        )
    return uri


def open_run(tracking: str, output: str, job: str, config: Any) -> Tracker:
    """Starts (or, for the same output, continues) the MLflow run of a job."""
    uri = tracking_uri(tracking, output)
    if not uri:
        if tracking != "none":
            print("tracking: off (a remote --output needs --tracking http://... of an MLflow server)")
        return NullTracker()
    known = storage.join(output, "mlflow_run.json")
    previous = storage.read_json(known) if storage.exists(known) else {}
    try:
        tracker = MLflowTracker.open(uri, job, previous.get("run_id", "") if previous.get("uri") == uri else "")
    except Exception as error:
        print(f"warning: MLflow at {_without_secret(uri)} can't be used, the run goes on without it: {error}")
        return NullTracker()
    storage.write_json(known, tracker.reference())
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
        os.environ.setdefault("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
        import logging

        import mlflow

        for noisy in ("mlflow", "alembic", "mlflow.store.db.utils"):
            logging.getLogger(noisy).setLevel(logging.WARNING)
        self.uri, self.run_id = uri, run_id
        self.client = mlflow.MlflowClient(tracking_uri=uri, registry_uri=uri)
        self._warned = False

    @staticmethod
    def open(uri: str, job: str, run_id: str) -> MLflowTracker:
        tracker = MLflowTracker(uri, run_id)
        if run_id:
            tracker.client.update_run(run_id, status="RUNNING")
            return tracker
        experiment = tracker.client.get_experiment_by_name("gaugan")
        if experiment is None:
            place = None
            if uri.startswith("sqlite:///"):  # else artifacts land in the working directory
                place = (Path(uri.removeprefix("sqlite:///")).parent / "mlartifacts").as_uri()
            experiment_id = tracker.client.create_experiment("gaugan", artifact_location=place)
        else:
            experiment_id = experiment.experiment_id
        tracker.run_id = tracker.client.create_run(experiment_id, run_name=job, tags={"job": job}).info.run_id
        return tracker

    def reference(self) -> dict[str, str]:
        """What `attach` needs."""
        return {"uri": self.uri, "run_id": self.run_id}

    def log_params(self, config: Any) -> None:
        from mlflow.entities import Param

        flat = _flatten(to_plain(config))
        params = [Param(name, str(value)[:MAX_PARAM_LENGTH]) for name, value in flat.items() if name != "tracking"]
        self._try(lambda: self.client.log_batch(self.run_id, params=params))

    def log_metrics(self, values: dict[str, float], step: int = 0) -> None:
        import time

        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [Metric(name, float(value), now, step) for name, value in values.items()]
        self._try(lambda: self.client.log_batch(self.run_id, metrics=metrics))

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

        def register() -> str:
            with storage.local_copy(checkpoint_uri) as path, tempfile.TemporaryDirectory() as scratch:
                for file in Path(path).iterdir():
                    if file.suffix in (".safetensors", ".json"):
                        os.symlink(file, Path(scratch, file.name))
                self.client.log_artifacts(self.run_id, scratch, "model")
            if not self.client.search_registered_models(f"name = '{name}'"):
                self.client.create_registered_model(name)
            source = self.client.get_run(self.run_id).info.artifact_uri + "/model"
            measured = {} if value is None else {"metric": metric, metric: f"{value:.6f}"}
            version = self.client.create_model_version(name, source, self.run_id, tags={**tags, **measured})
            alias = "champion" if self._beats_champion(name, metric, value) else "challenger"
            self.client.set_registered_model_alias(name, alias, version.version)
            return f"models:/{name}@{alias}"

        return self._try(register) or ""

    def _beats_champion(self, name: str, metric: str, value: float | None) -> bool:
        champion = self.client.get_registered_model(name).aliases.get("champion")
        if champion is None:
            return True
        best = self.client.get_model_version(name, champion).tags.get(metric)
        return best is None or (value is not None and value >= float(best))

    def finish(self, status: str = "FINISHED") -> None:
        self._try(lambda: self.client.set_terminated(self.run_id, status))

    def _try(self, call: Callable[[], Any]) -> Any:
        try:
            return call()
        except Exception as error:
            if not self._warned:
                print(f"warning: MLflow at {_without_secret(self.uri)}: {error}; metrics.jsonl keeps the numbers")
            self._warned = True
            return None


def resolve_model(uri: str, tracking: str = "") -> str:
    """A --model that may be `models:/NAME@ALIAS` or `models:/NAME/VERSION` -> a checkpoint folder on this machine."""
    if not uri.startswith("models:/"):
        return uri
    import mlflow

    server = tracking or os.environ.get("MLFLOW_TRACKING_URI", "")
    if not server:
        raise UserError(f"{uri}: set MLFLOW_TRACKING_URI (or --tracking) to the server that holds the registry")
    client = mlflow.MlflowClient(tracking_uri=server, registry_uri=server)
    name, _, alias = uri.removeprefix("models:/").partition("@")
    version = client.get_model_version_by_alias(name, alias).version if alias else name.partition("/")[2]
    source = client.get_model_version(name.partition("/")[0], version).source
    return str(mlflow.artifacts.download_artifacts(artifact_uri=source, tracking_uri=server))


def _flatten(data: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in data.items():
        flat.update(_flatten(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value})
    return flat


def _without_secret(uri: str) -> str:
    """The URI without user:password@."""
    scheme, separator, rest = uri.partition("://")
    return scheme + separator + rest.rpartition("@")[2]
