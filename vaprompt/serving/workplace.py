"""The folder in which uploads and their results lie, and how much may lie there.

It is removed when the server ends. A server that was killed leaves its folder behind; the next one removes those that
nobody holds a lock on.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import tempfile
import time
from pathlib import Path

from vaprompt.files import make_folder, unwritable
from vaprompt.serving.limits import Limits, Refusal

PREFIX = ".vaprompt-serve-"


class Room:
    """How many bytes of uploads there are, and whether more may come."""

    def __init__(self, folder: Path, limits: Limits) -> None:
        """Nothing lies in `folder` yet."""
        self._folder, self._limits = folder, limits
        self.used = 0

    def take(self, count: int) -> None:
        """Account for so many bytes more.

        Raises:
            Refusal: there is no room for them.
        """
        if self.used + count > self._limits.held:
            raise Refusal(507, f"does not fit beside the other uploads ({self._limits.held / 1e9:g} GB); try it later")
        if shutil.disk_usage(self._folder).free - count < self._limits.spare:
            raise Refusal(507, "does not fit on this server's disk")
        self.used += count

    def give(self, count: int) -> None:
        """Account for so many bytes less."""
        self.used -= count


class Workplace:
    """A folder of folders, one for each upload, with names that nobody can guess."""

    def __init__(self, limits: Limits, keep: Path | None = None) -> None:
        """Make it, on the disk of `keep` if results are to stay there.

        Raises:
            TargetError: it cannot be made.
        """
        self.keep = keep
        parent = Path(tempfile.gettempdir()) if keep is None else keep
        make_folder(parent)
        _clear(parent)
        try:
            self.folder, self._lock = _locked_folder(parent)
        except OSError as error:
            raise unwritable(parent, error) from None
        self.room = Room(self.folder, limits)

    def new(self) -> Path:
        """Return a new folder, whose name is the upload's.

        Raises:
            Refusal: it cannot be made.
        """
        folder = self.folder / secrets.token_urlsafe(12).replace("-", "_")
        try:
            folder.mkdir(mode=0o700)
        except OSError as error:
            raise Refusal(507, f"cannot be stored here ({error.strerror})") from None
        return folder

    def finished(self, folder: Path) -> Path:
        """Return where a finished folder lies from now on: under a name that tells its time, if it is to stay."""
        if self.keep is None:
            return folder
        lasting = self.keep / f"{time.strftime('%Y-%m-%d-%H%M%S')}-{folder.name}"
        return folder.rename(lasting)

    def remove(self, folder: Path) -> None:
        """Remove one upload with everything that was made of it."""
        shutil.rmtree(folder, ignore_errors=True)

    def close(self) -> None:
        """Remove everything that is not to stay."""
        shutil.rmtree(self.folder, ignore_errors=True)
        os.close(self._lock)


def _locked_folder(parent: Path) -> tuple[Path, int]:
    while True:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
        lock = os.open(folder, os.O_RDONLY)
        fcntl.flock(lock, fcntl.LOCK_EX)
        if folder.is_dir():
            return folder, lock
        os.close(lock)  # another server that starts just now took it for one that was left behind


def _clear(parent: Path) -> None:
    """Remove what servers left behind that were killed."""
    for left in parent.glob(f"{PREFIX}*"):
        try:
            # A link is not followed, and another user's folder cannot be opened.
            lock = os.open(left, os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY)
        except OSError:
            continue
        try:
            if os.fstat(lock).st_uid != os.getuid():
                continue
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(left, ignore_errors=True)
        except BlockingIOError:
            pass  # its server is at work
        finally:
            os.close(lock)
