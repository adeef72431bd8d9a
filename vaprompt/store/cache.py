"""Local copies of remote stores, by what is in them: the second start reads nothing from afar but the index.

`stores/DIGEST.zarr` is a store whose groups have that digest together, wherever it came from; it is filled once and
then never changed, so that several processes can fill and read at the same time. What two copies share is stored once.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from vaprompt.caching import cache_folder
from vaprompt.errors import StoreError, TargetError, UnreachableError
from vaprompt.files import make_folder, parsed_json, unwritable, write_json
from vaprompt.progress import SILENT, Progress
from vaprompt.store.feature_store import FeatureStore
from vaprompt.store.groups import content_digest, digests, known_index
from vaprompt.store.index import Index
from vaprompt.store.layout import GROUP_FILE, UNFINISHED, joined, parse_group, write_file
from vaprompt.store.pull import index_of, pull_into
from vaprompt.store.push import push, require_pushable
from vaprompt.store.remote import Remote
from vaprompt.store.storage import Copy, Folder
from vaprompt.store.urls import local_path, shown

SEEN = ".json"
"""Ends the name of the file beside a folder to push from that says what was last seen behind its URL."""


def open_store(location: Path | str, progress: Progress = SILENT, stream: str | None = None) -> FeatureStore:
    """Return the store at a location, to read all of it: of a URL, its copy in the cache, filled where that is needed.

    Where the server does not answer, the latest copy is used, and it is said so.

    Raises:
        StoreError: there is no store, or it is damaged or half there.
        UnreachableError: the server does not answer, and there is no copy.
        TargetError: the cache cannot be written.
    """
    path = local_path(location)
    if path is not None:
        return FeatureStore.open(path, stream)
    url = shown(str(location))
    stores = cache_folder() / "stores"
    try:
        remote = Remote(str(location))
        index = remote.index()
        if index is None:  # whoever opens it says what is wrong, or there is a bucket without an index
            index = index_of(FeatureStore.open(location))
    except UnreachableError as error:
        folder = _latest(stores, url)
        if folder is None:
            raise
        progress.say(f"{error}; using the copy that was fetched before, {folder}")
        return FeatureStore.from_storage(Copy(folder), stream, copy_of=url)
    wanted = digests(index, url)
    folder = stores / f"{content_digest(wanted)}.zarr"
    if not _holds(folder, wanted):
        make_folder(stores)
        with _alone(folder.with_suffix(".lock"), progress):
            if not _holds(folder, wanted):
                others = [other for other in stores.glob("*.zarr") if other != folder]
                _mend_beginnings(folder, remote, index)
                # Of the index that the copy is named after: what is pushed meanwhile does not fit it, and is refused.
                pull_into(folder, FeatureStore.from_storage(remote), index, lenders=others, progress=progress)
    # Says which copies are of this URL, the latest being the one that was used last. It only helps when the server is
    # away: a cache that is full, or may only be read, serves what it holds.
    with suppress(TargetError):
        write_json(stores / _record(url), {"url": url, "copy": folder.name})
    return FeatureStore.from_storage(Copy(folder), stream, copy_of=url)


@contextmanager
def written_at(location: Path | str, progress: Progress = SILENT) -> Iterator[Path]:
    """Yield the folder to write a store into that belongs at `location`, and push it where that is a URL.

    The folder is then one in the cache, brought up to date first, so that nothing is made again that is there. It
    stays, so that a later call has little to bring over, and goes on with what an earlier one made and could not push.

    Raises:
        StoreError: no store can be written there, or there is a damaged one.
        UnreachableError: the server does not answer.
        TargetError: the cache cannot be written.
    """
    path = local_path(location)
    if path is not None:
        yield path
        return
    url = str(location)
    require_pushable(url)
    folder = cache_folder() / "staging" / f"{_name(shown(url))}.zarr"
    make_folder(folder.parent)
    with _alone(folder.with_suffix(".lock"), progress):
        _catch_up(folder, Remote(url), progress)
        yield folder
        try:
            push(folder, url, progress=progress)
        except StoreError as error:
            remedy = (
                f"nothing is lost: mend that, and run the same again, or: vaprompt store push {folder} {shown(url)}"
            )
            raise StoreError(error.where, fault=error.fault, remedy=remedy) from None
        write_json(folder.with_suffix(SEEN), digests(known_index(Folder(folder)), str(folder)))


def _catch_up(folder: Path, remote: Remote, progress: Progress) -> None:
    """Bring what is behind a URL into a folder in the cache; what was made there and is not pushed yet stays.

    That is what differs where the URL has still what it had when both were last the same.
    """
    if remote.untouched():
        return
    if remote.note() is not None:  # what a push that was cut short left is in no index
        remote.survey()
    source = FeatureStore.from_storage(remote)
    index = index_of(source)
    theirs, seen = digests(index, remote.location), _seen(folder)
    kept = {key for key, digest in theirs.items() if seen.get(key) == digest}
    pull_into(folder, source, index, kept=kept, progress=progress)
    write_json(folder.with_suffix(SEEN), theirs)


def _seen(folder: Path) -> dict[str, str]:
    """Return the digests of the groups that were behind the URL when it was last pulled from or pushed to."""
    try:
        found = parsed_json(folder.with_suffix(SEEN).read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _holds(folder: Path, wanted: Mapping[str, str]) -> bool:
    """Say whether a copy has all its groups, even if somebody removed some by hand; their chunks are not looked at."""
    try:
        if not folder.is_dir() or (folder / UNFINISHED).exists():
            return False
        if digests(known_index(Folder(folder)), str(folder)) != wanted:
            return False
    except StoreError:
        return False
    # The index says nothing of a marker that was removed from within its group.
    return all(os.path.exists(f"{folder}/{key}/{GROUP_FILE}") for key in wanted)  # noqa: PTH110 - for thousands


def _mend_beginnings(folder: Path, remote: Remote, index: Index) -> None:
    """Put the attributes of the root, streams and text in place anew where they are damaged, or no pull would go on."""
    for key in sorted(index.groups):
        if not (folder / key).is_dir():
            continue
        try:
            content = Folder(folder).read(joined(key, GROUP_FILE))
        except FileNotFoundError:
            content = b""
        if parse_group(content) is None:
            write_file(folder / key / GROUP_FILE, remote.read(joined(key, GROUP_FILE)))


def _record(url: str) -> str:
    return f"{_name(url)}.json"


def _name(url: str) -> str:
    return hashlib.sha256(url.encode()).hexdigest()[:16]


def _latest(stores: Path, url: str) -> Path | None:
    try:
        name = parsed_json((stores / _record(url)).read_text(encoding="utf-8"))["copy"]
        folder = stores / Path(name).name
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return folder if folder.is_dir() else None


@contextmanager
def _alone(lock: Path, progress: Progress) -> Iterator[None]:
    """Wait until no other process fills the same copy; the system lets go of the lock of one that dies.

    Raises:
        TargetError: the cache cannot be written.
    """
    with ExitStack() as opened:
        try:
            file = opened.enter_context(lock.open("w"))
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                progress.say(f"waiting for another process that fills {lock.with_suffix('.zarr')}")
                fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:
            raise unwritable(lock, error) from None
        yield
