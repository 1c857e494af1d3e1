"""jobs/label_dataset.py as a whole: what it leaves behind, how it is stopped, killed and continued."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from tiny_models import save_unet, write_pairs, write_portraits

from gaugan import label_plan, storage
from gaugan.config import parse
from gaugan.errors import UserError
from gaugan.images import encode_png
from gaugan.label_rows import OUTCOMES
from gaugan.pairs import Pairs
from gaugan.portraits import draw_portrait
from jobs import label_dataset as job
from jobs import label_run, recorded
from jobs.command import STOP, TooManyFailuresError
from jobs.tracking import NullTracker

COUNT = 26
BAD = {"empty.png": b"", "junk.jpg": b"\xff\xd8\xffjunk", "cut.png": encode_png(draw_portrait(0, 64)[0])[:900]}


@pytest.fixture(scope="module")
def unet(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_unet(tmp_path_factory.mktemp("unet") / "checkpoint")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("pictures")
    write_portraits(folder / "more", COUNT)
    for name, data in (BAD | {"notes.txt": b"hello"}).items():
        (folder / name).write_bytes(data)
    return str(folder)


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(label_plan, "ROWS_PER_SHARD", 8)
    yield
    STOP.event.clear()


def config(output: Path, pictures: str, unet: str, **changes: object) -> job.Config:
    values: dict = {"input": pictures, "model": unet, "batch_size": 4, "num_workers": 1, "tracking": "none"}
    return job.Config(output=str(output), **(values | changes))


def files(output: Path) -> dict[str, bytes]:
    """Everything that a dataset consists of."""
    found = [output / "manifest.json", *output.glob("pairs/*"), *output.glob("outcomes/*")]
    return {str(path.relative_to(output)): path.read_bytes() for path in found}


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory, ray_local: None, pictures: str, unet: str) -> Path:
    """The output of one undisturbed run."""
    output = tmp_path_factory.mktemp("straight")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(label_plan, "ROWS_PER_SHARD", 8)
        job.main(config(output, pictures, unet))
    return output


@pytest.mark.ray
def test_every_input_has_one_outcome_row_and_the_good_ones_a_pair(straight: Path, pictures: str) -> None:
    rows = pq.read_table(straight / "outcomes").to_pylist()
    assert list(rows[0]) == OUTCOMES.names
    assert sorted(row["id"] for row in rows) == sorted(
        str(path.relative_to(pictures)) for path in Path(pictures).rglob("*.*")
    )
    assert Counter(row["status"] for row in rows) == {"labelled": COUNT, "refused": len(BAD), "skipped": 1}
    pairs = Pairs.open(str(straight))
    assert pairs.num("held_out") == 2 and pairs.num("train") == COUNT - 2
    pair = pairs.read("train", 0)
    assert pair.image.shape == (64, 64, 3) and pair.label_map.shape == (64, 64)
    manifest = json.loads((straight / "manifest.json").read_text())
    for file in (*manifest["shards"], *manifest["outcomes"]):
        assert hashlib.sha256((straight / file["path"]).read_bytes()).hexdigest() == file["sha256"]
    assert sum(file["rows"] for file in manifest["outcomes"]) == len(rows)
    stats = json.loads((straight / "stats.json").read_text())
    assert stats["labelled_now"] == stats["inputs"] == COUNT + len(BAD) + 1
    assert (straight / "report" / "index.html").exists() and not (straight / ".work").exists()


@pytest.mark.ray
def test_a_stopped_run_continues_with_other_workers_and_ends_with_the_same_bytes(
    straight: Path, tmp_path: Path, pictures: str, unet: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    account, seen = label_run._account, []

    def stop_after_three_chunks(running: label_run.Job, row: dict) -> int:
        seen.append(row)
        if len(seen) == 3:
            STOP.event.set()
        return account(running, row)

    monkeypatch.setattr(label_run, "_account", stop_after_three_chunks)
    assert job.main(config(tmp_path, pictures, unet)) == {}
    assert not (tmp_path / "manifest.json").exists()
    STOP.event.clear()
    monkeypatch.setattr(label_run, "_account", account)
    stats = job.main(config(tmp_path, pictures, unet, num_workers=2, batch_size=16))
    assert stats["labelled_now"] <= stats["inputs"] - 12
    assert files(tmp_path) == files(straight)


@pytest.mark.ray
def test_a_finished_run_has_nothing_left_to_do(straight: Path, pictures: str, unet: str) -> None:
    before = files(straight)
    stats = job.main(config(straight, pictures, unet))
    assert stats["labelled_now"] == 0 and stats["labelled"] == COUNT and files(straight) == before


class Recorder(NullTracker):
    """A tracker that keeps what it is told."""

    def __init__(self) -> None:
        self.metrics: dict[str, float] = {}
        self.artifacts: list[str] = []
        self.status = ""

    def log_metrics(self, values: dict[str, float], step: int = 0) -> None:
        self.metrics |= values

    def log_artifact(self, uri: str, folder: str = "") -> None:
        self.artifacts.append(storage.name(uri))

    def finish(self, status: str = "FINISHED") -> None:
        self.status = status


@pytest.mark.ray
def test_figures_statistics_and_report_go_to_the_tracker(
    straight: Path, pictures: str, unet: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = Recorder()
    monkeypatch.setattr(recorded, "open_run", lambda *_: recorder)
    job.main(config(straight, pictures, unet))
    assert {"labelled", "refused", "review", "pictures_per_s", "confidence", "specks"} <= set(recorder.metrics)
    assert recorder.metrics["labelled"] == COUNT and recorder.status == "FINISHED"
    assert recorder.artifacts == ["stats.json", "report"]


@pytest.mark.parametrize(
    ("words", "codes"),
    [([], None), (["--retry-failed"], ()), (["--retry-failed=empty"], ("empty",)),
     (["--retry-failed", "empty", "corrupt"], ("empty", "corrupt"))],
)  # fmt: skip
def test_failed_inputs_are_retried_all_or_by_their_codes(words: list[str], codes: tuple[str, ...] | None) -> None:
    found = parse(job.Config, ["--input", "in", "--model", "unet", "--output", "out", *words])
    assert found.retry_failed == codes


def test_another_model_is_refused_with_both_hashes(straight: Path, tmp_path: Path, pictures: str) -> None:
    other = save_unet(tmp_path / "other", seed=1)
    with pytest.raises(UserError) as refusal:
        job.main(config(straight, pictures, other))
    found = json.loads((straight / "plan.json").read_text())["model_hash"]
    assert found in str(refusal.value) and "another --output" in str(refusal.value)


@pytest.mark.ray
def test_refused_inputs_are_done_again_as_if_they_had_never_failed(
    straight: Path, tmp_path: Path, pictures: str, unet: str
) -> None:
    source = tmp_path / "in"
    shutil.copytree(pictures, source)
    for number in (3, 9):
        (source / "more" / f"{number:03d}.png").write_bytes(b"")
    first = job.main(config(tmp_path / "out", str(source), unet))
    assert first["codes"]["empty"] == 3 and files(tmp_path / "out") != files(straight)
    shutil.copytree(pictures, source, dirs_exist_ok=True)
    stats = job.main(config(tmp_path / "out", str(source), unet, retry_failed=("empty",), num_workers=2))
    assert stats["labelled_now"] == 3 and stats["codes"]["empty"] == 1
    for kind in ("pairs", "outcomes"):
        found, wanted = (
            [row | {"uri": ""} for row in pq.read_table(output / kind).sort_by("id").to_pylist()]
            for output in (tmp_path / "out", straight)
        )
        assert found == wanted


@pytest.mark.ray
def test_a_second_round_learns_from_accepted_labels_and_labels_everything_anew(
    ray_local: None, tmp_path: Path, pictures: str, unet: str
) -> None:
    annotated = write_pairs(tmp_path / "annotated", 12, 4)
    flags = {"round": 2, "annotated": (annotated,), "round_steps": 2, "min_confidence": 0.0, "max_failure_rate": 1.0}
    stats = job.main(config(tmp_path / "out", pictures, unet, **flags))
    first, second = tmp_path / "out", tmp_path / "out" / "round2" / "labelled"
    assert stats["labelled"] == COUNT
    manifests = [json.loads((folder / "manifest.json").read_text()) for folder in (first, second)]
    assert manifests[0]["labelled_by"]["model_hash"] != manifests[1]["labelled_by"]["model_hash"]
    accepted = Pairs.open(str(tmp_path / "out" / "round2" / "accepted"))
    assert accepted.num("train") == Pairs.open(str(first)).num("train") and accepted.num("held_out") == 0
    before = files(second)
    assert job.main(config(tmp_path / "out", pictures, unet, **flags))["labelled_now"] == 0
    assert files(second) == before


def test_a_second_round_without_annotations_is_refused(pictures: str, unet: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--annotated PAIRS"):
        job.main(config(tmp_path, pictures, unet, round=2))


@pytest.mark.ray
def test_a_damaged_model_is_named_in_one_line(ray_local: None, tmp_path: Path, pictures: str, unet: str) -> None:
    shutil.copytree(unet, tmp_path / "unet")
    weights = next((tmp_path / "unet").glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(UserError, match="safetensors: damaged"):
        job.main(config(tmp_path / "out", pictures, str(tmp_path / "unet")))


@pytest.mark.ray
def test_too_many_refused_pictures_are_an_error_after_everything_is_written(
    ray_local: None, tmp_path: Path, pictures: str, unet: str
) -> None:
    for name, data in BAD.items():
        (tmp_path / "in" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "in" / name).write_bytes(data)
    with pytest.raises(TooManyFailuresError, match="3 of 3 pictures were refused"):
        job.main(config(tmp_path / "out", str(tmp_path / "in"), unet))
    assert Pairs.open(str(tmp_path / "out")).num("train") == 0
    assert pq.read_table(tmp_path / "out" / "outcomes").num_rows == 3


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"held_out": 1.5}, "--held-out 1.5"),
        ({"batch_size": 0}, "--batch-size 0"),
        ({"segment_size": (100,)}, "multiples of 32"),
        ({"num_workers": -1}, "--num-workers -1"),
        ({"min_confidence": 0.5, "reject_confidence": 0.6}, "--reject-confidence 0.6"),
        ({"inference_batch": -1}, "--inference-batch -1"),
        ({"round": 0}, "--round 0"),
        ({"skip_aspect": float("nan")}, "--skip-aspect nan"),
        ({"retry_failed": ("empty", "emtpy", "other_file")}, "--retry-failed emtpy other_file: no code .* corrupt,"),
        ({"annotated": ("pairs",)}, "--annotated: .* --round 2"),
    ],
)
def test_a_wrong_flag_is_named(tmp_path: Path, flags: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        config(tmp_path, "in", "unet", **flags)


def test_an_output_inside_the_input_is_refused(pictures: str, unet: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--output .* inside --input"):
        job.main(config(Path(pictures, "labelled"), pictures, unet))
    with pytest.raises(UserError, match="--export-labelme .* inside --input"):
        job.main(config(tmp_path / "out", pictures, unet, export_labelme=f"{pictures}/doubts"))
    with pytest.raises(UserError, match="only .parquet inputs have columns"):
        job.main(config(tmp_path / "out", pictures, unet, id_column="name"))


def test_a_dry_run_writes_nothing(tmp_path: Path, pictures: str, unet: str) -> None:
    assert job.main(config(tmp_path / "out", pictures, unet, dry_run=True)) == {}
    assert not (tmp_path / "out").exists()


def test_a_dry_run_tells_what_a_run_would_refuse(straight: Path, pictures: str, unet: str) -> None:
    with pytest.raises(UserError, match="mirror: False there, True now"):
        job.main(config(straight, pictures, unet, dry_run=True, mirror=True))


def test_the_room_that_is_needed_counts_what_is_written_and_smaller_pictures(
    straight: Path, tmp_path: Path, pictures: str, unet: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert job.main(config(straight, pictures, unet))["labelled_now"] == 0
    items = job.prepare(config(straight, pictures, unet))[2]
    free = job._needed_bytes(items, None) - 1
    monkeypatch.setattr(storage, "free_bytes", lambda uri: free)
    with pytest.raises(UserError, match="the dataset needs about"):
        job.main(config(tmp_path / "new", pictures, unet))
    assert not (tmp_path / "new").exists()
    assert job.main(config(straight, pictures, unet))["labelled"] == COUNT, "it is all there already"
    assert job._needed_bytes(items, (8, 8)) < free


@pytest.mark.ray
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_job_in_good_order_and_the_command_continues(
    straight: Path, tmp_path: Path, pictures: str, unet: str, number: signal.Signals
) -> None:
    command = [sys.executable, job.__file__, "--input", pictures, "--model", unet, "--output", str(tmp_path)]
    command += ["--tracking", "none", "--batch-size", "4", "--num-workers", "1"]
    environment = os.environ | {"PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)
    assert process.stdout is not None
    for line in process.stdout:
        if "U-Net(s) on cpu" in line:
            break
    process.send_signal(number)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 128 + number, output
    assert "Continue with:" in output and "label_dataset.py" in output
    assert (tmp_path / "plan.json").exists() and not (tmp_path / "manifest.json").exists()
