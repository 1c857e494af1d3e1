"""Model URIs -> checkpoint folders: a path, an s3:// address, or a name in the MLflow registry."""

from __future__ import annotations

from dataclasses import dataclass

from gaugan import checkpoint
from gaugan.config import UserError

REGISTRY = "models:/"


@dataclass(frozen=True)
class ModelSource:
    """Where a model lies and what it is called."""

    checkpoint_uri: str
    name: str
    version: str


def resolve(model_uri: str, flag: str, default_name: str, tracking: str | None = None) -> ModelSource:
    """The checkpoint that `model_uri` means. Raises UserError naming `flag` when there is none.

    A registered model is written models:/NAME@ALIAS or models:/NAME/VERSION.
    """
    try:
        if model_uri.startswith(REGISTRY):
            return _from_registry(model_uri, tracking)
        uri = checkpoint.find(model_uri)
        return ModelSource(uri, default_name, f"step-{checkpoint.read_meta(uri)['step']}")
    except UserError as error:
        raise UserError(f"{flag}: {error}") from error


def _from_registry(model_uri: str, tracking: str | None) -> ModelSource:
    """Asks MLflow; the version's `source` is the checkpoint folder."""
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    name, at, alias = model_uri.removeprefix(REGISTRY).partition("@")
    name, _, number = name.partition("/")
    if not name or bool(at and alias) == bool(number):
        raise UserError(f"{model_uri}: write models:/NAME@ALIAS or models:/NAME/VERSION")
    client = MlflowClient(tracking_uri=tracking)
    try:
        version = client.get_model_version_by_alias(name, alias) if alias else client.get_model_version(name, number)
    except MlflowException as error:
        raise UserError(f"{model_uri}: {error.message}; see --tracking") from error
    uri = checkpoint.find(str(version.tags.get("checkpoint_uri") or version.source))
    return ModelSource(uri, name, f"v{version.version}" + (f"@{alias}" if alias else ""))
