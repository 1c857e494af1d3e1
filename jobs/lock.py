"""One writer per output: a small object names the run that holds it, a second run is refused.

A lock whose process is gone (same machine) is taken over. A run renews its lock every BEAT_S; another machine's that
was not renewed for STALE_S is taken over as well, so that a restarted pod continues what its predecessor began.
"""

from __future__ import annotations

import atexit
import json
import os
import socket
import threading
import time
from typing import Any

from gaugan import storage
from gaugan.errors import UserError

NAME = "lock.json"
BEAT_S = 60.0
STALE_S = 300.0


def acquire(output: str, command: str) -> None:
    """Takes the lock of an output folder until this process ends. Raises UserError when a living run holds it."""
    uri = storage.join(output, NAME)
    since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    mine = {**_identity(), "command": command, "since": since, "beat": time.time()}
    for _ in range(2):
        created = _create(uri, json.dumps(mine, indent=2).encode())
        holder = {} if created else _read(uri)
        if created or holder.get("beat") == mine["beat"]:  # written, and only the answer was lost
            atexit.register(release, output)
            threading.Thread(target=_beat, args=(uri, mine), daemon=True, name="lock").start()
            return
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


def _beat(uri: str, mine: dict[str, Any]) -> None:
    """Renews the lock until it is another's or gone."""
    while True:
        time.sleep(BEAT_S)
        if not _same_process(_read(uri), mine):
            return
        storage.write_json(uri, {**mine, "beat": time.time()})


def _identity() -> dict[str, Any]:
    import psutil

    return {"host": socket.gethostname(), "pid": os.getpid(), "started": psutil.Process().create_time()}


def _same_process(holder: dict[str, Any], mine: dict[str, Any]) -> bool:
    return all(holder.get(name) == mine[name] for name in ("host", "pid", "started"))


def _is_gone(holder: dict[str, Any]) -> bool:
    """True when the holder was a process of this machine that no longer lives (its number may be in use again).

    Of another machine only the renewals tell.
    """
    import psutil

    if holder.get("host") != socket.gethostname():
        return time.time() - float(holder.get("beat", time.time())) > STALE_S
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
    from botocore.config import Config
    from botocore.exceptions import ClientError

    # A repeated request finds the object that it has made when only the answer was lost: the caller looks who holds it.
    patient = Config(retries={"mode": "standard", "max_attempts": 8}, connect_timeout=10, read_timeout=20)
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    try:
        boto3.client("s3", config=patient).put_object(Bucket=bucket, Key=key, Body=data, IfNoneMatch="*")
    except ClientError as error:
        if error.response.get("Error", {}).get("Code") in ("PreconditionFailed", "ConditionalRequestConflict"):
            return False
        raise
    return True
