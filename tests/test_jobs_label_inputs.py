"""jobs/label_dataset.py over archives, tables, posts, and files that crash the decoder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from test_careful import SABOTAGE, armed
from tiny_models import save_unet, write_portraits

from gaugan import storage
from gaugan.errors import UserError
from gaugan.pairs import Pairs
from jobs import label_dataset as job

COUNT = 14


@pytest.fixture(scope="module")
def unet(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_unet(tmp_path_factory.mktemp("unet") / "checkpoint")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(write_portraits(tmp_path_factory.mktemp("pictures") / "in", COUNT, 64))


def label(output: Path, source: str, unet: str, **changes: object) -> dict:
    values: dict = {"input": source, "model": unet, "batch_size": 4, "num_workers": 1, "tracking": "none"}
    return job.main(job.Config(output=str(output), **(values | changes)))


def rows(output: Path) -> dict[str, dict]:
    return {row["id"]: row for row in pq.read_table(output / "outcomes").to_pylist()}


@pytest.mark.ray
def test_an_archive_and_a_table_give_the_labels_of_the_folder(
    ray_local: None, tmp_path: Path, pictures: Path, unet: str
) -> None:
    files = {path.name: path.read_bytes() for path in sorted(pictures.iterdir())}
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    table = {"id": list(reversed(files)), "image": list(reversed(files.values()))}
    pq.write_table(pa.table(table), tmp_path / "in.parquet", row_group_size=5)
    label(tmp_path / "folder", str(pictures), unet)
    expected = {name: (row["sha256"], row["label_sha256"]) for name, row in rows(tmp_path / "folder").items()}
    assert len(expected) == COUNT
    for source in ("in.zip", "in.parquet"):
        output = tmp_path / source.partition(".")[2]
        stats = label(output, str(tmp_path / source), unet)
        assert stats["labelled"] == COUNT and stats["near_duplicates"] == stats["duplicates"] == 0
        assert {name: (row["sha256"], row["label_sha256"]) for name, row in rows(output).items()} == expected
        assert rows(output)["003.png"]["uri"] == f"{tmp_path / source}#003.png"
        assert label(output, str(tmp_path / source), unet)["labelled_now"] == 0


@pytest.mark.ray
def test_posts_filters_and_crops_reach_rows_and_pairs(
    ray_local: None, tmp_path: Path, pictures: Path, unet: str
) -> None:
    from gaugan.images import encode_png
    from gaugan.portraits import draw_portrait

    portrait = draw_portrait(1, 96)[0]
    shapes = {"1.png": portrait[:60], "2.png": portrait, "3.png": portrait[:20], "4.png": portrait[:40, :40]}
    for name, image in shapes.items():
        (tmp_path / "in" / f"{int(name[0]):04d}" / name).parent.mkdir(parents=True)
        (tmp_path / "in" / f"{int(name[0]):04d}" / name).write_bytes(encode_png(image))
    posts = [{"id": number, "rating": "e" if number == 2 else "g", "tag_string": "solo"} for number in (1, 2, 3, 4)]
    (tmp_path / "posts.json").write_text("\n".join(map(json.dumps, posts)))
    flags: dict = {"metadata": str(tmp_path / "posts.json"), "ratings": ("g", "s"), "crop": "centre"}
    flags |= {"skip_below": 19, "skip_above": 96, "skip_aspect": 4.0}
    stats = label(tmp_path / "out", str(tmp_path / "in"), unet, **flags)
    assert stats["labelled"] == 2 and stats["codes"] == {"filtered_rating": 1, "filtered_aspect": 1}
    assert stats["failure_rate"] == 0
    found = rows(tmp_path / "out")
    assert found["0002/2.png"]["status"] == "skipped" and "its rating is e" in found["0002/2.png"]["message"]
    assert (found["0001/1.png"]["width"], found["0001/1.png"]["height"]) == (96, 60)
    pairs = pq.read_table(tmp_path / "out" / "pairs").to_pylist()
    assert [(row["width"], row["height"]) for row in pairs] == [(60, 60), (40, 40)]
    assert json.loads(pairs[0]["provenance"])["tags"] == "solo" and Pairs.open(str(tmp_path / "out"))
    with pytest.raises(UserError, match="skip_below: 19 there, 18 now"):
        label(tmp_path / "out", str(tmp_path / "in"), unet, **flags | {"skip_below": 18})


@pytest.mark.ray
@pytest.mark.parametrize("where", ["disk", "object store"])  # one stage, or three that overlap
def test_files_that_crash_the_decoder_cost_one_row_each_and_not_the_job(
    tmp_path: Path, pictures: Path, unet: str, bucket: str, where: str
) -> None:
    (tmp_path / "in").mkdir()
    for path in pictures.iterdir():
        (tmp_path / "in" / path.name).write_bytes(path.read_bytes())
    for name in ("002.png", "003.png", "010.png"):
        armed(tmp_path / "in" / name, "segfault")
    source = str(tmp_path / "in")
    if where == "object store":
        storage.upload_folder(source, f"{bucket}/in")
        source = f"{bucket}/in"
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(SABOTAGE)
    root = Path(job.__file__).parents[1]
    environment = os.environ | {"PYTHONPATH": f"{tmp_path / 'site'}{os.pathsep}{root}", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, job.__file__, "--input", source, "--model", unet, "--tracking", "none"]
    command += ["--output", str(tmp_path / "out"), "--batch-size", "4", "--num-workers", "1"]
    command += ["--max-failure-rate", "0.5"]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    found = rows(tmp_path / "out")
    codes = Counter(row["code"] for row in found.values())
    assert codes == {"": COUNT - 3, "decoder_crash": 3} and "decoder_crash 3" in ended.stdout
    assert {name for name, row in found.items() if row["code"]} == {"002.png", "003.png", "010.png"}
    label_of = {name: row["label_sha256"] for name, row in found.items() if not row["code"]}
    assert all(label_of.values())


def test_a_relative_export_is_refused_in_a_submitted_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"output": str(tmp_path), "input": "in", "model": "unet"}
    job.Config(**given, export_labelme="doubts")
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    with pytest.raises(UserError, match="--export-labelme doubts: a relative path would be lost .*my-bucket/doubts"):
        job.Config(**given, export_labelme="doubts")
    for place in ("s3://bucket/doubts", "/shared/doubts", "~/doubts", ""):
        job.Config(**given, export_labelme=place)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"ratings": ("g",)}, "needs --metadata"),
        ({"crop": "centre", "image_size": (32, 64)}, "--crop centre: gives squares"),
        ({"skip_aspect": 0.5}, "--skip-aspect 0.5"),
    ],
)
def test_flags_that_make_no_sense_are_refused(tmp_path: Path, flags: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        job.Config(output=str(tmp_path), input="in", model="unet", **flags)
