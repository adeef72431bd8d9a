"""The engine on a Ray cluster: actors that keep their encoders, to which this process hands out videos.

The leases are this process's own, as of any extraction, so that several engines of any kind can share a store. Workers
read the data set and write the store themselves: both lie on a disk that all nodes see under the same path.

Axes: P prompts, D channels.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from functools import cached_property
from math import inf
from typing import Any

import numpy as np
from jaxtyping import Float32

from vaprompt import __version__
from vaprompt.cluster import Cluster, connected, size_of_worker, workers_that_fit
from vaprompt.errors import ClusterError, TakenOverError, VapromptError
from vaprompt.extraction.dispatch import Arrived, Ended, Event, Lost, dispatch
from vaprompt.extraction.plan import Job
from vaprompt.extraction.stages import RunLog, note
from vaprompt.extraction.work import Engine, Told, Work
from vaprompt.extraction.worker import MOST_HANDS, Worker
from vaprompt.heads import Head
from vaprompt.progress import Progress, Task
from vaprompt.store.feature_store import FeatureStore

SURVEY = 5.0
"""Seconds after which is looked again which nodes there are."""
ASK = 2.0
"""Seconds after which workers are asked again how fast they are."""
PATIENCE = 30.0
"""Seconds without any worker after which it is said what is being waited for."""
ENDING = 60.0
"""Seconds for workers to leave the store."""
THREADS = MOST_HANDS + 8
"""Calls that a worker can be at: videos, and questions."""
FUTILE = 3
"""Workers in a row that may die before one of them has begun."""


class Actor(Worker):
    """A worker that knows its node."""

    def begin(self) -> dict[str, Any]:
        """Start to work; see `Worker.begin`."""
        import ray

        return {**super().begin(), "node": ray.get_runtime_context().get_node_id()}


class RayEngine:
    """Extracts on a cluster; see `vaprompt.extraction.work.Engine`."""

    def __init__(self, work: Work, store: FeatureStore, log: RunLog, cluster: Cluster, progress: Progress) -> None:
        """Connect to a cluster.

        Raises:
            ClusterError: Ray is not installed, or there is no cluster.
        """
        self._work, self._store, self._log, self._cluster, self._progress = work, store, log, cluster, progress
        self._stack = ExitStack()
        self._ray = self._stack.enter_context(connected(cluster.address))

    @property
    def about(self) -> dict[str, Any]:
        """Where it works, for the log."""
        nodes = _nodes(self._ray)
        size = size_of_worker(nodes, self._cluster)
        worker = {"gpus": size.gpus, "cpus": size.cpus}
        return {"engine": "ray", "nodes": len(nodes), "worker": worker, "workers": self._cluster.workers}

    def prepare(self, jobs: int) -> None:
        """Do nothing: workers prepare themselves; see `vaprompt.extraction.work.Engine`."""

    def embed(self, texts: Sequence[str]) -> Float32[np.ndarray, "P D"]:
        """Return the embeddings of prompts, computed in this process."""
        return self._local.embed(texts)

    def run(self, jobs: Iterator[Job | None], told: Told, task: Task) -> None:
        """Extract jobs, several at once on each worker; see `vaprompt.extraction.work.Engine`."""
        pool = _RayPool(self._ray, self._work, self._cluster, self._progress, self._log, task)
        try:
            dispatch(jobs, pool, told)
            pool.end()
        finally:
            pool.kill()

    def close(self) -> None:
        """Leave the cluster."""
        self._stack.close()

    @cached_property
    def _local(self) -> Engine:
        from vaprompt.extraction.local import local_engine

        return local_engine(replace(self._work, device="auto"), self._store, self._log)


class _RayPool:
    """Actors on a cluster's nodes: as many as fit, whenever nodes come or go. See `vaprompt.extraction.dispatch.Pool`.

    What is asked of actors is known by Ray's references: which actor, and which video.
    """

    def __init__(self, ray: Any, work: Work, cluster: Cluster, progress: Progress, log: RunLog, task: Task) -> None:
        self._ray, self._cluster, self._progress, self._log, self._task = ray, cluster, progress, log, task
        self._actor, self._size = ray.remote(Actor), size_of_worker(_nodes(ray), cluster)
        self._head = Head(ray.get_runtime_context().gcs_address)
        self._work = ray.put(work)
        self._actors: dict[str, Any] = {}
        self._hosts: dict[str, str] = {}
        self._on_node: dict[str, str] = {}
        self._beginning: dict[Any, str] = {}
        self._videos: dict[Any, tuple[str, str]] = {}
        self._asked: dict[Any, str] = {}
        self._summaries: dict[str, dict[str, Any]] = {}
        self._started = self._futile = 0
        self._surveyed = self._told = -inf
        self._without, self._said = time.monotonic(), False

    def give(self, worker: str, job: Job) -> None:
        """Let an actor begin with a job."""
        self._videos[self._actors[worker].extract_video.remote(job)] = worker, job.video.name

    def events(self, seconds: float) -> list[Event]:
        """Return what has happened; wait for it so long at most.

        Raises:
            VapromptError: what a worker met with is no video's fault.
            ClusterError: workers die before they begin, or the cluster's head is gone.
        """
        self._survey()
        self._ask()
        refs = [*self._beginning, *self._videos, *self._asked]
        ready: list[Any] = []
        if refs:
            # Nothing is fetched: that takes this machine's node, which may be gone with the head.
            self._ray.wait(refs, num_returns=1, timeout=seconds, fetch_local=False)
            ready, _ = self._ray.wait(refs, num_returns=len(refs), timeout=0, fetch_local=False)
        else:
            time.sleep(seconds)
        # Videos last: if an actor is found to be dead by one answer, the others of its are no longer looked at.
        found = [event for ref in ready for event in self._event(ref)]
        self._say_what_is_waited_for()
        return found

    def end(self) -> None:
        """Let the actors leave the store."""
        ends = [actor.end.remote() for name, actor in self._actors.items() if name in self._hosts]
        with suppress(self._ray.exceptions.RayError):
            self._ray.wait(ends, num_returns=len(ends), timeout=ENDING)

    def kill(self) -> None:
        """End all actors."""
        for actor in self._actors.values():
            self._end(actor)
        self._actors.clear()

    def _end(self, actor: Any) -> None:
        """End an actor; without a head its node ends it."""
        if not self._head.silent:
            with suppress(self._ray.exceptions.RayError):
                self._ray.kill(actor)

    def _survey(self) -> None:
        """Begin as many actors as there is room for, and are not there."""
        now = time.monotonic()
        if now - self._surveyed < SURVEY:
            return
        self._surveyed = now
        if not self._head.answers():
            return
        nodes = _nodes(self._ray)
        if not self._started:  # nodes with GPUs may come later than others
            self._size = size_of_worker(nodes, self._cluster)
        wanted = self._cluster.workers or workers_that_fit(nodes, self._size)
        while len(self._actors) < wanted:
            self._started += 1
            name, size = f"worker {self._started}", self._size
            placed = self._actor.options(
                num_cpus=size.cpus, num_gpus=size.gpus, max_concurrency=THREADS, scheduling_strategy="SPREAD"
            )
            self._actors[name] = actor = placed.remote(self._work, __version__, max(1, int(size.cpus)))
            self._beginning[actor.begin.remote()] = name

    def _ask(self) -> None:
        """Ask actors how fast they are, and tell whoever watches."""
        now = time.monotonic()
        if now - self._told < ASK:
            return
        self._told = now
        for name in self._hosts.keys() - self._asked.values():
            self._asked[self._actors[name].summary.remote()] = name
        summaries = list(self._summaries.values())
        if summaries:
            self._task.advance(0, note=f"{len(self._hosts)} workers; {note(summaries)}")

    def _event(self, ref: Any) -> list[Event]:
        if ref in self._beginning:
            return self._begun(self._beginning.pop(ref), ref)
        if ref in self._asked:
            name = self._asked.pop(ref)
            with suppress(self._ray.exceptions.RayError):  # if it is dead, its videos will say so
                self._summaries |= {name: summary} if (summary := self._ray.get(ref)) is not None else {}
            return []
        if ref not in self._videos:  # of an actor that was found to be dead
            return []
        name, video = self._videos.pop(ref)
        try:
            return [Ended(name, video, self._answer(ref))]
        except _GoneError as error:
            self._videos[ref] = name, video
            return self._lost(name, error)

    def _begun(self, name: str, ref: Any) -> list[Event]:
        try:
            about = self._answer(ref)
        except _GoneError as error:
            self._futile += 1
            if self._futile >= FUTILE:
                fault = f"{FUTILE} workers in a row ended before they had begun ({error})"
                remedy = "look at Ray's own logs on the nodes, in /tmp/ray/session_latest/logs"
                raise ClusterError("--engine ray", fault=fault, remedy=remedy) from None
            return self._lost(name, error)
        self._futile, self._said = 0, False
        self._hosts[name], self._on_node[name] = about["host"], about["node"]
        self._log.write("worker", name=name, gpus=self._size.gpus, **about)
        return [Arrived(name, about["hands"])]

    def _lost(self, name: str, error: _GoneError) -> list[Event]:
        self._end(self._actors.pop(name))  # it may be there still, and only out of reach
        self._summaries.pop(name, None)
        videos = sorted(video for worker, video in self._videos.values() if worker == name)
        for known in (self._beginning, self._asked):
            for ref in [ref for ref, worker in known.items() if worker == name]:
                del known[ref]
        self._videos = {ref: about for ref, about in self._videos.items() if about[0] != name}
        self._surveyed = -inf
        host = self._hosts.pop(name, None)
        if host is None:
            return []
        outage = error.outage or not self._is_alive(self._on_node.pop(name))
        self._log.write("lost", name=name, worker_host=host, videos=videos, outage=outage, reason=str(error))
        whereto = "goes to others" if outage else "is made one by one when nothing else is left"
        self._progress.say(f"{name} on {host} is gone; what it had in hand {whereto}: {', '.join(videos) or 'nothing'}")
        return [Lost(name, outage)]

    def _is_alive(self, node: str) -> bool:
        return self._head.answers() and any(known["NodeID"] == node and known["Alive"] for known in self._ray.nodes())

    def _answer(self, ref: Any) -> Any:
        """Return what an actor answered.

        Raises:
            _GoneError: it is dead, out of reach, or taken for dead by others.
            VapromptError: what it met with is no video's fault.
        """
        try:
            return self._ray.get(ref)
        except self._ray.exceptions.RayTaskError as error:
            cause = error.cause
            if isinstance(cause, TakenOverError):
                raise _GoneError(str(cause), outage=True) from None
            if isinstance(cause, VapromptError):
                raise cause from None
            raise
        except self._ray.exceptions.RayError as error:
            # When a process ends, its node tells Ray at once. When an actor is unavailable, nobody has told of its end:
            # its node is gone as well, or out of reach.
            outage = isinstance(error, self._ray.exceptions.ActorUnavailableError) or getattr(error, "preempted", False)
            raise _GoneError(" ".join(str(error).split())[:200], outage=outage) from None

    def _say_what_is_waited_for(self) -> None:
        now = time.monotonic()
        if self._hosts:
            self._without = now
        elif now - self._without > PATIENCE and not self._said:
            self._said = True
            self._progress.say(f"waiting for a node with room for a worker of {self._size}; see: ray status")


class _GoneError(Exception):
    """An actor answers no more; `outage`: not because its process has ended, as far as can be told from here."""

    def __init__(self, reason: str, *, outage: bool) -> None:
        super().__init__(reason)
        self.outage = outage


def _nodes(ray: Any) -> list[dict[str, float]]:
    """Return the resources of each node that is alive."""
    return [dict(node["Resources"]) for node in ray.nodes() if node["Alive"]]
