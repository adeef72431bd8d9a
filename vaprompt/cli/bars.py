"""Progress as moving bars, for a terminal. Apart from `cli/progress.py`, since rich is slow to import."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.table import Column

from vaprompt.progress import Task


class RichProgress:
    """Bars that move, one for each stage under way; a finished stage leaves its line."""

    def __init__(self, stream: IO[str] | None = None) -> None:
        """Write to `stream` (stderr when None)."""
        self._console = Console(file=sys.stderr if stream is None else stream, highlight=False)
        self._bars: Bars | None = None

    @contextmanager
    def task(self, name: str, total: int | float | None = None, unit: str = "") -> Iterator[Task]:
        """Announce a stage; see `vaprompt.progress.Progress`."""
        outermost = self._bars is None
        bars = self._bars = self._bars or self._new_bars()
        if outermost:
            bars.start()
        task = bars.add_task(name, total=total, unit=unit, note="")
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
        self._console.print(text, markup=False, soft_wrap=True)

    def _new_bars(self) -> Bars:
        return Bars(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TextColumn("{task.fields[unit]}", markup=False),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(compact=True),
            TextColumn(
                "{task.fields[note]}", markup=False, style="dim", table_column=Column(no_wrap=True, overflow="ellipsis")
            ),
            console=self._console,
        )


class _RichTask:
    def __init__(self, bars: Bars, task: TaskID) -> None:
        self._bars, self._task = bars, task

    def advance(self, amount: int | float = 1, note: str = "") -> None:
        self._bars.update(self._task, advance=amount, note=note)
