"""An object store that answers 503, resets connections and stalls: nothing is lost, doubled or seen half."""

from __future__ import annotations

import zipfile
from pathlib import Path

import boto3
import pyarrow.parquet as pq
import pytest
from fault_proxy import Faults, fault_proxy
from label_runs import Undisturbed, files, label

from gaugan import patience, storage
from gaugan.patience import patiently
from gaugan.sources import Source, read
from jobs import lock

USUAL = Faults(busy=0.05, lost=0.01, cut=0.01, stalled=0.005)


@pytest.mark.parametrize("faults", [Faults(busy=0.3), Faults(lost=0.15), Faults(cut=0.15)], ids=["503", "lost", "cut"])
def test_reading_writing_and_listing_survive_a_bad_store(
    bucket: str, monkeypatch: pytest.MonkeyPatch, s3_server: str, faults: Faults
) -> None:
    with fault_proxy(s3_server, faults) as (endpoint, done):
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        contents = {f"{bucket}/x/{number}": bytes([number]) * 20_000 for number in range(12)}
        for uri, data in contents.items():
            storage.write_bytes(uri, data)
        assert {uri: storage.read_bytes(uri) for uri in contents} == contents
        assert [entry.uri for entry in storage.list_files(f"{bucket}/x")] == sorted(contents)
        assert sum(count for kind, count in done.items() if kind != "served") > 0


def test_a_503_that_is_longer_than_the_object_is_only_a_503(
    bucket: str, monkeypatch: pytest.MonkeyPatch, s3_server: str, tmp_path: Path
) -> None:
    """The SDK repeats no request whose error does not fit where the object should have gone."""
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("a.png", b"a")
    storage.write_bytes(f"{bucket}/x.zip", (tmp_path / "x.zip").read_bytes())
    storage.write_bytes(f"{bucket}/small", b"x")
    with fault_proxy(s3_server, Faults(busy=0.3)) as (endpoint, done):
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        monkeypatch.setattr(patience, "FIRST_PAUSE_S", 0.001)
        for _ in range(3):
            assert storage.read_bytes(f"{bucket}/small") == b"x"
            source = Source(f"{bucket}/x.zip")
            found = list(source.find())
            assert [(one.id, one.refusal) for one in found] == [("a.png", "")]
            assert patiently(lambda: read(source.root, found[0].id, found[0].place, 100)) == b"a"  # noqa: B023
        assert done["busy"] > 3


def test_an_answer_that_never_comes_is_asked_for_again(
    bucket: str, monkeypatch: pytest.MonkeyPatch, s3_server: str
) -> None:
    with fault_proxy(s3_server, Faults(stalled=0.4, stall_s=60.0), seed=3) as (endpoint, done):
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        monkeypatch.setattr(storage, "S3_REQUEST_TIMEOUT_S", 1.0)
        for number in range(1):
            storage.write_bytes(f"{bucket}/{number}", b"x")
            assert storage.read_bytes(f"{bucket}/{number}") == b"x"
        assert done["stalled"] > 0


def test_a_lock_whose_answer_was_lost_is_held_all_the_same(
    bucket: str, monkeypatch: pytest.MonkeyPatch, s3_server: str
) -> None:
    with fault_proxy(s3_server, Faults(cut=0.6), seed=1) as (endpoint, done):
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        lock.acquire(f"{bucket}/out", "a test")
        lock.acquire(f"{bucket}/out", "a test")
        lock.release(f"{bucket}/out")
        assert done["cut"] > 0
        assert not storage.exists(f"{bucket}/out/lock.json")


def test_a_half_sent_object_is_never_seen(bucket: str, monkeypatch: pytest.MonkeyPatch, s3_server: str) -> None:
    """The store takes an upload only whole: after one that breaks off for good, the old object is what is read."""
    uri = f"{bucket}/pairs/part-00000.parquet"
    storage.write_bytes(uri, b"old")
    with fault_proxy(s3_server, Faults(lost=1.0)) as (endpoint, _):
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        monkeypatch.setattr(storage, "S3_ATTEMPTS", 2)
        with pytest.raises(OSError, match="part-00000"):
            storage.write_bytes(uri, b"new" * 100_000)
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server)
    assert storage.read_bytes(uri) == b"old"


@pytest.mark.ray
@pytest.mark.parametrize(
    "count",
    [
        pytest.param(40, id="short"),
        pytest.param(1000, id="long", marks=[pytest.mark.long, pytest.mark.timeout(3600)]),
    ],
)
def test_a_run_over_a_bad_store_ends_with_the_bytes_of_a_local_one(
    tmp_path: Path, bucket: str, s3_server: str, unet: str, undisturbed: Undisturbed, count: int
) -> None:
    local = undisturbed(count)
    storage.upload_folder(local.source, f"{bucket}/in")
    storage.upload_folder(unet, f"{bucket}/unet")
    with fault_proxy(s3_server, USUAL) as (endpoint, done):
        flags = ["--s3-endpoint", endpoint, "--s3-region", "us-east-1"]
        places = (f"{bucket}/in", f"{bucket}/unet", f"{bucket}/out")
        run = label(tmp_path / "s3.log", *places, *flags, AWS_ENDPOINT_URL="", AWS_REGION="")
        ended = run.wait(timeout_s=1500)
        assert ended.code == 0, ended.output
        print(f"{count} pictures: {local.seconds:.0f} s local, {ended.seconds:.0f} s over a bad store, {dict(done)}")
    with storage.local_copy(f"{bucket}/out") as folder:
        assert _result(folder) == _result(local.output)
    keys = [item["Key"] for item in _objects(bucket.removeprefix("s3://"))]
    assert not [key for key in keys if "/.work/" in key or key.endswith("lock.json")]


def _result(output: Path) -> dict[str, object]:
    """The pairs files' bytes and the outcome rows, but for the `uri`, which names the place of the input."""
    rows = pq.read_table(output / "outcomes").drop_columns("uri").sort_by("id").to_pylist()
    return {"rows": rows, **{name: data for name, data in files(output).items() if name.startswith("pairs")}}


def _objects(name: str) -> list[dict]:
    return boto3.client("s3").list_objects_v2(Bucket=name)["Contents"]
