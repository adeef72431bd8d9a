"""The file that Optuna's journal lies in, which bears that a process is killed, or a disk fills up, as it is written.

Imported only where a search is run: Optuna is an optional package.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

from vaprompt.files import unwritable

GRACE = 30
"""Seconds after which a lock that does not change hands is taken to be left by one who died."""


def journal_file(path: Path) -> JournalFileBackend:
    """Return the journal in a file, which is made if there is none."""
    return _Journal(path)


class _Journal(JournalFileBackend):
    """Says which file it is that cannot be written, as on a disk that is full."""

    def __init__(self, path: Path) -> None:
        super().__init__(str(path), lock_obj=_Lock(path))
        self._path = path

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Append to it, if nobody else does.

        Raises:
            TargetError: it cannot be written.
        """
        try:
            super().append_logs(logs)
        except OSError as error:
            raise unwritable(self._path, error) from None


class _Lock(JournalFileOpenLock):
    """Held by whoever appends; that of one who died with it is broken after a while.

    Optuna's usual lock is a symbolic link to the path as it is given: one who died with it would be waited for without
    end where that path does not lead from the link to the journal, as a relative one does not.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(str(path), grace_period=GRACE)
        self._path = path

    def acquire(self) -> bool:
        """Wait until nobody else appends, and leave whole lines alone: what comes next begins a line."""
        taken = super().acquire()
        try:
            _cut_unfinished_line(self._path)
        except BaseException:
            self.release()
            raise
        return taken


def _cut_unfinished_line(path: Path) -> None:
    """Delete what one who was stopped as it wrote has left of a line, which nobody has read."""
    with path.open("rb+") as journal:
        if not journal.seek(0, 2):
            return
        journal.seek(-1, 2)
        if journal.read(1) == b"\n":
            return
        journal.seek(0)
        journal.truncate(journal.read().rfind(b"\n") + 1)
