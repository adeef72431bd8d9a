"""A store as one zip file that is read in place: entries as they are, sorted, with fixed times, the index last."""

from __future__ import annotations

import hashlib
import stat
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vaprompt.errors import StoreError
from vaprompt.files import published
from vaprompt.progress import SILENT, Progress
from vaprompt.store.groups import Group
from vaprompt.store.index import INDEX_FILE, Index, index_file, summary
from vaprompt.store.layout import FAILED, GROUP_FILE, TEXT, joined, place
from vaprompt.store.sharing.archive import is_there, require_whole
from vaprompt.store.sharing.contents import open_contents, root_of
from vaprompt.store.sharing.folder import MEGABYTE, write_store
from vaprompt.store.storage import Zip
from vaprompt.store.streams import kind_of

EPOCH = (1980, 1, 1, 0, 0, 0)
"""The time of every entry, the earliest that the format knows: the same store gives the same bytes."""


def pack(location: Path | str, target: Path, *, progress: Progress = SILENT) -> None:
    """Write a store into one zip file, which opens like the folder; nothing is done where it is there already.

    Raises:
        StoreError: there is no store, or a file in it is missing or not what was written.
        TargetError: something else is at `target`, or it cannot be written.
    """
    store, groups = open_contents(location)
    root = root_of(store)
    if is_there(target, Zip, root, groups):
        return
    with (
        published(target) as aside,
        zipfile.ZipFile(aside, "w", zipfile.ZIP_STORED) as archive,
        progress.task("packing", sum(group.size for group in groups) / MEGABYTE, "MB") as task,
    ):
        packed = {"": _digest(root)}
        for listed in groups:
            group = listed.group()
            for name, content in group.contents():
                archive.writestr(_entry(joined(group.key, name)), content)
            packed[group.key] = _digest(group)
            task.advance(group.size / MEGABYTE, group.key)
        markers: dict[str, dict[str, Mapping[str, Any]]] = {}
        # What says that a group is there comes behind what it says.
        for listed in sorted(groups, key=lambda group: (-group.key.count("/"), group.key)):
            group = listed.group()
            if _digest(group) != packed[group.key]:
                fault = "was made anew while it was being packed"
                raise StoreError(place(group.storage, group.key), fault=fault, remedy="run the same command again")
            archive.writestr(_entry(joined(group.key, GROUP_FILE)), group.metadata)
            if kind_of(listed.stream) not in (TEXT, FAILED):
                videos = markers.setdefault(listed.stream, {})
                if listed.video is not None and group.attributes.get("status") == "done":
                    videos[listed.video] = summary(group.attributes, group.metadata)
                    del packed[group.key]
        archive.writestr(_entry(GROUP_FILE), root.metadata)
        # Of what is in the archive: others may have added to the store meanwhile. It has no times of this copy's
        # folders, which nobody can compare here.
        index = index_file(Index(dict.fromkeys(markers), markers, packed))
        if index is not None:  # else too large to be read
            archive.writestr(_entry(INDEX_FILE), index)


def unpack(archive: Path, target: Path, *, progress: Progress = SILENT) -> None:
    """Write the store in a zip file into a folder, every file checked; a killed call is finished by the next.

    Raises:
        StoreError: it is no packed store, is damaged, or claims more than it holds.
        TargetError: something else is at `target`, or it cannot be written.
    """
    store, groups = open_contents(archive)
    if isinstance(store.storage, Zip):
        require_whole(store.storage, groups, archive)
    write_store(target, root_of(store), groups, verb="unpacking", progress=progress)


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, EPOCH)
    entry.create_system = 3  # Unix, whatever this is: the rights below are of its kind
    entry.external_attr = (stat.S_IFREG | 0o644) << 16
    return entry


def _digest(group: Group) -> str:
    return hashlib.sha256(group.metadata).hexdigest()
