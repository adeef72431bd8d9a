"""Bringing a store to where others read it, and from there: only what differs, checked on arrival, markers last.

Two groups are the same where their `zarr.json` are, which hold the digests of all their files. So whatever is killed,
whenever, the same command again goes on, and nobody reads a video that is half there.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vaprompt.errors import StoreError, TargetError
from vaprompt.progress import SILENT, Progress, Task
from vaprompt.store.feature_store import FeatureStore
from vaprompt.store.fingerprint import require_equal
from vaprompt.store.groups import Group, digests, fresh_index, is_failures, read_file, read_group
from vaprompt.store.index import INDEX_FILE, Index, index_bytes
from vaprompt.store.layout import GROUP_FILE, joined, writable, write_file
from vaprompt.store.reading import MOST_CHUNK
from vaprompt.store.remote import AT_ONCE, PUSH_NOTE, Remote
from vaprompt.store.storage import Folder, Storage
from vaprompt.store.urls import local_path, scheme_of, shown
from vaprompt.store.writing import GroupWriter, remove

GROUPS_AT_ONCE = 8
"""Groups under way at a time; their files share the requests."""
MB = 1e6
PUSHABLE = ("s3", "gs")


@dataclass(frozen=True)
class Transfer:
    """What was brought over."""

    groups: int
    """A video's stream is one."""
    files: int
    bytes: int
    same: int
    """Groups that were there already."""
    seconds: float


def push(source: Path | str, url: str, *, progress: Progress = SILENT) -> Transfer:
    """Bring a local store behind a URL; what is there and differs is replaced, what is there besides stays.

    The files of a video's stream come first, its marker after them, the root's attributes and the index last.

    Raises:
        StoreError: a local file is damaged, or there can be written no store at the URL.
        FingerprintError: the store there was made of another data set, or otherwise.
        TargetError: something else is there.
        UnreachableError: the server does not answer.
    """
    require_pushable(url)
    if local_path(source) is None:
        raise StoreError(shown(str(source)), fault="is not on this machine", remedy="pull it first, then push that")
    return _Push(FeatureStore.open(source), Remote(url), progress).run()


def pull(url: Path | str, target: Path, *, progress: Progress = SILENT) -> Transfer:
    """Bring a store into a local folder, begun if there is none; what is there and differs is replaced.

    Raises:
        StoreError: there is no store, it is half there or damaged, or the local one is being written.
        FingerprintError: the local store was made of another data set, or otherwise.
        TargetError: the folder cannot be written.
        UnreachableError: the server does not answer.
    """
    source = FeatureStore.open(url)
    return pull_into(target, source, index_of(source), progress=progress)


def require_pushable(url: str) -> None:
    """Refuse a URL that no store can be written to, before any work is done.

    Raises:
        StoreError: it is none.
    """
    scheme = scheme_of(url)
    if scheme in PUSHABLE:
        return
    remedies = {
        None: "give a URL, such as s3://BUCKET/STORE.zarr; to a folder, a plain copy will do",
        "file": "copy the folder, with its hidden files",
        "hf": "upload the folder with its hidden files: hf upload-large-folder USER/NAME STORE --repo-type=dataset",
    }
    remedy = remedies.get(scheme, "push to s3:// or gs://, or copy the folder, hidden files too, to where it is served")
    raise StoreError(shown(url), fault="is no bucket that can be pushed to", remedy=remedy)


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


class _Push:
    """One push under way."""

    def __init__(self, source: FeatureStore, target: Remote, progress: Progress) -> None:
        self._source, self._target, self._objects, self._progress = source, target, target.objects, progress
        self._storage = source.storage
        self._mine = fresh_index(self._storage)
        self._theirs = Index({}, {})
        self._count = _Count()

    def run(self) -> Transfer:
        started = time.monotonic()
        note = self._target.note()
        index = self._target.index()
        # What a push left that was cut short is in no index: then the markers themselves are asked.
        self._theirs = index if index is not None and note is None else self._target.survey()
        self._require_same(note)
        mine = digests(self._mine, str(self._source.location))
        theirs = digests(self._theirs, self._target.location)
        todo = [key for key in mine if theirs.get(key) != mine[key]]
        # What others pushed stays, also what is said of their failures.
        videos = {key.partition("/")[2] for key in mine}
        healed = [
            key for key in theirs if is_failures(key) and key not in mine and key.partition("/")[2] in videos - {""}
        ]
        if todo or healed or note is not None or index is None:
            self._put(PUSH_NOTE, self._note())
            self._bring(todo, theirs)
            self._objects.remove([joined(key, GROUP_FILE) for key in healed])
            self._put(INDEX_FILE, index_bytes(self._together(healed)))
            self._objects.remove([PUSH_NOTE])
        return self._count.result(len(todo), len(mine) - len(todo), started)

    def _bring(self, todo: Sequence[str], theirs: Mapping[str, str]) -> None:
        groups = [group for key in todo if (group := read_group(self._storage, key)) is not None]
        held, bare = [g for g in groups if g.files], [g for g in groups if not g.files]
        with (
            self._progress.task("pushing", total=sum(group.bytes for group in held) / MB, unit="MB") as task,
            ThreadPoolExecutor(AT_ONCE) as files,
        ):
            _all_at_once(held, lambda group: self._group(group, group.key in theirs, files, task))
        # Streams before the root, which makes it all a store.
        for group in sorted(bare, key=lambda group: group.key.count("/"), reverse=True):
            if group.key:
                self._put(joined(group.key, GROUP_FILE), group.metadata)
        for group in bare:
            if not group.key:
                self._put(GROUP_FILE, group.metadata)

    def _group(self, group: Group, there: bool, files: ThreadPoolExecutor, task: Task) -> None:
        marker = joined(group.key, GROUP_FILE)
        if not (there and self._has_files(group)):
            if there:  # its files are about to change: a reader must not take some of each
                self._objects.remove([marker])
            for size in files.map(lambda file: self._file(group, file), group.files):
                self._count.add(size, task, group.key)
            found = self._objects.files(group.key)
            for file, facts in group.files.items():
                if found.get(file) != facts["bytes"]:
                    fault = f"has {found.get(file)} bytes on arrival instead of {facts['bytes']}"
                    raise StoreError(
                        f"{self._target.location}/{joined(group.key, file)}", fault=fault, remedy="push again"
                    )
            self._objects.remove([joined(group.key, file) for file in found.keys() - group.files.keys() - {GROUP_FILE}])
        else:
            task.advance(group.bytes / MB, group.key)
        self._put(marker, group.metadata)

    def _has_files(self, group: Group) -> bool:
        """Say whether the group there has the same files, so that only its marker differs."""
        try:
            there = read_group(self._target, group.key)
        except StoreError:
            return False
        return there is not None and there.files == group.files

    def _file(self, group: Group, file: str) -> int:
        content = read_file(self._storage, group, file)
        self._objects.put(joined(group.key, file), content, bytes.fromhex(group.files[file]["sha256"]))
        return len(content)

    def _put(self, key: str, content: bytes) -> None:
        self._objects.put(key, content, hashlib.sha256(content).digest())

    def _require_same(self, note: Mapping[str, Any] | None) -> None:
        """Refuse to push over another data set, another fingerprint, or something that is no store."""
        where, remedy = self._target.location, "push it to a place of its own"
        if not self._theirs.groups and note is None:
            if self._objects.folders("") or self._objects.files(""):
                raise TargetError(where, fault="is not empty, and holds no feature store", remedy=remedy)
            return
        said = note or {}
        root = read_group(self._target, "") if "" in self._theirs.groups else None
        there = said.get("dataset") if root is None else root.attributes.get("dataset")
        if isinstance(there, dict):
            require_equal(there, self._source.dataset, where=where, remedy=remedy)
        noted = said.get("fingerprints", {})
        for stream, mine in self._fingerprints().items():
            group = read_group(self._target, stream) if stream in self._theirs.groups else None
            theirs = noted.get(stream) if group is None else group.attributes.get("fingerprint")
            if isinstance(theirs, dict):
                require_equal(theirs, mine, where=f"{where}/{stream}", remedy=remedy)

    def _fingerprints(self) -> dict[str, Mapping[str, Any]]:
        tops = (read_group(self._storage, key) for key in self._mine.groups if key and "/" not in key)
        return {
            group.key: group.attributes["fingerprint"]
            for group in tops
            if group is not None and "fingerprint" in group.attributes
        }

    def _note(self) -> bytes:
        note = {
            "dataset": self._source.dataset,
            "fingerprints": self._fingerprints(),
            "host": socket.gethostname(),
            "process": os.getpid(),
            "began": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }
        return json.dumps(note, sort_keys=True).encode()

    def _together(self, healed: Iterable[str]) -> Index:
        """Return the index of what is there and of what was pushed."""
        markers = {stream: dict(found) for stream, found in self._theirs.markers.items()}
        for stream, found in self._mine.markers.items():
            markers.setdefault(stream, {}).update(found)
        groups = {**self._theirs.groups, **self._mine.groups}
        for key in healed:
            groups.pop(key, None)
        return Index(dict.fromkeys(markers, 0), markers, groups)


def pull_into(
    target: Path,
    source: FeatureStore,
    index: Index,
    *,
    lenders: Sequence[Path] = (),
    progress: Progress = SILENT,
) -> Transfer:
    """Bring into the folder `target` all that `index` says of `source`.

    Args:
        target: the folder of a store, begun if there is none.
        source: the store to read.
        index: what it holds.
        lenders: folders of stores on the same disk that are never changed, from which files are linked and not fetched.
        progress: told the megabytes that have arrived.

    Raises:
        StoreError: what arrives is not what the index says, or `target` is being written by another process.
        FingerprintError: `target` was made of another data set, or otherwise.
        TargetError: it cannot be written.
    """
    started, count = time.monotonic(), _Count()
    storage = source.storage
    theirs = digests(index, str(source.location))
    local = FeatureStore.create(target, dataset=source.dataset, recipe=source.recipe)
    folder = Folder(target)
    with local.exclusive():
        todo = [key for key in theirs if _digest_in(folder, key) != theirs[key]]
        if todo:  # a marker that is replaced in place changes no folder's stamp, by which an index is known to be old
            with writable(target):
                (target / INDEX_FILE).unlink(missing_ok=True)
        bare = [key for key in todo if key in index.groups]
        lent = {key: _lender(lenders, key, theirs[key]) for key in todo}
        groups = {key: _arrived(lent[key] or storage, key) for key in bare}
        for key, group in groups.items():
            if key and "fingerprint" in group.attributes:
                local.require(key, group.attributes["fingerprint"])
        for key in sorted(bare, key=lambda key: key.count("/")):
            if not groups[key].files:
                with writable(target):
                    (target / key).mkdir(exist_ok=True)
                write_file(target / key / GROUP_FILE, groups[key].metadata)
        held = [key for key in todo if key not in groups or groups[key].files]
        total = sum(_bytes(index, key) for key in held) + sum(group.bytes for group in groups.values())
        with (
            progress.task("pulling", total=total / MB, unit="MB") as task,
            ThreadPoolExecutor(AT_ONCE) as files,
        ):

            def bring(key: str) -> None:
                group = groups.get(key) or _arrived(lent[key] or storage, key)
                _pull_group(target, storage, group, lent[key], files, lambda size: count.add(size, task, key))

            _all_at_once(held, bring)
        _forget_failures(target, folder, theirs)
        local.write_index()
    return count.result(len(todo), len(theirs) - len(todo), started)


def _pull_group(
    target: Path,
    storage: Storage,
    group: Group,
    lender: Folder | None,
    files: ThreadPoolExecutor,
    arrived: Callable[[int], None],
) -> None:
    there = read_group(Folder(target), group.key)
    if there is not None and there.files == group.files:
        write_file(target / group.key / GROUP_FILE, group.metadata)
        arrived(group.bytes)
        return
    with GroupWriter(target, group.key) as writer:

        def bring(file: str) -> int:
            if lender is None or not writer.link(file, lender.location / group.key / file):
                writer.copy(file, read_file(storage, group, file))
            return int(group.files[file]["bytes"])

        for size in files.map(bring, group.files):
            arrived(size)
        writer.publish_copy(group.metadata)


def _lender(lenders: Sequence[Path], key: str, wanted: str) -> Folder | None:
    """Return the first of the folders that has the same group."""
    return next((folder for folder in map(Folder, lenders) if _digest_in(folder, key) == wanted), None)


def _arrived(storage: Storage, key: str) -> Group:
    group = read_group(storage, key)
    if group is None:
        fault = "is missing, though the store's index lists it"
        raise StoreError(f"{storage.location}/{key}", fault=fault, remedy="run the push that makes it again")
    if any(facts["bytes"] > MOST_CHUNK for facts in group.files.values()):
        fault = f"lists a file of more than {MOST_CHUNK} bytes"
        raise StoreError(f"{storage.location}/{key}", fault=fault, remedy="do not trust this store")
    return group


def _digest_in(folder: Folder, key: str) -> str | None:
    try:
        return hashlib.sha256(folder.read(joined(key, GROUP_FILE))).hexdigest()
    except FileNotFoundError:
        return None


def _bytes(index: Index, key: str) -> int:
    stream, _, video = key.partition("/")
    size = index.markers.get(stream, {}).get(video, {}).get("bytes", 0)
    return size if isinstance(size, int) else 0


def _forget_failures(target: Path, folder: Folder, theirs: Mapping[str, str]) -> None:
    """Remove what is said of failures of videos that have arrived."""
    arrived = {key.partition("/")[2] for key in theirs if not is_failures(key)}
    for top in folder.folders(""):
        for video in folder.folders(top) if is_failures(top) else ():
            if video in arrived and joined(top, video) not in theirs:
                remove(target / top / video)


def _all_at_once(items: Iterable[Any], action: Callable[[Any], None]) -> None:
    """Do something for each item, several at a time; the first error ends it, after what is under way."""
    with ThreadPoolExecutor(GROUPS_AT_ONCE) as pool:
        under_way = [pool.submit(action, item) for item in items]
        try:
            for done in as_completed(under_way):
                done.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


class _Count:
    """What has been brought over, counted by several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._files = self._bytes = 0

    def add(self, size: int, task: Task, note: str) -> None:
        with self._lock:
            self._files, self._bytes = self._files + 1, self._bytes + size
            task.advance(size / MB, note)

    def result(self, groups: int, same: int, started: float) -> Transfer:
        return Transfer(groups, self._files, self._bytes, same, time.monotonic() - started)
