"""What an engine's threads tell each other of a video under way: what is read, what is encoded, what became of it.

Axes: N rows of a stream, F frames of the video.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from jaxtyping import Float64

from vaprompt.datasets.base import Labels
from vaprompt.extraction.plan import Job


@dataclass(eq=False)
class Running:
    """A video under way; only its writer looks at what follows the writer's number."""

    job: Job
    writer: int = 0
    """Which of the writers it is for: one and the same for all videos of one media file."""
    ended: bool = False
    """Published, or given up: what still comes of it is of no use."""
    open: set[str] = field(init=False)
    """Streams, but for labels, that are not published yet."""
    read: bool = False
    """Everything of it has been brought."""
    labels: LabelPart | None = None

    def __post_init__(self) -> None:
        self.open = {stream for stream in self.job.streams if stream != "labels"}


@dataclass(frozen=True)
class Place:
    """Where embeddings that follow each other belong in a video."""

    running: Running
    stream: str
    index: int
    """Of the first one in the stream, from 0."""
    count: int
    """Embeddings. One can be written for many rows."""
    columns: dict[str, np.ndarray]
    """What is written beside them: arrays of as many rows as they are written for."""


@dataclass(frozen=True)
class Stretch:
    """Pictures, or windows of sound, that follow each other in a video."""

    place: Place
    values: np.ndarray
    """As many as the place counts, of one shape."""

    def __len__(self) -> int:
        return len(self.values)

    def split(self, count: int) -> tuple[Stretch, Stretch]:
        """Return the first `count`, and those behind them; there are more than so many."""
        return self._part(slice(0, count)), self._part(slice(count, len(self)))

    def _part(self, some: slice) -> Stretch:
        columns = {name: rows[some] for name, rows in self.place.columns.items()}
        index, count = self.place.index + some.start, some.stop - some.start
        return Stretch(replace(self.place, index=index, count=count, columns=columns), self.values[some])


@dataclass(frozen=True)
class Encoded:
    """Embeddings in the store's number format, each array with where it belongs, all for one writer."""

    writer: int
    pieces: list[tuple[Place, np.ndarray]]


def encoded(places: Iterable[Place], embedding: np.ndarray) -> Iterable[Encoded]:
    """Return the embeddings of a batch, which lie in it in the order of their places, as messages to their writers."""
    of_writer: dict[int, Encoded] = {}
    start = 0
    for place in places:
        message = of_writer.setdefault(place.running.writer, Encoded(place.running.writer, []))
        message.pieces.append((place, embedding[start : start + place.count]))
        start += place.count
    return of_writer.values()


@dataclass(frozen=True)
class _OfOne:
    """What is told of one video."""

    running: Running

    @property
    def writer(self) -> int:
        """Which of the writers it is for."""
        return self.running.writer


@dataclass(frozen=True)
class StreamEnd(_OfOne):
    """All items of a stream have been brought; so many there are."""

    stream: str
    items: int
    marker: dict[str, Any]


@dataclass(frozen=True)
class SoundOf(_OfOne):
    """A video's sound is that of another, which is in the store or under way."""

    owner: str
    marker: dict[str, Any]


@dataclass(frozen=True)
class LabelPart:
    """A video's labels, to be written when its other streams are."""

    labels: Labels
    time_F: Float64[np.ndarray, "F"]
    marker: dict[str, Any]


@dataclass(frozen=True)
class ReadEnd(_OfOne):
    """A video has been read; its labels, if they are missing in the store."""

    labels: LabelPart | None


@dataclass(frozen=True)
class Failed(_OfOne):
    """A video cannot be extracted."""

    reason: str


Message = Encoded | StreamEnd | SoundOf | ReadEnd | Failed
