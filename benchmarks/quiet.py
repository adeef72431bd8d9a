"""Measures speed, tells how much of the machine other programs took meanwhile, and repeats what they disturbed."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

ALLOWED = 0.03
"""Share of all cores' time that others may take: more disturbs threads that wait for each other."""
ATTEMPTS = 5


class Others:
    """What other programs take of the machine from the moment on that this is made."""

    def __init__(self) -> None:
        """Begin."""
        self._time, self._busy, self._own = time.perf_counter(), _busy(), _own()

    def share(self) -> float:
        """Return the share of all cores' time that other programs, or other guests of the same host, took."""
        others = _busy() - self._busy - (_own() - self._own)
        return max(0.0, others / ((time.perf_counter() - self._time) * (os.cpu_count() or 1)))


def quietly(work: Callable[[], T]) -> tuple[T, float]:
    """Return what `work` gives and the share that others took meanwhile: of several attempts the least disturbed."""
    found: list[tuple[T, float]] = []
    for _ in range(ATTEMPTS):
        others = Others()
        found.append((work(), others.share()))
        if found[-1][1] <= ALLOWED:
            break
    return min(found, key=lambda one: one[1])


def per_second(work: Callable[[], object], items: int, *, least: float = 0.0) -> float:
    """Return items a second, over as many repetitions as take `least` seconds."""
    start, done = time.perf_counter(), 0
    while done == 0 or time.perf_counter() - start < least:
        work()
        done += items
    return done / (time.perf_counter() - start)


def _busy() -> float:
    """Return the seconds that all cores have worked, or were kept from it by the host (proc(5))."""
    ticks = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    user, nice, system, _idle, _waiting, interrupt, soft_interrupt, stolen = ticks
    return (user + nice + system + interrupt + soft_interrupt + stolen) / os.sysconf("SC_CLK_TCK")


def _own() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system
