"""jobs/evaluate_unet.py: numbers and page of an untrained U-Net, refusals."""

import json
from pathlib import Path

import numpy as np
import pytest
from tiny_models import save_spade, save_unet, write_pairs

from gaugan import metrics
from gaugan.errors import UserError
from gaugan.pairs import Pairs
from gaugan.segmenter import Segmenter
from jobs import evaluate_unet as job


def test_the_numbers_are_those_of_the_segmenter_and_the_worst_pictures_come_first(tmp_path: Path) -> None:
    data, model = write_pairs(tmp_path / "pairs", train=2, held_out=3), save_unet(tmp_path / "unet")
    config = job.Config(output=str(tmp_path / "out"), input=data, model=model, tracking="none", cpus_per_worker=1)
    found = job.main(config)
    assert found == json.loads((tmp_path / "out" / "metrics.json").read_text())
    pairs, segmenter = Pairs.open(data), Segmenter.load(model, precision="fp32")
    rows = [pairs.read("held_out", index) for index in range(3)]
    counts = sum(metrics.confusion(row.label_map, segmenter.segment([row.image])[0].label_map, 7) for row in rows)
    expected = metrics.label_scores(np.asarray(counts), pairs.classes.names)
    assert {name: found[name] for name in expected} == expected
    page = (tmp_path / "out" / "page" / "index.html").read_text()
    scores = [float(part.split("</b>")[0]) for part in page.split("</span><b>")[1:] if part[0] in "01"]
    assert len(list((tmp_path / "out" / "page" / "pictures").iterdir())) == 3
    assert scores[-3:] == sorted(scores[-3:])


def test_another_system_or_an_empty_split_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    data = write_pairs(tmp_path / "pairs", train=2, held_out=0)
    output = str(tmp_path / "out")
    with pytest.raises(UserError, match="not a unet"):
        job.main(job.Config(output=output, input=data, model=save_spade(tmp_path / "gaugan"), tracking="none"))
    with pytest.raises(UserError, match="held_out split is empty"):
        job.main(job.Config(output=output, input=data, model=save_unet(tmp_path / "unet"), tracking="none"))
    assert not (tmp_path / "out").exists()
