"""Jobs handed out one by one, each under a lease, so that several extractions share a plan and do nothing twice."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from vaprompt.extraction.plan import Examiner, Job, Plan
from vaprompt.progress import Task
from vaprompt.store.leases import POLL, Leases, video_key


@dataclass
class Claims:
    """A plan's jobs, for as many consumers as like: each job is told to be `finished` or `failed` in the end.

    At the end it waits for what other writers hold, and takes over what they leave behind, so that an extraction ends
    when the store is complete. Iterate in one thread; the other methods may be called from any. While jobs that were
    handed out are not over it never waits, as two extractions could then wait for each other: it yields None instead,
    for "nothing now, ask again".
    """

    todo: Plan
    examiner: Examiner
    leases: Leases
    task: Task
    """Told of every job that is over, whoever did it."""
    elsewhere: list[str] = field(default_factory=list)
    """Videos that other writers made meanwhile."""
    failed_elsewhere: dict[str, str] = field(default_factory=dict)
    """Videos that failed at other writers meanwhile, with the reason."""
    _out: set[str] = field(default_factory=set)

    def __iter__(self) -> Iterator[Job | None]:
        """Yield the jobs; a job is what is missing at that moment.

        Raises:
            StoreError: a marker is damaged, or this writer was taken for dead.
            TargetError: the store cannot be written.
        """
        store = self.examiner.store
        failures = {job.video.name: store.failure(job.video.name) for job in self.todo.jobs}
        waiting = list(self.todo.jobs)
        while waiting:
            held: list[Job] = []
            for job in waiting:
                name = job.video.name
                if not self.leases.acquire(video_key(name)):
                    held.append(job)
                    continue
                store.forget(name)
                failure = store.failure(name)
                found = self.examiner.examine(job.video)
                if isinstance(found, Job) and failure is not None and failure != failures[name]:
                    self._over(name)
                    self.failed_elsewhere[name] = failure[0]
                elif isinstance(found, Job):
                    store.move(name, job.video.split, but=found.streams)
                    self._out.add(name)
                    yield found
                else:
                    self._over(name)
                    self.elsewhere.append(name)
            if len(held) == len(waiting):
                time.sleep(POLL / 10 if self._out else POLL)
                if self._out:
                    yield None
            waiting = held

    def finished(self, job: Job) -> None:
        """Take note that a job is done, and give its video back.

        Raises:
            TargetError: the store cannot be written.
        """
        self.examiner.store.clear_failure(job.video.name)
        self._over(job.video.name)

    def failed(self, job: Job, reason: str) -> None:
        """Take note that a job cannot be done, and give its video back.

        Raises:
            TargetError: the store cannot be written.
        """
        self.examiner.store.record_failure(job.video.name, reason)
        self._over(job.video.name)

    def lost(self, job: Job) -> Job | None:
        """Return what is still to be done of a job whose worker is gone, or None; its video stays ours.

        Raises:
            StoreError: a marker is damaged.
        """
        self.examiner.store.forget(job.video.name)
        found = self.examiner.examine(job.video)
        return found if isinstance(found, Job) else None

    def _over(self, name: str) -> None:
        self._out.discard(name)
        self.leases.release(video_key(name))
        self.task.advance(1, note=name)
