"""gaugan.sources, archives and picture_tables: what is found, and that its bytes come back."""

from __future__ import annotations

import io
import os
import tarfile
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gaugan import archives, storage
from gaugan.errors import UserError
from gaugan.images import ImageError
from gaugan.sources import Source, read, uri_of

LIMIT = 2**20
FILES = {"a.png": b"first", "deep/b.jpg": b"second" * 1000, "deep/c d.png": b"third", "deep/er/ü\n.png": b"fourth"}


def contents(source: Source) -> dict[str, bytes | str]:
    """Id -> bytes, or the code of a refusal."""
    answers: dict[str, bytes | str] = {}
    for found in source.find():
        assert found.id not in answers
        if found.refusal:
            answers[found.id] = found.refusal.partition(": ")[0]
            continue
        try:
            answers[found.id] = read(source.root, found.id, found.place, LIMIT)
        except ImageError as error:
            answers[found.id] = error.code
        except OSError:
            answers[found.id] = "unreadable"
    return answers


@pytest.fixture
def tree(tmp_path: Path) -> str:
    for name, data in FILES.items():
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_bytes(data)
    for name in (".DS_Store", ".thumbs/x.png"):
        (tmp_path / "in" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "in" / name).write_bytes(b"x")
    return str(tmp_path / "in")


def tar(path: Path, files: dict[str, bytes], mode: str = "w") -> str:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return str(path)


def zipped(path: Path, files: dict[str, bytes]) -> str:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return str(path)


def test_a_folder_gives_all_its_files_but_hidden_ones(tree: str) -> None:
    assert contents(Source(tree)) == FILES
    assert set(contents(Source(tree, recursive=False))) == {"a.png"}
    assert contents(Source(f"{tree}/missing")) == {}


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("*.png", {"a.png"}),
        ("**/*.png", {"a.png", "deep/c d.png", "deep/er/ü\n.png"}),
        ("deep/*", {"b.jpg", "c d.png"}),
        ("deep/**", {"b.jpg", "c d.png", "er/ü\n.png"}),
        ("*/[a-b].???", {"deep/b.jpg"}),
        ("*/[!b]*.png", {"deep/c d.png"}),
        ("**/*.gif", set()),
    ],
)
def test_a_pattern_gives_what_it_matches_with_ids_below_its_fixed_part(tree: str, pattern: str, found: set) -> None:
    source = Source(f"{tree}/{pattern}")
    below = "deep/" if pattern.startswith("deep/") else ""
    assert contents(source) == {name: FILES[below + name] for name in found}


@pytest.mark.parametrize(
    ("uri", "folder", "taken"),
    [
        ("", "out", True),
        ("", "", True),
        ("/*.jpg", "out", False),
        ("/*.jpg", "", True),
        ("/*/*.jpg", "out", True),
        ("/a*/*.jpg", "out", False),
        ("/*/*.jpg", "out/deeper", False),
        ("/**/*.jpg", "out/deeper", True),
        ("/a.png", "out", False),
    ],
)
def test_a_source_knows_which_folders_it_would_take_files_from(tree: str, uri: str, folder: str, taken: bool) -> None:
    assert Source(tree + uri).would_take(f"{tree}/{folder}".rstrip("/")) is taken
    assert not Source(tree + uri).would_take(f"{tree}-beside/{folder}")


def test_a_flat_folder_takes_nothing_from_the_folders_below(tree: str) -> None:
    assert not Source(tree, recursive=False).would_take(f"{tree}/out")


def test_a_folder_whose_name_looks_like_a_pattern_is_a_folder(tmp_path: Path) -> None:
    (tmp_path / "[x]*").mkdir()
    (tmp_path / "[x]*" / "a.png").write_bytes(b"1")
    assert contents(Source(str(tmp_path / "[x]*"))) == {"a.png": b"1"}


def test_names_that_are_not_utf8_and_links_into_nothing_are_inputs_too(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"\xff\xfe.png")).write_bytes(b"odd")
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere")
    (tmp_path / "loop").symlink_to(tmp_path)
    source = Source(str(tmp_path))
    found = {one.id: one for one in source.find()}
    assert set(found) == {"\\xff\\xfe.png", "gone.png"}
    odd = found["\\xff\\xfe.png"]
    assert read(source.root, odd.id, odd.place, LIMIT) == b"odd"
    with pytest.raises(FileNotFoundError):
        read(source.root, "gone.png", "", LIMIT)


def test_a_name_in_gz_is_not_unpacked_and_a_long_file_not_read(tmp_path: Path) -> None:
    import gzip

    packed = gzip.compress(bytes(10 * LIMIT))
    (tmp_path / "bomb.gz").write_bytes(packed)
    assert read(str(tmp_path), "bomb.gz", "", LIMIT) == packed == storage.read_bytes(str(tmp_path / "bomb.gz"))
    (tmp_path / "long").write_bytes(bytes(LIMIT + 1))
    with pytest.raises(ImageError) as refusal:
        read(str(tmp_path), "long", "", LIMIT)
    assert refusal.value.code == "too_large"


@pytest.mark.parametrize("ending", [".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst"])
def test_members_of_an_archive_are_inputs(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"all{ending}"
    if ending == ".zip":
        uri = zipped(path, FILES)
    elif ending == ".tar.zst":
        raw = Path(tar(tmp_path / "raw.tar", FILES)).read_bytes()
        path.write_bytes(pa.Codec("zstd").compress(raw, asbytes=True))
        uri = str(path)
    else:
        uri = tar(
            path, FILES, {".tar": "w", ".tar.gz": "w:gz", ".tgz": "w:gz", ".tar.bz2": "w:bz2"}.get(ending, "w:xz")
        )
    source = Source(uri)
    assert contents(source) == FILES
    found = list(source.find())
    for one in reversed(found):  # also backwards
        assert read(source.root, one.id, one.place, LIMIT) == FILES[one.id]
    assert uri_of(source.root, found[0].id, found[0].place) == f"{uri}#a.png"
    assert source.in_order == (ending not in (".zip", ".tar"))


def test_hidden_members_are_no_inputs_and_a_leading_dot_slash_is_no_part_of_a_name(tmp_path: Path) -> None:
    members = {"./a.png": b"a", "./b/c.png": b"c", "__MACOSX/._a.png": b"x", ".DS_Store": b"x", "b/.x/d.png": b"x"}
    for uri in (tar(tmp_path / "x.tar", members), zipped(tmp_path / "x.zip", members)):
        assert contents(Source(uri)) == {"a.png": b"a", "b/c.png": b"c"}


def test_a_pattern_of_archives_puts_their_names_before_the_members(tmp_path: Path) -> None:
    tar(tmp_path / "x.tar", {"1.png": b"x1"})
    tar(tmp_path / "y.tar", {"1.png": b"y1"})
    source = Source(f"{tmp_path}/*.tar")
    assert contents(source) == {"x.tar/1.png": b"x1", "y.tar/1.png": b"y1"}
    found = next(source.find())
    assert uri_of(source.root, found.id, found.place) == f"{tmp_path}/x.tar#1.png"


def test_members_that_lead_out_of_the_archive_or_are_links_are_refused_by_name(tmp_path: Path) -> None:
    evil = {"../up.png": b"1", "/root.png": b"2", "a/../../b.png": b"3", "good.png": b"4", "C:\\x.png": b"5"}
    expected = {name: "unsafe_name" for name in evil} | {"good.png": b"4"}
    assert contents(Source(zipped(tmp_path / "a.zip", evil))) == expected
    uri = tar(tmp_path / "a.tar", evil)
    with tarfile.open(uri, "a") as archive:
        link = tarfile.TarInfo("link.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    assert contents(Source(uri)) == expected | {"link.png": "other_file"}


def test_a_zip_bomb_a_lying_directory_and_an_encrypted_member_cost_nothing(tmp_path: Path) -> None:
    uri = zipped(tmp_path / "bomb.zip", {"bomb.png": bytes(300 * 2**20), "fine.png": b"1"})
    assert Path(uri).stat().st_size < LIMIT
    assert contents(Source(uri)) == {"bomb.png": "too_large", "fine.png": b"1"}
    data = bytearray(Path(uri).read_bytes())
    at = data.rindex(b"PK\x01\x02", 0, data.rindex(b"PK\x01\x02"))
    data[at + 24 : at + 28] = (1000).to_bytes(4, "little")  # declares 1000 bytes
    data[data.rindex(b"PK\x01\x02") + 8] |= 1  # encrypted
    (tmp_path / "lies.zip").write_bytes(data)
    assert contents(Source(str(tmp_path / "lies.zip"))) == {"bomb.png": "corrupt", "fine.png": "unreadable"}


def test_a_tar_whose_headers_ask_for_gigabytes_is_not_believed(tmp_path: Path) -> None:
    info = tarfile.TarInfo("long-name")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 2**33
    (tmp_path / "a.tar").write_bytes(info.tobuf(tarfile.GNU_FORMAT) + bytes(4096))
    assert contents(Source(str(tmp_path / "a.tar"))) == {"a.tar": "corrupt"}


@pytest.mark.parametrize("ending", [".zip", ".tar", ".tar.gz"])
def test_a_damaged_archive_gives_what_it_has_and_a_row_that_says_so(tmp_path: Path, ending: str) -> None:
    files = {f"{number}.png": os.urandom(3000) for number in range(20)}
    path = tmp_path / f"cut{ending}"
    zipped(path, files) if ending == ".zip" else tar(path, files, "w:gz" if ending == ".tar.gz" else "w")
    path.write_bytes(path.read_bytes()[:30_000])
    found = contents(Source(str(path)))
    assert found.pop(path.name) == "corrupt"
    assert all(files[name] == data for name, data in found.items() if isinstance(data, bytes))
    assert (len(found) >= 8) == (ending != ".zip")


def test_garbage_with_the_name_of_an_archive_is_one_refused_input(tmp_path: Path) -> None:
    for suffix in archives.SUFFIXES:
        (tmp_path / f"a{suffix}").write_bytes(b"garbage" * 1000)
        assert contents(Source(str(tmp_path / f"a{suffix}"))) == {f"a{suffix}": "corrupt"}


@pytest.mark.parametrize("kind", ["plain", "hugging_face", "numbered"])
def test_rows_of_a_parquet_file_are_inputs(tmp_path: Path, kind: str) -> None:
    names, data = list(FILES), list(FILES.values())
    columns: dict = {"image": [{"bytes": each, "path": None} for each in data] if kind == "hugging_face" else data}
    if kind != "numbered":
        columns["id"] = names
    pq.write_table(pa.table(columns), tmp_path / "a.parquet", row_group_size=3)
    source = Source(str(tmp_path / "a.parquet"))
    expected = FILES if kind != "numbered" else {f"{row:08d}": each for row, each in enumerate(data)}
    assert contents(source) == expected and source.in_order
    for one in reversed(list(source.find())):
        assert read(source.root, one.id, one.place, LIMIT) == expected[one.id]
    with pytest.raises(UserError, match="--bytes-column nothing: .* has no such column"):
        list(Source(source.uri, bytes_column="nothing").find())


def test_a_parquet_row_without_bytes_or_with_too_many_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"image": [None, b"", bytes(LIMIT + 1), b"x"]}), tmp_path / "a.parquet")
    assert list(contents(Source(str(tmp_path / "a.parquet"))).values()) == ["empty", "empty", "too_large", b"x"]


def test_a_list_gives_its_lines(tree: str, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text(f"# mine\nin/a.png\n\nin/deep/../deep/c d.png\r\n{tree}/deep/b.jpg\n")
    source = Source(str(tmp_path / "list.txt"))
    assert contents(source) == {f"in/{name}": FILES[name] for name in ("a.png", "deep/c d.png", "deep/b.jpg")}
    assert [one.size for one in source.find()] == [5, 5, 6000]


def test_one_file_of_another_kind_is_refused_with_the_kinds_that_would_do(tree: str) -> None:
    with pytest.raises(UserError, match=r"one file; give a folder, a pattern, or a file of one kind of \.zip"):
        list(Source(f"{tree}/a.png").find())


def test_object_stores_give_the_same(tree: str, bucket: str, tmp_path: Path) -> None:
    Path(tree, "deep/er/ü\n.png").unlink()  # the server of the tests can't store such a key
    storage.upload_folder(tree, f"{bucket}/in")
    assert contents(Source(f"{bucket}/in")) == contents(Source(tree))
    assert contents(Source(f"{bucket}/in/**/*.png")) == contents(Source(f"{tree}/**/*.png"))
    for name, uri in {
        "a.zip": zipped(tmp_path / "a.zip", FILES),
        "a.tgz": tar(tmp_path / "a.tgz", FILES, "w:gz"),
    }.items():
        storage.write_bytes(f"{bucket}/{name}", Path(uri).read_bytes())
        assert contents(Source(f"{bucket}/{name}")) == FILES
    storage.write_text(f"{bucket}/list.txt", f"in/a.png\n{bucket}/in/deep/b.jpg\n")
    assert set(contents(Source(f"{bucket}/list.txt"))) == {"in/a.png", "in/deep/b.jpg"}
