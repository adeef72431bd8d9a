"""Writing what an engine's encoders made: rows put in order, streams published when they are whole, videos told of.

One thread does all of this for a video, so that nothing here is locked. Several writers each have a publisher of their
own, and videos that share a media file the same one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any

import numpy as np
import zarr  # noqa: F401 (what writes imports it anyway, and would do so while the first video waits)

from vaprompt.errors import StoreError
from vaprompt.extraction.parts import Encoded, Failed, LabelPart, Message, Place, ReadEnd, Running, SoundOf, StreamEnd
from vaprompt.extraction.plan import Job
from vaprompt.store.attributes import MADE_BY
from vaprompt.store.feature_store import FeatureStore
from vaprompt.store.writing import GroupWriter

ROWS = 64
"""Rows that are written at once where one embedding stands for many."""


class _Stream:
    """One stream of one video on its way into the store."""

    def __init__(self, writer: GroupWriter, close: ExitStack) -> None:
        self.writer, self.close = writer, close
        self.waiting: dict[int, tuple[Place, np.ndarray]] = {}
        self.next = 0
        self.end: StreamEnd | None = None

    def write_in_order(self) -> None:
        ready: list[tuple[Place, np.ndarray]] = []
        while self.next in self.waiting:
            ready.append(self.waiting.pop(self.next))
            self.next += ready[-1][0].count
        if not ready:
            return
        columns: dict[str, np.ndarray] = {
            name: np.concatenate([place.columns[name] for place, _ in ready]) for name in ready[0][0].columns
        }
        embedding = np.concatenate([embedding for _, embedding in ready])
        rows = len(next(iter(columns.values())))
        if rows == len(embedding):
            self.writer.append(embedding=embedding, **columns)
            return
        assert len(embedding) == 1
        for start in range(0, rows, ROWS):
            some = {name: values[start : start + ROWS] for name, values in columns.items()}
            self.writer.append(embedding=np.repeat(embedding, min(ROWS, rows - start), axis=0), **some)


class Publisher:
    """Takes the messages about all videos under way."""

    def __init__(
        self,
        store: FeatureStore,
        fingerprints: Mapping[str, Mapping[str, Any]],
        made_by: Mapping[str, str],
        finished: Callable[[Job], None],
        failed: Callable[[Job, str], None],
    ) -> None:
        """Write into a store, with `made_by` in the markers; `finished` or `failed` is told of each job in the end."""
        self._store, self._fingerprints, self._made_by = store, fingerprints, dict(made_by)
        self._finished, self._failed = finished, failed
        self._streams: dict[tuple[Running, str], _Stream] = {}
        self._copies: dict[str, list[SoundOf]] = {}
        self._reasons: dict[str, str] = {}

    def take(self, message: Message) -> None:
        """Do what a message asks for.

        Raises:
            TargetError: the store cannot be written.
            StoreError: the store is damaged.
        """
        match message:
            case Encoded():
                self._rows(message)
            case StreamEnd():
                stream = self._stream(message.running, message.stream)
                if stream is not None:
                    stream.end = message
                    self._publish_if_whole(message.running, message.stream)
            case SoundOf():
                self._sound_of(message)
            case ReadEnd():
                message.running.labels = message.labels
                message.running.read = True
                self._end_if_whole(message.running)
            case Failed():
                self._give_up(message.running, message.reason)

    def close(self) -> None:
        """Leave nothing of what is not whole."""
        for stream in self._streams.values():
            stream.close.close()
        self._streams.clear()

    def _stream(self, running: Running, name: str) -> _Stream | None:
        if running.ended:
            return None
        if (running, name) not in self._streams:
            close = ExitStack()
            video = running.job.video.name
            writer = close.enter_context(self._store.writer(name, video, self._fingerprints[name]))
            self._streams[running, name] = _Stream(writer, close)
        return self._streams[running, name]

    def _rows(self, message: Encoded) -> None:
        touched: dict[tuple[Running, str], _Stream] = {}
        for place, embedding in message.pieces:
            stream = self._stream(place.running, place.stream)
            if stream is not None:
                stream.waiting[place.index] = place, embedding
                touched[place.running, place.stream] = stream
        for (running, name), stream in touched.items():
            stream.write_in_order()
            self._publish_if_whole(running, name)

    def _publish_if_whole(self, running: Running, name: str) -> None:
        stream = self._streams[running, name]
        if stream.end is None or stream.next < stream.end.items:
            return
        with stream.close:
            stream.writer.publish({**stream.end.marker, MADE_BY: self._made_by})
        del self._streams[running, name]
        self._published(running, name)

    def _published(self, running: Running, name: str) -> None:
        running.open.discard(name)
        video = running.job.video.name
        self._store.forget(video)
        if name == "audio":
            for copy in self._copies.pop(video, ()):
                self._copy(copy)
        self._end_if_whole(running)

    def _sound_of(self, message: SoundOf) -> None:
        """Copy another video's sound, at once or when it is there."""
        if message.owner in self._reasons:
            self._give_up(message.running, self._reasons[message.owner])
        elif self._has_sound(message):
            self._copy(message)
        else:
            self._copies.setdefault(message.owner, []).append(message)

    def _has_sound(self, message: SoundOf) -> bool:
        self._store.forget(message.owner)
        try:
            kept = self._store.marker("audio", message.owner).get("source", {})
        except StoreError:
            return False
        # It may be there, but of an earlier state of the media file, and about to be replaced.
        return bool(kept.get("media", {}).get("sha256") == message.marker["source"]["media"]["sha256"])

    def _copy(self, message: SoundOf) -> None:
        running = message.running
        if running.ended:
            return
        sound = self._store.audio(message.owner)
        made_by = self._store.marker("audio", message.owner).get(MADE_BY, {})  # which may be another machine
        with self._store.writer("audio", running.job.video.name, self._fingerprints["audio"]) as writer:
            writer.append(embedding=sound.embedding_WSD, end=sound.end_W)
            writer.publish({**message.marker, MADE_BY: made_by})
        self._published(running, "audio")

    def _end_if_whole(self, running: Running) -> None:
        if running.ended or running.open or not running.read:
            return
        if running.labels is not None:
            self._write_labels(running.job, running.labels)
        running.ended = True
        self._finished(running.job)

    def _write_labels(self, job: Job, part: LabelPart) -> None:
        with self._store.writer("labels", job.video.name, self._fingerprints["labels"]) as writer:
            writer.append(value=part.labels.value_F2, valid=part.labels.valid_F, time=part.time_F)
            writer.publish({**part.marker, MADE_BY: self._made_by})

    def _give_up(self, running: Running, reason: str) -> None:
        if running.ended:
            return
        running.ended = True
        self._reasons[running.job.video.name] = reason
        for name in running.job.streams:
            stream = self._streams.pop((running, name), None)
            if stream is not None:
                stream.close.close()
        self._failed(running.job, reason)
        # Whoever waits for this video's sound waits for the same file.
        for copy in self._copies.pop(running.job.video.name, ()):
            self._give_up(copy.running, reason)
