"""One writer per output: a small object names the run that holds it, a second run is refused.

A lock whose process is gone (same machine) is taken over. Of another machine nothing can be known: the message says
whose it is and what to remove.
"""

from __future__ import annotations

import atexit
import json
import os
import socket
import time
from typing import Any

from gaugan import storage
from gaugan.config import UserError

NAME = "lock.json"


def acquire(output: str, command: str) -> None:
    """Takes the lock of an output folder until this process ends. Raises UserError when a living run holds it."""
    uri = storage.join(output, NAME)
    mine = {**_identity(), "command": command, "since": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
    data = json.dumps(mine, indent=2).encode()
    for _ in range(2):
        if _create(uri, data):
            atexit.register(release, output)
            return
        holder = _read(uri)
        if _same_process(holder, mine):
            return
        if holder and not _is_gone(holder):
            raise UserError(
                f"{output}: another run writes here (process {holder.get('pid')} on {holder.get('host')} since "
                f"{holder.get('since')}: {holder.get('command')}). Wait for it, choose another --output, or, if that "
                f"run is gone, remove {uri}"
            )
        storage.remove(uri)
    raise UserError(f"{output}: two runs began at the same moment; this one gave way")


def release(output: str) -> None:
    """Gives the lock back if this process holds it."""
    uri = storage.join(output, NAME)
    if _same_process(_read(uri), _identity()):
        storage.remove(uri)


def _identity() -> dict[str, Any]:
    import psutil

    return {"host": socket.gethostname(), "pid": os.getpid(), "started": psutil.Process().create_time()}


def _same_process(holder: dict[str, Any], mine: dict[str, Any]) -> bool:
    return all(holder.get(name) == mine[name] for name in ("host", "pid", "started"))


def _is_gone(holder: dict[str, Any]) -> bool:
    """True when the holder was a process of this machine that no longer lives (its number may be in use again)."""
    import psutil

    if holder.get("host") != socket.gethostname():
        return False
    try:
        return bool(psutil.Process(holder["pid"]).create_time() != holder["started"])
    except (psutil.NoSuchProcess, KeyError):
        return True


def _read(uri: str) -> dict[str, Any]:
    try:
        content = storage.read_json(uri)
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _create(uri: str, data: bytes) -> bool:
    """Writes the object only when there is none; False when there is."""
    if storage.is_local(uri):
        path = storage.local_path(uri)
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with path.open("xb") as file:
                file.write(data)
        except FileExistsError:
            return False
        return True
    import boto3
    from botocore.exceptions import ClientError

    bucket, _, key = uri.removeprefix("s3://").partition("/")
    try:
        boto3.client("s3").put_object(Bucket=bucket, Key=key, Body=data, IfNoneMatch="*")
    except ClientError as error:
        if error.response.get("Error", {}).get("Code") in ("PreconditionFailed", "ConditionalRequestConflict"):
            return False
        raise
    return True
