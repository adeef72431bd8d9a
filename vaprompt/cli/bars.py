"""Progress as moving bars, for a terminal. Apart from `cli/progress.py`, since rich is slow to import."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import IO

from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.progress import Task as Row
from rich.table import Column
from rich.text import Text

from vaprompt.cli.output import printable
from vaprompt.cli.progress import duration
from vaprompt.progress import Task

INDENT = "  "
ROOMY = 72
"""Columns from which on there is room for a bar."""


def speed(per_second: float | None, unit: str) -> str:
    """Return how fast a stage gets on: so many a second, or how long each takes; nothing where that is not known."""
    if not per_second:
        return ""
    if per_second < 1 and unit != "s":
        return f"{duration(1 / per_second)} each"
    return f"{per_second:.3g}/s" if per_second < 100 else f"{per_second:.0f}/s"


def pace(task: Row) -> float | None:
    """Return how much of a stage is done a second: over the last while, or since its start while that says nothing."""
    recent = task.finished_speed or task.speed
    if recent:
        return recent
    return task.completed / task.elapsed if task.completed and task.elapsed else None


class SpeedColumn(ProgressColumn):
    """How fast a stage gets on."""

    def render(self, task: Row) -> Text:
        """Return its text; of a finished stage the mean over all of it."""
        return Text(speed(pace(task), str(task.fields.get("unit", ""))), style="progress.data.speed")


class LeftColumn(ProgressColumn):
    """How long a stage will yet take, as an estimate is told; nothing where that cannot be known."""

    max_refresh = 0.5

    def render(self, task: Row) -> Text:
        """Return its text, empty of a stage that is done."""
        per_second = pace(task)
        if task.finished or task.remaining is None or not per_second:
            return Text("")
        return Text(f"{duration(task.remaining / per_second)} left", style="progress.remaining")


class Bars(Progress):
    """A line for each stage, and below them what each says: a note has a line of its own, and wraps."""

    def get_renderables(self) -> Iterable[RenderableType]:
        """Yield the table of stages, then their notes."""
        yield self.make_tasks_table(self.tasks)
        for task in self.tasks:
            if task.fields.get("note"):
                yield Text(f"{INDENT}{task.fields['note']}", style="dim", overflow="fold")


class RichProgress:
    """Bars that move, one for each stage under way; a finished stage leaves its line."""

    def __init__(self, stream: IO[str] | None = None, *, clock: Callable[[], float] | None = None) -> None:
        """Write to `stream` (stderr when None); `clock` returns seconds."""
        self._clock = clock
        self._console = Console(file=sys.stderr if stream is None else stream, highlight=False)
        self._bars: Bars | None = None

    @contextmanager
    def task(self, name: str, total: int | float | None = None, unit: str = "") -> Iterator[Task]:
        """Announce a stage; see `vaprompt.progress.Progress`."""
        outermost = self._bars is None
        bars = self._bars = self._bars or self._new_bars()
        if outermost:
            bars.start()
        task = bars.add_task(printable(name), total=total, unit=unit, note="")
        try:
            yield _RichTask(bars, task)
        finally:
            if not outermost:
                bars.remove_task(task)  # a stage within a stage would otherwise leave a line for every video
            else:
                bars.stop()
                self._bars = None

    def say(self, text: str) -> None:
        """Print one line above the bars."""
        self._console.print(printable(text), markup=False, soft_wrap=True)

    def _new_bars(self) -> Bars:
        roomy = self._console.width >= ROOMY

        def whole() -> Column:
            # Where there is no room at all, numbers wrap as well.
            return Column(no_wrap=roomy, overflow="fold")

        return Bars(
            # The name alone may wrap: numbers that are cut off say nothing.
            TextColumn("{task.description}", markup=False, table_column=Column(overflow="fold", min_width=6)),
            *((BarColumn(bar_width=12, table_column=whole()),) if roomy else ()),
            MofNCompleteColumn(table_column=whole()),
            TextColumn("{task.fields[unit]}", markup=False, table_column=whole()),
            SpeedColumn(table_column=whole()),
            *((TimeElapsedColumn(table_column=whole()),) if roomy else ()),
            LeftColumn(table_column=whole()),
            console=self._console,
            # Over so many seconds: an epoch can take minutes.
            speed_estimate_period=600,
            get_time=self._clock,
        )


class _RichTask:
    def __init__(self, bars: Bars, task: TaskID) -> None:
        self._bars, self._task = bars, task

    def advance(self, amount: int | float = 1, note: str = "") -> None:
        self._bars.update(self._task, advance=amount, note=printable(note))
