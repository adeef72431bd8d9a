"""The engine of stage 1: readers, a bounded queue of batches that cross videos, encoders, writers.

Everything runs beside everything else in threads: resizing, the networks and the disk release Python's lock. Decoding
does so only in part, and is done by processes of its own where an accelerator waits for it.
On the processor, what is written does not depend on how items met in batches, on the number of threads or on the order
of videos (`vaprompt.encoders.pieces`), so that an engine may be stopped, and several may share the work.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32

from vaprompt.datasets.base import Dataset
from vaprompt.devices import cores
from vaprompt.errors import AnnotationError, DatasetError, MediaError, VapromptError
from vaprompt.extraction.batch_size import in_flight, own_stream
from vaprompt.extraction.batches import Batch, Batcher, Stopped
from vaprompt.extraction.decoders import Decoders
from vaprompt.extraction.handover import pictures_together, stored, windows_on
from vaprompt.extraction.loaded import Encoders
from vaprompt.extraction.makers import maker
from vaprompt.extraction.parts import Encoded, Failed, Message, Running, Stretch, encoded
from vaprompt.extraction.plan import Job
from vaprompt.extraction.publishing import Publisher
from vaprompt.extraction.reading import Reader
from vaprompt.extraction.recipe import ExtractRecipe
from vaprompt.extraction.stages import ENCODE, WAIT, WRITE, Meter, RunLog
from vaprompt.extraction.work import Told
from vaprompt.lanes import start_threads
from vaprompt.memory import enough_memory
from vaprompt.progress import Task
from vaprompt.store.feature_store import FeatureStore

READERS = 2
"""Videos that are read at once for encoders on the processor, which keep its cores busy themselves."""
DECODERS, MOST_DECODERS = 16, 1024
"""Processes that decode for each accelerator, where there are so many cores; and the most that may be asked for."""
SETTING = "VAPROMPT_DECODERS"
"""The environment variable that holds another number of processes for all devices; 0: threads of this process."""
ROOM = 4
"""Full batches that may wait for each device."""
VIDEOS = 64
"""Videos under way at most: short ones share batches."""
WRITERS = 4
"""Threads that write for each accelerator. Beside an H200 each takes some 140 MB of sound a second; two of them would
be busy for two thirds of the time. The processor's own encoders keep one waiting most of the time."""
MESSAGES = 16
"""Messages that may wait for each writer."""
TAKES_LESS = (
    "lower image.batch and audio.batch, free memory or choose another --device; then run the same command again, "
    "which goes on from here"
)
"""What to do where memory does not suffice."""


def reading(devices: Sequence[str], of_cores: int | None = None) -> tuple[int, bool]:
    """Return how many videos are read at once for encoders on these devices, and whether by processes of their own.

    Args:
        devices: the devices.
        of_cores: so many cores are there for it; None: all of this process's.

    Raises:
        VapromptError: the environment variable for it holds no number of processes.
    """
    given = os.environ.get(SETTING)
    if given is not None:
        if not given.isascii() or not given.isdigit() or int(given) > MOST_DECODERS:
            fault = f"{given!r} is no number of processes from 0 to {MOST_DECODERS}"
            raise VapromptError(SETTING, fault=fault, remedy="set one, or unset it")
        return (int(given), True) if int(given) else (READERS * len(devices), False)
    if torch.device(devices[0]).type == "cpu":
        return READERS * len(devices), False
    # One core for each device's own threads, and no more processes than some accelerators can use up.
    return min(DECODERS * len(devices), max(2, (of_cores or cores()) - len(devices))), True


def writers(devices: Sequence[str]) -> int:
    """Return how many threads write what is encoded on these devices."""
    return 1 if torch.device(devices[0]).type == "cpu" else WRITERS * len(devices)


class _End:
    """There are no more jobs."""


_END = _End()


class LocalEngine:
    """Extracts on this machine's devices; it keeps its encoders from one run to the next."""

    def __init__(
        self,
        dataset: Dataset,
        recipe: ExtractRecipe,
        store: FeatureStore,
        fingerprints: Mapping[str, Mapping[str, Any]],
        encoders: Encoders,
        log: RunLog,
        of_cores: int | None = None,
    ) -> None:
        """Prepare to extract videos of a data set; nothing is loaded yet.

        Decoding uses no more cores than `of_cores`; None: all that this process has.
        """
        self._dataset, self._recipe, self._store = dataset, recipe, store
        self._fingerprints, self._encoders, self._log = fingerprints, encoders, log
        self._cores = of_cores or cores()
        self._readers, apart = reading(encoders.devices, self._cores)
        self._decoders = Decoders(max(1, self._cores // self._readers)) if apart else None
        self._meter = Meter()

    @property
    def about(self) -> dict[str, Any]:
        """Where it works, for the log."""
        devices = list(self._encoders.devices)
        about = {"devices": devices, "cores": self._cores, "threads": torch.get_num_threads()}
        return about | {"readers": self._readers, "decoders": "processes" if self._decoders else "threads"}

    def prepare(self, jobs: int) -> None:
        """Start the processes that decode; see `vaprompt.extraction.work.Engine`."""
        if self._decoders is not None:
            self._decoders.start(min(jobs, self._readers))

    def embed(self, texts: Sequence[str]) -> Float32[np.ndarray, "P D"]:
        """Return the embeddings of prompts; see `vaprompt.extraction.work.Engine`."""
        with enough_memory(self._store.path, remedy=TAKES_LESS):
            embedding_PD: np.ndarray = self._encoders.image().encode_text(texts).numpy()
        return embedding_PD

    @property
    def jobs_at_once(self) -> int:
        """How many videos are read at once."""
        return self._readers

    def summary(self) -> dict[str, Any]:
        """Return how fast the present run is; see `Meter`."""
        return self._meter.summary()

    def close(self) -> None:
        """End the processes that decode; see `vaprompt.extraction.work.Engine`."""
        if self._decoders is not None:
            self._decoders.close()

    def run(self, jobs: Iterator[Job | None], told: Told, task: Task) -> None:
        """Extract jobs, several at once; see `vaprompt.extraction.work.Engine`."""
        self._meter = Meter()
        with enough_memory(self._store.path, remedy=TAKES_LESS):
            _Run(self, jobs, told, task).run()


class _Run:
    """One run: its threads, and what they share."""

    def __init__(self, engine: LocalEngine, jobs: Iterator[Job | None], told: Told, task: Task) -> None:
        self._jobs, self._told, self._task = jobs, told, task
        self._encoders, self._log, self._meter = engine._encoders, engine._log, engine._meter
        self._readers = engine._readers
        devices = self._encoders.devices
        self._batcher: Batcher[Stretch] = Batcher(ROOM * len(devices))
        count = writers(devices)
        self._messages: list[queue.Queue[Message | None]] = [queue.Queue(MESSAGES) for _ in range(count)]
        self._reader = Reader(
            engine._dataset,
            engine._recipe,
            engine._store,
            engine._fingerprints.get("image", {}),
            self._encoders,
            engine._decoders.stretches if engine._decoders else lambda wanted: wanted.stretches(),
            self._batcher,
            self._tell,
            self._meter,
        )
        made_by = maker(devices)
        self._publishers = [
            Publisher(engine._store, engine._fingerprints, made_by, self._finished, self._failed) for _ in range(count)
        ]
        self._asking, self._telling = threading.Lock(), threading.Lock()
        self._writer_of: dict[Path | None, int] = {}
        self._places = threading.Semaphore(VIDEOS)
        self._stopped = threading.Event()
        self._error: BaseException | None = None

    def run(self) -> None:
        devices = self._encoders.devices
        turn, taking = cycle(devices), threading.Lock()

        def encode() -> None:
            with taking:
                device = next(turn)
            self._guarded(lambda: self._encode(device))

        numbers = iter(range(len(self._publishers)))
        writing = start_threads(
            lambda: self._guarded(lambda: self._write(next(numbers))), len(self._publishers), "writer"
        )
        readers = start_threads(lambda: self._guarded(self._read), self._readers, "reader")
        encoders = [
            threading.Thread(target=encode, name=f"encoder {index + 1}", daemon=True)
            for index in range(in_flight(devices[0]) * len(devices))
        ]
        for thread in encoders:
            thread.start()
        try:
            self._wait_for(readers)
            self._batcher.close()
            self._wait_for(encoders)
            for number in range(len(writing)):
                self._put(None, number)
            self._wait_for(writing)
        except Stopped:
            pass
        except BaseException:
            self._stop()
            raise
        finally:
            # Whoever computes finishes what it is at; a reader that hangs in a file is left behind.
            for thread in (*encoders, *writing):
                thread.join()
            for thread in readers:
                thread.join(1.0)
            for publisher in self._publishers:
                publisher.close()
            self._log.write("stages", **self._meter.summary())
        if self._error is not None:
            raise self._error

    def _wait_for(self, threads: list[threading.Thread]) -> None:
        for thread in threads:
            while thread.is_alive():
                thread.join(0.2)
                if self._stopped.is_set():
                    raise Stopped

    def _guarded(self, work: Callable[[], None]) -> None:
        """Do a thread's work; what goes wrong in it ends the run."""
        try:
            work()
        except Stopped:
            pass
        except BaseException as error:
            if self._error is None:
                self._error = error
            self._stop()

    def _stop(self) -> None:
        self._stopped.set()
        self._batcher.stop()

    def _read(self) -> None:
        while True:
            while not self._places.acquire(timeout=0.2):
                self._unless_stopped()
            with self._asking:
                self._unless_stopped()
                job = next(self._jobs, _END)
                if isinstance(job, _End):
                    return
                if job is None:  # others hold what is left: ask again
                    self._places.release()
                    continue
                # In turn, but for people who share a video, and so its sound.
                turn = len(self._writer_of) % len(self._publishers)
                running = Running(job, self._writer_of.setdefault(job.video.media or job.video.crops, turn))
            try:
                self._reader.read(running)
            except (MediaError, AnnotationError, DatasetError) as error:
                self._tell(Failed(running, str(error)))

    def _encode(self, device: str) -> None:
        own_stream(device)
        while True:
            with self._meter.stage(WAIT):
                batch = self._batcher.take()
            if batch is None:
                return
            self._meter.queue(self._batcher.fill)
            try:
                with self._meter.stage(ENCODE, "images" if batch.stream == "image" else "clips", len(batch)):
                    embedding = self._embedding(batch, device)
            finally:
                self._batcher.done()
            for message in encoded((stretch.place for stretch in batch.stretches), embedding):
                self._tell(message)

    def _embedding(self, batch: Batch[Stretch], device: str) -> np.ndarray:
        parts = [stretch.values for stretch in batch.stretches]
        if batch.stream == "image":
            return stored(self._encoders.image(device).encode(pictures_together(parts, device)), "image")
        return stored(self._encoders.audio(device).encode(windows_on(parts, device)), "audio")

    def _write(self, number: int) -> None:
        publisher, messages = self._publishers[number], self._messages[number]
        while True:
            try:
                message = messages.get(timeout=0.2)
            except queue.Empty:
                self._unless_stopped()
                continue
            if message is None:
                return
            with self._meter.stage(WRITE):
                publisher.take(message)
            if isinstance(message, Encoded):
                latest = message.pieces[-1][0].running.job.video.name
                self._task.advance(0, note=f"{latest}; {self._meter.note()}")
                self._log.progress(self._meter)

    def _finished(self, job: Job) -> None:
        self._places.release()
        self._log.write("video", video=job.video.name, status="done")
        with self._telling:
            self._told.finished(job)

    def _failed(self, job: Job, reason: str) -> None:
        self._places.release()
        self._log.write("video", video=job.video.name, status="failed", reason=reason)
        with self._telling:
            self._told.failed(job, reason)

    def _tell(self, message: Message) -> None:
        self._put(message, message.writer)

    def _put(self, message: Message | None, writer: int) -> None:
        while True:
            self._unless_stopped()
            try:
                self._messages[writer].put(message, timeout=0.2)
            except queue.Full:
                continue
            return

    def _unless_stopped(self) -> None:
        if self._stopped.is_set():
            raise Stopped
