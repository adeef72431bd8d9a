"""Bringing a store into a local folder: groups are checked on arrival, written aside, put in place by one rename."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

from vaprompt.errors import StoreError
from vaprompt.progress import SILENT, Progress
from vaprompt.store.feature_store import FeatureStore
from vaprompt.store.groups import Group, digests, fresh_index, is_failures, read_group
from vaprompt.store.index import INDEX_FILE, Index, outdate
from vaprompt.store.layout import (
    ASIDE,
    BEING_COPIED,
    GROUP_FILE,
    UNFINISHED,
    joined,
    read_attributes,
    writable,
    write_file,
)
from vaprompt.store.leases import Leases
from vaprompt.store.remote import AT_ONCE, Remote
from vaprompt.store.sharing.folder import require_alone
from vaprompt.store.storage import Folder
from vaprompt.store.streams import with_streams
from vaprompt.store.transfer import MB, Count, Transfer, all_at_once, arrived
from vaprompt.store.writing import GroupWriter


def pull(url: Path | str, target: Path, *, progress: Progress = SILENT) -> Transfer:
    """Bring a store into a local folder, begun if there is none; what is there and differs is replaced.

    Raises:
        StoreError: there is no store, or it is half there or damaged.
        FingerprintError: the local store was made of another data set, or otherwise.
        TargetError: the folder cannot be written, or another process writes it.
        UnreachableError: the server does not answer.
    """
    source = FeatureStore.open(url)
    return pull_into(target, source, index_of(source), progress=progress)


def index_of(store: FeatureStore) -> Index:
    """Return what a store holds, with names that can be trusted.

    Raises:
        StoreError: a group is damaged or has a name that is none of a store's.
    """
    storage = store.storage
    if not isinstance(storage, Remote):
        return fresh_index(storage)
    index = storage.index() or storage.survey()
    digests(index, storage.location)
    return index


def pull_into(
    target: Path,
    source: FeatureStore,
    index: Index,
    *,
    kept: Collection[str] = (),
    lenders: Sequence[Path] = (),
    progress: Progress = SILENT,
) -> Transfer:
    """Bring into the folder `target` all that `index` says of `source`.

    While that is not done a hidden file says so, and whoever opens the folder is told that it is not whole.

    Args:
        target: the folder of a store, begun if there is none.
        source: the store to read.
        index: what it holds.
        kept: groups that stay as they are in `target` where they are there.
        lenders: folders of stores on the same disk that are never changed, from which files are linked and not fetched.
        progress: told the megabytes that have arrived.

    Raises:
        StoreError: what arrives is not what the index says.
        FingerprintError: `target` was made of another data set, or otherwise.
        TargetError: it cannot be written, or another process writes it.
    """
    started, count = time.monotonic(), Count()
    storage = source.storage
    theirs = digests(index, str(source.location))
    folder = Folder(target)
    stays = {key for key in kept if _is_in(folder, key)}
    recipe = None if "" in stays else source.recipe
    local = FeatureStore.create(target, dataset=source.dataset, recipe=recipe, copying=True)
    with local.writing() as leases:
        require_alone(leases, target, progress)
        aside = target / ASIDE / leases.writer
        root, wanted = arrived(storage, ""), dict(theirs)
        if "" in theirs:
            # It says which named streams there are: what is here under other names stays, as all else that is.
            root = replace(root, attributes=with_streams(root.attributes, read_attributes(folder) or {}))
            wanted[""] = hashlib.sha256(root.metadata).hexdigest()
        todo = [key for key in wanted if key not in stays and _digest_in(folder, key) != wanted[key]]
        bare = [key for key in todo if key in index.groups]
        lent = {key: _lender(lenders, key, theirs[key]) for key in todo}
        groups = {key: arrived(lent[key] or storage, key) if key else root for key in bare}
        for key, group in groups.items():
            if key and "fingerprint" in group.attributes:
                local.require(key, group.attributes["fingerprint"])
        if todo:
            write_file(target / UNFINISHED, BEING_COPIED, aside=aside)
            # A marker that is replaced in place changes no folder's stamp, by which an index is known to be old.
            with writable(target):
                (target / INDEX_FILE).unlink(missing_ok=True)
        for key in sorted(bare, key=lambda key: key.count("/")):
            if not groups[key].files:
                with writable(target):
                    (target / key).mkdir(exist_ok=True)
                write_file(target / key / GROUP_FILE, groups[key].metadata, aside=aside)
        held = [key for key in todo if key not in groups or groups[key].files]
        total = sum(_bytes(index, key) for key in held) + sum(group.size for group in groups.values())
        with (
            progress.task("pulling", total=total / MB, unit="MB") as task,
            ThreadPoolExecutor(AT_ONCE) as files,
        ):

            def bring(key: str) -> None:
                # A lender's marker is the same; what is damaged of its files comes from the source.
                group = replace(groups.get(key) or arrived(lent[key] or storage, key), storage=storage)
                came, skipped = (partial(tell, task=task, note=key) for tell in (count.add, count.skip))
                _pull_group(target, group, leases, lent[key], files, came, skipped)

            all_at_once(held, bring)
        _forget_failures(local, folder, theirs)
        local.write_index()
        with writable(target):
            (target / UNFINISHED).unlink(missing_ok=True)
    return count.result(len(todo), len(theirs) - len(todo), started)


def _pull_group(
    target: Path,
    group: Group,
    leases: Leases,
    lender: Folder | None,
    files: ThreadPoolExecutor,
    came: Callable[[int], None],
    there_already: Callable[[int], None],
) -> None:
    try:
        there = read_group(Folder(target), group.key)
    except StoreError:  # damaged: it is replaced
        there = None
    if there is not None and there.files == group.files:
        write_file(target / group.key / GROUP_FILE, group.metadata, aside=target / ASIDE / leases.writer)
        if "/" in group.key:
            outdate(target / group.key.partition("/")[0])
        there_already(group.size)
        return
    with GroupWriter(target, group.key, leases) as writer:

        def bring(file: str) -> int:
            if lender is None or not _lent(writer, replace(group, storage=lender), lender.location, file):
                writer.copy(file, group.read(file))
            return int(group.files[file]["bytes"])

        for size in files.map(bring, group.files):
            came(size)
        writer.publish_copy(group.metadata)


def _lent(writer: GroupWriter, group: Group, lender: Path, file: str) -> bool:
    """Link a file of a group from the store in the folder `lender`, if it is whole there and on the same disk."""
    try:
        group.read(file)
    except StoreError:
        return False
    return writer.link(file, lender / group.key / file)


def _lender(lenders: Sequence[Path], key: str, wanted: str) -> Folder | None:
    """Return the first of the folders that has the same group."""
    return next((folder for folder in map(Folder, lenders) if _digest_in(folder, key) == wanted), None)


def _digest_in(folder: Folder, key: str) -> str | None:
    try:
        return hashlib.sha256(folder.read(joined(key, GROUP_FILE))).hexdigest()
    except FileNotFoundError:
        return None


def _is_in(folder: Folder, key: str) -> bool:
    try:
        return read_group(folder, key) is not None
    except StoreError:  # damaged: it is replaced
        return False


def _bytes(index: Index, key: str) -> int:
    stream, _, video = key.partition("/")
    size = index.markers.get(stream, {}).get(video, {}).get("bytes", 0)
    return size if isinstance(size, int) else 0


def _forget_failures(local: FeatureStore, folder: Folder, theirs: Mapping[str, str]) -> None:
    """Remove what is said of failures of videos that have arrived."""
    arrived = {key.partition("/")[2] for key in theirs if not is_failures(key)}
    for top in folder.folders(""):
        for video in folder.folders(top) if is_failures(top) else ():
            if video in arrived and joined(top, video) not in theirs:
                local.remove(top, video)
