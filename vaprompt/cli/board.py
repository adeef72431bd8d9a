"""How a sweep is watched on stderr: a table that lives on a terminal, a line now and then in a log."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, cast

from vaprompt.cli.output import score
from vaprompt.cli.progress import Stream, duration

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from vaprompt.sweeps.board import Board, Row, Watcher

EVERY = 15.0
"""Seconds between lines in a log."""
REFRESH = 2.0
"""Pictures of the table a second."""
SPARE = 6
"""Lines of the terminal that the table leaves free."""


def watcher(stream: Stream | None = None) -> Watcher:
    """Return what suits `stream` (stderr when None): a table where a person watches, plain lines in a log."""
    stream = sys.stderr if stream is None else stream
    if not stream.isatty():
        return PlainWatcher(stream)
    from rich.console import Console

    return TableWatcher(Console(file=cast("IO[str]", stream), highlight=False))


class PlainWatcher:
    """Prints a line when a variant is over, and one about all that are under way every `every` seconds."""

    def __init__(self, stream: Stream, *, every: float = EVERY, clock: Callable[[], float] = time.monotonic) -> None:
        """Write to `stream`; `clock` returns seconds."""
        self._stream, self._every, self._clock = stream, every, clock
        self._over: set[str] = set()

    @contextmanager
    def watching(self, board: Board) -> Iterator[None]:
        """Print how far a board is as long as the block runs; see `vaprompt.sweeps.board.Watcher`."""
        self._over = {row.label for row in board.rows() if row.state in ("done", "failed", "pruned")}
        if self._over:
            self.say(f"{len(self._over)} variants were done before")
        ended = threading.Event()
        thread = threading.Thread(target=self._watch, args=(board, ended), name="watching", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            self._tell_those_over(board.rows())

    def say(self, text: str) -> None:
        """Print one line."""
        print(text, file=self._stream, flush=True)

    def _watch(self, board: Board, ended: threading.Event) -> None:
        told = self._clock()
        while not ended.wait(0.5):
            rows = board.rows()
            if self._tell_those_over(rows) or self._clock() - told < self._every:
                continue
            told = self._clock()
            under_way = "; ".join(describe(row) for row in rows if row.state == "training")
            counts = board.counts()
            total = sum(counts.values())
            self.say(f"{total - counts['waiting'] - counts['training']}/{total} done; {under_way}")

    def _tell_those_over(self, rows: Sequence[Row]) -> bool:
        new = [row for row in rows if row.state in ("done", "failed", "pruned") and row.label not in self._over]
        for row in new:
            self._over.add(row.label)
            self.say(describe(row))
        return bool(new)


class TableWatcher:
    """A table of all variants that is drawn again and again in its place."""

    def __init__(self, console: Console) -> None:
        """Draw on a console."""
        self._console = console

    @contextmanager
    def watching(self, board: Board) -> Iterator[None]:
        """Draw a board as long as the block runs; see `vaprompt.sweeps.board.Watcher`."""
        from rich.live import Live

        with Live(
            get_renderable=lambda: table(board.rows(), self._console.height - SPARE, sum(board.counts().values())),
            console=self._console,
            refresh_per_second=REFRESH,
        ) as live:
            try:
                yield
            finally:
                live.refresh()

    def say(self, text: str) -> None:
        """Print one line above the table."""
        self._console.print(text, markup=False, soft_wrap=True)


def table(rows: Sequence[Row], most: int, total: int = 0) -> RenderableType:
    """Return the board as a table: those under way first, then as many others as there is room for.

    Args:
        rows: of the board.
        most: lines that there is room for.
        total: how many there will be, where that is more than there are rows yet.
    """
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    order = {"training": 0, "failed": 1, "waiting": 2, "done": 3, "pruned": 4}
    shown = sorted(rows, key=lambda row: order[row.state])[: max(most, 3)]
    drawn = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for name in ("variant", "epoch", "CCC", "best", "left"):
        # Names may wrap; numbers that are cut off say nothing.
        numeric = name in ("CCC", "best")
        drawn.add_column(name, justify="right" if numeric else "left", no_wrap=name != "variant", overflow="fold")
    for row in shown:
        cells = (row.label, _epoch(row), score(row.mean), score(row.best), _left(row))
        drawn.add_row(*(Text(cell, style="bold" if row.state == "training" else "dim") for cell in cells))
    to_come = max(0, total - len(rows))
    if len(shown) < len(rows) or to_come:
        left_out = rows if not shown else [row for row in rows if row not in shown]
        counts = {state: sum(row.state == state for row in left_out) for state in order}
        counts["waiting"] += to_come
        told = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
        drawn.add_row(Text(f"and {told}", style="dim"))
    return drawn


def describe(row: Row) -> str:
    """Return how a variant stands, in a line."""
    if row.state == "failed":
        return f"{row.label}: failed: {row.reason}"
    if row.state in ("done", "pruned"):
        early = ", stopped early" if row.state == "pruned" else ""
        return f"{row.label}: {row.epoch} epochs{early}, best validation CCC {score(row.best)}"
    left = _left(row)
    return f"{row.label}: epoch {_epoch(row)}, CCC {score(row.mean)}{f', {left} left' if left else ''}"


def _epoch(row: Row) -> str:
    return f"{row.epoch}/{row.epochs}"


def _left(row: Row) -> str:
    if row.state == "training":
        return "" if row.left is None else duration(row.left)
    return {"waiting": "", "done": "done", "failed": "failed", "pruned": "stopped"}[row.state]
