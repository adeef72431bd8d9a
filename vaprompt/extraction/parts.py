"""What an engine's threads tell each other of a video under way: what is read, what is encoded, what became of it.

Axes: N rows of a stream, F frames of the video.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float64

from vaprompt.datasets.base import Labels
from vaprompt.extraction.plan import Job


@dataclass(eq=False)
class Running:
    """A video under way; only the writer looks at what follows the job."""

    job: Job
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
class Item:
    """One picture, or one window of sound, with its place in its video."""

    running: Running
    stream: str
    index: int
    """Row, from 0, in the stream of the video."""
    value: np.ndarray
    columns: dict[str, np.ndarray]
    """What is written beside the embedding: arrays of as many rows as the embedding is written for."""


@dataclass(frozen=True)
class Encoded:
    """A batch of items of one stream, and their embeddings in the store's number format, row by row."""

    items: list[Item]
    embedding: np.ndarray


@dataclass(frozen=True)
class StreamEnd:
    """All items of a stream have been brought; so many there are."""

    running: Running
    stream: str
    items: int
    marker: dict[str, Any]


@dataclass(frozen=True)
class SoundOf:
    """A video's sound is that of another, which is in the store or under way."""

    running: Running
    owner: str
    marker: dict[str, Any]


@dataclass(frozen=True)
class LabelPart:
    """A video's labels, to be written when its other streams are."""

    labels: Labels
    time_F: Float64[np.ndarray, "F"]
    marker: dict[str, Any]


@dataclass(frozen=True)
class ReadEnd:
    """A video has been read; its labels, if they are missing in the store."""

    running: Running
    labels: LabelPart | None


@dataclass(frozen=True)
class Failed:
    """A video cannot be extracted."""

    running: Running
    reason: str


Message = Encoded | StreamEnd | SoundOf | ReadEnd | Failed
