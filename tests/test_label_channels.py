"""Published label channels: their order for ADE20K, and how many belong to what."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest
import torch
from golden import spade_cases as cases
from official_files import (
    CHANNELS,
    encoder_for,
    golden_config,
    imported_generator,
    importing,
    official_generator,
    weights,
    write,
)  # fmt: skip

from gaugan import checkpoint
from gaugan.errors import UserError
from gaugan.labels import onehot
from gaugan.spade.build import build_generator, encode_labels, instance_edges
from gaugan.spade.discriminator import Discriminator
from gaugan.spade.label_channels import published_flags
from gaugan.spade.networks import Generator
from jobs import import_checkpoint
from jobs.import_checkpoint import Config


@pytest.mark.parametrize("name", ["labels", "style", "pix2pixhd, batch"])
def test_weights_with_the_unknown_channel_first_paint_alike_in_our_order_and_travel_back(
    name: str, tmp_path: Path
) -> None:
    """The published ADE20K networks see the ids of the files: 0 = unknown, then the classes."""
    case, state = cases.GENERATORS[name], official_generator(name)
    networks = {"G": state, "D": weights(Discriminator(CHANNELS + 3, ndf=4), 2)}
    if case["z_dim"]:
        networks["E"] = encoder_for(256)
        networks["G"] = weights(Generator(CHANNELS, case["size"], ngf=4, z_dim=256), 5)
    changes = {"image_size": case["size"], "unknown_first": True}
    result = import_checkpoint.main(importing(write(tmp_path / "in", **networks), tmp_path / "run", **changes))
    ids, instances = cases.label_maps(case["size"], 3), cases.instance_maps(case["size"], 3)
    in_file = torch.where(ids == 255, 0, ids + 1)
    theirs = torch.cat([onehot(in_file, cases.CLASSES + 1), instance_edges(instances)], dim=1)
    ours = encode_labels(ids, cases.CLASSES, dontcare=True, instance_map=instances)
    config = dataclasses.replace(golden_config(case), z_dim=256)
    published = build_generator(config, cases.CLASSES, case["size"])
    published.load_state_dict(networks["G"])
    z = cases.style_vectors(256, 0) if case["z_dim"] else None
    judge = Discriminator(CHANNELS + 3, ndf=4)
    judge.load_state_dict(networks["D"])
    our_judge = Discriminator(CHANNELS + 3, ndf=4)
    our_judge.load_state_dict(checkpoint.load(result["checkpoint"]).state["networks"]["D"])
    with torch.no_grad():
        painted = published.eval()(theirs, z)
        torch.testing.assert_close(imported_generator(result["checkpoint"])(ours, z), painted, rtol=0, atol=1e-5)
        for found, wanted in zip(our_judge.eval()(ours, painted), judge.eval()(theirs, painted), strict=True):
            torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5)
    exported = import_checkpoint.main(
        Config(model=str(tmp_path / "run"), output=str(tmp_path / "out"), tracking="none", unknown_first=True)
    )
    for uri, state in zip(exported["files"], [networks["G"], networks["D"]], strict=False):
        written = torch.load(uri, weights_only=True)
        assert all(torch.equal(written[key], value) for key, value in state.items())


@pytest.mark.parametrize(
    ("channels", "flags"),
    [
        (184, ["--classes coco --dontcare-channel --instance-edges"]),
        (183, ["--classes coco --dontcare-channel"]),
        (151, ["--classes ade20k --dontcare-channel --unknown-first"]),
        (36, ["--classes cityscapes --instance-edges"]),
        (13, ["--classes facades"]),
        (77, []),
    ],
)
def test_published_numbers_of_channels_are_known_by_their_flags(channels: int, flags: list[str]) -> None:
    assert published_flags(channels) == flags


def test_a_missing_or_other_class_table_is_told_with_the_flags_that_fit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = weights(Generator(36, (32, 32), ngf=2, z_dim=None), 1)
    folder = write(tmp_path / "in", G=state)
    plain = {"image_size": (32,), "dontcare_channel": False, "instance_edges": False}
    with pytest.raises(UserError, match="takes 36 label channels, but 13 classes are 13; 36 channels are --classes"):
        import_checkpoint.main(importing(folder, tmp_path / "run", classes="facades", **plain))
    with pytest.raises(UserError, match="--unknown-first: .* give --dontcare-channel as well"):
        import_checkpoint.main(importing(folder, tmp_path / "run", unknown_first=True, **plain))
    import_checkpoint.main(importing(folder, tmp_path / "run", dry_run=True, **plain))
    assert re.search("no names.*36 label channels: --classes cityscapes --instance-edges", capsys.readouterr().out)
