"""How the command line shows progress on stderr: moving bars on a terminal, a line now and then in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Protocol, cast, runtime_checkable

from vaprompt.cli.output import printable
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


def duration(seconds: int | float) -> str:
    """Return a time such as 40 s, 12 min or 2 h 5 min, no more precise than an estimate is."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def amount(of: int | float) -> str:
    """Return a count as it is, and what is measured to three digits."""
    return f"{of:.0f}" if float(of).is_integer() or abs(of) >= 100 else f"{of:.3g}"


class PlainProgress:
    """Prints a line when a stage ends and every `every` seconds while it lasts; none for short stages within others."""

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
        self._depth = 0

    @contextmanager
    def task(self, name: str, total: int | float | None = None, unit: str = "") -> Iterator[Task]:
        """Announce a stage; see `vaprompt.progress.Progress`."""
        task = _PlainTask(self, name, total, unit)
        self._depth += 1
        try:
            yield task
        finally:
            self._depth -= 1
        task.close(brief=self._depth > 0)

    def say(self, text: str) -> None:
        """Print one line."""
        print(printable(text), file=self._stream, flush=True)


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
            self._log.say(f"{self._name}: {self._count()}{f' ({note})' if note else ''}{self._left(now)}")

    def close(self, *, brief: bool) -> None:
        took = self._log._clock() - self._started
        if brief and took < self._log._every:  # a line for every stage of every short video would drown the rest
            return
        self._log.say(f"{self._name}: {self._count()}{f' ({self._note})' if self._note else ''}, {took:.1f} s")

    def _left(self, now: float) -> str:
        """Return how long the rest will take at the speed so far; nothing where that cannot be told."""
        if not self._total or not 0 < self._done < self._total:
            return ""
        seconds = (now - self._started) / self._done * (self._total - self._done)
        return f", about {duration(seconds)} left"

    def _count(self) -> str:
        total = "" if self._total is None else f"/{amount(self._total)}"
        return f"{amount(self._done)}{total} {self._unit}".rstrip()
