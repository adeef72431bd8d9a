"""What pushing and pulling a store have in common: how much is under way, what is counted, and what is refused.

Two groups are the same where their `zarr.json` are, which hold the digests of all their files. So whatever is killed,
whenever, the same command again goes on, and nobody reads a video that is half there.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from typing import Any

from vaprompt.errors import StoreError
from vaprompt.progress import Task
from vaprompt.store.groups import Group, read_group
from vaprompt.store.storage import Storage

GROUPS_AT_ONCE = 8
"""Groups under way at a time; their files share the requests."""
MB = 1e6
MOST_FILE = 2**26
"""Bytes of the largest file that is brought over, so that all that are under way take at most a gigabyte."""


@dataclass(frozen=True)
class Transfer:
    """What was brought over."""

    groups: int
    """A video's stream is one."""
    files: int
    bytes: int
    same: int
    """Groups that were there already."""
    seconds: float


def arrived(storage: Storage, key: str) -> Group:
    """Return a group that is to be brought over.

    Raises:
        StoreError: it is not there, is damaged, or has a file that is too large.
    """
    group = read_group(storage, key)
    if group is None:
        fault = "is missing, though the store's index lists it"
        raise StoreError(f"{storage.location}/{key}", fault=fault, remedy="run the push that makes it again")
    if any(facts["bytes"] > MOST_FILE for facts in group.files.values()):
        fault = f"lists a file of more than {MOST_FILE} bytes"
        raise StoreError(f"{storage.location}/{key}", fault=fault, remedy="do not trust this store")
    return group


def all_at_once(items: Iterable[Any], action: Callable[[Any], None]) -> None:
    """Do something for each item, several at a time; the first error ends it, after what is under way."""
    with ThreadPoolExecutor(GROUPS_AT_ONCE) as pool:
        under_way = [pool.submit(action, item) for item in items]
        try:
            for done in as_completed(under_way):
                done.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


class Count:
    """What has been brought over, counted by several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._files = self._bytes = 0

    def add(self, size: int, task: Task, note: str) -> None:
        with self._lock:
            self._files, self._bytes = self._files + 1, self._bytes + size
            task.advance(size / MB, note)

    def skip(self, size: int, task: Task, note: str) -> None:
        """Tell of bytes that had not to be brought over after all, as only their marker differs."""
        with self._lock:
            task.advance(size / MB, note)

    def result(self, groups: int, same: int, started: float) -> Transfer:
        return Transfer(groups, self._files, self._bytes, same, time.monotonic() - started)
