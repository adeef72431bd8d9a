"""What is written aside, and how it takes its place: by one rename, also where something older stands there.

Every writer has a hidden folder of its own, `.aside/<writer>`. In it each group lies under the path that it is to have
in the store, so that a replacement that was killed between its two renames can be carried through by anybody.
"""

from __future__ import annotations

import errno
import shutil
import uuid
from contextlib import suppress
from pathlib import Path

from vaprompt.errors import StoreError
from vaprompt.store.layout import ASIDE, GROUP_FILE, read_attributes, sync_folder
from vaprompt.store.storage import Folder

REPLACED = ".replaced"
"""What stood in the new group's place; lies beside it while it is replaced."""


def workplace(store: Path, writer: str) -> Path:
    """Return a new folder for one group, in the writer's own folder.

    Raises:
        OSError: the store cannot be written.
    """
    return _new_folder(store / ASIDE / writer)


def put_in_place(group: Path, place: Path, work: Path) -> None:
    """Rename a finished and synced `group`, which lies in the folder `work`, to `place`, safely on the disk.

    What stands there is moved into `work` first. Killed between the two renames, `clear_away` carries them through.

    Raises:
        OSError: the store cannot be written.
    """
    while True:
        try:
            group.rename(place)
            break
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
        with suppress(FileNotFoundError):  # another writer, taken for dead, can be at the same group
            place.rename(_new_folder(work, REPLACED) / place.name)
    # The order in which names reach the disk: first what is new, then that the old is gone.
    sync_folder(place.parent)
    sync_folder(work)


def clear_away(store: Path, writer: str) -> None:
    """Remove what a writer that is no more left aside, once every replacement it began is carried through."""
    folder = store / ASIDE / writer
    if folder.is_symlink() or folder.is_file():
        folder.unlink(missing_ok=True)
        return
    for work in _matching(folder, "*"):
        if not work.is_symlink() and _matching(work, f"{REPLACED}*"):
            group = _group_in(work)
            with suppress(OSError):  # somebody else was quicker
                if group is not None and not (store / group.relative_to(work)).exists():
                    group.rename(store / group.relative_to(work))
                    sync_folder((store / group.relative_to(work)).parent)
    # From one moment to the next: a writer that wakes up after all must find nothing to publish, and not half of it.
    gone = store / ASIDE / f"gone-{uuid.uuid4().hex[:12]}"
    with suppress(OSError):
        folder.rename(gone)
    for left in (gone, folder):
        shutil.rmtree(left, ignore_errors=True)


def _matching(folder: Path, pattern: str) -> list[Path]:
    """Return what is in a folder; nothing where another writer is just clearing it away."""
    with suppress(FileNotFoundError):
        return list(folder.glob(pattern))
    return []


def _new_folder(parent: Path, prefix: str = "") -> Path:
    """Make a folder that is new, with the rights that the process gives all its folders (`mkdtemp` would not)."""
    folder = parent / f"{prefix}{uuid.uuid4().hex[:12]}"
    folder.mkdir()
    return folder


def _group_in(work: Path) -> Path | None:
    """Return the finished group in a workplace: `text` or `image/<video>` below it."""
    for stream in _matching(work, "[!.]*"):
        for group in (stream, *_matching(stream, "[!.]*")):
            if (group / GROUP_FILE).is_file():
                with suppress(StoreError):  # an array's metadata is not a group's
                    if (read_attributes(Folder(group)) or {}).get("status") == "done":
                        return group
    return None
