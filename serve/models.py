"""Model URIs -> checkpoint folders: a path, an s3:// address, or a name in the MLflow registry."""

from __future__ import annotations

import os
from dataclasses import dataclass

from gaugan.errors import UserError

REGISTRY = "models:/"
PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}
ONLY_MLFLOW_READS = ("mlflow-artifacts:", "runs:")


@dataclass(frozen=True)
class ModelSource:
    """Where a model lies and what it is called."""

    uri: str
    """A checkpoint folder, or an artifact address that only the tracking server at `tracking` can read."""
    name: str
    version: str
    tracking: str | None = None

    def checkpoint_uri(self) -> str:
        """A checkpoint folder that this process can read (downloaded from the tracking server when it must be)."""
        from gaugan import checkpoint  # imports torch, which the ingress does without

        if not self.uri.startswith(ONLY_MLFLOW_READS):
            return checkpoint.find(self.uri)
        from mlflow.artifacts import download_artifacts

        return checkpoint.find(str(download_artifacts(artifact_uri=self.uri, tracking_uri=self.tracking)))


SYSTEMS = {"--model": "spade", "--segmenter": "unet"}
"""What each flag's checkpoint must be of."""


def resolve(model_uri: str, flag: str, default_name: str, tracking: str | None = None) -> ModelSource:
    """What `model_uri` means now. Raises UserError naming `flag` when there is no such model, or one of another kind.

    A registered model is written models:/NAME@ALIAS or models:/NAME/VERSION.
    """
    from gaugan import checkpoint

    try:
        if model_uri.startswith(REGISTRY):
            return _from_registry(model_uri, tracking)
        uri = checkpoint.find(model_uri)
        meta = checkpoint.read_meta(uri)
        if meta["system"] != SYSTEMS.get(flag, meta["system"]):
            raise UserError(
                f"{model_uri}: a checkpoint of system {meta['system']!r}; needed is one of {SYSTEMS[flag]!r}"
            )
        return ModelSource(uri, default_name, f"step-{meta['step']}")
    except UserError as error:
        raise UserError(f"{flag}: {error}") from error
    except OSError as error:
        raise UserError(f"{flag}: {model_uri} can't be read: {error}; check the address and the network") from error


def _from_registry(model_uri: str, tracking: str | None) -> ModelSource:
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    server = tracking or os.environ.get("MLFLOW_TRACKING_URI")
    if not server:
        raise UserError(f"{model_uri}: say which registry with --tracking URI or MLFLOW_TRACKING_URI")
    name, at, alias = model_uri.removeprefix(REGISTRY).partition("@")
    name, _, number = name.partition("/")
    if not name or bool(at and alias) == bool(number):
        raise UserError(f"{model_uri}: write models:/NAME@ALIAS or models:/NAME/VERSION")
    for name_of_limit, value in PATIENCE.items():  # MLflow's own would keep a person waiting for minutes
        os.environ.setdefault(name_of_limit, value)
    client = MlflowClient(tracking_uri=server, registry_uri=server)
    try:
        version = client.get_model_version_by_alias(name, alias) if alias else client.get_model_version(name, number)
    except MlflowException as error:
        raise UserError(f"{model_uri}: {error.message}") from error
    return ModelSource(str(version.source), name, f"v{version.version}" + (f"@{alias}" if alias else ""), server)
