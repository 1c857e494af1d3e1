"""What a job's workers need of Ray, and what is said when it is not there.

A private Ray never grows: workers that it has no room for are refused at once. A cluster may still get machines, so
there they are waited for, aloud.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gaugan.errors import UserError
from gaugan.plan import TrainingPlan

FIRST_TOLD_S = 20.0
"""A usual start takes 10 to 15 s on two cores."""
TOLD_EVERY_S = 60.0


@dataclass(frozen=True)
class Workers:
    """Processes that Ray starts, and what each of them needs."""

    count: int
    cpus: int
    use_gpu: bool = False
    """One GPU each."""

    def __str__(self) -> str:
        kinds = _amounts({"CPU": self.cpus, "GPU": float(self.use_gpu)}, also_none=False)
        return f"{self.count} worker of {kinds}" if self.count == 1 else f"{self.count} workers of {kinds} each"


def _amounts(resources: Mapping[str, float], also_none: bool = True) -> str:
    amounts = [(resources.get(kind, 0.0), kind) for kind in ("CPU", "GPU")]
    return " and ".join(f"{n:g} {kind}{'s' * (n != 1)}" for n, kind in amounts if n or also_none)


def on_a_cluster() -> bool:
    """True when the job is on a cluster of others, which may grow, and not on a Ray of its own."""
    return bool(os.environ.get("RAY_ADDRESS"))


def check_resources(workers: Workers) -> None:
    """Raises UserError when the running private Ray lacks what the workers need."""
    import ray

    if on_a_cluster():
        return
    found = ray.cluster_resources()
    gpus, cpus = int(found.get("GPU", 0)), int(found.get("CPU", 0))
    if workers.use_gpu and gpus < workers.count:
        less = f"lower --num-workers to {gpus}, " if gpus else ""
        raise UserError(
            f"--use-gpu --num-workers {workers.count}: one GPU per worker, and this machine has {gpus}; {less}leave "
            "--use-gpu out, or submit the job to a cluster that has them (cluster/submit.md)"
        )
    if cpus < workers.count * workers.cpus:
        raise UserError(
            f"--num-workers {workers.count} --cpus-per-worker {workers.cpus}: Ray has {cpus} CPUs on this machine; "
            "lower one of the two"
        )


def check_training_memory(plan: TrainingPlan, num_classes: int, num_workers: int) -> None:
    """Refuses a training on this machine's CPUs that takes twice the free memory; warns of one that takes all of it.

    The estimate is rough (gaugan.memory): what might work is never refused. Nothing is said of GPUs and clusters.
    """
    import psutil

    from gaugan.memory import FLAGS, training_bytes

    needed = None if plan.use_gpu or on_a_cluster() else training_bytes(plan, num_classes, num_workers)
    if needed is None:
        return
    free = psutil.virtual_memory().available + psutil.swap_memory().free
    advice = f"{FLAGS[plan.system]}{' or --num-workers' * (num_workers > 1)}"
    about = f"about {needed / 2**30:.1f} GiB of memory, {free / 2**30:.1f} GiB are free"
    sizes = f"--image-size {plan.image_size[0]} {plan.image_size[1]} --batch-size {plan.batch_size}"
    if needed > 2 * free:
        raise UserError(f"{sizes}: the training takes {about}; lower {advice}, or train on a GPU (--use-gpu)")
    if needed > free:
        print(f"warning: the training takes {about}; if it is killed, lower {advice}", flush=True)


class Wait:
    """Says at intervals that workers have not started, so that a wait for machines never looks like a hang."""

    def __init__(self, workers: Workers) -> None:
        self.workers, self._told = workers, -math.inf

    def tell(self, silent_s: float) -> None:
        """To be called often; `silent_s`: for so long nothing has been heard of the workers."""
        import ray

        now = time.monotonic()
        if silent_s < FIRST_TOLD_S or now - self._told < TOLD_EVERY_S:
            return
        self._told = now
        has, free = _amounts(ray.cluster_resources()), _amounts(ray.available_resources())
        print(f"waiting for {self.workers} to start; the cluster has {has}, free are {free}", flush=True)


class Starting:
    """Actors that were just created and have been asked nothing yet."""

    def __init__(self, workers: Workers, actors: list[Any]) -> None:
        self._wait, self._begun = Wait(workers), time.monotonic()
        self._missing = [actor.__ray_ready__.remote() for actor in actors]

    def look(self) -> None:
        """To be called often: tells when some have not started for long."""
        import ray

        if self._missing:
            self._missing = ray.wait(self._missing, num_returns=len(self._missing), timeout=0)[1]
        if self._missing:
            self._wait.tell(time.monotonic() - self._begun)
