"""A toy that a sweep can train in milliseconds: it stands in for the painter in the tests of tune/."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gaugan import images, storage
from gaugan.labels import PORTRAIT_CLASSES
from gaugan.pairs import Pair, PairsWriter
from gaugan.spade.config import SpadeConfig
from jobs.train_gaugan import TrainGauGAN


def write_base(folder: Path, **changes: Any) -> str:
    """A base.yaml whose data stand: a dataset of two pairs."""
    from dataclasses import replace

    import numpy as np

    from gaugan.config import to_yaml
    from gaugan.labels import encode_label_map

    data = str(folder / "pairs")
    writer = PairsWriter(data, PORTRAIT_CLASSES)
    picture, label_map = np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8), np.uint8)
    encoded = images.encode_png(picture), encode_label_map(label_map, PORTRAIT_CLASSES)
    writer.add(Pair("a", *encoded, 8, 8))
    writer.add(Pair("b", *encoded, 8, 8, "held_out"))
    writer.finish()
    spade = SpadeConfig(style="joint_vae")
    base = replace(
        TrainGauGAN(input=data, output=str(folder / "unused"), steps=1234, dry_run=True, spade=spade), **changes
    )
    storage.write_text(str(folder / "base.yaml"), to_yaml(base))
    return str(folder / "base.yaml")


def score(job: TrainGauGAN, step: int) -> float:
    """Grows with the steps; best at lambda_feat = 8."""
    return step / job.steps - abs(job.spade.lambda_feat - 8.0) / 8.0


def toy_train(
    job: TrainGauGAN, report: Callable[[int, dict[str, float]], None], should_stop: Callable[[], bool]
) -> dict[str, Any]:
    """One "step" is an appended line of steps.txt; it resumes after the last line."""
    marks = Path(job.output, "steps.txt")
    done = len(marks.read_text().splitlines()) if marks.exists() else 0
    Path(job.output, "samples").mkdir(exist_ok=True)
    for step in range(done + 1, job.steps + 1):
        time.sleep(float(os.environ.get("TOY_STEP_S", "0.01")))
        with marks.open("a") as file:
            file.write(f"{step} {os.getpid()}\n")
        if step % (job.evaluate_every or 1) == 0:
            picture = _picture(job.spade.lambda_feat)
            storage.write_bytes(f"{job.output}/samples/step_{step:08d}.png", images.encode_png(picture))
            report(step, {"held_out/style_effect": score(job, step), "held_out/l1": 0.5})
        if should_stop():
            return {"status": "stopped", "step": step}
    return {"status": "finished", "step": job.steps}


def crashing_train(job: TrainGauGAN, report: Any, should_stop: Any) -> dict[str, Any]:
    """Trial 1 raises each time, trial 2 loses its process once."""
    if job.output.endswith("001"):
        Path(job.output, f"tried-{time.time_ns()}").touch()
        raise RuntimeError("no such luck")
    killed = Path(job.output, "killed")
    if job.output.endswith("002") and not killed.exists():
        killed.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return toy_train(job, report, should_stop)


def _picture(value: float) -> Any:
    import numpy as np

    return np.full((16, 32, 3), int(min(value, 40.0) * 6), np.uint8)


if __name__ == "__main__":
    import sys

    sys.path.insert(0, str(Path(__file__).parent))  # the workers' search path is this process's folder
    import tune_toys

    from jobs.command import run
    from tune import sweep

    run(lambda config: sweep.main(config, tune_toys.toy_train), sweep.SweepConfig)
