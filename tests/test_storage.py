"""gaugan.storage: the same behaviour on a local disk and on an S3 server."""

import errno
import os
import threading
from pathlib import Path

import pytest

from gaugan import storage
from gaugan.errors import UserError

AWKWARD = "a folder/ü 100%25 #1?.png"


@pytest.fixture(params=["local", "s3"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty place to write to."""
    return str(tmp_path) if request.param == "local" else f"{request.getfixturevalue('bucket')}/some where"


def test_what_is_written_is_read_back_whatever_its_name(root: str) -> None:
    for name in ("x", AWKWARD, "deep/er/y.json", "n" * 240):
        uri = storage.join(root, name)
        assert not storage.exists(uri)
        storage.write_bytes(uri, name.encode())
        assert storage.exists(uri) and not storage.is_folder(uri)
        assert storage.read_bytes(uri) == name.encode()
    storage.write_json(storage.join(root, "x"), {"b": ["ü", 1.5], "a": None})
    assert storage.read_json(storage.join(root, "x")) == {"b": ["ü", 1.5], "a": None}
    assert list(storage.read_json(storage.join(root, "x"))) == ["b", "a"]


def test_listing_is_sorted_filtered_and_relative_to_the_folder(root: str) -> None:
    for path in ("b/2.png", "a.PNG", "b/1.jpg", AWKWARD):
        storage.write_bytes(storage.join(root, path), b"123")
    entries = storage.list_files(root)
    assert [entry.path for entry in entries] == sorted(["a.PNG", AWKWARD, "b/1.jpg", "b/2.png"])
    assert {entry.size for entry in entries} == {3}
    assert all(storage.read_bytes(entry.uri) == b"123" for entry in entries)
    assert [entry.path for entry in storage.list_files(root + "/", [".png"])] == sorted(["a.PNG", AWKWARD, "b/2.png"])
    assert [entry.path for entry in storage.list_files(root, recursive=False)] == ["a.PNG"]


def test_missing_things_are_absent_empty_or_named_in_the_error(root: str) -> None:
    missing = storage.join(root, "not", "there")
    assert not storage.exists(missing) and not storage.is_folder(missing)
    assert storage.list_files(missing) == []
    storage.remove(missing)
    with pytest.raises(FileNotFoundError) as caught:
        storage.read_bytes(missing)
    assert str(caught.value) == f"{missing}: no such file"


def test_what_the_system_says_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path, words in {"file/below": "no such file .a part", "": "is a folder, needed is a file"}.items():
        with pytest.raises(OSError, match=f"^{storage.join(str(tmp_path), path)}: {words}"):
            storage.read_bytes(storage.join(str(tmp_path), path))


def test_remove_takes_a_file_or_a_folder_with_all_below(root: str) -> None:
    for path in ("keep/x", "gone/x", "gone/deep/y", "file"):
        storage.write_bytes(storage.join(root, path), b"1")
    storage.remove(storage.join(root, "gone"))
    storage.remove(storage.join(root, "file"))
    assert [entry.path for entry in storage.list_files(root)] == ["keep/x"]
    assert not storage.exists(storage.join(root, "gone"))


def test_remove_refuses_a_disk_or_a_bucket() -> None:
    for uri in ("/", "s3://bucket", "s3://bucket/"):
        with pytest.raises(UserError, match="never removed"):
            storage.remove(uri)


def test_remove_takes_a_link_and_leaves_what_it_points_to(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "x").write_text("1")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    storage.remove(str(tmp_path / "link"))
    assert (tmp_path / "real" / "x").exists() and not (tmp_path / "link").exists()


def test_a_read_limit_is_kept(root: str) -> None:
    storage.write_bytes(storage.join(root, "x"), b"12345")
    assert storage.read_bytes(storage.join(root, "x"), limit=5) == b"12345"
    with pytest.raises(OSError, match="larger than 4 bytes"):
        storage.read_bytes(storage.join(root, "x"), limit=4)


def test_folders_travel_both_ways_and_the_marker_goes_last(
    root: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "source folder"
    for path in ("a_marker.json", "b/z.bin", "c.bin"):
        storage.write_bytes(str(source / path), path.encode())
    written: list[str] = []
    write = storage.write_bytes
    monkeypatch.setattr(storage, "write_bytes", lambda uri, data: (written.append(storage.name(uri)), write(uri, data)))
    storage.upload_folder(source, storage.join(root, "copy"), last="a_marker.json")
    assert written[-1] == "a_marker.json" and len(written) == 3
    with storage.local_copy(storage.join(root, "copy")) as folder:
        found = {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}
    assert found == {path: path for path in ("a_marker.json", "b/z.bin", "c.bin")}
    with storage.local_copy(storage.join(root, "copy", "c.bin")) as file:
        assert file.read_bytes() == b"c.bin"


def test_a_local_reader_sees_the_old_or_the_new_file_never_a_part(tmp_path: Path) -> None:
    uri, contents = str(tmp_path / "x"), {b"a" * 300_000, b"b" * 300_000}
    storage.write_bytes(uri, min(contents))
    done = threading.Event()

    def write() -> None:
        for _ in range(60):
            for data in contents:
                storage.write_bytes(uri, data)
        done.set()

    threading.Thread(target=write).start()
    while not done.is_set():
        assert Path(uri).read_bytes() in contents
    assert os.listdir(tmp_path) == ["x"]


def test_a_failed_write_leaves_the_old_file_and_no_rubbish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = str(tmp_path / "x")
    storage.write_bytes(uri, b"old")

    def full(self: Path, data: bytes) -> int:
        self.touch()
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(UserError, match=r"x: no room for 3 bytes"):
        storage.write_bytes(uri, b"new")
    assert storage.read_bytes(uri) == b"old" and os.listdir(tmp_path) == ["x"]


def test_listing_leaves_out_half_written_files_and_does_not_follow_loops(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("1")
    (tmp_path / f"{storage.TEMPORARY}123").write_text("half")
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "broken").symlink_to("nowhere")
    (tmp_path / "link").symlink_to("x")
    assert [entry.path for entry in storage.list_files(str(tmp_path))] == ["link", "x"]


def test_a_file_name_that_is_not_unicode_is_named(tmp_path: Path) -> None:
    with open(os.path.join(os.fsencode(tmp_path), b"\xff.png"), "w"):
        pass
    with pytest.raises(UserError, match="not UTF-8"):
        storage.list_files(str(tmp_path))


def test_uris_are_taken_apart_and_made_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/me")
    assert storage.absolute("a/../b c") == f"{tmp_path}/b c"
    assert storage.absolute("~/x") == "/home/me/x"
    assert storage.absolute("file:///a%20b") == "/a b"
    assert storage.absolute("s3://bucket/key/") == "s3://bucket/key"
    assert storage.join("s3://bucket/", "a/", "", "/b") == "s3://bucket/a/b"
    assert storage.join("/", "a") == "/a"
    assert (storage.name("s3://bucket/a/b/"), storage.name("/x/y")) == ("b", "y")
    assert [storage.parent(uri) for uri in ("s3://bucket/a/b", "/x/y", "/x")] == ["s3://bucket/a", "/x", "/"]
    assert storage.parent("s3://bucket") == "s3://bucket"
    assert storage.is_local("x") and storage.is_local("file:///x") and not storage.is_local("s3://bucket/x")


def test_an_unknown_kind_of_storage_is_refused_with_what_is_allowed() -> None:
    for uri in ("http://host/x", "ftp://x", "s3://"):
        with pytest.raises(UserError, match="s3://bucket/key"):
            storage.exists(uri)


def test_free_bytes_looks_at_the_disk_even_before_the_folder_stands(tmp_path: Path) -> None:
    assert (storage.free_bytes(str(tmp_path / "not" / "yet")) or 0) > 0
    assert storage.free_bytes("s3://bucket/x") is None


def test_s3_is_described_by_flags_and_the_rest_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ENDPOINT_URL", "AWS_REGION", storage.ANONYMOUS):
        monkeypatch.setenv(name, "before")
    assert storage.use_s3() == {} and os.environ["AWS_REGION"] == "before"
    given = storage.use_s3("http://store:9000", "", ["one", "two"])
    assert given == {"AWS_ENDPOINT_URL": "http://store:9000", storage.ANONYMOUS: "one,two"}
    assert os.environ["AWS_ENDPOINT_URL"] == "http://store:9000" and os.environ["AWS_REGION"] == "before"
    assert storage.is_anonymous("one") and not storage.is_anonymous("other")
    storage.use_s3(anonymous=["all"])
    assert storage.is_anonymous("other")
    with pytest.raises(UserError, match="http://store:9000"):
        storage.use_s3("store:9000")


def test_a_public_bucket_is_read_without_credentials(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import boto3

    boto3.client("s3").put_object(Bucket=bucket.removeprefix("s3://"), Key="x", Body=b"public", ACL="public-read")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    monkeypatch.setenv(storage.ANONYMOUS, bucket.removeprefix("s3://"))
    assert storage.read_bytes(f"{bucket}/x") == b"public"
