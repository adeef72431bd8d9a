"""The jobs of a list, of which several processes that were given the same list each do a part.

A variant that is trained is held by a lease in the folder of runs, which runs out with the process that holds it.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence

from vaprompt.store.leases import POLL, Leases
from vaprompt.sweeps.board import Watcher
from vaprompt.sweeps.variants import Variant
from vaprompt.sweeps.work import Job, Outcome


class Listed:
    """Jobs that are known beforehand; see `vaprompt.sweeps.dispatch.Source`."""

    def __init__(self, jobs: Sequence[Job], leases: Leases, watcher: Watcher) -> None:
        """Hand them out in their order, those that others are at last.

        Args:
            jobs: of variants that have folders of their own.
            leases: this process's, in the folder of runs.
            watcher: is told when there is nothing to do but to wait for others.
        """
        self._jobs: deque[Job] = deque(jobs)
        self._leases, self._watcher = leases, watcher
        self._mine: set[str] = set()
        self._waits = False

    @property
    def left(self) -> int:
        """How many jobs are still to come, at most."""
        return len(self._jobs)

    def next(self) -> Job | None:
        """Return the next job, of those of its variants that nobody else is at; the others come again later.

        What others have done meanwhile is handed out, too: whoever is given it sees whether it is what was asked for.
        Where others are at all that is left, and nothing is under way here, it waits for them, and goes on with what
        is left by one whose process is gone.

        Raises:
            StoreError: others took this process for dead.
            TargetError: the folder of runs cannot be written.
        """
        while True:
            for _ in range(len(self._jobs)):
                job = self._jobs.popleft()
                free = {one.label for one in job.variants if self._leases.acquire(_key(one))}
                if elsewhere := tuple(one for one in job.variants if one.label not in free):
                    self._jobs.append(Job(elsewhere))
                if mine := tuple(one for one in job.variants if one.label in free):
                    self._mine |= free
                    return Job(mine)
            if self._mine or not self._jobs:
                return None
            if not self._waits:
                self._waits = True
                count = sum(len(job.variants) for job in self._jobs)
                self._watcher.say(f"waiting for {count} {'variant' if count == 1 else 'variants'} that others train")
            time.sleep(POLL)

    def over(self, outcomes: Sequence[Outcome]) -> None:
        """Let others have what is over; whether it is to be done again, they see for themselves."""
        for outcome in outcomes:
            self._leases.release(_key(outcome.variant))
            self._mine.discard(outcome.variant.label)


def _key(variant: Variant) -> str:
    """Return the key of a variant's lease: its folder's name, as other sweeps may name the variant otherwise."""
    return f"run {variant.label}"
