"""How long work tells whoever watches how far it is, without knowing whether that is a terminal, a log or nobody."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, runtime_checkable


@runtime_checkable
class Task(Protocol):
    """One stage of work under way."""

    def advance(self, amount: int | float = 1, note: str = "") -> None:
        """Report `amount` more of the total done; `note` is a short text such as the video's name or the loss."""
        ...


@runtime_checkable
class Progress(Protocol):
    """Where stages of work are announced."""

    @contextmanager
    def task(self, name: str, total: int | float | None = None, unit: str = "") -> Iterator[Task]:
        """Announce a stage called `name` of `total` units (None: not known beforehand)."""
        ...

    def say(self, text: str) -> None:
        """Print one line that stays, such as a warning or a finished file."""
        ...


class _SilentTask:
    def advance(self, amount: int | float = 1, note: str = "") -> None:
        """Do nothing."""


class Silent:
    """The default: nobody watches."""

    @contextmanager
    def task(self, name: str, total: int | float | None = None, unit: str = "") -> Iterator[Task]:
        """Announce nothing."""
        yield _SilentTask()

    def say(self, text: str) -> None:
        """Say nothing."""


SILENT: Progress = Silent()


class Reached:
    """Turns what is reached in all, such as a time in seconds, into steps of a task."""

    def __init__(self, task: Task) -> None:
        """Begin at 0."""
        self._task, self._steps = task, 0.0

    def __call__(self, steps: float) -> None:
        """Take in how far it is."""
        self._task.advance(steps - self._steps)
        self._steps = steps
