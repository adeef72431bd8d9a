"""A decoder that hangs is given up: whatever touches a media file runs in a thread that is waited for only so long.

Nothing can end a thread that hangs inside a decoder or in the kernel, so it is left behind, with what it holds, until
the program ends; being a daemon, it does not keep the program from ending. The limit is on time without progress:
a file may take days, if something is decoded now and then.
"""

from __future__ import annotations

import math
import os
import queue
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar

from vaprompt.errors import HangError, VapromptError
from vaprompt.media.ahead import ahead
from vaprompt.media.pulse import Watch

PATIENCE = 120.0
"""Seconds without progress; the slowest decoders need milliseconds a frame, and a busy network disk half a minute."""
SETTING = "VAPROMPT_PATIENCE"
"""The environment variable that holds another number of seconds."""

Pulse = Callable[[], None]
"""Says that something was decoded."""
T = TypeVar("T")


def patiently(path: Path, work: Callable[[Pulse], T]) -> T:
    """Return what `work` does with a media file, in a thread that it is waited for.

    Args:
        path: the file, for the error.
        work: told what to call whenever it gets on.

    Raises:
        HangError: `work` gave no sign of life for so long.
    """
    watch = _watch(lambda: path)
    worker = _idle.pop() if _idle else _Worker()
    result, error = worker.do(work, watch)
    _idle.append(worker)  # not reached by one that hangs
    if error is not None:
        raise error
    return result  # type: ignore[no-any-return]


def patiently_each(path: Callable[[], Path], make: Callable[[Pulse], Iterator[T]], size: int = 2) -> Generator[T]:
    """Yield the items of an iterator that decodes media, made at most `size` ahead in a thread of its own.

    Args:
        path: says which file is at work, for the error.
        make: told what to call whenever it gets on, returns the iterator.
        size: items that may wait.

    Raises:
        HangError: there was no item and no sign of life for so long.
    """
    watch = _watch(path)
    with closing(ahead(make(watch.pulse), size, watch=watch)) as items:
        yield from items


def patience() -> float:
    """Return the seconds without progress after which a decoder is given up.

    Raises:
        VapromptError: the environment variable for it holds no number of seconds.
    """
    given = os.environ.get(SETTING)
    try:
        seconds = PATIENCE if given is None else float(given)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < threading.TIMEOUT_MAX:
        raise VapromptError(SETTING, fault=f"{given!r} is no number of seconds", remedy="set one above 0, or unset it")
    return seconds


def _watch(path: Callable[[], Path]) -> Watch:
    seconds = patience()
    return Watch(
        seconds,
        lambda: HangError(
            path(),
            fault=f"nothing was decoded for {seconds:g} s: its decoder hangs, or its disk does not answer",
            remedy=f"convert the file, or copy it to another disk; {SETTING} sets other seconds",
        ),
    )


class _Worker:
    """A thread that works for one caller at a time; starting one for every crop would take half as long as reading."""

    def __init__(self) -> None:
        self._work: queue.SimpleQueue[tuple[Callable[[Pulse], Any], Pulse]] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()
        threading.Thread(target=self._run, name="decoding", daemon=True).start()

    def do(self, work: Callable[[Pulse], Any], watch: Watch) -> tuple[Any, BaseException | None]:
        self._work.put((work, watch.pulse))
        return watch.get(self._done)

    def _run(self) -> None:
        while True:
            work, pulse = self._work.get()
            try:
                done: tuple[Any, BaseException | None] = (work(pulse), None)
            except BaseException as raised:  # carried over to the thread that asked, whatever it is
                done = (None, raised)
            self._done.put(done)
            del work, pulse, done  # a waiting thread holds no picture


_idle: list[_Worker] = []
# A child process has none of its parent's threads.
os.register_at_fork(after_in_child=_idle.clear)
