"""Joined features that take their place in the cache while they are already computed with."""

from __future__ import annotations

import os
import shutil
import threading
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from vaprompt.training.coming import Coming

_PUBLISHING: list[threading.Thread] = []


@dataclass
class Aside:
    """A stream that is being written into a folder beside its place in the cache."""

    path: Path
    place: Path
    open: ExitStack
    """Its file, and the lock on its place."""
    spoiled: bool = False
    """Whether something could not be written."""
    coming: Coming | None = None

    def publish(self) -> None:
        """Let it take its place once all is there; what cannot costs the next start its time, and nothing else."""
        if not self.spoiled and (self.coming is None or self.coming.is_whole):
            with suppress(OSError):
                for file in self.path.iterdir():
                    with file.open("rb+") as written:
                        os.fsync(written.fileno())
                shutil.rmtree(self.place, ignore_errors=True)
                self.path.replace(self.place)
        self.delete()

    def delete(self) -> None:
        """Give up the lock, and delete what did not take its place."""
        if self.coming is not None:
            self.coming.stop()  # or it would write into a file that is closed
        shutil.rmtree(self.path, ignore_errors=True)
        self.open.close()


class Keeping:
    """Lets what was joined while its block runs take its place in the cache behind it, when nothing reads the disk.

    It is done beside all that is done meanwhile with what is mapped. Whoever joins several streams of a store does so
    in the same order as everybody else, or two would wait for each other.
    """

    def __init__(self) -> None:
        """Keep nothing yet."""
        self._waiting: list[Aside] = []

    def add(self, aside: Aside) -> None:
        """Let a folder take its place once all is in it, and give up the lock on it."""
        self._waiting.append(aside)

    def __enter__(self) -> Keeping:
        """Begin."""
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Begin to sync, or give up what is not whole."""
        for aside in self._waiting:
            if kind is not None and aside.coming is not None:
                aside.coming.stop()
        if self._waiting:
            _PUBLISHING.append(threading.Thread(target=self._publish, name="keeping features"))
            _PUBLISHING[-1].start()

    def _publish(self) -> None:
        coming = [aside.coming for aside in self._waiting if aside.coming is not None]
        while not all(one.is_over(0.1) for one in coming):
            if not threading.main_thread().is_alive():  # what is left when the program ends, nobody waits for
                for one in coming:
                    one.abandon()
        for aside in self._waiting:
            aside.publish()


def settle() -> None:
    """Wait until all that is to be kept is in its place; a process does not end before."""
    while _PUBLISHING:
        _PUBLISHING.pop().join()
