"""Writing published groups into a new store: whole or not at all, and resumable.

Groups are put in place by rename, each once its files are on the disk; the root's metadata comes last, so that a
half-copied store is not taken for a whole one. Until then a hidden file says what the folder is.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from vaprompt.errors import TargetError
from vaprompt.files import held
from vaprompt.progress import SILENT, Progress
from vaprompt.store.feature_store import FeatureStore
from vaprompt.store.layout import (
    ASIDE,
    GROUP_FILE,
    UNFINISHED,
    read_attributes,
    sync_folder,
    sync_tree,
    writable,
    write_attributes,
    write_file,
)
from vaprompt.store.sharing.contents import Group, contents, is_same, verified_files
from vaprompt.store.storage import Folder

MEGABYTE = 10**6
WRITERS = 4


def write_store(
    target: Path, root: Mapping[str, Any], groups: Sequence[Group], *, verb: str, progress: Progress = SILENT
) -> None:
    """Write a store with this root and these groups, or finish what a killed call has begun.

    Args:
        target: the folder; it is not there, or is empty, or holds all or a part of just this.
        root: the root's attributes.
        groups: parents before what is in them.
        verb: what is done, for whoever watches.
        progress: who is told.

    Raises:
        StoreError: a file of a group is damaged.
        TargetError: something else is there, or it cannot be written.
    """
    groups = list(groups)
    with held(target):
        if not (target / UNFINISHED).exists() and any(target.iterdir()):
            if not (target / GROUP_FILE).exists() or not is_same(Folder(target), root, groups):
                raise _something_else(target)
            return
        write_file(target / UNFINISHED, b"This store is being copied. Run the same command again to finish it.\n")
        with writable(target):
            shutil.rmtree(target / ASIDE, ignore_errors=True)
            (target / ASIDE).mkdir()
        if {group.key for group in contents(Folder(target))} - {group.key for group in groups}:
            raise _something_else(target)
        with progress.task(verb, sum(group.bytes for group in groups) / MEGABYTE, "MB") as task:
            for group in groups:
                if group.video is None:
                    _copy(group, target)
            below = [group for group in groups if group.video is not None]
            # Threads, as the disk is waited for after every file.
            pool = ThreadPoolExecutor(WRITERS)
            try:
                for group, _ in zip(below, pool.map(lambda group: _copy(group, target), below), strict=True):
                    task.advance(group.bytes / MEGABYTE, group.key)
            finally:
                pool.shutdown(cancel_futures=True)
        write_attributes(target, root)
        with writable(target):
            shutil.rmtree(target / ASIDE)
            FeatureStore.open(target).write_index()
            (target / UNFINISHED).unlink()


def _copy(group: Group, target: Path) -> None:
    attributes = group.attributes()
    there = read_attributes(Folder(target), group.key)
    if there is not None:
        if there != attributes:
            raise _something_else(target)
        return
    with writable(target):
        aside = Path(tempfile.mkdtemp(dir=target / ASIDE))
        aside.chmod(0o755)  # mkdtemp's own rights would keep a shared store's other readers out
        for name, content in verified_files(group.source, group.key, attributes):
            file = aside / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
        sync_tree(aside)
        write_attributes(aside, attributes)
        aside.rename(target / group.key)
        sync_folder((target / group.key).parent)


def _something_else(target: Path) -> TargetError:
    return TargetError(
        target, fault="exists and holds something else", remedy="choose another place, or remove it first"
    )
