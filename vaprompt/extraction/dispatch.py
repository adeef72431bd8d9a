"""Handing out videos to workers that come and go: each has several in hand, and what a dead one had goes to others.

A worker may have died of a video. Whatever it had in hand is then suspect, and is handed out when nothing else is left:
each to a worker that has nothing else in hand, so that a deadly one fails and takes no other with it. What a worker
had that went with its machine is handed out as before.

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
"""Workers that may die with nothing but one video in hand until it counts as failed: it is what they die of."""
OUTAGES = 10
"""The same of workers that go with their machines, as a video may be what a machine dies of: of its memory, for one.
Such a video is suspect after `LOSSES` of them."""
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
    outage: bool = False
    """It went with its machine, or is out of reach: as far as can be told, no video is to blame."""


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
    alone: bool = False
    """What it has in hand is suspect."""

    @property
    def room(self) -> int:
        """How many videos more it may be given."""
        return 0 if self.alone else self.hands - len(self.jobs)


def dispatch(jobs: Iterator[Job | None], pool: Pool, told: Told) -> None:
    """Let a pool's workers do all jobs, and tell what became of each.

    Args:
        jobs: what is to be done; None: nothing now, ask again.
        pool: the workers.
        told: is told of each job that is over, and asked what is left of those whose workers died.

    Raises:
        VapromptError: what ended the run.
    """
    _Dispatch(jobs, pool, told).run()


class _Dispatch:
    """One run: who has what in hand, and what is to be handed out again."""

    def __init__(self, jobs: Iterator[Job | None], pool: Pool, told: Told) -> None:
        self._jobs, self._pool, self._told = jobs, pool, told
        self._workers: dict[str, _Worker] = {}
        self._again: deque[Job] = deque()
        self._suspects: deque[Job] = deque()
        self._suspected: set[str] = set()
        self._losses: Counter[str] = Counter()
        self._outages: Counter[str] = Counter()
        self._more = True

    def run(self) -> None:
        while True:
            self._hand_out()
            in_hand = any(worker.jobs for worker in self._workers.values())
            if not (in_hand or self._more or self._again or self._suspects):
                return
            for event in self._pool.events(TURN):
                match event:
                    case Arrived():
                        self._workers[event.worker] = _Worker(event.hands)
                    case Ended():
                        self._ended(event)
                    case Lost():
                        self._lost(event)

    def _hand_out(self) -> None:
        while self._workers:
            name = max(self._workers, key=lambda name: self._workers[name].room)
            if self._workers[name].room <= 0:
                return
            job = self._next()
            if job is None:
                # Nothing else is to be done now.
                idle = next((name for name, worker in self._workers.items() if not worker.jobs), None)
                if idle is None or not self._suspects:
                    return
                name, job = idle, self._suspects.popleft()
                self._workers[name].alone = True
            self._workers[name].jobs[job.video.name] = job
            self._pool.give(name, job)

    def _next(self) -> Job | None:
        """Return what is to be handed out next, or None if there is nothing now."""
        if self._again:
            return self._again.popleft()
        job = next(self._jobs, _END) if self._more else _END
        if isinstance(job, _End):
            self._more = False
            return None
        return job

    def _ended(self, event: Ended) -> None:
        worker = self._workers[event.worker]
        job, worker.alone = worker.jobs.pop(event.video), False
        if event.reason is None:
            self._told.finished(job)
        else:
            self._told.failed(job, event.reason)

    def _lost(self, event: Lost) -> None:
        jobs = self._workers.pop(event.worker, _Worker(0)).jobs
        for name, job in jobs.items():
            alone = len(jobs) == 1
            self._outages[name] += event.outage
            self._losses[name] += alone and not event.outage
            if not event.outage or self._outages[name] >= LOSSES:
                self._suspected.add(name)
            left = self._told.lost(job)
            if left is None:
                self._told.finished(job)
            elif self._losses[name] >= LOSSES:
                self._told.failed(job, f"{LOSSES} workers died over it, as when memory does not suffice")
            elif alone and self._outages[name] >= OUTAGES:
                self._told.failed(job, f"{OUTAGES} workers died over it with their machines")
            else:
                (self._suspects if name in self._suspected else self._again).append(left)
