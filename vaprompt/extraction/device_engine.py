"""The engine for several accelerators of this machine: a process for each, to which this one hands out videos.

One process cannot feed many: its threads take turns at Python's lock, and read, tell the device what to do, and write.
The leases are this process's own, as on a cluster; a process that dies costs what it had in hand another try.

Axes: P prompts, D channels.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import inf
from multiprocessing.connection import Connection, wait
from typing import Any

import numpy as np
from jaxtyping import Float32

from vaprompt.children import out_of_interrupts_reach
from vaprompt.devices import cores
from vaprompt.errors import VapromptError
from vaprompt.extraction.dispatch import Arrived, Ended, Event, Lost, dispatch
from vaprompt.extraction.engine import SETTING, reading
from vaprompt.extraction.local import local_engine
from vaprompt.extraction.plan import Job
from vaprompt.extraction.stages import RunLog, note
from vaprompt.extraction.work import Engine, Told, Work
from vaprompt.progress import Progress, Task
from vaprompt.store.feature_store import FeatureStore

START = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from vaprompt.extraction.device_process import serve; serve(int(sys.argv[2]))"
)
VISIBLE = "CUDA_VISIBLE_DEVICES"
SAY = 2.0
"""Seconds after which it is said again how fast they are."""
ENDING = 60.0
"""Seconds for the processes to leave the store."""
MOMENT = 1.0
"""Seconds for a process to end that has closed its socket."""
FUTILE = 3
"""Processes in a row that may end before one of them has begun."""
ALONE = "see what it printed above; --device cuda:0 takes one GPU, in this process"


class DeviceEngine:
    """Extracts on several devices; see `vaprompt.extraction.work.Engine`."""

    def __init__(
        self, work: Work, store: FeatureStore, log: RunLog, devices: Sequence[str], progress: Progress
    ) -> None:
        """Prepare to extract on these devices; nothing is started yet.

        Raises:
            VapromptError: the environment variable for decoders holds no number of processes.
        """
        self._work, self._store, self._log, self._devices = work, store, log, devices
        self._pool = _Processes(work, devices, log, progress)

    @property
    def about(self) -> dict[str, Any]:
        """Where it works, for the log."""
        return {"engine": "devices", "devices": list(self._devices), "cores": cores()}

    def prepare(self, jobs: int) -> None:
        """Start the processes; see `vaprompt.extraction.work.Engine`."""
        self._pool.start(jobs)

    def embed(self, texts: Sequence[str]) -> Float32[np.ndarray, "P D"]:
        """Return the embeddings of prompts, computed in this process."""
        return self._local.embed(texts)

    def run(self, jobs: Iterator[Job | None], told: Told, task: Task) -> None:
        """Extract jobs, several at once on each device; see `vaprompt.extraction.work.Engine`."""
        self._pool.task = task
        dispatch(jobs, self._pool, told)
        self._pool.end()

    def close(self) -> None:
        """End the processes, whatever they are at."""
        self._pool.kill()

    @cached_property
    def _local(self) -> Engine:
        return local_engine(replace(self._work, device=self._devices[0]), self._store, self._log)


@dataclass
class _Process:
    """One process, as it is seen from here."""

    device: str
    process: subprocess.Popen[bytes]
    connection: Connection
    hands: int | None = None
    """Videos to give at once; None: it has not begun yet."""
    given: bool = False
    """It was told of as a worker."""
    videos: set[str] = field(default_factory=set)
    """What it has in hand."""
    summary: Mapping[str, Any] | None = None

    def end(self) -> None:
        self.connection.close()
        self.process.kill()
        self.process.wait()


class _Processes:
    """A process for each device. See `vaprompt.extraction.dispatch.Pool`."""

    def __init__(self, work: Work, devices: Sequence[str], log: RunLog, progress: Progress) -> None:
        self._work, self._devices, self._log, self._progress = work, devices, log, progress
        self.task: Task | None = None
        self._all: dict[str, _Process] = {}
        self._wanted = len(devices)
        self._started = self._futile = 0
        self._said = -inf
        decoders, apart = reading(devices)
        # What is asked for is for all devices together; else each process reckons with its share of the cores.
        asked = apart and SETTING in os.environ
        self._setting = {SETTING: str(max(1, decoders // len(devices)))} if asked else {}

    def start(self, most: int) -> None:
        """Start those that are not there, `most` at most."""
        self._wanted = min(len(self._devices), max(1, most))
        taken = [one.device for one in self._all.values()]
        for device in self._devices[: self._wanted]:
            if device in taken:
                taken.remove(device)
            else:
                self._started += 1
                self._all[f"process {self._started}"] = self._begun(device)

    def give(self, worker: str, job: Job) -> None:
        """Let a process begin with a job."""
        process = self._all[worker]
        process.videos.add(job.video.name)
        with suppress(OSError):  # that it is dead is found when it is listened to
            process.connection.send(job)

    def events(self, seconds: float) -> list[Event]:
        """Return what has happened; wait for it so long at most.

        Raises:
            VapromptError: what a process met with is no video's fault; or they end before they begin.
            RuntimeError: a process met with a bug; it says where.
        """
        self.start(self._wanted)
        self._say()
        ready = wait([one.connection for one in self._all.values()], timeout=seconds)
        found: list[Event] = []
        for name, one in list(self._all.items()):
            if one.connection in ready:
                found += self._heard(name, one)
        # All together, so that each gets as many of the largest videos, which come first.
        if all(one.hands is not None for one in self._all.values()):
            for name, one in self._all.items():
                if not one.given:
                    one.given = True
                    found.append(Arrived(name, one.hands or 1))
        return found

    def end(self) -> None:
        """Let the processes leave the store."""
        for one in self._all.values():
            with suppress(OSError):
                one.connection.send(None)
        latest = time.monotonic() + ENDING
        for one in self._all.values():
            with suppress(subprocess.TimeoutExpired):
                one.process.wait(max(0.0, latest - time.monotonic()))
        self.kill()

    def kill(self) -> None:
        """End the processes, whatever they are at."""
        while self._all:
            self._all.popitem()[1].end()

    def _begun(self, device: str) -> _Process:
        device_there, environment = seen_alone(device, os.environ)
        ours, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, "-c", START, json.dumps(sys.path), str(theirs.fileno())]
            try:
                with out_of_interrupts_reach():
                    process = subprocess.Popen(  # noqa: S603 (nothing in it comes from outside)
                        command,
                        pass_fds=(theirs.fileno(),),
                        stdin=subprocess.DEVNULL,
                        stdout=subprocess.DEVNULL,
                        env={**os.environ, **environment, **self._setting},
                    )
            except OSError as error:  # as when no more processes are allowed
                ours.close()
                fault = f"a process for {device} cannot be started ({error.strerror or error})"
                raise VapromptError(None, fault=fault, remedy=ALONE) from None
        connection = Connection(ours.detach())
        with suppress(OSError):
            connection.send((replace(self._work, device=device_there), max(1, cores() // len(self._devices))))
        return _Process(device, process, connection)

    def _heard(self, name: str, one: _Process) -> list[Event]:
        found: list[Event] = []
        try:
            while one.connection.poll():
                match one.connection.recv():
                    case "begun", about:
                        one.hands, self._futile = about["hands"], 0
                        self._log.write("worker", name=name, **{**about, "devices": [one.device]})
                    case "over", video, reason:
                        one.videos.discard(video)
                        found.append(Ended(name, video, reason))
                    case "speed", summary:
                        one.summary = summary
                    case "error", error:
                        raise error
                    case "bug", where:
                        raise RuntimeError(f"a process for {one.device} failed:\n{where}")
        except (EOFError, OSError):  # also in the middle of a message
            found += self._lost(name, one)
        return found

    def _lost(self, name: str, one: _Process) -> list[Event]:
        del self._all[name]
        with suppress(subprocess.TimeoutExpired):  # so that its own exit code is told, and not that of being killed
            one.process.wait(MOMENT)
        one.end()
        code, videos = one.process.returncode, sorted(one.videos)
        if one.hands is None:
            self._futile += 1
            if self._futile >= FUTILE:
                fault = f"{FUTILE} processes in a row ended before they had begun (exit code {code})"
                raise VapromptError(f"--device {one.device}", fault=fault, remedy=ALONE)
            return []
        self._log.write("lost", name=name, device=one.device, videos=videos, exit_code=code)
        self._progress.say(
            f"the process for {one.device} ended by itself (exit code {code}); what it had in hand is made one by one "
            f"when nothing else is left: {', '.join(videos) or 'nothing'}"
        )
        return [Lost(name)] if one.given else []

    def _say(self) -> None:
        now = time.monotonic()
        summaries = [one.summary for one in self._all.values() if one.summary is not None]
        if self.task is not None and summaries and now - self._said >= SAY:
            self._said = now
            self.task.advance(0, note=f"{len(self._all)} devices; {note(summaries)}")


def seen_alone(device: str, environment: Mapping[str, str]) -> tuple[str, dict[str, str]]:
    """Return what a device is called in a process that sees no other GPU, and what makes it see none.

    Else every process would keep some memory of the first GPU, too.
    """
    kind, _, index = device.partition(":")
    if kind != "cuda":
        return device, {}
    visible = environment.get(VISIBLE)
    names = [str(place) for place in range(int(index or 0) + 1)] if visible is None else visible.split(",")
    return "cuda:0", {VISIBLE: names[int(index or 0)].strip()}
