"""Preparing the next items in a second thread while the present one is worked on."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class _End(Generic[T]):
    error: BaseException | None


def ahead(items: Iterator[T], size: int = 2) -> Iterator[T]:
    """Yield the items of an iterator that runs in a thread of its own, at most `size` items ahead.

    Decoding and reading pictures release Python's lock, so that they overlap with the network's work. What the
    iterator raises is raised here, and closing this generator closes the iterator.
    """
    waiting: queue.Queue[T | _End[T]] = queue.Queue(size)
    stopped = threading.Event()

    def put(item: T | _End[T]) -> bool:
        while not stopped.is_set():
            try:
                waiting.put(item, timeout=0.05)
            except queue.Full:
                continue
            return True
        return False

    def produce() -> None:
        error: BaseException | None = None
        try:
            for item in items:
                if not put(item):
                    break
        except BaseException as raised:  # carried over to the thread that asked, whatever it is
            error = raised
        finally:
            close = getattr(items, "close", None)
            if close is not None:
                close()
            put(_End(error))

    thread = threading.Thread(target=produce, name="ahead", daemon=True)
    thread.start()
    try:
        while not isinstance(item := waiting.get(), _End):
            yield item
        if item.error is not None:
            raise item.error
    finally:
        stopped.set()
        thread.join()
