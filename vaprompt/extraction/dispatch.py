"""Handing out videos to workers that come and go: each has several in hand, and what a dead one had goes to others.

What a worker is, and where it runs, only the pool knows.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from vaprompt.extraction.plan import Job
from vaprompt.extraction.work import Told

LOSSES = 3
"""Workers that may die over one video until it counts as failed: it may be what they die of."""
TURN = 0.5
"""Seconds after which is looked again whether there is something to hand out."""


@dataclass(frozen=True)
class Arrived:
    """A worker is there, to which so many videos may be given at once."""

    worker: str
    hands: int


@dataclass(frozen=True)
class Ended:
    """A worker is at an end with a video; with the reason, if it failed."""

    worker: str
    video: str
    reason: str | None


@dataclass(frozen=True)
class Lost:
    """A worker is gone, and what it had in hand may or may not be done."""

    worker: str


Event = Arrived | Ended | Lost


@runtime_checkable
class Pool(Protocol):
    """Where workers come from."""

    def give(self, worker: str, job: Job) -> None:
        """Let a worker begin with a job."""
        ...

    def events(self, seconds: float) -> list[Event]:
        """Return what has happened; wait for it so long at most.

        Raises:
            VapromptError: what a worker met with is no video's fault, and ends the run.
        """
        ...


class _End:
    """There are no more jobs."""


_END = _End()


@dataclass
class _Worker:
    hands: int
    jobs: dict[str, Job] = field(default_factory=dict)


def dispatch(jobs: Iterator[Job | None], pool: Pool, told: Told) -> None:
    """Let a pool's workers do all jobs, and tell what became of each.

    Args:
        jobs: what is to be done; None: nothing now, ask again.
        pool: the workers.
        told: is told of each job that is over, and asked what is left of those whose workers died.

    Raises:
        VapromptError: what ended the run.
    """
    workers: dict[str, _Worker] = {}
    again: deque[Job] = deque()
    losses: Counter[str] = Counter()
    more = True
    while True:
        while more or again:
            free = max(workers.values(), key=lambda worker: worker.hands - len(worker.jobs), default=None)
            if free is None or len(free.jobs) >= free.hands:
                break
            job = again.popleft() if again else next(jobs, _END)
            if isinstance(job, _End):
                more = False
            elif job is None:
                break
            else:
                free.jobs[job.video.name] = job
                pool.give(next(name for name, worker in workers.items() if worker is free), job)
        if not more and not again and not any(worker.jobs for worker in workers.values()):
            return
        for event in pool.events(TURN):
            match event:
                case Arrived():
                    workers[event.worker] = _Worker(event.hands)
                case Ended():
                    job = workers[event.worker].jobs.pop(event.video)
                    if event.reason is None:
                        told.finished(job)
                    else:
                        told.failed(job, event.reason)
                case Lost():
                    for job in workers.pop(event.worker, _Worker(0)).jobs.values():
                        losses[job.video.name] += 1
                        left = told.lost(job)
                        if left is None:
                            told.finished(job)
                        elif losses[job.video.name] >= LOSSES:
                            told.failed(job, f"{LOSSES} workers died over it, as when memory does not suffice")
                        else:
                            again.append(left)
