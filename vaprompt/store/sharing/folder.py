"""Writing published groups into a new store: whole or not at all, and resumable.

Groups are put in place by rename, each once its files are on the disk; the root's metadata comes last, so that a
half-copied store is not taken for a whole one. Until then a hidden file says what the folder is. That is in what it
differs from pulling, which adds to a store that others may be reading.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from vaprompt.errors import TargetError
from vaprompt.files import make_folder
from vaprompt.progress import SILENT, Progress
from vaprompt.store.beginning import require_outside
from vaprompt.store.feature_store import FeatureStore
from vaprompt.store.groups import Group, read_group
from vaprompt.store.layout import (
    ASIDE,
    BEING_COPIED,
    GROUP_FILE,
    LEASES,
    UNFINISHED,
    writable,
    write_attributes,
    write_file,
)
from vaprompt.store.leases import PATIENCE, POLL, ROOT, Leases, present
from vaprompt.store.sharing.contents import Listed, contents, is_same
from vaprompt.store.storage import Folder
from vaprompt.store.writing import GroupWriter

MEGABYTE = 10**6
WRITERS = 4


def write_store(target: Path, root: Group, groups: Sequence[Listed], *, verb: str, progress: Progress = SILENT) -> None:
    """Write a store with this root and these groups, or finish what a killed call has begun.

    Args:
        target: the folder; it is not there, or is empty, or holds all or a part of just this.
        root: the root.
        groups: parents before what is in them.
        verb: what is done, for whoever watches.
        progress: who is told.

    Raises:
        StoreError: a file of a group is damaged.
        TargetError: something else is there, it cannot be written, or another process writes it.
    """
    if _is_written(target, root, groups):
        return
    with _alone(target, progress) as leases:
        write_file(target / UNFINISHED, BEING_COPIED, aside=target / ASIDE / leases.writer)
        if {group.key for group in contents(Folder(target))} - {group.key for group in groups}:
            raise _something_else(target)
        with progress.task(verb, sum(group.size for group in groups) / MEGABYTE, "MB") as task:
            for group in groups:
                if group.video is None:
                    _copy(group, target, leases)
            below = [group for group in groups if group.video is not None]
            # Threads, as the disk is waited for after every file.
            pool = ThreadPoolExecutor(WRITERS)
            try:
                copied = pool.map(lambda group: _copy(group, target, leases), below)
                for group, _ in zip(below, copied, strict=True):
                    task.advance(group.size / MEGABYTE, group.key)
            finally:
                pool.shutdown(cancel_futures=True)
        write_attributes(target, root.attributes, aside=target / ASIDE / leases.writer)
        FeatureStore.open(target, copying=True).write_index()
        with writable(target):
            (target / UNFINISHED).unlink()


def _is_written(target: Path, root: Group, groups: Sequence[Listed]) -> bool:
    """Say whether all is there already.

    Raises:
        TargetError: something else is there.
    """
    require_outside(target)
    make_folder(target)
    with writable(target):
        there = {entry.name for entry in target.iterdir()} - {ASIDE, LEASES}
    if not there or UNFINISHED in there:
        return False
    if GROUP_FILE not in there or not is_same(Folder(target), root, groups):
        raise _something_else(target)
    return True


@contextmanager
def _alone(target: Path, progress: Progress) -> Iterator[Leases]:
    """Be the only writer of a store, on whatever machine; what a dead one left half-written is cleared away.

    Raises:
        TargetError: it cannot be written, or another process writes it.
    """
    with present(target) as leases:
        require_alone(leases, target, progress)
        yield leases


def require_alone(leases: Leases, target: Path, progress: Progress) -> None:
    """Take the lease of a store's root, when nobody else holds any.

    Of one that ran elsewhere (on another machine, in another container, before a restart), that it is dead is only
    known after a while: that long is waited.

    Raises:
        TargetError: another process writes the store.
    """
    told = False
    for key in (ROOT, *sorted(leases.keys() - {ROOT})):
        while not leases.acquire(key):
            holder = leases.holder(key)
            if holder is not None and holder.lives:
                fault = f"another process is writing into it (process {holder.pid} on {holder.host})"
                raise TargetError(target, fault=fault, remedy="wait for it to end, or name another folder")
            if holder is not None and not told:
                who = f"process {holder.pid} on {holder.host}"
                progress.say(f"{target}: {who} was writing into it; waiting up to {PATIENCE:g} s for a sign of life")
                told = True
            time.sleep(POLL)
        if key != ROOT:
            leases.release(key)


def _copy(listed: Listed, target: Path, leases: Leases) -> None:
    group, there = listed.group(), read_group(Folder(target), listed.key)
    if there is not None:
        if there.attributes != group.attributes:
            raise _something_else(target)
        return
    with GroupWriter(target, group.key, leases) as writer:
        for file, content in group.contents():
            writer.copy(file, content)
        writer.publish_copy(group.metadata)


def _something_else(target: Path) -> TargetError:
    return TargetError(
        target, fault="exists and holds something else", remedy="choose another place, or remove it first"
    )
