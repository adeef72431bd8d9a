"""What the one-file forms of a store have in common: a file is made once, and never in the place of another."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from vaprompt.errors import StoreError, TargetError
from vaprompt.files import PARTIAL
from vaprompt.store.sharing.contents import Group, is_same
from vaprompt.store.storage import Storage


def is_there(target: Path, opened: Callable[[Path], Storage], root: Mapping[str, Any], groups: list[Group]) -> bool:
    """Say whether `target` already holds just this; clear away what killed calls left of it.

    Raises:
        TargetError: something else is there.
    """
    for left in target.parent.glob(f".{target.name}.*{PARTIAL}{target.suffix}"):
        if not _is_running(left.name.removeprefix(f".{target.name}.").partition(".")[0]):
            left.unlink(missing_ok=True)
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


def require_within(groups: list[Group], archive: Path) -> None:
    """Check that the groups claim no more bytes than the one file has that they come from.

    Raises:
        StoreError: they do, as where entries overlap, so that a small file would fill the disk.
    """
    claimed, there = sum(group.bytes for group in groups), archive.stat().st_size
    if claimed > there:
        fault = f"says that it holds {claimed} bytes of features, but has {there} bytes itself"
        raise StoreError(archive, fault=fault, remedy="do not trust this file")


def _is_running(process: str) -> bool:
    try:
        os.kill(int(process), 0)
    except (ValueError, ProcessLookupError):
        return False
    except OSError:  # another user's
        return True
    return True
