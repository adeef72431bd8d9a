"""Beginning a store, or a stream in one: what several writers may do at the same moment, with one result."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from vaprompt.errors import StoreError, TargetError
from vaprompt.store.fingerprint import Fingerprint, require_equal
from vaprompt.store.layout import (
    ASIDE,
    BEING_COPIED,
    FORMAT,
    GROUP_FILE,
    LEASES,
    TEXT,
    UNFINISHED,
    parse_group,
    read_attributes,
    sync_folder,
    writable,
    write_attributes,
    write_file,
)
from vaprompt.store.leases import ROOT, present
from vaprompt.store.storage import Folder, open_storage
from vaprompt.store.streams import folder_of, own_kinds


def begin(
    path: Path,
    *,
    dataset: Mapping[str, Any] | None,
    recipe: Mapping[str, Any] | None,
    stream: str | None,
    fingerprints: Mapping[str, Fingerprint],
    copying: bool = False,
) -> None:
    """Make the store in `path` one of this data set, recipe and fingerprints, unless it is; see `FeatureStore.create`.

    Raises:
        TargetError: it cannot be written, or something else is there.
        StoreError: its metadata is damaged, or nothing under `stream` would differ from what is there.
        FingerprintError: it was made of another data set, or otherwise.
    """
    there = read_attributes(Folder(path))
    if there is None:
        _make_folder(path, copying=copying)
    elif _lacking(path, there, _wanted(path, there, dataset, recipe, stream, fingerprints), stream, fingerprints) == {}:
        return
    with present(path) as leases, leases.holding(ROOT):
        # Once more, as another writer may just have begun it.
        there = read_attributes(Folder(path))
        wanted = _wanted(path, there, dataset, recipe, stream, fingerprints)
        if there is None and copying:
            write_file(path / UNFINISHED, BEING_COPIED, aside=path / ASIDE / leases.writer)
        for group, attributes in _lacking(path, there, wanted, stream, fingerprints).items():
            write_attributes(group, attributes, aside=path / ASIDE / leases.writer)


def _wanted(
    path: Path,
    there: Mapping[str, Any] | None,
    dataset: Mapping[str, Any] | None,
    recipe: Mapping[str, Any] | None,
    stream: str | None,
    fingerprints: Mapping[str, Fingerprint],
) -> dict[str, Any]:
    """Return the root's attributes as they are to be."""
    root: dict[str, Any]
    if there is None:
        root = {"format": FORMAT, "dataset": dict(dataset or {}), "recipe": {}}
    else:
        root = dict(there)
        if dataset is not None:
            remedy = "give each data set a store of its own"
            require_equal(root.get("dataset", {}), dataset, where=path, remedy=remedy)
    if recipe is not None and stream is None:
        root["recipe"] = dict(recipe)
    elif recipe is not None and stream is not None:
        named = {"own": own_kinds(path, root, stream, fingerprints), "recipe": dict(recipe)}
        root["streams"] = {**root.get("streams", {}), stream: named}
    return root


def _lacking(
    path: Path,
    there: Mapping[str, Any] | None,
    root: Mapping[str, Any],
    stream: str | None,
    fingerprints: Mapping[str, Fingerprint],
) -> dict[Path, Mapping[str, Any]]:
    """Return the groups that have to be written, with their attributes; the root first.

    Raises:
        FingerprintError: one that is there was made otherwise.
    """
    lacking: dict[Path, Mapping[str, Any]] = {} if there == root else {path: root}
    for kind, fingerprint in fingerprints.items():
        group = path / folder_of(kind, stream, root)
        attributes = read_attributes(Folder(group))
        if attributes is not None:
            require_made_so(group, attributes, fingerprint)
        elif kind != TEXT:  # whose group comes with its embeddings
            lacking[group] = {"fingerprint": fingerprint}
    return lacking


def require_made_so(group: Path | str, attributes: Mapping[str, Any], fingerprint: Fingerprint) -> None:
    """Check that a stream's group has this fingerprint.

    Raises:
        FingerprintError: it has another one; the fields that differ are listed.
    """
    require_equal(
        attributes.get("fingerprint", {}),
        fingerprint,
        where=group,
        remedy="extract into another store, add a second stream with --stream NAME, or set the fields as they are here",
    )


def _make_folder(path: Path, *, copying: bool) -> None:
    """Make the store's folder, if what is there is nothing, or was killed before it became a store.

    Where another writer has begun the store since it was looked for, there is nothing to do.
    """
    ours = {ASIDE, LEASES, UNFINISHED} if copying else {ASIDE, LEASES}
    require_outside(path)
    with writable(path):
        if path.exists() and (not path.is_dir() or any(entry.name not in ours for entry in path.iterdir())):
            if path.is_dir() and read_attributes(Folder(path)) is not None:
                return
            if _is_packed(path):
                remedy = "give a folder, or unpack it into one with: vaprompt store unpack"
                raise TargetError(path, fault="is a packed store, which can only be read", remedy=remedy)
            raise TargetError(
                path, fault="exists and is not a feature store", remedy="choose another place, or remove it first"
            )
        path.mkdir(parents=True, exist_ok=True)
        sync_folder(path.parent)


def _is_packed(path: Path) -> bool:
    """Say whether this is a store in one zip file."""
    with suppress(StoreError):
        storage = None if path.is_dir() else open_storage(path)
        return storage is not None and "format" in (read_attributes(storage) or {})
    return False


def require_outside(path: Path) -> None:
    """Refuse to make anything within a store, which would take a folder for a stream of its own and be damaged by it.

    Raises:
        TargetError: a folder above is a store.
    """
    for folder in path.resolve().parents:
        with suppress(OSError):  # what may not be looked at is none of ours
            if "format" in (parse_group((folder / GROUP_FILE).read_bytes()) or {}):
                fault, remedy = f"lies within {folder}, which is a store itself", "choose a place outside of it"
                raise TargetError(path, fault=fault, remedy=remedy)
