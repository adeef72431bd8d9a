"""A run's predictions while embeddings arrive, so that memory depends on a window's length and not on the video's.

Two hours hold 2,400 windows of sound: kept whole, AST's embeddings of them would take 370 MB.

Axes: W windows, T image steps, S audio steps, I and C channels, M embeddings that some window uses.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator

import numpy as np
from jaxtyping import Float, Int64

from vaprompt.training.runs import Run, WindowEstimates, joined

BATCH = 32
"""Windows that are predicted at once."""


class Arriving:
    """Rows of a long array that come in batches, in order; old ones are let go when nobody needs them any more."""

    def __init__(self, batches: Iterator[Float[np.ndarray, "_ ..."]]) -> None:
        """Read from `batches`, of which each holds the next rows."""
        self._batches = batches
        self._held: deque[Float[np.ndarray, "_ ..."]] = deque()
        self._first = self._reached = self._floor = 0

    def take(self, row: Int64[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
        """Return rows by number (from 0), reading on as far as needed.

        Raises:
            IndexError: a row was let go already, or there are fewer.
        """
        if row.min() < self._floor:
            raise IndexError(f"row {row.min()} was let go: only those from {self._floor} on are held")
        while self._reached <= row.max():
            batch = next(self._batches, None)
            if batch is None:
                raise IndexError(f"row {row.max()} is asked for and there are {self._reached}")
            self._held.append(batch)
            self._reached += len(batch)
            self._drop()
        wanted: np.ndarray = np.concatenate(self._held)[row - self._first]
        return wanted

    def let_go(self, before: int) -> None:
        """Forget the rows before a number, also those that are yet to come."""
        self._floor = max(self._floor, before)
        self._drop()

    def _drop(self) -> None:
        while self._held and self._first + len(self._held[0]) <= self._floor:
            self._first += len(self._held.popleft())


def stream_estimates(
    run: Run,
    image_WT: Int64[np.ndarray, "W T"],
    audio_W: Int64[np.ndarray, "W"],
    image: Iterator[Float[np.ndarray, "_ I"]] | None,
    audio: Iterator[Float[np.ndarray, "_ S C"]] | None,
    done: Callable[[int], None] = lambda windows: None,
) -> WindowEstimates:
    """Return what a run says of each window.

    Args:
        run: what predicts.
        image_WT: rows of the image embeddings; windows that come later may not need much earlier rows.
        audio_W: row of the audio embeddings.
        image: image embeddings in batches, row by row; None where the run leaves pictures out.
        audio: audio embeddings in batches, row by row; None where it leaves sound out.
        done: told how many windows are predicted so far.

    Raises:
        RunError: the embeddings' channels are not those that the run was trained on.
        MediaError, WeightsError: what the iterators raise.
    """
    seeing, hearing = None if image is None else Arriving(image), None if audio is None else Arriving(audio)
    # From each window on, the first row that is still needed.
    image_from_W = np.minimum.accumulate(image_WT.min(axis=1)[::-1])[::-1]
    audio_from_W = np.minimum.accumulate(audio_W[::-1])[::-1]
    parts: list[WindowEstimates] = []
    for first in range(0, len(audio_W), BATCH):
        rows = slice(first, first + BATCH)
        image_BTI = audio_BSC = None
        if seeing is not None:
            seeing.let_go(int(image_from_W[first]))
            image_BTI = seeing.take(image_WT[rows])
        if hearing is not None:
            hearing.let_go(int(audio_from_W[first]))
            audio_BSC = hearing.take(audio_W[rows])
        parts.append(run.estimate_windows(image_BTI, audio_BSC))
        done(min(first + BATCH, len(audio_W)))
    return joined(parts)


def used_rows(
    row_WT: Int64[np.ndarray, "W T"],
) -> tuple[Int64[np.ndarray, "M"], Int64[np.ndarray, "W T"]]:
    """Return the rows that some window uses, ascending, and the windows in terms of their places among these.

    Windows of 20 pictures every 3 s use a fifth of a video's frames: the others need no encoding.
    """
    used_M, place = np.unique(row_WT, return_inverse=True)
    return used_M.astype(np.int64), place.reshape(row_WT.shape).astype(np.int64)
