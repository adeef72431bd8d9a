"""How the command line shows progress on stderr: moving bars on a terminal, a line now and then in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Protocol, cast, runtime_checkable

from vaprompt.progress import Progress, Task


@runtime_checkable
class Stream(Protocol):
    """A text file to write to, as far as it is needed here."""

    def write(self, text: str, /) -> object:
        """Write the text."""
        ...

    def flush(self) -> object:
        """Let what was written be seen."""
        ...

    def isatty(self) -> bool:
        """Say whether a person watches."""
        ...


def progress(stream: Stream | None = None) -> Progress:
    """Return what suits `stream` (stderr when None): bars where a person watches, plain lines in a log."""
    stream = sys.stderr if stream is None else stream
    if not stream.isatty():
        return PlainProgress(stream)
    from vaprompt.cli.bars import RichProgress

    return RichProgress(cast("IO[str]", stream))


class PlainProgress:
    """Prints a line when a stage ends, and one every `every` seconds while it lasts."""

    def __init__(
        self,
        stream: Stream | None = None,
        *,
        every: int | float = 15,
        clock: Callable[[], int | float] = time.monotonic,
    ) -> None:
        """Write to `stream` (stderr when None); `clock` returns seconds."""
        self._stream = sys.stderr if stream is None else stream
        self._every, self._clock = every, clock

    @contextmanager
    def task(self, name: str, total: int | float | None = None, unit: str = "") -> Iterator[Task]:
        """Announce a stage; see `vaprompt.progress.Progress`."""
        task = _PlainTask(self, name, total, unit)
        yield task
        task.close()

    def say(self, text: str) -> None:
        """Print one line."""
        print(text, file=self._stream, flush=True)


class _PlainTask:
    def __init__(self, log: PlainProgress, name: str, total: int | float | None, unit: str) -> None:
        self._log, self._name, self._total, self._unit = log, name, total, unit
        self._done = 0.0
        self._note = ""
        self._started = self._told = log._clock()

    def advance(self, amount: int | float = 1, note: str = "") -> None:
        self._done += amount
        self._note = note
        now = self._log._clock()
        if now - self._told >= self._log._every:
            self._told = now
            self._log.say(f"{self._name}: {self._count()}{f' ({note})' if note else ''}")

    def close(self) -> None:
        took = self._log._clock() - self._started
        self._log.say(f"{self._name}: {self._count()}{f' ({self._note})' if self._note else ''}, {took:.1f} s")

    def _count(self) -> str:
        total = "" if self._total is None else f"/{self._total:g}"
        return f"{self._done:g}{total} {self._unit}".rstrip()
