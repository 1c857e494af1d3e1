"""Checkpoints: a folder that explains itself, visible whole or not at all.

    RUN/config.yaml  RUN/metrics.jsonl  RUN/samples/
    RUN/checkpoints/step_00001000/meta.json            system, config, classes, step, metrics, sha256 of each file; written last
                                  NETWORK.safetensors  one per network
                                  training.pt          optimisers and counters: tensors and numbers only (weights_only)
    RUN/last.json  RUN/best.json                       which checkpoint is meant

A damaged newest checkpoint is noticed by its hashes, and the one before it is used.
"""

from __future__ import annotations

import hashlib
import io
import platform
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors

from gaugan import __version__, storage
from gaugan.config import UserError
from gaugan.labels import ClassTable

FORMAT_VERSION = 1
State = dict[str, Any]


@dataclass(frozen=True)
class Checkpoint:
    """A loaded checkpoint."""

    uri: str
    meta: dict[str, Any]
    state: State
    """{"networks": {name: state_dict}, "optimisers": ..., "extra": ...}; the latter two only when asked for."""

    @property
    def classes(self) -> ClassTable:
        return ClassTable.from_plain(self.meta["classes"], source=self.uri)

    @property
    def image_size(self) -> tuple[int, int]:
        height, width = self.meta["image_size"]
        return height, width

    @property
    def hash(self) -> str:
        """16 hex digits over all network files: the identity of the model."""
        names = sorted(name for name in self.meta["files"] if name.endswith(".safetensors"))
        return hashlib.sha256("".join(self.meta["files"][name] for name in names).encode()).hexdigest()[:16]


def save(
    uri: str,
    *,
    system: str,
    config: dict[str, Any],
    classes: ClassTable,
    image_size: tuple[int, int],
    step: int,
    state: State,
    metrics: dict[str, float] | None = None,
) -> str:
    """Writes a checkpoint folder and returns its URI; an existing folder of that name is replaced."""
    with tempfile.TemporaryDirectory(prefix="checkpoint-") as scratch:
        files = {f"{name}.safetensors": _tensor_bytes(tensors) for name, tensors in state["networks"].items()}
        buffer = io.BytesIO()
        torch.save({"optimisers": state.get("optimisers", {}), "extra": state.get("extra", {})}, buffer)
        files["training.pt"] = buffer.getvalue()
        for name, data in files.items():
            Path(scratch, name).write_bytes(data)
        meta = {
            "format": "checkpoint",
            "format_version": FORMAT_VERSION,
            "system": system,
            "step": step,
            "image_size": list(image_size),
            "classes": classes.to_plain(),
            "classes_hash": classes.hash,
            "config": config,
            "metrics": metrics or {},
            "files": {name: hashlib.sha256(data).hexdigest() for name, data in files.items()},
            "versions": {"gaugan": __version__, "torch": torch.__version__, "python": platform.python_version()},
        }
        storage.write_json(str(Path(scratch, "meta.json")), meta)
        _publish(Path(scratch), uri)
    return uri


def _tensor_bytes(tensors: dict[str, torch.Tensor]) -> bytes:
    return save_safetensors({name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()})


def _publish(scratch: Path, uri: str) -> None:
    if not storage.is_local(uri):
        storage.remove(uri)
        storage.upload_folder(scratch, uri, last="meta.json")
        return
    target = storage.local_path(uri)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as beside:
        staged = Path(beside, target.name)
        shutil.copytree(scratch, staged)
        if target.exists():
            target.rename(Path(beside, "replaced"))
        staged.rename(target)


def load(uri: str, networks_only: bool = True) -> Checkpoint:
    """Reads and verifies a checkpoint folder.

    Raises UserError when it is none, was made by a newer format, or a file's hash is not the recorded one.
    """
    meta = read_meta(uri)
    networks, training = {}, {}
    for name, digest in meta["files"].items():
        if name == "training.pt" and networks_only:
            continue
        data = storage.read_bytes(storage.join(uri, name))
        if hashlib.sha256(data).hexdigest() != digest:
            raise UserError(f"{uri}/{name}: damaged (its SHA-256 is not the one in meta.json); use another checkpoint")
        if name == "training.pt":
            training = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        else:
            networks[name.removesuffix(".safetensors")] = load_safetensors(data)
    return Checkpoint(uri, meta, {"networks": networks, **training})


def read_meta(uri: str) -> dict[str, Any]:
    """The meta.json of a checkpoint folder, checked for its format."""
    try:
        meta: dict[str, Any] = storage.read_json(storage.join(uri, "meta.json"))
    except (OSError, ValueError) as error:
        raise UserError(f"{uri}: no checkpoint there (meta.json can't be read: {error})") from error
    if meta.get("format") != "checkpoint" or meta.get("format_version", 0) > FORMAT_VERSION:
        raise UserError(f"{uri}: made by a newer version ({meta.get('format_version')}); update this suite")
    return meta


def step_uri(run_uri: str, step: int) -> str:
    """Where a run keeps the checkpoint of a step."""
    return storage.join(run_uri, "checkpoints", f"step_{step:08d}")


def steps(run_uri: str) -> list[int]:
    """The steps of a run's complete checkpoints, ascending."""
    entries = storage.list_files(storage.join(run_uri, "checkpoints"), suffixes=["/meta.json"])
    names = [entry.path.split("/")[0] for entry in entries if entry.path.count("/") == 1]
    return sorted(int(name.removeprefix("step_")) for name in names if name.startswith("step_"))


def newest(run_uri: str, log: Any = print) -> Checkpoint | None:
    """The newest undamaged checkpoint of a run with its training state, or None."""
    for step in reversed(steps(run_uri)):
        try:
            return load(step_uri(run_uri, step), networks_only=False)
        except (UserError, OSError, RuntimeError) as error:
            log(f"checkpoint of step {step} is not usable, going back to the one before: {error}")
    return None


def point(run_uri: str, name: str, step: int, metrics: dict[str, float] | None = None) -> None:
    """Writes RUN/last.json or RUN/best.json."""
    content = {"checkpoint": f"checkpoints/step_{step:08d}", "step": step, "metrics": metrics or {}}
    storage.write_json(storage.join(run_uri, f"{name}.json"), content)


def pointed(run_uri: str, name: str) -> dict[str, Any] | None:
    """What RUN/last.json or RUN/best.json says, or None."""
    uri = storage.join(run_uri, f"{name}.json")
    return storage.read_json(uri) if storage.exists(uri) else None


def prune(run_uri: str, keep: int) -> None:
    """Removes all but the newest `keep` checkpoints; the one that best.json names stays."""
    best = (pointed(run_uri, "best") or {}).get("step")
    for step in steps(run_uri)[:-keep] if keep > 0 else []:
        if step != best:
            storage.remove(step_uri(run_uri, step))


def find(model_uri: str) -> str:
    """The checkpoint that a user's --model means: a checkpoint folder, or a run folder (its best, else its last)."""
    model_uri = storage.absolute(model_uri)
    if storage.exists(storage.join(model_uri, "meta.json")):
        return model_uri
    for name in ("best", "last"):
        pointer = pointed(model_uri, name)
        if pointer:
            return storage.join(model_uri, pointer["checkpoint"])
    raise UserError(f"{model_uri}: neither a checkpoint (meta.json) nor a run folder (best.json, last.json)")
