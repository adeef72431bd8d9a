"""Jobs handed out to workers until none is left, whatever becomes of the workers."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from vaprompt.errors import RunError
from vaprompt.sweeps.board import Board, Watcher
from vaprompt.sweeps.pool import Pool
from vaprompt.sweeps.work import Job, Outcome

TURN = 1.0
"""Seconds after which is looked again whether there is something to do."""
LOSSES = 2
"""Workers that may die over a job before it counts as failed."""


@runtime_checkable
class Source(Protocol):
    """Where jobs come from."""

    @property
    def left(self) -> int:
        """How many jobs are still to come, at most."""
        ...

    def next(self) -> Job | None:
        """Return a job; None: there is none, or none before another is over."""
        ...

    def over(self, outcomes: Sequence[Outcome]) -> None:
        """Take note of what became of a job's variants."""
        ...


def dispatch(source: Source, pool: Pool, board: Board, watcher: Watcher) -> list[Outcome]:
    """Let workers do all jobs, and return what became of each variant.

    A job whose worker dies is given to another, which goes on with it from what is on disk.
    """
    outcomes: list[Outcome] = []
    again: deque[Job] = deque()
    losses: Counter[str] = Counter()
    under_way = 0

    def over(found: Sequence[Outcome]) -> None:
        for outcome in found:
            board.end(outcome.variant, outcome.state, None if outcome.error is None else str(outcome.error))
        source.over(found)
        outcomes.extend(found)

    while True:
        while pool.idle:
            job = again.popleft() if again else source.next()
            if job is None:
                break
            for variant in job.variants:
                board.begin(variant)
            if job.error is not None:
                over([Outcome(variant, "failed", error=job.error) for variant in job.variants])
                continue
            pool.give(job)
            under_way += 1
        if not under_way:
            return outcomes
        for ended in pool.ended(TURN):
            under_way -= 1
            found = ended.outcomes
            if found is None:
                name = ended.job.variants[0].label
                losses[name] += 1
                if losses[name] < LOSSES:
                    watcher.say(f"{name}: its worker is gone; another one goes on with it")
                    again.append(ended.job)
                    continue
                found = [_lost(ended.job, index) for index in range(len(ended.job.variants))]
            over(found)


def _lost(job: Job, index: int) -> Outcome:
    variant = job.variants[index]
    error = RunError(
        variant.run,
        fault=f"{LOSSES} workers died over it, for which the lack of memory is the usual reason",
        remedy="lower batch or model.width, give fewer with --workers, or features less with --memory 2GB",
    )
    return Outcome(variant, "failed", error=error)
