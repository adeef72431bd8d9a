"""Workers that train a sweep's jobs side by side: none but this process, or processes of their own.

Processes are started anew (nothing is forked). They map the same files of joined features, which are one copy in
memory for all of them, and end when the process that started them does, however that ends.
"""

from __future__ import annotations

import multiprocessing
import traceback
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Protocol, runtime_checkable

from vaprompt.children import end_with_parent, spawning_out_of_interrupts_reach
from vaprompt.sweeps.work import Job, Outcome, Trainer, Work

PATIENCE = 5.0
"""Seconds that a process has to end in when it is asked to."""


@dataclass(frozen=True)
class Ended:
    """A job is over."""

    job: Job
    outcomes: list[Outcome] | None
    """None: its worker died over it."""


@runtime_checkable
class Pool(Protocol):
    """Workers, each at one job at most."""

    @property
    def count(self) -> int:
        """How many workers there are."""
        ...

    @property
    def idle(self) -> int:
        """How many more jobs can be given."""
        ...

    def give(self, job: Job) -> None:
        """Let a worker begin with a job."""
        ...

    def ended(self, seconds: float) -> list[Ended]:
        """Return what has ended; wait for it so long, about."""
        ...

    def close(self) -> None:
        """End the workers, whatever they are at."""
        ...


class Alone:
    """The process itself, which trains while it is asked what has ended."""

    def __init__(self, work: Work) -> None:
        """Prepare to do `work`."""
        self._trainer = Trainer(work)
        self._job: Job | None = None

    @property
    def count(self) -> int:
        """How many workers there are; see `Pool`."""
        return 1

    @property
    def idle(self) -> int:
        """How many more jobs can be given; see `Pool`."""
        return int(self._job is None)

    def give(self, job: Job) -> None:
        """Take a job; see `Pool`."""
        self._job = job

    def ended(self, seconds: float) -> list[Ended]:
        """Do the job, however long it takes; see `Pool`."""
        job, self._job = self._job, None
        return [] if job is None else [Ended(job, self._trainer.carry_out(job))]

    def close(self) -> None:
        """Do nothing; see `Pool`."""


@dataclass
class _Worker:
    process: BaseProcess
    connection: Connection
    job: Job | None = None


@dataclass
class Processes:
    """Processes of their own on this machine."""

    work: Work
    count: int
    _workers: list[_Worker] = field(default_factory=list)

    @property
    def idle(self) -> int:
        """How many more jobs can be given; see `Pool`."""
        return self.count - sum(worker.job is not None for worker in self._workers)

    def give(self, job: Job) -> None:
        """Let a process begin with a job; it is started if need be. See `Pool`."""
        free = next((worker for worker in self._workers if worker.job is None), None)
        if free is None:
            free = self._start()
            self._workers.append(free)
        free.job = job
        with suppress(OSError):  # it is found to be dead when it is asked what has ended
            free.connection.send(job)

    def ended(self, seconds: float) -> list[Ended]:
        """Return what has ended; see `Pool`.

        Raises:
            RuntimeError: a worker met with a bug; it says where.
        """
        busy = [worker for worker in self._workers if worker.job is not None]
        ready = wait([worker.connection for worker in busy], timeout=seconds)
        found = []
        for worker in busy:
            if worker.connection not in ready or worker.job is None:
                continue
            job, worker.job = worker.job, None
            try:
                answer: list[Outcome] | str = worker.connection.recv()
            except (EOFError, OSError):
                self._workers.remove(worker)
                worker.process.join(PATIENCE)
                found.append(Ended(job, None))
                continue
            if isinstance(answer, str):
                raise RuntimeError(f"a training process failed:\n{answer}")
            found.append(Ended(job, answer))
        return found

    def close(self) -> None:
        """End the processes; see `Pool`."""
        for worker in self._workers:
            worker.process.terminate()
        for worker in self._workers:
            worker.process.join(PATIENCE)
            if worker.process.is_alive():
                worker.process.kill()
            worker.connection.close()
        self._workers.clear()

    def _start(self) -> _Worker:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=serve, args=(self.work, theirs), name="sweep", daemon=True)
        with spawning_out_of_interrupts_reach():
            process.start()
        theirs.close()
        return _Worker(process, ours)


def serve(work: Work, connection: Connection) -> None:
    """Do what one process of a sweep does until its pipe is closed."""
    end_with_parent()
    trainer = Trainer(work)
    with suppress(EOFError, OSError):
        while True:
            job: Job = connection.recv()
            try:
                answer: Sequence[Outcome] | str = trainer.carry_out(job)
            except Exception:  # told where it can be reported
                answer = traceback.format_exc()
            connection.send(answer)
