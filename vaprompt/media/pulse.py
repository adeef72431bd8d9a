"""Signs of life of a thread that may hang, and how long to wait for them."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class NobodyWaitsError(Exception):
    """Ends a thread that was given up and goes on nevertheless; never leaves that thread."""


class Watch:
    """Waits for what another thread makes, as long as that one gives signs of life."""

    def __init__(self, patience: float, error: Callable[[], Exception]) -> None:
        """Wait for at most `patience` seconds without a sign of life; raise what `error` returns after that."""
        self.patience, self.over = patience, False
        self._error, self._latest = error, time.monotonic()

    def pulse(self) -> None:
        """Give a sign of life; called by the thread that works.

        Raises:
            NobodyWaitsError: nobody waits any more; the thread was only slow, and is to end.
        """
        if self.over:
            raise NobodyWaitsError
        self._latest = time.monotonic()

    def get(self, made: queue.SimpleQueue[T]) -> T:
        """Return the next thing made.

        Raises:
            Exception: `error`'s, where neither it nor a sign of life came for `patience` seconds.
        """
        # Before, nobody asked: a thread that has made enough sleeps, and that is no fault of its own.
        since = time.monotonic()
        while (left := max(since, self._latest) + self.patience - time.monotonic()) > 0:
            try:
                return made.get(timeout=left)
            except queue.Empty:
                continue
        self.over = True
        raise self._error()
