"""Preparing the next items in a second thread while the present one is worked on."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from vaprompt.media.pulse import Watch

T = TypeVar("T")


@dataclass(frozen=True)
class _End(Generic[T]):
    error: BaseException | None


def ahead(items: Iterator[T], size: int = 2, *, watch: Watch | None = None) -> Generator[T]:
    """Yield the items of an iterator that runs in a thread of its own, at most `size` items ahead.

    Decoding and reading pictures release Python's lock, so that they overlap with the network's work. What the
    iterator raises is raised here, and closing this generator closes the iterator.

    Args:
        items: the iterator; only that thread touches it.
        size: items that may wait.
        watch: when to wait no longer. The thread is then left to itself, as nothing can end one that hangs in a
            decoder; it keeps neither the program nor its end waiting.
    """
    waiting: queue.SimpleQueue[T | _End[T]] = queue.SimpleQueue()
    # One leave for each item that may wait: no polling, and no lock in Python code for every frame.
    leave: queue.SimpleQueue[None] = queue.SimpleQueue()
    stopped = threading.Event()
    for _ in range(size):
        leave.put(None)

    def produce() -> None:
        error: BaseException | None = None
        try:
            for item in items:
                leave.get()
                if stopped.is_set():
                    break
                waiting.put(item)
        except BaseException as raised:  # carried over to the thread that asked, whatever it is
            error = raised
        finally:
            close = getattr(items, "close", None)
            if close is not None:
                close()
            waiting.put(_End(error))

    thread = threading.Thread(target=produce, name="ahead", daemon=True)
    thread.start()
    try:
        while not isinstance(item := waiting.get() if watch is None else watch.get(waiting), _End):
            leave.put(None)
            yield item
        if item.error is not None:
            raise item.error
    finally:
        stopped.set()
        leave.put(None)
        if watch is None:
            thread.join()
        elif not watch.over:
            thread.join(watch.patience)
