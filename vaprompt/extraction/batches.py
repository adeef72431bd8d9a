"""From stretches that readers bring, of any video and in any order, to batches of a fixed size for the encoders."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar, runtime_checkable

S = TypeVar("S")


@runtime_checkable
class Splits(Protocol):
    """Some items that follow each other."""

    def __len__(self) -> int: ...

    def split(self: S, count: int) -> tuple[S, S]:
        """Return the first `count` items, and those behind them; there are more than so many."""
        ...


T = TypeVar("T", bound=Splits)

PATIENCE = 0.25
"""Seconds that an encoder with nothing to do waits for more before it takes a batch that is not full."""


@dataclass(frozen=True)
class Batch(Generic[T]):
    """What is encoded together."""

    stream: str
    stretches: list[T]

    def __len__(self) -> int:
        return sum(len(stretch) for stretch in self.stretches)


class Stopped(Exception):  # noqa: N818 (nothing is wrong)
    """The extraction is being ended: readers and encoders are to leave what they are at."""


class Batcher(Generic[T]):
    """Collects stretches into batches, of which so many may wait: who brings more waits until there is room.

    Batches cross videos. They are full but for three cases: the end, all encoders having nothing to do, and items of
    more shapes than batches may wait. So nothing ever waits for a video that does not come, and what waits is bounded
    however different the items are.
    """

    def __init__(self, room: int) -> None:
        """Let at most `room` full batches wait."""
        self._room = room
        lock = threading.Lock()
        # Two, so that a stretch that is brought does not wake all others who wait to bring one.
        self._brought, self._taken = threading.Condition(lock), threading.Condition(lock)
        self._ready: deque[Batch[T]] = deque()
        self._pending: dict[tuple[str, Hashable], list[T]] = {}
        self._busy = 0
        self._closed = self._stopped = False

    @property
    def fill(self) -> float:
        """Share of the room that is taken."""
        return len(self._ready) / self._room

    def put(self, stream: str, stretch: T, *, alike: Hashable, size: int) -> None:
        """Add a stretch to the batch of its stream whose items have the same shape; wait while there is no room.

        What a batch has no room for goes into the next one.

        Args:
            stream: what the stretch is for.
            stretch: the items.
            alike: only items for which this is the same can lie in one batch.
            size: items of a full batch.

        Raises:
            Stopped: the extraction is being ended.
        """
        rest: T | None = stretch
        with self._taken:
            while rest is not None:
                self._taken.wait_for(lambda: self._stopped or len(self._ready) < self._room)
                if self._stopped:
                    raise Stopped
                pending = self._pending.setdefault((stream, alike), [])
                lacking = size - sum(len(some) for some in pending)
                first, rest = rest.split(lacking) if len(rest) > lacking else (rest, None)
                pending.append(first)
                if len(first) == lacking:
                    self._release((stream, alike))
                elif len(self._pending) > self._room:
                    self._release(self._fullest())
                # Who is patient wants to know of anything that could be taken in the end.
                self._brought.notify_all()

    def take(self) -> Batch[T] | None:
        """Return the next batch, of which `done` is to be told; None when there will be no more.

        Raises:
            Stopped: the extraction is being ended.
        """
        with self._brought:
            until = time.monotonic() + PATIENCE
            while not self._stopped:
                if self._ready:
                    batch = self._ready.popleft()
                    self._busy += 1
                    self._taken.notify_all()
                    return batch
                patient = not self._closed and (self._busy > 0 or time.monotonic() < until)
                if self._pending and not patient:
                    self._release(self._fullest())
                elif self._closed:
                    return None
                else:
                    # Without anything pending there is nothing to lose patience over.
                    impatient = self._pending and self._busy == 0
                    self._brought.wait(max(0.001, until - time.monotonic()) if impatient else None)
            raise Stopped

    def done(self) -> None:
        """Say that a batch taken is encoded."""
        with self._brought:
            self._busy -= 1
            self._brought.notify_all()

    def close(self) -> None:
        """Say that no item will come any more."""
        with self._brought:
            self._closed = True
            self._brought.notify_all()

    def stop(self) -> None:
        """Let everybody who waits leave."""
        with self._brought:
            self._stopped = True
            self._brought.notify_all()
            self._taken.notify_all()

    def _fullest(self) -> tuple[str, Hashable]:
        return max(self._pending, key=lambda key: sum(map(len, self._pending[key])))

    def _release(self, key: tuple[str, Hashable]) -> None:
        self._ready.append(Batch(key[0], self._pending.pop(key)))
