"""The label job end to end against the bare limit and against a plain script, and at growing numbers of small pictures.

    python benchmarks/labelling.py [--model URI] [--rounds 3 --pictures 640 --seconds 10] [--full]

Per round, in turns: limit, job, plain script, and the limit once more at the end. The limit is as many processes as
there are cores, one thread each, that run the optimised U-Net, argmax and confidences on preloaded tensors; the job's
rate is that of its steady state (the first chunk of each U-Net excluded), against the mean of the limits around it.
The plain script has one thread or all cores, whichever is faster. Without a model a U-Net is trained for a few steps on
drawn portraits. Then pictures of 64 px and a tiny network: 1,000 and 5,000 of them (--full: also 10,000 and 100,000),
whose steady rates expose what the framework costs.

Prints one JSON line last: of_limit and over_plain_script (medians of the rounds), images_per_s (steady), peak_mb (of
all the job's processes, shared pages once), first_s and fixed_s (start to the first labelled chunk; all that is not
steady state), small (count -> steady rate and peak), flatness (largest deviation of those rates from their mean).
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import psutil

from gaugan.config import parse

ROOT = Path(__file__).resolve().parent.parent
SMALL_PX = 64
DIFFERENT = 64
"""So many different pictures are drawn; further ones are links to them."""
SAMPLE_EVERY_S = 0.5


@dataclass(frozen=True)
class Config:
    """What is measured."""

    model: str = ""
    """URI of a U-Net checkpoint; empty = train one briefly."""
    size: int = 512
    """Side of the pictures in pixels, and that at which the U-Net works."""
    pictures: int = 320
    """Per round of the job."""
    rounds: int = 1
    """How often the sides take turns."""
    seconds: float = 6.0
    """Of a limit's and of a plain script's turn."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Of job and limit; auto = bf16 where this processor gains by it."""
    small: tuple[int, ...] = (1000, 5000)
    """Numbers of small pictures; none = that part is left out."""
    full: bool = False
    """Also 10,000 and 100,000 small pictures."""
    train_steps: int = 40
    """Steps of the short training."""


def main(config: Config) -> dict[str, Any]:
    """Measures, prints and returns the figures."""
    if config.precision == "auto":
        import torch

        from gaugan.precision import compute_dtype

        dtype = compute_dtype("auto", torch.device("cpu"))
        config = replace(config, precision="bf16" if dtype == torch.bfloat16 else "fp32")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        figures = compare(config, root)
        if config.small or config.full:
            figures |= grow(config, root)
    print(json.dumps(figures))
    return figures


def compare(config: Config, root: Path) -> dict[str, Any]:
    """Job, limit and plain script at full size."""
    model = config.model or save_trained(root / "unet", config.train_steps)
    pictures = write_pictures(root / "pictures", config.pictures, config.size, "JPEG")
    jobs, limits, plains = [], [], []
    for number in range(config.rounds):
        limits.append(run_sides("limit", config, model, pictures, os.cpu_count() or 1, 1))
        flags = ["--segment-size", str(config.size), "--precision", config.precision]
        jobs.append(run_job(root / f"labelled{number}", pictures, model, *flags))
        # Two threads beside another busy process may be slower than one: the script gets the better of both.
        several = {run_sides("plain", config, model, pictures, 1, threads) for threads in {1, os.cpu_count() or 1}}
        plains.append(max(several))
        tell(f"limit {limits[-1]:.2f}/s, job {jobs[-1]}, plain {plains[-1]:.2f}/s")
    limits.append(run_sides("limit", config, model, pictures, os.cpu_count() or 1, 1))
    around = [(before + after) / 2 for before, after in zip(limits, limits[1:], strict=False)]
    rates = [job["steady_per_s"] for job in jobs]
    middle = statistics.median
    return {
        "of_limit": round(middle(rate / bar for rate, bar in zip(rates, around, strict=True)), 3),
        "over_plain_script": round(middle(rate / bar for rate, bar in zip(rates, plains, strict=True)), 2),
        "images_per_s": round(middle(rates), 2),
        "peak_mb": max(job["peak_mb"] for job in jobs),
        "limit_per_s": round(middle(limits), 2),
        "plain_per_s": round(middle(plains), 2),
        "first_s": middle(job["first_s"] for job in jobs),
        "fixed_s": round(middle(job["wall_s"] - config.pictures / job["steady_per_s"] for job in jobs), 1),
        "precision": config.precision,
    }


def grow(config: Config, root: Path) -> dict[str, Any]:
    """The job over growing numbers of small pictures."""
    model, found = save_tiny(root / "tiny"), {}
    for count in (*config.small, *((10_000, 100_000) if config.full else ())):
        pictures = write_pictures(root / f"small{count}", count, SMALL_PX, "PNG")
        job = run_job(root / f"small{count}_labelled", pictures, model)
        found[count] = {name: job[name] for name in ("steady_per_s", "peak_mb", "driver_mb", "first_s")}
        tell(f"{count} small pictures: {found[count]}")
    rates = [each["steady_per_s"] for each in found.values()]
    mean = statistics.mean(rates)
    return {"small": found, "flatness": round(max(abs(rate - mean) for rate in rates) / mean, 3)}


def run_job(output: Path, pictures: Path, model: str, *flags: str) -> dict[str, Any]:
    """jobs/label_dataset.py as a user runs it: its own figures, wall_s, and the peak memory of its processes."""
    words = ["jobs/label_dataset.py", "--input", str(pictures), "--model", model, "--output", str(output)]
    log, start = output.with_suffix(".log"), time.monotonic()
    with log.open("w") as file:
        command = [sys.executable, *words, "--tracking", "none", *flags]
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, cwd=ROOT)
    peak, driver = 0, 0
    while process.poll() is None:
        sizes = memory_bytes(process.pid)
        peak, driver = max(peak, sum(sizes)), max(driver, *sizes[:1], 0)
        time.sleep(SAMPLE_EVERY_S)
    if process.returncode:
        raise RuntimeError(log.read_text()[-3000:])
    stats = json.loads((output / "stats.json").read_text())
    own = {name: stats[name] for name in ("steady_per_s", "pictures_per_s", "first_s")}
    wall = round(time.monotonic() - start, 1)
    return own | {"wall_s": wall, "peak_mb": round(peak / 2**20), "driver_mb": round(driver / 2**20)}


def memory_bytes(pid: int) -> list[int]:
    """Proportional set sizes of a process and all below it, its own first."""
    sizes = []
    try:
        top = psutil.Process(pid)
        family = [top, *top.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []
    for process in family:
        try:
            sizes.append(process.memory_full_info().pss)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return sizes


def run_sides(side: str, config: Config, model: str, pictures: Path, processes: int, threads: int) -> float:
    """Pictures per second of so many processes of a side that work at the same time."""
    words = ["benchmarks/labelling_sides.py", "--side", side, "--model", model, "--pictures", str(pictures)]
    words += ["--seconds", str(config.seconds), "--threads", str(threads), "--precision", config.precision]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "cwd": ROOT}
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    running = [subprocess.Popen([sys.executable, *words], env=environment, **pipes) for _ in range(processes)]
    for process in running:
        if process.stdout.readline().strip() != "ready":  # type: ignore[union-attr]
            raise RuntimeError(f"the {side} side did not start: {process.communicate()}")
    for process in running:
        process.stdin.write("go\n")  # type: ignore[union-attr]
        process.stdin.flush()  # type: ignore[union-attr]
    answers = [json.loads(process.communicate()[0].splitlines()[-1]) for process in running]
    return float(sum(answer["count"] / answer["seconds"] for answer in answers))


def write_pictures(folder: Path, count: int, size: int, kind: str) -> Path:
    """Drawn portraits as JPEG or PNG files; beyond DIFFERENT of them, further names of the same files."""
    from gaugan.images import encode_jpeg, encode_png
    from gaugan.portraits import draw_portrait

    folder.mkdir()
    for number in range(count):
        path = folder / f"{number:06d}.{'jpg' if kind == 'JPEG' else 'png'}"
        if number < DIFFERENT:
            image = draw_portrait(1000 + number, size)[0]
            path.write_bytes(encode_jpeg(image) if kind == "JPEG" else encode_png(image))
        else:
            path.hardlink_to(folder / f"{number % DIFFERENT:06d}{path.suffix}")
    return folder


def save_trained(folder: Path, steps: int) -> str:
    """A U-Net v3 that has learnt from drawn portraits for a few steps: random weights would draw nothing but specks."""
    import warnings

    import numpy as np
    import torch

    from gaugan.images import to_tensor
    from gaugan.labels import PORTRAIT_CLASSES
    from gaugan.portraits import draw_portrait
    from gaugan.unet.system import UNetConfig, UNetSystem

    torch.manual_seed(0)
    pairs = [draw_portrait(seed, 128) for seed in range(32)]
    image = to_tensor(np.stack([pair[0] for pair in pairs]))
    label_map = torch.from_numpy(np.stack([pair[1] for pair in pairs])).long()
    config = UNetConfig(encoder_weights="none", warmup_steps=5, decay_steps=max(steps, 6), half_size_share=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        system = UNetSystem(config, classes=PORTRAIT_CLASSES, image_size=(128, 128), device=torch.device("cpu"))
    for step in range(steps):
        rows = slice(step % 4 * 8, step % 4 * 8 + 8)
        system.train_step({"image": image[rows], "label_map": label_map[rows]}, step)
    return save_unet(folder, system.unet, config, 128)


def save_tiny(folder: Path) -> str:
    """A U-Net of narrow layers with random weights."""
    import torch

    from gaugan.unet.config import UNetConfig
    from gaugan.unet.networks import UNet

    torch.manual_seed(0)
    config = UNetConfig(widths=(16, 8, 8, 8, 8), encoder_weights="none")
    return save_unet(folder, UNet(config.version, 7, config.widths), config, SMALL_PX)


def save_unet(folder: Path, unet: Any, config: Any, size: int) -> str:
    from gaugan import checkpoint
    from gaugan.config import to_plain
    from gaugan.labels import PORTRAIT_CLASSES

    state = {"networks": {"unet_ema": unet.state_dict()}}
    return checkpoint.save(
        str(folder), system="unet", config=to_plain(config), classes=PORTRAIT_CLASSES, image_size=(size, size), step=1,
        state=state,
    )  # fmt: skip


def tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main(parse(Config, description=__doc__ or ""))
