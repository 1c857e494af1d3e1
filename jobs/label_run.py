"""One invocation of the label job at work: what is left to do, the stages over it, each shard merged when complete."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from gaugan import label_plan, label_shards, storage
from gaugan.label_plan import Chunk, LabelPlan
from gaugan.label_shards import KEPT
from gaugan.labels import ClassTable
from gaugan.listing import Item, Shards
from gaugan.progress import Pace, Progress
from jobs.command import STOP, start_ray

if TYPE_CHECKING:
    from jobs.label_dataset import Config

MERGES_AT_ONCE = 4


@dataclass
class Job:
    """What is left to do, and how far it is."""

    config: Config
    plan: LabelPlan
    classes: ClassTable
    shards: Shards
    finished: dict[int, dict[str, Any]]
    """Summaries of the shards that stand."""
    pace: Pace
    kept: dict[int, set[str]] = field(default_factory=dict)
    """Shard that a retry took apart -> ids that are not done again."""
    missing: dict[int, set[int]] = field(default_factory=dict)
    """Unfinished shard -> chunks that are not yet written."""
    tally: Counter[str] = field(default_factory=Counter)
    """Outcomes of this invocation."""
    merging: list[Any] = field(default_factory=list)

    def chunks(self, shard: int) -> list[Chunk]:
        """The units of work of a shard."""
        kept = self.kept.get(shard, set())
        return list(label_plan.chunks(self.plan, shard, [item for item in self.shards[shard] if item.id not in kept]))

    def num_todo(self, shard: int) -> int:
        """Inputs of a shard that its chunks hold."""
        return self.shards.size(shard) - len(self.kept.get(shard, ()))

    def num_chunks(self, shard: int) -> int:
        return -(-self.num_todo(shard) // self.plan.batch_size)

    def num_inputs(self, shard: int, chunks: set[int]) -> int:
        """In some of its chunks; the last one may be short."""
        last, size = self.num_chunks(shard) - 1, self.plan.batch_size
        return len(chunks) * size - (last in chunks) * (self.num_chunks(shard) * size - self.num_todo(shard))

    def work(self) -> Iterator[Chunk]:
        """The chunks to do, shard by shard, so that shards get complete one after the other."""
        for shard, wanted in self.missing.items():
            yield from (chunk for chunk in self.chunks(shard) if chunk.index in wanted)


def open_job(config: Config, plan: LabelPlan, classes: ClassTable, items: Sequence[Item], pace: Pace) -> Job:
    """What an earlier invocation has finished is not done again, but for refused rows with --retry-failed."""
    output = config.output
    job = Job(config, plan, classes, label_plan.by_shard(plan, items), label_shards.finished_shards(output), pace)
    if config.retry_failed is not None:
        _retry(job, config.retry_failed)
    if len(job.finished) == len(job.shards):
        return job
    pieces = label_shards.staged_pieces(output)
    for shard in job.shards:
        if shard in job.finished:
            continue
        there = pieces.get(shard, set())
        if KEPT in there:
            job.kept[shard] = label_shards.kept_ids(output, shard)
        job.missing[shard] = set(range(job.num_chunks(shard))) - {piece for piece in there if piece != KEPT}
    return job


def _retry(job: Job, codes: tuple[str, ...]) -> None:
    """Opens the shards that hold rows refused with one of the codes (all, when empty)."""
    output, count = job.config.output, 0
    storage.remove(storage.join(output, "manifest.json"))  # no dataset while its shards change
    for shard, there in label_shards.staged_pieces(output).items():
        if shard not in job.finished:
            waiting = [piece for piece in there if isinstance(piece, int)]
            count += sum(label_shards.forget_refused(output, shard, piece, codes) for piece in waiting)
    for shard in list(job.finished):
        again = label_shards.reopen(output, shard, codes, job.classes)
        if again:
            del job.finished[shard]
        count += again
    print(f"--retry-failed: {count} refused inputs{' with code ' + ', '.join(codes) if codes else ''} are done again")


def label(job: Job) -> None:
    """Runs the stages over all missing chunks, merges each shard as soon as it is complete."""
    todo = sum(job.num_inputs(shard, chunks) for shard, chunks in job.missing.items())
    done = job.plan.num_inputs - todo
    if done:
        print(f"continues {job.config.output}: {done} of {job.plan.num_inputs} inputs are done", flush=True)
    if not job.missing:
        return
    start_ray(job.config)
    from jobs.label_stages import run_stages
    from jobs.stages import share_machine

    for shard in [shard for shard, chunks in job.missing.items() if not chunks]:
        _merge(job, shard)
    progress = Progress(job.plan.num_inputs, done, unit="picture")
    if todo:
        num_chunks = sum(map(len, job.missing.values()))
        pool = share_machine(job.config.num_workers, job.plan.threads, job.config.use_gpu)
        job.pace.skip = pool.num_workers
        print(f"{todo} inputs, {pool.num_workers} U-Net(s) on {job.plan.device}", flush=True)
        for row in run_stages(job.work(), num_chunks, job.plan, job.classes, job.config.output, pool, STOP):
            if row is not None:
                done += _account(job, row)
            _collect(job, MERGES_AT_ONCE)
            progress.tell(done, tallies(job.tally))
    _collect(job, 0)


def _account(job: Job, row: dict[str, Any]) -> int:
    """Notes one written chunk; returns its number of inputs."""
    shard, index = int(row["shard"]), int(row["index"])
    job.tally.update(dict(zip(row["codes"], map(int, row["counts"]), strict=True)))
    job.missing[shard].discard(index)
    if not job.missing[shard]:
        _merge(job, shard)
    count = int(sum(row["counts"]))
    job.pace.add(count)
    return count


def _merge(job: Job, shard: int) -> None:
    import ray

    task = ray.remote(label_shards.merge_shard).options(num_cpus=0)
    pieces = [*range(job.num_chunks(shard)), *([KEPT] if shard in job.kept else [])]
    items = sorted(job.shards[shard], key=lambda item: item.id)
    job.merging.append(task.remote(shard, items, pieces, job.config.output))


def _collect(job: Job, leave: int) -> None:
    """Takes the finished merges; waits until at most `leave` are under way."""
    import ray

    while job.merging:
        ready, job.merging = ray.wait(job.merging, timeout=None if len(job.merging) > leave else 0)
        if not ready:
            return
        summary = ray.get(ready[0])
        job.finished[summary["shard"]] = summary
        del job.missing[summary["shard"]]
        storage.remove(storage.join(job.config.output, ".work", f"{summary['shard']:05d}"))


def tallies(counts: dict[str, int]) -> str:
    """{"labelled": 90, "corrupt": 2} -> "corrupt 2"."""
    return ", ".join(f"{code} {count}" for code, count in sorted(counts.items()) if code != "labelled")
