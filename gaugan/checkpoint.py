"""Checkpoints: a folder that explains itself, visible whole or not at all.

    RUN/config.yaml  RUN/metrics.jsonl  RUN/samples/
    RUN/checkpoints/step_00001000/meta.json            system, config, classes, step, metrics, sha256 of each file; last
                                  NETWORK.safetensors  one per network
                                  training.pt          optimisers and counters: tensors and numbers only (weights_only)
    RUN/last.json  RUN/best.json                       which checkpoint is meant

A damaged newest checkpoint is noticed by its hashes, and the one before it is used.
"""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import platform
import re
import shutil
from dataclasses import dataclass
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors

from gaugan import __version__, storage
from gaugan.errors import UserError
from gaugan.labels import ClassTable

FORMAT_VERSION = 1
HIDDEN = ".half-"
"""Folders of this prefix are being written or removed."""
REQUIRED = {"format_version", "system", "step", "image_size", "classes", "classes_hash", "config", "metrics", "files"}
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
    run: dict[str, Any] | None = None,
) -> str:
    """Writes a checkpoint folder and returns its URI; an existing folder of that name is replaced.

    run: what else decided the numbers (gaugan.resume), for a checkpoint that is to be trained on.
    """
    training = {"optimisers": state.get("optimisers", {}), "extra": state.get("extra", {})}
    _check_plain(training, "training state")
    buffer = io.BytesIO()
    torch.save(training, buffer)
    files = {f"{name}.safetensors": _tensor_bytes(tensors) for name, tensors in state["networks"].items()}
    files["training.pt"] = buffer.getvalue()
    meta = {
        "format": "checkpoint",
        "format_version": FORMAT_VERSION,
        "system": system,
        "step": step,
        "image_size": list(image_size),
        "classes": classes.to_plain(),
        "classes_hash": classes.hash,
        "config": config,
        "run": run or {},
        "metrics": metrics or {},
        "files": {name: hashlib.sha256(data).hexdigest() for name, data in files.items()},
        "versions": {"gaugan": __version__, "torch": torch.__version__, "python": platform.python_version()},
    }
    _publish(files, meta, uri)
    return uri


def _check_plain(value: Any, where: str) -> None:
    """What is not a tensor or a plain value could be saved, but never loaded again (weights_only)."""
    if isinstance(value, dict):
        for name, item in value.items():
            _check_plain(item, f"{where}[{name!r}]")
    elif isinstance(value, (list, tuple)):
        for place, item in enumerate(value):
            _check_plain(item, f"{where}[{place}]")
    elif not isinstance(value, torch.Tensor) and type(value) not in (int, float, bool, str, type(None)):
        raise TypeError(f"{where} is a {type(value).__name__}; a checkpoint holds tensors and plain values only")


def _tensor_bytes(tensors: dict[str, torch.Tensor]) -> bytes:
    return save_safetensors({name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()})


def _publish(files: dict[str, bytes], meta: dict[str, Any], uri: str) -> None:
    """All files become visible together: on a local disk by a rename, on an object store with meta.json, the last."""
    place = uri
    if storage.is_local(uri):
        target = storage.local_path(uri)
        for left_over in target.parent.glob(f"{HIDDEN}*"):  # of a run that was killed here; a run has one writer
            shutil.rmtree(left_over, ignore_errors=True)
        place = str(target.with_name(HIDDEN + target.name))
    else:
        discard(uri)
    for name, data in files.items():
        storage.write_bytes(storage.join(place, name), data)
    storage.write_json(storage.join(place, "meta.json"), meta)
    if place != uri:
        replaced = target.with_name(f"{HIDDEN}{target.name}-old")
        if target.exists():
            target.rename(replaced)
        os.rename(place, target)
        storage.remove(str(replaced))


def discard(uri: str) -> None:
    """Removes a checkpoint, never leaving half of one that looks whole."""
    if storage.is_local(uri):
        path = storage.local_path(uri)
        hidden = path.with_name(f"{HIDDEN}{path.name}-old")
        if path.exists():
            storage.remove(str(hidden))
            path.rename(hidden)
        storage.remove(str(hidden))
        return
    storage.remove(storage.join(uri, "meta.json"))
    storage.remove(uri)


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
        try:
            if name == "training.pt":
                training = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
            else:
                networks[name.removesuffix(".safetensors")] = load_safetensors(data)
        except (pickle.UnpicklingError, SafetensorError, RuntimeError, EOFError) as error:
            raise UserError(f"{uri}/{name}: refused, it does not hold tensors only: {error}") from error
    return Checkpoint(uri, meta, {"networks": networks, **training})


def read_meta(uri: str) -> dict[str, Any]:
    """The meta.json of a checkpoint folder, checked for its format."""
    try:
        meta: dict[str, Any] = storage.read_json(storage.join(uri, "meta.json"))
    except (OSError, ValueError) as error:
        what = "it has no meta.json" if isinstance(error, FileNotFoundError) else f"its meta.json: {error}"
        raise UserError(f"{uri}: no checkpoint there ({what}); give the folder of a run or of a checkpoint") from error
    if not isinstance(meta, dict) or meta.get("format") != "checkpoint" or REQUIRED - set(meta):
        raise UserError(f"{uri}: meta.json is not that of a checkpoint")
    if meta["format_version"] != FORMAT_VERSION:
        version = meta["format_version"]
        newer = isinstance(version, int) and version > FORMAT_VERSION
        advice = "a newer suite wrote it: update this one" if newer else "train it anew, or use the suite of that time"
        raise UserError(f"{uri}: checkpoint format {version}, this suite reads {FORMAT_VERSION}; {advice}")
    if any(storage.name(name) != name for name in meta["files"]):
        raise UserError(f"{uri}: meta.json names files outside the checkpoint; it is not used")
    return meta


def step_uri(run_uri: str, step: int) -> str:
    """Where a run keeps the checkpoint of a step."""
    return storage.join(run_uri, "checkpoints", f"step_{step:08d}")


def steps(run_uri: str) -> list[int]:
    """The steps of a run's complete checkpoints, ascending."""
    return sorted({step for step, file in _step_files(run_uri) if file == "meta.json"})


def _step_files(run_uri: str) -> list[tuple[int, str]]:
    """(step, file name) of everything in checkpoints/step_*/, also of checkpoints that are not complete."""
    entries = storage.list_files(storage.join(run_uri, "checkpoints"))
    found = [re.fullmatch(r"step_(\d{8,})/([^/]+)", entry.path) for entry in entries]
    return [(int(match[1]), match[2]) for match in found if match]


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
    """Removes all but the newest `keep` checkpoints and the one that best.json names; also what a crash left behind."""
    kept = {*steps(run_uri)[-keep:], (pointed(run_uri, "best") or {}).get("step")}
    for step in {step for step, _ in _step_files(run_uri)} - kept:
        discard(step_uri(run_uri, step))


def forget_after(run_uri: str, step: int) -> None:
    """Removes what a run has beyond `step`, which is to be done again: damaged checkpoints, and pointers to them."""
    for later in steps(run_uri):
        if later > step:
            discard(step_uri(run_uri, later))
    for name in ("best", "last"):
        if (pointed(run_uri, name) or {}).get("step", -1) > step:
            storage.remove(storage.join(run_uri, f"{name}.json"))


def find(model_uri: str, flag: str = "") -> str:
    """The checkpoint that a user's --model (or another `flag`, which the error then names) means.

    A checkpoint folder; a run folder (its best, else its last, else its newest); or RUN/best or RUN/last.
    """
    model_uri = storage.absolute(model_uri)
    if storage.exists(storage.join(model_uri, "meta.json")):
        return model_uri
    run_uri, names = model_uri, ["best", "last"]
    if storage.name(model_uri).removesuffix(".json") in names and not storage.is_folder(model_uri):
        run_uri, names = storage.parent(model_uri), [storage.name(model_uri).removesuffix(".json")]
    for name in names:
        pointer = pointed(run_uri, name)
        uri = storage.join(run_uri, pointer["checkpoint"]) if pointer else ""
        if uri and storage.exists(storage.join(uri, "meta.json")):
            return uri
    if run_uri == model_uri and (found := steps(run_uri)):
        return step_uri(run_uri, found[-1])
    named = f"{flag} {model_uri}".strip()
    if storage.exists(storage.join(model_uri, "manifest.json")):
        raise UserError(f"{named}: a dataset; needed is a trained model: a run folder or a checkpoint")
    raise UserError(
        f"{named}: neither a checkpoint (meta.json) nor a run folder with one (best.json, last.json, checkpoints/)"
    )
