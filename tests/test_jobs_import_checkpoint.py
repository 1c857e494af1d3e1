"""Published weight files in and out: the same pictures, every layout of names, and refusals that list what is wrong."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
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
)
from torch import Tensor

from gaugan import checkpoint
from gaugan.config import from_plain, to_plain
from gaugan.errors import UserError
from gaugan.images import to_uint8
from gaugan.labels import ClassTable, distinct_colours
from gaugan.painter import Painter
from gaugan.spade.build import build_generator, encode_labels
from gaugan.spade.config import SpadeConfig
from gaugan.spade.discriminator import Discriminator
from gaugan.spade.encoder import StyleEncoder
from gaugan.spade.networks import Generator
from gaugan.spade.official import fill, generator_settings, our_names
from jobs import import_checkpoint
from jobs.import_checkpoint import Config

torch.set_num_threads(1)

GOLDEN = json.loads((Path(__file__).parent / "golden" / "spade.json").read_text())
TABLE = "name: five\nclasses: [a, b, c, d, e]\n"


@pytest.mark.parametrize("name", cases.GENERATORS)
def test_an_imported_generator_paints_the_published_picture(name: str, tmp_path: Path) -> None:
    case, seed = cases.GENERATORS[name], list(cases.GENERATORS).index(name)
    networks = {"G": official_generator(name)}
    if case["z_dim"]:
        networks["E"] = encoder_for(case["z_dim"])
    changes = {"image_size": case["size"], "upsampling": case.get("upsampling", "normal")}
    result = import_checkpoint.main(importing(write(tmp_path / "in", **networks), tmp_path / "run", **changes))
    generator = imported_generator(result["checkpoint"])
    instances = cases.instance_maps(case["size"], seed)
    labels = encode_labels(cases.label_maps(case["size"], seed), cases.CLASSES, dontcare=True, instance_map=instances)
    with torch.no_grad():
        painted = generator(labels, cases.style_vectors(case["z_dim"], seed) if case["z_dim"] else None)
    wanted = GOLDEN["generators"][name]["eval"]
    assert cases.probe(painted)["values"] == pytest.approx(wanted["values"], abs=1e-4)

    painter = Painter.load(str(tmp_path / "run"))
    maps = cases.label_maps(case["size"], seed).numpy().astype(np.uint8)
    z = cases.style_vectors(case["z_dim"], seed) if case["z_dim"] else None
    with_instances = painter.paint_z(maps, z, instance_maps=instances.numpy())
    assert np.abs(with_instances.astype(int) - to_uint8(painted).astype(int)).max() <= 1
    assert (painter.paint_z(maps, z) != with_instances).any()


def test_all_three_networks_travel_in_and_out_unchanged(tmp_path: Path) -> None:
    torch.manual_seed(0)
    generator = Generator(CHANNELS, (64, 64), ngf=4, z_dim=256)
    networks = {"G": weights(generator, 1), "D": weights(Discriminator(CHANNELS + 3, ndf=4, num_scales=3), 2)}
    networks["E"] = encoder_for(256)
    folder = write(tmp_path / "in", "20", **networks)
    (tmp_path / "classes.yaml").write_text(TABLE)
    changes = {"name": "20", "classes": str(tmp_path / "classes.yaml")}
    result = import_checkpoint.main(importing(folder, tmp_path / "run", **changes))
    loaded = checkpoint.load(result["checkpoint"])
    config = from_plain(SpadeConfig, loaded.meta["config"])
    assert (config.num_discriminators, config.ndf, config.nef, config.encoder_size) == (3, 4, 4, 256)
    assert loaded.classes.names == ("a", "b", "c", "d", "e")
    import_checkpoint.main(Config(model=str(tmp_path / "run"), output=str(tmp_path / "out"), tracking="none"))
    for kind, state in networks.items():
        written = torch.load(tmp_path / "out" / f"latest_net_{kind}.pth", weights_only=True)
        assert written.keys() == state.keys()
        assert all(torch.equal(written[name], value) for name, value in state.items())
    assert Painter.load(str(tmp_path / "run")).paint(np.zeros((1, 64, 64), np.uint8), seeds=[3]).shape == (1, 64, 64, 3)


def in_data_parallel(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"module.{name}": value for name, value in state.items()}


def in_parametrizations(state: dict[str, Tensor]) -> dict[str, Tensor]:
    endings = {"weight_orig": "original", "weight_u": "0._u", "weight_v": "0._v"}
    renamed = {}
    for name, value in state.items():
        layer, _, last = name.rpartition(".")
        renamed[f"{layer}.parametrizations.weight.{endings[last]}" if last in endings else name] = value
    return renamed


def of_torch_0_4(state: dict[str, Tensor]) -> dict[str, Tensor]:
    old = {}
    for name, value in state.items():
        if name.endswith(("weight_v", "num_batches_tracked")):
            continue
        old[name] = value
        if name.endswith("weight_orig"):
            u, v = state[name.replace("_orig", "_u")], state[name.replace("_orig", "_v")]
            matrix = value if len(u) == value.shape[0] else value.transpose(0, 1)
            old[name.removesuffix("_orig")] = value / (u @ matrix.flatten(1) @ v)
    return old


@pytest.mark.parametrize("layout", [in_data_parallel, in_parametrizations, of_torch_0_4])
@pytest.mark.parametrize("name", ["labels", "pix2pixhd, batch"])
def test_other_layouts_of_the_names_paint_the_same(layout: Any, name: str) -> None:
    state, case = official_generator(name), cases.GENERATORS[name]
    plain, other = (build_generator(golden_config(case), cases.CLASSES, case["size"]).eval() for _ in range(2))
    fill(plain, state, "plain")
    fill(other, our_names(layout(state)), "other")
    labels = torch.rand(1, CHANNELS, *case["size"])
    with torch.no_grad():
        torch.testing.assert_close(other(labels), plain(labels), rtol=0, atol=1e-5)


def test_files_in_the_old_container_are_read(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    torch.save(official_generator("labels"), folder / "latest_net_G.pth", _use_new_zipfile_serialization=False)
    file = importing(folder / "latest_net_G.pth", tmp_path / "run")
    assert import_checkpoint.main(file)["checkpoint"]


def test_all_that_does_not_fit_is_listed_and_nothing_is_written(tmp_path: Path) -> None:
    state = official_generator("labels")
    del state["up_0.conv_s.weight_orig"]
    state["up_1.norm_0.mlp_gamma.bias"] = torch.zeros(3)
    state["head_9.conv.weight"] = torch.zeros(2, 2)
    state["conv_img.bias"] = torch.tensor([0.0, torch.nan, 0.0])
    with pytest.raises(UserError) as caught:
        import_checkpoint.main(importing(write(tmp_path / "in", G=state), tmp_path / "run"))
    message = str(caught.value)
    assert "4 tensors do not fit" in message and "latest_net_G.pth" in message
    assert "missing: up_0.conv_s.weight_orig 32x64x1x1" in message
    assert "not known: head_9.conv.weight 2x2" in message
    assert "shape: up_1.norm_0.mlp_gamma.bias is 3, expected 32" in message
    assert "not finite: conv_img.bias" in message
    assert not (tmp_path / "run").exists()


class Payload:
    """Runs code when unpickled."""

    def __reduce__(self) -> Any:
        return (print, ("executed",))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"conv_img.weight": Payload()}, "tensors only"),
        ({"epoch": 3}, "not a state dict"),
        ({"conv1.weight": torch.zeros(2)}, "not the weights of a SPADE or pix2pixHD generator; it holds 1 tensors"),
        ({"model.1.bias": torch.zeros(2)}, "not the weights of a SPADE or pix2pixHD generator"),
    ],
)
def test_files_of_something_else_are_refused(
    content: Any, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UserError, match=message):
        import_checkpoint.main(importing(write(tmp_path / "in", G=content), tmp_path / "run"))
    assert "executed" not in capsys.readouterr().out


def test_flags_that_contradict_the_file_are_refused_with_the_arithmetic(tmp_path: Path) -> None:
    folder = write(tmp_path / "in", G=official_generator("labels"))
    (tmp_path / "classes.yaml").write_text(TABLE)
    base = importing(folder, tmp_path / "run", classes=str(tmp_path / "classes.yaml"))
    with pytest.raises(UserError, match="takes 7 label channels, but 5 classes . 1 for ignored pixels are 6"):
        import_checkpoint.main(dataclasses.replace(base, instance_edges=False))
    with pytest.raises(UserError, match="multiples of 32"):
        import_checkpoint.main(dataclasses.replace(base, image_size=(40,)))
    with pytest.raises(UserError, match="takes no style vector; leave out the encoder"):
        import_checkpoint.main(importing(write(tmp_path / "in", E=encoder_for(6)), tmp_path / "run"))
    with pytest.raises(
        UserError, match=r"no file .*20_net_G.pth; .pth files there: latest_net_E.pth, latest_net_G.pth"
    ):
        import_checkpoint.main(dataclasses.replace(base, name="20"))
    with pytest.raises(UserError, match="either --input"):
        dataclasses.replace(base, model="x")


def test_a_generator_with_styles_needs_its_encoder(tmp_path: Path) -> None:
    folder = write(tmp_path / "in", G=official_generator("style"))
    with pytest.raises(UserError, match="give its encoder"):
        import_checkpoint.main(importing(folder, tmp_path / "run"))
    with pytest.raises(UserError, match="styles of 6 numbers, the encoder gives 9"):
        import_checkpoint.main(importing(write(folder, E=encoder_for(9)), tmp_path / "run"))
    with pytest.raises(UserError, match="shape: fc.weight"):
        import_checkpoint.main(importing(write(folder, E=encoder_for(6)), tmp_path / "run", image_size=(128,)))


def test_an_export_that_the_published_code_cannot_load_is_refused_with_every_reason(tmp_path: Path) -> None:
    config = SpadeConfig(style="joint_vae", ngf=4, spade_hidden=8, z_dim=6, nef=8, discriminator_norm="instance")
    encoder = StyleEncoder(input_size=64, nef=8, z_dim=6, norm="none")
    generator = build_generator(config, cases.CLASSES, (32, 32))
    table = ClassTable(tuple("abcde"), tuple(distinct_colours(5)))
    uri = checkpoint.save(
        str(tmp_path / "model"), system="spade", config=to_plain(config), classes=table, image_size=(32, 32), step=1,
        state={"networks": {"G_ema": generator.state_dict(), "E": encoder.state_dict()}},
    )  # fmt: skip
    with pytest.raises(UserError) as caught:
        import_checkpoint.main(Config(model=uri, output=str(tmp_path / "out"), tracking="none"))
    for reason in (
        "spade_hidden 8",
        "discriminator_norm instance",
        "z_dim 6",
        "encoder_size 64",
        "nef 8",
        "encoder_norm",
    ):
        assert reason in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_what_a_file_shows_is_read_off_it() -> None:
    settings, channels = generator_settings(official_generator("labels, 5x5"), "file")
    assert channels == CHANNELS and settings["generator_norm"] == "spectralspadesyncbatch5x5"
    settings, _ = generator_settings(official_generator("pix2pixhd, none"), "file")
    assert settings["resnet_norm"] == "spectralnone" and settings["resnet_downsamplings"] == 2
    assert (settings["resnet_kernel_size"], settings["resnet_initial_kernel_size"]) == (5, 3)
