"""The processor's cores as lanes: each has one thread that computes alone.

Whole items side by side use a processor better than many threads on one item, which wait for each other after every
operation. And a single thread adds in one order, so that what an item becomes does not depend on how many cores there
are.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import NamedTuple, TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")


class Worked(NamedTuple):
    """What lanes have done so far, all of them together."""

    items: int
    seconds: float


class Lanes:
    """Threads that compute with one core each."""

    def __init__(self, count: int) -> None:
        """Start `count` threads."""
        self.count, self.worked = count, Worked(0, 0.0)
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(count, thread_name_prefix="lane")
        _single_threaded(count, self._pool.submit)

    def map(self, work: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
        """Return `work` of each item, in their order; what it raises is raised here."""
        waiting = [self._pool.submit(self._accounted, work, item) for item in items]
        return [done.result() for done in waiting]

    def _accounted(self, work: Callable[[Item], Result], item: Item) -> Result:
        start = time.perf_counter()
        result = work(item)
        with self._lock:
            self.worked = Worked(self.worked.items + 1, self.worked.seconds + time.perf_counter() - start)
        return result


def lanes() -> Lanes:
    """Return the lanes that all encoders on this processor share, as many as torch may use threads."""
    with _LOCK:
        return _lanes(torch.get_num_threads())


def pair() -> Lanes:
    """Return two lanes, however many cores there are: what two threads share has the same numbers on any number."""
    with _LOCK:
        return _lanes(2)


def alone(work: Callable[[], Result]) -> Result:
    """Return what `work` gives, computed by one core: with the same numbers however many there are."""
    return pair().map(lambda _: work(), (None,))[0]


def start_threads(work: Callable[[], None], count: int, name: str) -> list[threading.Thread]:
    """Start threads that do `work`, in each of which torch computes with one core."""
    started: list[threading.Thread] = []

    def start(prepare: Callable[[], None]) -> None:
        def run() -> None:
            prepare()
            work()

        started.append(threading.Thread(target=run, name=f"{name} {len(started) + 1}", daemon=True))
        started[-1].start()

    _single_threaded(count, start)
    return started


_LOCK = threading.Lock()


@lru_cache(maxsize=4)
def _lanes(count: int) -> Lanes:
    return Lanes(count)


def _single_threaded(count: int, start: Callable[[Callable[[], None]], object]) -> None:
    """Let torch use one core in `count` threads, each of which `start` lets do what it is given."""
    before = torch.get_num_threads()
    together = threading.Barrier(count + 1)

    def prepare() -> None:
        torch.get_num_threads()  # the first question of a thread overwrites its setting
        torch.set_num_threads(1)
        together.wait()

    for _ in range(count):
        start(prepare)
    together.wait()
    # The setting is each thread's own, but threads that start later take over the latest one.
    torch.set_num_threads(before)
