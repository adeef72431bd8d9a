"""The queue: videos that were received, done one at a time, and what became of them."""

from __future__ import annotations

import asyncio
import json
import logging
import unicodedata
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

from vaprompt.serving.kinds import Kind
from vaprompt.serving.limits import Limits, Refusal
from vaprompt.serving.uploads import receive
from vaprompt.serving.workplace import Workplace

State = Literal["waiting", "working", "done", "failed", "cancelled"]
ENDED: tuple[State, ...] = ("done", "failed", "cancelled")
RESULTS = {".csv": "text/csv; charset=utf-8", ".html": "text/html; charset=utf-8"}
"""What is handed out of what was made, by suffix."""
FACTS = "job.json"
LOG = logging.getLogger("vaprompt.serving")


@dataclass(frozen=True)
class Stage:
    """How far a job is."""

    name: str
    done: float = 0.0
    total: float | None = None
    unit: str = ""


class JobError(Exception):
    """A video that cannot be predicted, with the line that says why."""


@runtime_checkable
class Worker(Protocol):
    """What predicts."""

    async def predict(
        self, job: str, media: Path, folder: Path, title: str, tell: Callable[[Stage], None]
    ) -> dict[str, Any]:
        """Write a video's prediction into `folder` and return what is to be said of it; ends early when cancelled.

        Raises:
            JobError: the video cannot be predicted.
        """
        ...


@dataclass
class Job:
    """One video."""

    id: str
    name: str
    """As its sender calls it: to be shown, never a path."""
    bytes: int
    kind: Kind
    media: Path
    state: State = "waiting"
    stage: Stage = field(default_factory=lambda: Stage("waiting"))
    unwanted: bool = False
    """It was cancelled while it was at work."""
    error: str = ""
    facts: dict[str, Any] = field(default_factory=dict)
    """What is said of the result."""
    files: dict[str, tuple[Path, str]] = field(default_factory=dict)
    """Name in the address -> file, and what browsers are told that it is."""

    def told(self) -> dict[str, Any]:
        """Return it as plain values, for pages and scripts."""
        return {
            "id": self.id,
            "name": self.name,
            "bytes": self.bytes,
            "state": self.state,
            "stage": {
                "name": self.stage.name,
                "done": self.stage.done,
                "total": self.stage.total,
                "unit": self.stage.unit,
            },
            "error": self.error,
            "facts": self.facts,
            "files": sorted(self.files),
        }


class Bell:
    """Wakes whoever waits for a change; many changes while nobody looks are one."""

    def __init__(self) -> None:
        """Nothing has changed yet."""
        self.rung, self._waiting = 0, asyncio.Event()

    def ring(self) -> None:
        """Something has changed."""
        self.rung += 1
        self._waiting.set()
        self._waiting = asyncio.Event()

    async def after(self, seen: int, seconds: float) -> int:
        """Return the number of the latest change, as soon as it is not `seen`, or after so many seconds."""
        if self.rung == seen:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._waiting.wait()
        return self.rung


class Jobs:
    """All videos, in the order in which they came."""

    def __init__(self, worker: Worker, workplace: Workplace, limits: Limits) -> None:
        """Begin without any; `run` works on them."""
        self._worker, self.workplace, self._limits = worker, workplace, limits
        self._all: dict[str, Job] = {}
        self._came = asyncio.Event()
        self._at_work: tuple[Job, asyncio.Task[dict[str, Any]]] | None = None
        self._receiving = 0
        self.changed = Bell()

    def __getitem__(self, job: str) -> Job:
        """Return a job by its id.

        Raises:
            Refusal: there is none.
        """
        if job not in self._all:
            raise Refusal(404, "there is no such video here (any more)")
        return self._all[job]

    def told(self) -> list[dict[str, Any]]:
        """Return all jobs as plain values, with their places in the queue."""
        shown, place = [], 0
        for job in self._all.values():
            place += job.state == "waiting"
            shown.append({**job.told(), "place": place if job.state == "waiting" else None})
        return shown

    async def add(self, name: str, chunks: AsyncIterator[bytes], stated: int | None) -> Job:
        """Receive a video and put it into the queue.

        Raises:
            Refusal: it is not taken.
            Exception: what `chunks` raises.
        """
        waiting = sum(job.state not in ENDED for job in self._all.values()) + self._receiving
        if self._receiving >= self._limits.uploads or waiting >= self._limits.waiting:
            raise Refusal(503, f"has to wait: {waiting} videos are in the queue; send it again in a while")
        self._receiving += 1
        folder = self.workplace.new()
        try:
            received = await receive(chunks, folder, self.workplace.room, self._limits, stated)
        except BaseException:
            self.workplace.remove(folder)
            raise
        finally:
            self._receiving -= 1
        job = Job(folder.name, shown_name(name, self._limits), received.bytes, received.kind, received.path)
        self._all[job.id] = job
        self._came.set()
        self._tell()
        return job

    def cancel(self, job: Job) -> None:
        """Give a job up, or clear away what became of it."""
        if self._at_work is not None and self._at_work[0] is job:
            # Once: a second time would end the waiting for it to stop, after which a process that hangs is ended.
            if not job.unwanted:
                job.unwanted = True
                self._at_work[1].cancel()
        elif job.state == "waiting":
            self._end(job, "cancelled")
        else:
            self._forget(job)
        self._tell()

    async def run(self) -> None:
        """Do one job after the other, until this is cancelled; what is at work then is given up."""
        while True:
            self._came.clear()
            job = next((job for job in self._all.values() if job.state == "waiting"), None)
            if job is None:
                await self._came.wait()
            else:
                await self._do(job)
                self._tell()

    async def _do(self, job: Job) -> None:
        job.state = "working"
        folder = job.media.parent
        task = asyncio.create_task(
            self._worker.predict(job.id, job.media, folder, job.name, lambda stage: self._told(job, stage))
        )
        self._at_work = (job, task)
        self.changed.ring()
        try:
            await asyncio.wait({task})
        finally:
            task.cancel()
            await asyncio.wait({task})
            self._at_work = None
        if job.unwanted or task.cancelled():
            self._end(job, "cancelled")
        elif (error := task.exception()) is not None:
            if not isinstance(error, JobError):
                LOG.error("a fault in vaprompt itself", exc_info=error)
            job.error = str(error) if isinstance(error, JobError) else f"a fault in vaprompt itself: {error!r}"
            self._end(job, "failed")
        else:
            job.facts = task.result()
            self._finish(job, folder)

    def _told(self, job: Job, stage: Stage) -> None:
        job.stage = stage
        self.changed.ring()

    def _finish(self, job: Job, folder: Path) -> None:
        """Take what was made of a video."""
        try:
            if self.workplace.keep is not None:
                facts = {"name": job.name, **job.facts}
                (folder / FACTS).write_text(json.dumps(facts, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
            lasting = self.workplace.finished(folder)
            made = [path for path in lasting.iterdir() if path.suffix in RESULTS and path.is_file()]
        except OSError as error:
            job.error = f"the result cannot be stored ({error.strerror})"
            self._end(job, "failed")
            return
        if self.workplace.keep is not None:
            self.workplace.room.give(job.bytes)
        job.media = lasting / job.media.name
        job.files = {path.name: (path, RESULTS[path.suffix]) for path in made}
        job.files[job.media.name] = (job.media, job.kind.content_type)
        job.state = "done"

    def _end(self, job: Job, state: State) -> None:
        """Keep a line about a job that has no result, and none of its bytes."""
        job.state = state
        self.workplace.room.give(job.bytes)
        self.workplace.remove(job.media.parent)

    def _forget(self, job: Job) -> None:
        """Remove a job that has ended; what is to stay stays."""
        del self._all[job.id]
        if job.state == "done" and self.workplace.keep is None:
            self._end(job, "done")

    def _tell(self) -> None:
        """Let go of the oldest results, and tell whoever watches."""
        ended = [job for job in self._all.values() if job.state in ENDED]
        for job in ended[: max(0, len(ended) - self._limits.finished)]:
            self._forget(job)
        self.changed.ring()


def shown_name(name: str, limits: Limits) -> str:
    """Return a name as it can be shown anywhere: without what controls a terminal or turns the direction of writing."""
    shown = "".join("\N{REPLACEMENT CHARACTER}" if unicodedata.category(c).startswith("C") else c for c in name)
    return shown.strip()[: limits.name] or "video"
