"""gaugan.label_audit and gaugan.data_check: ids are counted, remembered, and refused before any training starts."""

import hashlib
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from toys import TOY, write_pairs

from gaugan import label_audit, systems
from gaugan.config import from_plain, to_plain
from gaugan.data_check import check_data
from gaugan.errors import UserError
from gaugan.label_audit import audit
from gaugan.label_counts import LabelCounts, check_label_map, summary, table
from gaugan.labels import PORTRAIT_CLASSES, encode_label_map
from gaugan.pairs import Pairs, encode_shard
from gaugan.plan import TrainingPlan
from gaugan.training import run_training
from jobs import audit_labels


def tamper(uri: str, number: int, label_map: np.ndarray) -> None:
    """Puts another label map into row `number` of the first shard, as a foreign tool would."""
    path = Path(uri) / "pairs" / "part-00000.parquet"
    rows = pq.read_table(io.BytesIO(path.read_bytes())).to_pylist()
    rows[number]["label_map"] = encode_label_map(label_map, PORTRAIT_CLASSES)
    path.write_bytes(encode_shard(rows))


def plan(data: str, output: Path, **changes: object) -> TrainingPlan:
    values: dict = {"image_size": (8, 8), "batch_size": 2, "steps": 2, "config": to_plain(TOY.config())}
    return TrainingPlan(system="toy", data=data, output=str(output), **(values | changes))


def bad_map() -> np.ndarray:
    ids = np.zeros((8, 8), np.uint8)
    ids[3, 5:7] = 9
    return ids


def test_counts_add_up_and_survive_json() -> None:
    counts = LabelCounts()
    counts.add(np.array([[0, 0], [3, 255]], np.uint8))
    counts.add(np.array([[0, 1], [1, 1]], np.uint8))
    assert counts.pixels[[0, 1, 3, 255]].tolist() == [3, 3, 1, 1] and counts.pictures[[0, 1]].tolist() == [2, 1]
    again = LabelCounts.from_plain(json.loads(json.dumps(counts.to_plain())))
    assert np.array_equal(again.pixels, counts.pixels) and again.label_maps == 2
    assert counts.outside(3) == [3] and counts.outside(4) == [] and counts.ignored_share == 1 / 8
    assert (counts + counts).pixels.sum() == 16
    assert summary(counts, PORTRAIT_CLASSES).startswith("2 label maps: 3 of 7 classes occur (ids 0 to 3), 12.50 %")
    assert any("eye" in line and "12.500 %" in line for line in table(counts, PORTRAIT_CLASSES))


def test_the_writer_counts_and_the_audit_believes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = Pairs.open(write_pairs(str(tmp_path / "data")))
    counted = audit(pairs, recount=True)
    monkeypatch.setattr(label_audit, "scan", lambda *_: pytest.fail("read again"))
    believed = audit(pairs)
    assert np.array_equal(believed.pixels, counted.pixels) and believed.label_maps == 16


def test_a_map_that_changed_but_not_in_size_is_counted_anew(tmp_path: Path) -> None:
    uri = write_pairs(str(tmp_path / "data"))
    audit(Pairs.open(uri))  # remembered from here on
    path = tmp_path / "data" / "pairs" / "part-00000.parquet"
    before, size = np.frombuffer(path.read_bytes(), np.uint8), path.stat().st_size
    for value in range(256):  # one of these maps compresses to as many bytes as before
        ids = np.random.default_rng(value).integers(0, 7, (8, 8)).astype(np.uint8)
        ids[0, 0] = 9
        tamper(uri, 2, ids)
        if path.stat().st_size == size:
            break
        path.write_bytes(before.tobytes())
    assert path.stat().st_size == size, "no map of the same size was found"
    with pytest.raises(UserError, match="2.png: label map: class id 9 at x=0, y=0"):
        audit(Pairs.open(uri))


def test_a_copied_dataset_is_believed_by_its_hashes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    audit(Pairs.open(write_pairs(str(tmp_path / "data"))))
    shutil.copytree(tmp_path / "data", tmp_path / "copy", copy_function=shutil.copy)
    monkeypatch.setattr(label_audit, "scan", lambda *_: pytest.fail("read again"))
    assert audit(Pairs.open(str(tmp_path / "copy"))).label_maps == 16
    monkeypatch.setattr(label_audit, "_as_written", lambda *_: pytest.fail("hashed again"))
    assert audit(Pairs.open(str(tmp_path / "copy"))).label_maps == 16


def test_a_dataset_that_was_never_counted_is_counted_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = write_pairs(str(tmp_path / "data"))
    path = tmp_path / "data" / "manifest.json"
    manifest = json.loads(path.read_text())
    known = manifest.pop("label_audit")
    path.write_text(json.dumps(manifest))
    assert audit(Pairs.open(uri)).to_plain() == {"label_maps": known["label_maps"], "ids": known["ids"]}
    monkeypatch.setattr(label_audit, "scan", lambda *_: pytest.fail("read again"))
    assert audit(Pairs.open(uri)).label_maps == 16


def test_a_changed_shard_is_counted_anew_and_the_row_value_and_pixel_are_named(tmp_path: Path) -> None:
    uri = write_pairs(str(tmp_path / "data"))
    tamper(uri, 2, bad_map())
    with pytest.raises(UserError) as refusal:
        audit(Pairs.open(uri))
    assert "1 label maps can't be used" in str(refusal.value)
    assert "2.png: label map: class id 9 at x=5, y=3 (2 such pixels); allowed are 0..6 and 255" in str(refusal.value)


def test_no_training_starts_on_labels_outside_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(systems.SYSTEMS, "toy", TOY)
    uri = write_pairs(str(tmp_path / "data"))
    tamper(uri, 0, bad_map())
    with pytest.raises(UserError, match="class id 9 at x=5, y=3"):
        run_training(plan(uri, tmp_path / "run"))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("policy", "words"), [("error", "class id 255 .*x=1, y=0.*--dontcare ignore"), ("ignore", "")])
def test_unknown_pixels_are_an_error_only_if_that_is_the_policy(policy: str, words: str, tmp_path: Path) -> None:
    ids = np.array([[0, 255], [6, 0]], np.uint8)
    found = check_label_map(ids, PORTRAIT_CLASSES, policy)  # type: ignore[arg-type]
    assert bool(found) == bool(words)
    uri = write_pairs(str(tmp_path / "data"))
    holed = np.zeros((8, 8), np.uint8)
    holed[0, 1] = 255
    tamper(uri, 1, holed)
    if words:
        with pytest.raises(UserError, match=words):
            audit(Pairs.open(uri), policy)  # type: ignore[arg-type]
    else:
        assert audit(Pairs.open(uri), policy).pixels[255] == 1  # type: ignore[arg-type]


def test_messages_name_the_numbers_of_the_file_when_a_layout_shifts_them() -> None:
    ids = np.array([[8, 255]], np.uint8)  # the file held 9 and 0
    assert "class id 9 at x=0, y=0" in check_label_map(ids, PORTRAIT_CLASSES, "extra", shift=1)
    assert "allowed are 1..7" in check_label_map(ids, PORTRAIT_CLASSES, "extra", shift=1)


def test_255_is_named_as_allowed_only_where_the_policy_allows_it() -> None:
    ids = np.zeros((4, 4), dtype=np.uint8)
    ids[0, 1], ids[2, 3] = 255, 9
    strict, lenient = (check_label_map(ids, PORTRAIT_CLASSES, policy) for policy in ("error", "ignore"))
    assert "class id 9 at x=3, y=2 (1 such pixels); allowed are 0..6; give the class table" in strict
    assert "allowed are 0..6 and 255 (ignore)" in lenient


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"preprocess": "crop", "image_size": (16, 16)}, "--preprocess crop: .*pair '.*png'.*too small"),
        ({"config": {"instance_edges": True}}, "--instance-edges: .* has no instance maps; import it again"),
    ],
)
def test_data_that_does_not_fit_the_run_is_refused_beforehand(changes: dict, words: str, tmp_path: Path) -> None:
    pairs = Pairs.open(write_pairs(str(tmp_path / "data")))
    with pytest.raises(UserError, match=words):
        check_data(plan(pairs.uri, tmp_path / "run", **changes), pairs)


def test_unknown_pixels_of_their_own_class_need_the_channel_for_it(tmp_path: Path) -> None:
    uri = write_pairs(str(tmp_path / "data"))
    path = tmp_path / "data" / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"dontcare": "extra"}))
    with pytest.raises(UserError, match="give --dontcare-channel; or import"):
        check_data(plan(uri, tmp_path, config={"dontcare_channel": False}), Pairs.open(uri))
    lines: list[str] = []
    check_data(plan(uri, tmp_path, config={"dontcare_channel": True}), Pairs.open(uri), log=lines.append)
    assert len(lines) == 1 and "16 label maps" in lines[0]


def test_the_command_prints_the_histogram_and_names_bad_rows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    uri = write_pairs(str(tmp_path / "data"))
    before = hashlib.sha256((tmp_path / "data" / "manifest.json").read_bytes()).hexdigest()
    audit_labels.main(audit_labels.Config(input=uri, output=str(tmp_path / "out")))
    assert "background" in capsys.readouterr().out
    assert json.loads((tmp_path / "out" / "label_audit.json").read_text())["label_maps"] == 16
    saved = from_plain(audit_labels.Config, yaml.safe_load((tmp_path / "out" / "config.yaml").read_text()))
    assert saved == audit_labels.Config(input=uri, output=str(tmp_path / "out"))
    with pytest.raises(UserError, match="--output .*: is the dataset itself"):
        audit_labels.main(audit_labels.Config(input=uri, output=uri))
    assert hashlib.sha256((tmp_path / "data" / "manifest.json").read_bytes()).hexdigest() == before
    tamper(uri, 4, bad_map())
    with pytest.raises(UserError, match="4.png: .*class id 9"):
        audit_labels.main(audit_labels.Config(input=uri))
