"""What can be wanted of a media file, as a small description that any process can decode by.

Free of torch, so that a process that only decodes starts in a third of a second and stays small.

Axes: N pictures, H rows, W columns, C colours; F frames of the video; K windows of sound, L samples of each, M of all.
"""

from __future__ import annotations

import json
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32, Float64

from vaprompt.extraction.pictures import face_pictures, given_pictures, together
from vaprompt.extraction.sources import facts
from vaprompt.faces.recipe import FaceRecipe
from vaprompt.faces.tracking import Person
from vaprompt.media.audio import windows_together
from vaprompt.media.clock import row_times

STRETCH, STRETCH_BYTES = 64, 2**22
"""Pictures that are handed over at once, or so many bytes of them: one by one would cost more than decoding them."""

Arrays = dict[str, np.ndarray]


@runtime_checkable
class Wanted(Protocol):
    """What is to be decoded."""

    @property
    def media(self) -> Path:
        """The file, for errors."""
        ...

    def stretches(self) -> Generator[Arrays]:
        """Decode: yield named arrays, stretch by stretch.

        Raises:
            MediaError: something cannot be decoded.
        """
        ...


@dataclass(frozen=True)
class WantedPictures:
    """Pictures to encode: crops in a folder, one person's face, or whole frames.

    Stretches of `frame` (N,) int32, 1-based, `time` (N,) float64, seconds, and `rgb` (N, H, W, C) bytes.
    """

    media: Path
    rate: str | float
    """`all`, or so many a second."""
    time_F: Float64[np.ndarray, "F"] | None
    """The times of all frames; None only where all frames are wanted, and whole."""
    crops: Path | None = None
    person: Person | None = None
    face: FaceRecipe | None = None
    """How the person's face is cut out."""

    def stretches(self) -> Generator[Arrays]:
        """Decode; see `Wanted`."""
        if self.person is not None and self.face is not None and self.time_F is not None:
            pictures = face_pictures(self.media, self.rate, self.time_F, self.person, self.face)
        else:
            pictures = given_pictures(self.media, self.rate, self.crops, self.time_F)
        for some in together(pictures, most=STRETCH, most_bytes=STRETCH_BYTES):
            yield {"frame": some.frame_N, "time": some.time_N, "rgb": some.rgb_NHWC}


@dataclass(frozen=True)
class WantedSound:
    """Windows of sound, in stretches of `sound` (M,) float32 and the `start` (K,) of each window in it.

    Windows overlap: what several of them hear is handed over once. See `vaprompt.media.audio.windows_together`.
    """

    media: Path
    end_W: Float64[np.ndarray, "W"]
    window: float
    rate: int

    def stretches(self) -> Generator[Arrays]:
        """Decode; see `Wanted`."""
        for some in windows_together(
            self.media,
            self.end_W,
            window=self.window,
            rate=self.rate,
            most=STRETCH,
            most_samples=STRETCH_BYTES // np.dtype(np.float32).itemsize,
        ):
            yield {"sound": some.sound_M, "start": some.start_K}

    def windows(self, some: Arrays) -> Float32[np.ndarray, "K L"]:
        """Return a stretch's windows, as views of its sound where they follow each other at equal distances."""
        window_ML = np.lib.stride_tricks.sliding_window_view(some["sound"], round(self.window * self.rate))
        start_K = some["start"]
        steps = np.diff(start_K)
        if len(steps) and steps[0] > 0 and np.all(steps == steps[0]):
            return window_ML[start_K[0] : start_K[-1] + 1 : steps[0]]
        return window_ML[start_K]


@dataclass(frozen=True)
class WantedFacts:
    """What `vaprompt.extraction.sources.facts` says of a folder, such as one of face crops: `json`, its bytes."""

    media: Path

    def stretches(self) -> Generator[Arrays]:
        """Read; see `Wanted`.

        Raises:
            DatasetError: a file cannot be read.
        """
        yield {"json": np.frombuffer(json.dumps(facts(self.media)).encode(), dtype=np.uint8)}


@dataclass(frozen=True)
class WantedTimes:
    """The `time` (F,) of every frame, in one stretch; see `vaprompt.media.clock.row_times`."""

    media: Path
    rate: float | None = None
    """Rows a second of sound alone."""
    annotated: int | None = None
    """Rows of an annotation that has one for each."""

    def stretches(self) -> Generator[Arrays]:
        """Decode; see `Wanted`."""
        yield {"time": row_times(self.media, self.rate, annotated=self.annotated)}
