"""Threads that work side by side on one thing, and exchange what they have at points that all of them come to."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from vaprompt.lanes import Lanes

Item = TypeVar("Item")
Result = TypeVar("Result")


class Meeting:
    """What one of several threads knows of the others."""

    def __init__(self, index: int, barrier: threading.Barrier, tables: tuple[list[Any], list[Any]]) -> None:
        """Use `together` instead."""
        self.index = index
        """Which of them this one is, from 0."""
        self.count = barrier.parties
        self._barrier, self._tables = barrier, tables

    def exchange(self, mine: Result) -> list[Result]:
        """Lay something on the table, wait for the others, and return what all have laid there, in their order."""
        table, other = self._tables
        # Two tables in turn: nobody can lay the next thing before everybody has looked at this one.
        self._tables = other, table
        table[self.index] = mine
        self._barrier.wait()
        return list(table)


_HERE = threading.local()


def meeting() -> Meeting | None:
    """Return the meeting that this thread takes part in."""
    return getattr(_HERE, "meeting", None)


def together(lanes: Lanes, work: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """Return `work` of each item, in their order; while they are worked on, their threads meet.

    Args:
        lanes: as many threads as there are items, or more.
        work: called with an item; what it raises is raised here, and the others' exchanges are broken off.
        items: at most as many as there are threads.
    """
    assert len(items) <= lanes.count, "each needs a thread, or they wait for each other for ever"
    barrier = threading.Barrier(len(items))
    tables: tuple[list[Any], list[Any]] = ([None] * len(items), [None] * len(items))
    raised: list[BaseException] = []

    def attend(numbered: tuple[int, Item]) -> Result | None:
        index, item = numbered
        _HERE.meeting = Meeting(index, barrier, tables)
        try:
            return work(item)
        except threading.BrokenBarrierError:
            return None  # another has failed, and is heard
        except BaseException as error:
            raised.append(error)
            barrier.abort()
            return None
        finally:
            _HERE.meeting = None

    results = lanes.map(attend, list(enumerate(items)))
    if raised:
        raise raised[0]
    return results  # type: ignore[return-value]
