"""The label audit: which ids a dataset's label maps hold, counted before anything is trained on them.

Whoever writes a dataset counts while writing (`LabelCounts` in its manifest). `audit` believes that count when every
shard still has the SHA-256 that the manifest gives it; else it reads every label map. The answer is remembered in
DATASET/label_audit.json with the shards' sizes and times of change, and holds as long as those do.
"""

from __future__ import annotations

import hashlib

from gaugan import storage
from gaugan.errors import UserError
from gaugan.label_counts import DontCare, LabelCounts, problem_list, scan
from gaugan.labels import IGNORE, ClassTable
from gaugan.pairs import Pairs

NAME = "label_audit.json"
ShardStates = dict[str, list[int]]
"""Path of each shard -> its size and the time of its last change, in nanoseconds (0, 0 when it is missing)."""


def audit(pairs: Pairs, dontcare: DontCare = "ignore", recount: bool = False) -> LabelCounts:
    """The counts of a dataset's label maps.

    Raises UserError that lists the offending rows with value and pixel. `recount` reads all label maps in any case.
    """
    states = _shard_states(pairs)  # taken first: what changes while it is read, is read again next time
    known = None if recount else _known(pairs, states)
    if known is not None and not _offends(known, pairs.classes, dontcare):
        return known
    counts, problems = scan(pairs.stored_label_maps(), pairs.classes, dontcare)
    if problems:
        raise UserError(problem_list(f"{pairs.uri}: {len(problems)} label maps can't be used", problems))
    _remember(pairs, counts, states)
    return counts


def _offends(counts: LabelCounts, classes: ClassTable, dontcare: DontCare) -> bool:
    return bool(counts.outside(classes.num_classes) or (dontcare == "error" and counts.pixels[IGNORE]))


def _known(pairs: Pairs, states: ShardStates) -> LabelCounts | None:
    """The counts that lie with the dataset, if its shards are surely those that were counted."""
    uri = storage.join(pairs.uri, NAME)
    remembered = storage.read_json(uri) if storage.exists(uri) else {}
    if remembered.get("shards") == states and remembered.get("classes_hash") == pairs.classes.hash:
        return LabelCounts.from_plain(remembered)
    written = pairs.manifest.get("label_audit") or {}
    if written.get("classes_hash") == pairs.classes.hash and _as_written(pairs):
        counts = LabelCounts.from_plain(written)
        _remember(pairs, counts, states)
        return counts
    return None


def _shard_states(pairs: Pairs) -> ShardStates:
    states = {}
    for shard in pairs.manifest["shards"]:
        fs, path = storage.filesystem(storage.join(pairs.uri, shard["path"]))
        info = fs.get_file_info(path)
        states[shard["path"]] = [info.size or 0, info.mtime_ns or 0]
    return states


def _as_written(pairs: Pairs) -> bool:
    """True when the shards are byte for byte those of the manifest: all are read, which is cheaper than decoding."""
    for shard in pairs.manifest["shards"]:
        data = storage.read_bytes(storage.join(pairs.uri, shard["path"]))
        if hashlib.sha256(data).hexdigest() != shard["sha256"]:
            return False
    return True


def _remember(pairs: Pairs, counts: LabelCounts, states: ShardStates) -> None:
    """A dataset that can't be written to is counted anew each time."""
    record = {**counts.to_plain(), "classes_hash": pairs.classes.hash, "shards": states}
    try:
        storage.write_json(storage.join(pairs.uri, NAME), record)
    except OSError:
        pass
