"""One worker of several, on this machine or in a cluster: a local engine that keeps its encoders, and is given videos.

It imports nothing of Ray, which only calls it.
"""

from __future__ import annotations

import platform
import queue
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

from vaprompt import __version__
from vaprompt.errors import ClusterError, DatasetError, StoreError
from vaprompt.extraction.engine import LocalEngine
from vaprompt.extraction.fingerprints import dataset_fingerprints
from vaprompt.extraction.local import local_engine
from vaprompt.extraction.plan import Job
from vaprompt.extraction.stages import RunLog
from vaprompt.extraction.work import Told, Work
from vaprompt.progress import SILENT
from vaprompt.store.feature_store import FeatureStore
from vaprompt.store.fingerprint import require_equal

HANDS, MOST_HANDS = 2, 64
"""Videos in hand for each that can be read at once: the next is there when one is read, and being encoded. And at most:
an engine has no more under way."""


class Worker:
    """Extracts videos on one node. Its methods are called in threads, `extract_video` in several at once."""

    def __init__(self, work: Work, version: str, cores: int | None = None) -> None:
        """Prepare to do `work` on so many cores, for a process of this version of vaprompt; see `begin`."""
        self._work, self._version, self._cores = work, version, cores
        self._jobs: queue.Queue[Job | None] = queue.Queue()
        self._lock = threading.Lock()
        self._waiting: dict[str, Future[str | None]] = {}
        self._error: BaseException | None = None
        self._thread: threading.Thread | None = None
        self._engine: LocalEngine | None = None

    def begin(self) -> dict[str, Any]:
        """Start to work; return where, and how many videos to give at once.

        Raises:
            ClusterError: another version of vaprompt is installed here.
            StoreError: the store cannot be seen from here.
            DatasetError: the data set cannot be seen from here.
            FingerprintError: weights here are not those there.
            VapromptError: encoders, detector or device are not at hand.
        """
        work, here = self._work, platform.node()
        if self._version != __version__:
            fault = f"has vaprompt {__version__}, and {self._version} hands out the work"
            raise ClusterError(here, fault=fault, remedy="install the same version on every node")
        shared = "the data set and the store must lie where every node finds them by the same path"
        if not work.dataset.root.exists():
            raise DatasetError(work.dataset.root, fault=f"is not there on {here}", remedy=shared)
        try:
            store = FeatureStore.open(work.store, work.stream)
        except StoreError as error:
            raise StoreError(error.where, fault=f"{error.fault}, on {here}", remedy=shared) from None
        fingerprints = dataset_fingerprints(work.recipe, work.dataset)
        for stream, fingerprint in fingerprints.items():
            if stream != "labels":  # which depend on the data set alone
                remedy = "bring the same weights to every node"
                require_equal(fingerprint, work.fingerprints[stream], where=f"{stream}, on {here}", remedy=remedy)
        self._engine = local_engine(work, store, RunLog(store.path), self._cores)
        self._thread = threading.Thread(target=self._run, args=(self._engine, store), name="engine", daemon=True)
        self._thread.start()
        return {"host": here, **self._engine.about, "hands": min(MOST_HANDS, HANDS * self._engine.jobs_at_once)}

    def extract_video(self, job: Job) -> str | None:
        """Bring into the store what is missing of one video; return the reason if it fails.

        Doing it again, or elsewhere at the same time, ends with the same bytes.

        Raises:
            VapromptError: what is wrong is not the video's fault: nothing more can be done here.
        """
        outcome: Future[str | None] = Future()
        with self._lock:
            if self._error is not None:
                raise self._error
            self._waiting[job.video.name] = outcome
        self._jobs.put(job)
        return outcome.result()

    def summary(self) -> dict[str, Any] | None:
        """Return how fast it is; see `vaprompt.extraction.stages.Meter`."""
        return None if self._engine is None else self._engine.summary()

    def end(self) -> None:
        """Finish what is in hand, and leave the store."""
        self._jobs.put(None)
        if self._thread is not None:
            self._thread.join()
        if self._engine is not None:
            self._engine.close()

    def _run(self, engine: LocalEngine, store: FeatureStore) -> None:
        try:
            with store.writing(), SILENT.task("extracting") as task:
                engine.run(self._given(), Told(self._finished, self._failed, lambda job: job), task)
        except BaseException as error:
            with self._lock:
                self._error = error
                for outcome in self._waiting.values():
                    outcome.set_exception(error)

    def _given(self) -> Iterator[Job | None]:
        while True:
            try:
                job = self._jobs.get(timeout=1.0)
            except queue.Empty:
                yield None
                continue
            if job is None:
                return
            yield job

    def _finished(self, job: Job) -> None:
        self._over(job, None)

    def _failed(self, job: Job, reason: str) -> None:
        self._over(job, reason)

    def _over(self, job: Job, reason: str | None) -> None:
        with self._lock:
            self._waiting.pop(job.video.name).set_result(reason)
