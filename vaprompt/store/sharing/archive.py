"""What the one-file forms of a store have in common: a file is made once, and never in the place of another."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from vaprompt.errors import StoreError, TargetError
from vaprompt.files import PARTIAL
from vaprompt.store.beginning import require_outside
from vaprompt.store.groups import Group
from vaprompt.store.index import INDEX_FILE
from vaprompt.store.layout import GROUP_FILE, joined, writable
from vaprompt.store.sharing.contents import Listed, is_same
from vaprompt.store.storage import Storage


def is_there(target: Path, opened: Callable[[Path], Storage], root: Group, groups: list[Listed]) -> bool:
    """Say whether `target` already holds just this; clear away what killed calls left of it.

    Raises:
        TargetError: something else is there, or a folder above is a store.
    """
    require_outside(target)
    with writable(target):
        _clear_away(target)
        if not target.exists() and not target.is_symlink():
            return False
        try:
            same = target.is_file() and is_same(opened(target), root, groups)
        except StoreError:
            same = False
    if not same:
        fault = "exists and holds something else, or is damaged"
        raise TargetError(target, fault=fault, remedy="choose another name, or remove it first")
    return True


def require_whole(storage: Storage, groups: list[Listed], archive: Path) -> None:
    """Check that one file holds its groups and nothing else, and that they claim no more bytes than it has.

    A group whose marker is lost would be taken for one that was never there; what is left of it tells.

    Raises:
        StoreError: it holds what belongs to no group, or entries overlap, so that a small file would fill the disk.
    """
    claimed, there = sum(group.size for group in groups), archive.stat().st_size
    if claimed > there:
        fault = f"says that it holds {claimed} bytes of features, but has {there} bytes itself"
        raise StoreError(archive, fault=fault, remedy="do not trust this file")
    left = storage.files("").keys() - {GROUP_FILE, INDEX_FILE}
    for group in groups:
        left -= {joined(group.key, name) for name in (GROUP_FILE, *group.group().files)}
    if left:
        fault = f"holds {len(left)} files that belong to no group, such as '{min(left)[:80]}'"
        raise StoreError(archive, fault=fault, remedy="it is damaged: get it again")


def _clear_away(target: Path) -> None:
    """Remove what processes that run no longer left beside a file; see `vaprompt.files.published`."""
    if not target.parent.is_dir():
        return
    before, behind = f".{target.name}.", f"{PARTIAL}{target.suffix}"
    for left in target.parent.iterdir():
        process = left.name.removeprefix(before).removesuffix(behind)
        if left.name == f"{before}{process}{behind}" and not _is_running(process):
            left.unlink(missing_ok=True)


def _is_running(process: str) -> bool:
    try:
        os.kill(int(process), 0)
    except (ValueError, ProcessLookupError):
        return False
    except OSError:  # another user's
        return True
    return True
