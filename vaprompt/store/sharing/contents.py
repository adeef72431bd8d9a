"""What is published in a store, group by group, as it has to be copied."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vaprompt.store.feature_store import FeatureStore
from vaprompt.store.groups import Group, read_group, required_group
from vaprompt.store.layout import GROUP_FILE, checked_name, joined
from vaprompt.store.storage import Storage


@dataclass(frozen=True)
class Listed:
    """A published group, wherever it lies; what its marker says is read when it is needed, as that can be much."""

    source: Storage
    key: str
    """Such as `image`, `image/video1` or `text`."""
    size: int
    """Bytes of the files in its marker."""

    def group(self) -> Group:
        """Return it.

        Raises:
            StoreError: it is damaged, or gone.
        """
        return required_group(self.source, self.key)

    @property
    def stream(self) -> str:
        """The top-level group that it is or belongs to."""
        return self.key.partition("/")[0]

    @property
    def video(self) -> str | None:
        """The video that it is of; None of a top-level group."""
        return self.key.partition("/")[2] or None


def contents(storage: Storage) -> list[Listed]:
    """Return every published group but the root, parents before what is in them, in order of names.

    Raises:
        StoreError: a marker is damaged, or names what no group of this format has.
    """
    found: list[Listed] = []
    for stream in storage.folders(""):
        top = _group(storage, checked_name(stream, storage.location))
        if top is None:
            continue
        found.append(_listed(top))
        if "files" not in top.attributes:
            below = (joined(stream, checked_name(name, storage.location)) for name in storage.folders(stream))
            found += [_listed(group) for key in below if (group := _group(storage, key)) is not None]
    return found


def open_contents(location: Path | str) -> tuple[FeatureStore, list[Listed]]:
    """Return a store and what is published in it.

    Raises:
        StoreError: there is none, or a marker is damaged.
    """
    store = FeatureStore.open(location)
    return store, contents(store.storage)


def root_of(store: FeatureStore) -> Group:
    """Return a store's root.

    Raises:
        StoreError: it is damaged.
    """
    return required_group(store.storage, "")


def is_same(storage: Storage, root: Group, groups: Sequence[Listed]) -> bool:
    """Say whether a storage holds exactly this root and these groups, every file with its digest.

    Raises:
        StoreError: what is there is damaged.
    """
    there_root = read_group(storage, "")
    if there_root is None or there_root.attributes != root.attributes:
        return False
    there = contents(storage)
    if [group.key for group in there] != [group.key for group in groups]:
        return False
    for mine, theirs in zip(there, groups, strict=True):
        group = mine.group()
        if group.attributes != theirs.group().attributes:
            return False
        for _ in group.contents():
            pass
    return True


def _group(storage: Storage, key: str) -> Group | None:
    """Return a published group; None where a folder is none, or not whole yet."""
    return None if storage.size(joined(key, GROUP_FILE)) is None else read_group(storage, key)


def _listed(group: Group) -> Listed:
    return Listed(group.storage, group.key, group.size)
