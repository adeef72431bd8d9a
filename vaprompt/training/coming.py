"""Embeddings on their way into memory: videos are read behind what is computed, those first that somebody waits for.

Axes: N rows of all videos, V videos.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

LEAST_READERS = 4
"""Threads that read videos."""


class Coming:
    """Reads videos, each once, in threads of its own."""

    def __init__(self, read: Callable[[int], None], begin_V: Int64[np.ndarray, "V"]) -> None:
        """Prepare to; nothing is read before `start`.

        Args:
            read: brings a video's embeddings to where they are wanted, by its number; is called in several threads.
            begin_V: the first row of each video.
        """
        self._read, self._begin_V = read, begin_V
        self._left = dict.fromkeys(range(len(begin_V)))
        """Videos that nobody has begun to read, in the order in which they will be."""
        self._there_V = np.zeros(len(begin_V), bool)
        self._whole = not len(begin_V)
        self._error: BaseException | None = None
        self._turn = threading.Condition()
        self._readers: list[threading.Thread] = []

    def start(self) -> None:
        """Begin to read."""
        # More than there are cores: a part of them waits for the disk.
        for _ in range(min(len(self._begin_V), max(LEAST_READERS, 2 * torch.get_num_threads()))):
            reader = threading.Thread(target=self._work, name="reading features", daemon=True)
            reader.start()
            self._readers.append(reader)

    def wait(self, row_B: Int64[Tensor, "B"] | None = None) -> None:
        """Return when the videos that rows are of, all videos by default, are there.

        Raises:
            StoreError, OSError, MemoryError: what reading a video ended with, whichever it was.
        """
        if self.is_whole:
            return
        if row_B is None:
            wanted_K = np.arange(len(self._begin_V))
        else:
            # Of videos without a row, which begin where the next one does, none is found.
            wanted_K = np.unique(np.searchsorted(self._begin_V, row_B.cpu().numpy(), side="right") - 1)
        with self._turn:
            first = [video for video in wanted_K.tolist() if video in self._left]
            self._left = dict.fromkeys([*first, *self._left])
            self._turn.wait_for(lambda: self._error is not None or self._there_V[wanted_K].all())
            if self._error is not None:
                raise self._error

    @property
    def is_whole(self) -> bool:
        """Whether all videos are there."""
        return self._whole

    def is_over(self, seconds: float) -> bool:
        """Say whether no video is to be read any more, once that is so or so many seconds are over."""
        with self._turn:
            return self._turn.wait_for(lambda: self._error is not None or self._whole, seconds)

    def abandon(self) -> None:
        """Begin with no further video, and leave those that are being read where they are."""
        with self._turn:
            self._left.clear()
            if not self._whole and self._error is None:
                self._error = RuntimeError("reading was stopped")
            self._turn.notify_all()

    def require_wanted(self) -> None:
        """Raise what ended the reading, if something did: for who reads a video piece by piece.

        Raises:
            StoreError, OSError, MemoryError, RuntimeError: what it was.
        """
        if self._error is not None:
            raise self._error

    def stop(self) -> None:
        """Read nothing further, and return when nothing is read any more."""
        self.abandon()
        for reader in list(self._readers):  # one that is only just begun finds nothing to read
            reader.join()

    def _work(self) -> None:
        while True:
            with self._turn:
                if not self._left:
                    return
                video = next(iter(self._left))
                del self._left[video]
            try:
                self._read(video)
            except BaseException as error:
                with self._turn:
                    self._error = self._error or error
                    self._left.clear()
                    self._turn.notify_all()
                return
            with self._turn:
                self._there_V[video] = True
                self._whole = bool(self._there_V.all())
                self._turn.notify_all()
