"""How long each stage of an extraction takes and how full its queue is, so that one sees what the limit is.

The log is a file of JSON lines beside the store, `NAME.log.jsonl` for `NAME.zarr`, and no part of it: no digest covers
it, and it may be deleted at any time.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

READ, RESIZE, ROOM = "read", "resize", "wait for room"
ENCODE, WAIT, WRITE = "encode", "wait for batch", "write"
"""The stages: those of a reader, of an encoder, of the writer. Waiting for room means that encoding is the limit,
waiting for a batch that reading is."""

EVERY = 30.0
"""Seconds from one line of progress in the log to the next."""


class Meter:
    """Adds up what all threads of one extraction tell it."""

    def __init__(self) -> None:
        """Begin to count."""
        self._lock = threading.Lock()
        self._started = time.monotonic()
        self._seconds: defaultdict[str, float] = defaultdict(float)
        self._items: Counter[str] = Counter()
        self._batches: Counter[str] = Counter()
        self._fill = self._samples = 0.0

    @contextmanager
    def stage(self, name: str, items: str = "", count: int = 0) -> Iterator[None]:
        """Count the seconds that the block takes for a stage, and the items of one kind that it deals with."""
        start = time.monotonic()
        try:
            yield
        finally:
            took = time.monotonic() - start
            with self._lock:
                self._seconds[f"{name} {items}".rstrip()] += took
                if items:
                    self._items[items] += count
                    self._batches[items] += 1

    def queue(self, share: float) -> None:
        """Take a sample of how full the queue of batches is, from 0 to 1."""
        with self._lock:
            self._fill += share
            self._samples += 1

    def summary(self) -> dict[str, Any]:
        """Return seconds, items, items a second and a batch, the queue's mean fill, and what the limit is."""
        with self._lock:
            elapsed = max(1e-9, time.monotonic() - self._started)
            seconds = {name: round(value, 3) for name, value in sorted(self._seconds.items())}
            encoding = sum(value for name, value in seconds.items() if name.startswith(ENCODE))
            return {
                "elapsed": round(elapsed, 3),
                "seconds": seconds,
                "items": dict(self._items),
                "per_second": {name: round(count / elapsed, 3) for name, count in self._items.items()},
                "per_batch": {name: round(count / self._batches[name], 2) for name, count in self._items.items()},
                "queue_fill": round(self._fill / self._samples, 3) if self._samples else None,
                "limit": "encoding" if encoding >= seconds.get(WAIT, 0.0) else "reading",
            }

    def note(self) -> str:
        """Return the summary in a few words."""
        return note([self.summary()])


def note(summaries: Sequence[Mapping[str, Any]]) -> str:
    """Return the summaries of one or several extractions under way, taken together, in a few words."""
    speeds: Counter[str] = Counter()
    for found in summaries:
        speeds.update(found["per_second"])
    fills = [found["queue_fill"] for found in summaries if found["queue_fill"] is not None]
    limits = Counter(found["limit"] for found in summaries)
    seconds: Counter[str] = Counter()
    for found in summaries:
        for name, took in found["seconds"].items():
            seconds[ENCODE if name.startswith(ENCODE) else name] += took
    said = [f"{speed:.3g} {name}/s" for name, speed in speeds.items()]
    said += [f"{stage} {seconds[stage]:.3g} s" for stage in (READ, RESIZE, ENCODE, WRITE) if stage in seconds]
    said += [f"queue {sum(fills) / len(fills):.0%} full"] if fills else []
    said += [f"limit: {limits.most_common(1)[0][0]}"] if limits else []
    return ", ".join(said)


class RunLog:
    """Appends JSON lines to a store's log; where none can be written, extraction goes on without."""

    def __init__(self, store: Path) -> None:
        """Write beside the store in the folder `store`."""
        self._file = log_file(store)
        self._lock = threading.Lock()
        self._latest = time.monotonic()

    def write(self, event: str, **facts: Any) -> None:
        """Append one line: the event, when and where, and what else is to be said."""
        line = {
            "event": event,
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "host": socket.gethostname(),
            "process": os.getpid(),
            **facts,
        }
        # One write of one line: several writers of a store can share its log.
        with self._lock, suppress(OSError), self._file.open("a", encoding="utf-8") as log:
            log.write(json.dumps(line) + "\n")

    def progress(self, meter: Meter) -> None:
        """Append the meter's summary, if the latest line of progress was a while ago."""
        now = time.monotonic()
        if now - self._latest >= EVERY:
            self._latest = now
            self.write("progress", **meter.summary())


def log_file(store: Path) -> Path:
    """Return where the log of the store in the folder `store` lies."""
    return store.with_name(f"{store.name.removesuffix('.zarr')}.log.jsonl")
