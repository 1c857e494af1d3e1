"""The other sides of benchmarks/serving.py, each a process of its own.

    python benchmarks/serving_sides.py --side make  --folder DIR        # a generator's checkpoint and label maps
    python benchmarks/serving_sides.py --side plain --folder DIR --port 8100
    python benchmarks/serving_sides.py --side bare  --folder DIR        # a number of seconds on stdin -> a JSON line

`plain` is what one writes in an hour: FastAPI and uvicorn around the generator as published (eager float32 NCHW, every
pixel convolved), all cores to every request. `bare` renders label map after label map without any server.
"""

from __future__ import annotations

import io
import json
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

sys.path.insert(0, str(Path(__file__).parent.parent))

import numpy as np

from gaugan.config import parse

NUM_MAPS = 32
Z_DIM = 64


@dataclass(frozen=True)
class Config:
    """Which side."""

    side: Literal["make", "plain", "bare"]
    """What to do."""
    folder: str
    """Where checkpoint and label maps lie."""
    size: int = 256
    """Side of the pictures; make only."""
    ngf: int = 64
    """Width of the generator; make only."""
    port: int = 8100
    """Of the plain server."""
    threads: int = 0
    """torch threads; 0 = all cores."""


def make(config: Config) -> None:
    """FOLDER/checkpoint: seeded weights with calibrated statistics; FOLDER/maps: label maps of drawn portraits."""
    import torch

    from gaugan import checkpoint
    from gaugan.config import to_plain
    from gaugan.labels import PORTRAIT_CLASSES, encode_label_map
    from gaugan.nn import power_iteration, recalibrate
    from gaugan.portraits import draw_portrait
    from gaugan.spade.build import build_generator
    from gaugan.spade.config import SpadeConfig
    from gaugan.spade.label_pyramid import LabelPyramid
    from gaugan.spade.style import build_style

    torch.manual_seed(0)
    size = (config.size, config.size)
    settings = SpadeConfig(style="joint_vae", ngf=config.ngf, z_dim=Z_DIM, encoder_size=64, nef=16)
    generator, style = build_generator(settings, PORTRAIT_CLASSES.num_classes, size), build_style(settings, size)
    maps = [draw_portrait(seed, config.size)[1] for seed in range(NUM_MAPS)]
    power_iteration(generator, 15)
    labels = LabelPyramid.from_ids(torch.from_numpy(np.stack(maps[:2])).long(), PORTRAIT_CLASSES.num_classes)
    with torch.no_grad():
        recalibrate(generator, (generator(labels, torch.randn(2, Z_DIM)) for _ in range(1)))
    networks = {"G_ema": generator, "E": style.encoder, "style": style.prior}
    checkpoint.save(
        str(Path(config.folder) / "checkpoint"), system="spade", config=to_plain(settings), classes=PORTRAIT_CLASSES,
        image_size=size, step=1, state={"networks": {name: one.state_dict() for name, one in networks.items()}},
    )  # fmt: skip
    folder = Path(config.folder) / "maps"
    folder.mkdir(exist_ok=True)
    for number, ids in enumerate(maps):
        (folder / f"{number:02d}.png").write_bytes(encode_label_map(ids, PORTRAIT_CLASSES))


def plain(config: Config) -> None:
    """POST /v1/paint with label_map and seed, until ended."""
    import torch
    import uvicorn
    from fastapi import FastAPI, Form, Response, UploadFile
    from PIL import Image

    from benchmarks.spade_reference import ReferenceGenerator
    from gaugan import checkpoint
    from gaugan.config import from_plain
    from gaugan.spade.build import build_generator
    from gaugan.spade.config import SpadeConfig

    loaded = checkpoint.load(str(Path(config.folder) / "checkpoint"))
    settings = from_plain(SpadeConfig, loaded.meta["config"], source="checkpoint")
    num_classes = loaded.classes.num_classes
    generator = build_generator(settings, num_classes, loaded.image_size)
    generator.load_state_dict(loaded.state["networks"]["G_ema"])
    network = ReferenceGenerator(generator).eval()  # type: ignore[arg-type]
    app = FastAPI()

    def paint(label_map: UploadFile, seed: int = Form(0)) -> Response:
        ids = torch.from_numpy(np.array(Image.open(label_map.file))).long()
        onehot = torch.nn.functional.one_hot(ids, num_classes).permute(2, 0, 1)[None].float()
        z = torch.randn(1, Z_DIM, generator=torch.Generator().manual_seed(seed))
        with torch.inference_mode():
            picture = network(onehot, z)[0]
        pixels = ((picture + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        return Response(buffer.getvalue(), media_type="image/png")

    # The annotations are names of this function's, which FastAPI can't look up by itself.
    paint.__annotations__ = {"label_map": UploadFile, "seed": int, "return": Response}
    app.post("/v1/paint")(paint)
    app.get("/v2/health/ready")(lambda: {"ready": True})
    uvicorn.run(app, host="127.0.0.1", port=config.port, log_level="error")


def bare(config: Config) -> None:
    """For every line with a JSON list of label map numbers: the list of the seconds that rendering each took."""
    from gaugan.labels import PORTRAIT_CLASSES, decode_label_map
    from gaugan.painter import Painter

    painter = Painter.load(str(Path(config.folder) / "checkpoint"))
    paths = sorted((Path(config.folder) / "maps").iterdir())
    maps = [decode_label_map(path.read_bytes(), PORTRAIT_CLASSES) for path in paths]
    painter.paint(maps[0][None], [0])
    print("ready", flush=True)
    for line in sys.stdin:
        seconds: list[float] = []
        for number in json.loads(line):
            start = time.perf_counter()
            painter.paint(maps[number][None], [number])
            seconds.append(time.perf_counter() - start)
        print(json.dumps(seconds), flush=True)


def main(config: Config) -> None:
    """Does what --side says."""
    import torch

    torch.set_num_threads(config.threads or os.cpu_count() or 1)
    sides: dict[str, Any] = {"make": make, "plain": plain, "bare": bare}
    sides[config.side](config)


if __name__ == "__main__":
    main(parse(Config, description=__doc__ or ""))
