"""A sweep's workers on a Ray cluster: actors that keep their features, as many as its nodes have room for.

Workers read the store and write the runs themselves: both lie on a disk that all nodes see under the same path. How far
each run is, is read from there.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path
from typing import Any

from vaprompt import __version__
from vaprompt.cluster import Cluster, connected, size_of_worker, workers_that_fit
from vaprompt.errors import ClusterError
from vaprompt.heads import Head
from vaprompt.sweeps.board import Watcher
from vaprompt.sweeps.pool import Ended
from vaprompt.sweeps.work import Job, Outcome, Trainer, Work

CORES = 2.0
"""Of a worker without a GPU, if nothing is said: a training makes use of two."""
SURVEY = 5.0
"""Seconds after which is looked again which nodes there are."""
PATIENCE = 30.0
"""Seconds without any worker after which it is said what is being waited for."""
FUTILE = 5
"""Workers in a row that may die before one of them has begun, as on a node whose death is not known yet."""
PAUSE = 2.0
"""Seconds before the next is tried."""


@dataclass(frozen=True)
class _Actor:
    handle: Any
    beginning: Any
    """What it answers once it is there."""


class OnCluster:
    """Actors on a cluster's nodes; see `vaprompt.sweeps.pool.Pool`."""

    def __init__(self, work: Work, cluster: Cluster, watcher: Watcher) -> None:
        """Connect to a cluster.

        Raises:
            ClusterError: Ray is not installed, or there is no cluster.
        """
        self._stack = ExitStack()
        self._ray = self._stack.enter_context(connected(cluster.address))
        self._cluster, self._watcher = cluster, watcher
        self._head = Head(self._ray.get_runtime_context().gcs_address)
        self.size = size_of_worker(self._nodes(), cluster)
        if self.size.gpus == 0 and cluster.cpus is None:
            self.size = replace(self.size, cpus=min(CORES, self.size.cpus))
        self._work = replace(work, cores=max(1, int(self.size.cpus)))
        self._actor = self._ray.remote(Worker).options(
            num_cpus=self.size.cpus, num_gpus=self.size.gpus, scheduling_strategy="SPREAD"
        )
        self._free: list[_Actor] = []
        self._busy: dict[Any, tuple[_Actor, Job]] = {}
        self._futile = 0
        self._wanted, self._surveyed = 0, -inf
        self._without, self._said = time.monotonic(), False

    @property
    def count(self) -> int:
        """How many workers there is room for; see `Pool`.

        Raises:
            ClusterError: the cluster's head is gone.
        """
        self._survey()
        return self._wanted

    @property
    def idle(self) -> int:
        """How many more jobs can be given; where there is no worker at all, wait for room for one. See `Pool`.

        Raises:
            ClusterError: the cluster's head is gone.
        """
        while True:
            answers = self._head.answers()
            count = self.count if answers else 0
            if count or self._busy:
                return max(0, count - len(self._busy))
            if answers:
                self._say_what_is_waited_for()
            time.sleep(1.0)

    def give(self, job: Job) -> None:
        """Let an actor begin with a job; see `Pool`."""
        actor = self._free.pop() if self._free else self._begun()
        self._busy[actor.handle.carry_out.remote(job)] = actor, job

    def ended(self, seconds: float) -> list[Ended]:
        """Return what has ended; see `Pool`.

        Raises:
            ClusterError: workers die before they begin, or the cluster's head is gone.
        """
        if not self._busy:
            time.sleep(seconds)
            return []
        # Nothing is fetched: that takes this machine's node, which may be gone with the head.
        ready, _ = self._ray.wait(list(self._busy), num_returns=len(self._busy), timeout=0, fetch_local=False)
        if not ready:
            ready, _ = self._ray.wait(list(self._busy), num_returns=1, timeout=seconds, fetch_local=False)
        found = []
        for ref in ready:
            actor, job = self._busy.pop(ref)
            try:
                found.append(Ended(job, self._ray.get(ref)))
                self._free.append(actor)
            except self._ray.exceptions.RayTaskError:
                raise  # a bug of ours
            except self._ray.exceptions.RayError as error:
                if self._had_begun(actor):
                    self._futile = 0
                    found.append(Ended(job, None))
                else:
                    self._try_again(job, error)
                self._end(actor)  # it may be there still, and only out of reach
        if self._head.answers():
            self._give_to_those_free()
        return found

    def _give_to_those_free(self) -> None:
        """Let workers that are free do what was given to others that have not begun, for which there may be no room."""
        for ref, (actor, job) in list(self._busy.items()):
            if self._free and not self._had_begun(actor):
                del self._busy[ref]
                self._end(actor)
                self.give(job)

    def _begun(self) -> _Actor:
        handle = self._actor.remote(self._work, __version__, str(Path.cwd()))
        return _Actor(handle, handle.begin.remote())

    def _had_begun(self, actor: _Actor) -> bool:
        try:
            self._ray.get(actor.beginning, timeout=0)
        except self._ray.exceptions.RayError:
            return False
        return True

    def _try_again(self, job: Job, error: Exception) -> None:
        """Give a job that nobody began with to another worker.

        Raises:
            ClusterError: that was done too often, or the cluster's head is gone.
        """
        self._futile += 1
        if self._futile >= FUTILE:
            said = " ".join(str(error).split())[:200]
            fault = f"{FUTILE} workers in a row ended before they had begun ({said})"
            remedy = "look at Ray's own logs on the nodes, in /tmp/ray/session_latest/logs"
            raise ClusterError("--engine ray", fault=fault, remedy=remedy) from None
        time.sleep(PAUSE)
        while not self._head.answers():
            time.sleep(PAUSE)
        self.give(job)

    def close(self) -> None:
        """End the actors, and leave the cluster; see `Pool`."""
        for actor in self._actors():
            self._end(actor)
        self._free.clear()
        self._busy.clear()
        self._stack.close()

    def _end(self, actor: _Actor) -> None:
        """End an actor; without a head its node ends it."""
        if not self._head.silent:
            with suppress(self._ray.exceptions.RayError):
                self._ray.kill(actor.handle)

    def _say_what_is_waited_for(self) -> None:
        self._surveyed = -inf
        if time.monotonic() - self._without > PATIENCE and not self._said:
            self._said = True
            self._watcher.say(f"waiting for a node with room for a worker of {self.size}; see: ray status")

    def _actors(self) -> Iterator[_Actor]:
        yield from self._free
        yield from (actor for actor, _ in self._busy.values())

    def _survey(self) -> None:
        now = time.monotonic()
        if now - self._surveyed < SURVEY:
            return
        self._surveyed = now
        if self._head.answers():
            self._wanted = self._cluster.workers or workers_that_fit(self._nodes(), self.size)

    def _nodes(self) -> list[dict[str, float]]:
        return [dict(node["Resources"]) for node in self._ray.nodes() if node["Alive"]]


class Worker:
    """Trains jobs one after the other on one node. It imports nothing of Ray, which only calls it."""

    def __init__(self, work: Work, version: str, folder: str) -> None:
        """Prepare to do `work` for a process of this version of vaprompt, whose paths are seen from `folder`."""
        self._work, self._version, self._folder = work, version, folder
        self._trainer = Trainer(work)

    def begin(self) -> None:
        """Answer, and so tell that this worker is there."""

    def carry_out(self, job: Job) -> list[Outcome]:
        """Train a job's variants; see `Trainer`."""
        error = self._unfit(job)
        if error is not None:
            return [Outcome(variant, "failed", error=error) for variant in job.variants]
        return self._trainer.carry_out(job)

    def _unfit(self, job: Job) -> ClusterError | None:
        """Return why nothing can be trained here."""
        here = platform.node()
        if self._version != __version__:
            fault = f"has vaprompt {__version__}, and {self._version} hands out the work"
            return ClusterError(here, fault=fault, remedy="install the same version on every node")
        if Path(self._folder).is_dir():
            os.chdir(self._folder)
        runs: Sequence[Path] = [variant.run.parent for variant in job.variants]
        missing = next((folder for folder in runs if not folder.is_dir()), None)
        if missing is not None:
            fault = f"is not there on {here}"
            remedy = "the store and the runs must lie where every node finds them by the same path"
            return ClusterError(str(missing), fault=fault, remedy=remedy)
        return None
