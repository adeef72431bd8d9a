"""Looking at a whole store for whatever is not as it was written.

Without `deep`, names, sizes, markers and the arrays' metadata; with it, the digest of every file and every value, too.

Axes: N encoded frames, W audio windows, F annotated frames.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vaprompt.errors import StoreError, UnreachableError
from vaprompt.progress import SILENT, Progress
from vaprompt.store.attributes import MADE_AS, MADE_BY, marker_faults
from vaprompt.store.content import EMBEDDING, content_faults, finite_halves, form_faults, usual_widths
from vaprompt.store.faults import Fault, Maker, Verification
from vaprompt.store.feature_store import FeatureStore
from vaprompt.store.index import INDEX_FILE, MOST_INDEX, Index, index_bytes, parse_index, summary
from vaprompt.store.layout import (
    FAILED,
    GROUP_FILE,
    TEXT,
    checked_name,
    digest_of,
    group_metadata,
    joined,
    medium_of,
    read_attributes,
)
from vaprompt.store.reading import CHECKSUM_BYTES, MOST_CHUNK, ArrayForm, arrays_of, read_array, read_form
from vaprompt.store.storage import LINK, Folder, Storage, open_storage
from vaprompt.store.streams import kind_of

THREADS = max(2, min(8, os.cpu_count() or 2))
"""Digests are computed without Python's lock."""


def verify(location: Path | str, *, deep: bool = False, progress: Progress = SILENT) -> Verification:
    """Return everything in a store that is not as it was written.

    Args:
        location: the store.
        deep: read every byte and compare it with its digest, and look at the values.
        progress: told after each video's stream.

    Raises:
        StoreError: there is no store, or one of another format.
        UnreachableError: the server does not answer, or no longer.
    """
    storage = open_storage(location)
    tree, links = ({}, []) if storage is None else _tree(storage)
    if storage is None or (storage.size(GROUP_FILE) is None and not tree):
        FeatureStore.open(location)  # says what is there instead
    assert storage is not None
    index, index_faults = _index(storage)
    faults = list(_group_faults(storage, ""))
    if not faults:
        FeatureStore.open(location)  # refuses other formats
    groups: list[tuple[str, str]] = []
    for stream, videos in tree.items():
        faults += _group_faults(storage, stream)
        groups += [(stream, "")] if kind_of(stream) == TEXT else [(stream, video) for video in sorted(videos)]
    fingerprints = {stream: _fingerprint(storage, stream) for stream, _ in groups}
    looked = _Looked()
    with (
        progress.task("verifying", total=len(groups), unit="groups") as task,
        ThreadPoolExecutor(THREADS) as pool,
    ):

        def look(group: tuple[str, str]) -> _Looked:
            return _video(storage, *group, fingerprints[group[0]], deep=deep)

        for (stream, video), found in zip(groups, pool.map(look, groups), strict=True):
            looked.add(found)
            task.advance(1, f"{stream} {video}".strip())
    widths = usual_widths(looked.widths)
    faults += [*links, *looked.faults, *_across(tree, looked, widths), *index_faults]
    if index is not None and not faults and index.current(storage):
        differences = _differences(index, looked.markers)
        if differences and _index(storage)[0] == index:  # else somebody has just changed what is there
            faults += differences
    seen = {video for stream, video in groups if kind_of(stream) not in (TEXT, FAILED)}
    nbytes = sum(_listed(marker) for marker in looked.markers.values())
    return Verification(len(seen), nbytes, faults, widths, _makers(looked.markers.values()))


def still_broken(storage: Storage, video: str, suspects: set[str], widths: Mapping[str, tuple[int, ...]]) -> set[str]:
    """Return those of the suspected streams whose group of a video is not as it should be now, every byte read.

    Args:
        storage: the store's files.
        video: whose groups; empty for those of `text`.
        suspects: the streams' folders.
        widths: see `Verification`.
    """
    tree, _ = _tree(storage)
    others = {stream for stream in tree if kind_of(stream) not in (TEXT, FAILED)} if video else set()
    looked = _Looked()
    for stream in sorted(suspects | others):
        looked.add(_video(storage, stream, video, _fingerprint(storage, stream), deep=stream in suspects))
    faults = [*looked.faults, *_across(tree, looked, widths)]
    return suspects & {fault.stream for fault in faults}


def _tree(storage: Storage) -> tuple[dict[str, set[str]], list[Fault]]:
    """Return the videos with a folder in each top-level one (`text`: its arrays), and links in place of folders."""
    tree: dict[str, set[str]] = {}
    streams, links = _folders(storage, "")
    faults = [Fault(stream, "", "", LINK) for stream in links]
    for stream in streams:
        videos, links = _folders(storage, stream)
        tree[stream] = set(videos)
        faults += [Fault(stream, video, "", LINK) for video in links]
    return tree, faults


def _folders(storage: Storage, key: str) -> tuple[list[str], list[str]]:
    return storage.folders_and_links(key) if isinstance(storage, Folder) else (storage.folders(key), [])


def _group_faults(storage: Storage, stream: str) -> Iterator[Fault]:
    """Yield what is wrong with the attributes of the root or of a stream."""
    try:
        attributes = read_attributes(storage, stream)
    except StoreError as error:
        yield Fault(stream, "", GROUP_FILE, _fault(error))
        return
    if attributes is None:
        yield Fault(stream, "", GROUP_FILE, "is missing")


def _fingerprint(storage: Storage, stream: str) -> Mapping[str, Any] | None:
    """Return a stream's fingerprint; None where it has none, which is a fault of the stream, or need not."""
    try:
        found = (read_attributes(storage, stream) or {}).get("fingerprint")
    except UnreachableError:
        raise
    except StoreError:
        return None
    return found if isinstance(found, dict) else None


@dataclass
class _Looked:
    """What was seen in groups of videos (or in `text`)."""

    faults: list[Fault] = field(default_factory=list)
    markers: dict[tuple[str, str], Mapping[str, Any]] = field(default_factory=dict)
    """Of videos' streams that are done, whatever else is wrong with them."""
    widths: dict[tuple[str, str], tuple[int, ...]] = field(default_factory=dict)
    """The shape of one embedding in each of them."""

    def add(self, other: _Looked) -> None:
        self.faults += other.faults
        self.markers |= other.markers
        self.widths |= other.widths


def _video(storage: Storage, stream: str, video: str, fingerprint: Mapping[str, Any] | None, *, deep: bool) -> _Looked:
    """Return what is seen in a video's group in a stream with this fingerprint."""
    group = joined(stream, video)
    looked = _Looked()

    def note(key: str, fault: str) -> None:
        looked.faults.append(Fault(stream, video, key, fault))

    try:
        if video:
            checked_name(video, storage.location)
        marker = read_attributes(storage, group)
    except StoreError as error:
        note(GROUP_FILE, _fault(error))
        return looked
    if kind_of(stream) == FAILED:
        if marker is None:
            note(GROUP_FILE, "is missing")
        return looked
    if marker is None or marker.get("status") != "done":
        note(GROUP_FILE, "is missing" if marker is None else "does not say that the group is done")
        return looked
    for fault in marker_faults(stream, marker):
        note(GROUP_FILE, fault)
    if looked.faults:
        return looked
    if fingerprint is not None and marker.get(MADE_AS, digest_of(fingerprint)) != digest_of(fingerprint):
        note(GROUP_FILE, "was made otherwise than its stream: it has the digest of another fingerprint")
    if kind_of(stream) != TEXT:
        looked.markers[stream, video] = marker
    if _files(storage, group, marker, note, deep=deep):
        forms = _arrays(storage, stream, group, marker, fingerprint or {}, note, deep=deep)
        if kind_of(stream) != TEXT and EMBEDDING in forms:
            looked.widths[stream, video] = forms[EMBEDDING].shape[1:]
    return looked


def _files(
    storage: Storage, group: str, marker: Mapping[str, Any], note: Callable[[str, str], None], *, deep: bool
) -> bool:
    """Note files that are missing, surplus, of another length, or (deep, and metadata always) of other content.

    Returns whether all that the marker lists is there as it was written.
    """
    try:
        there = storage.files(group)
    except StoreError as error:
        note("", f"{error.where}: {_fault(error)}")
        return False
    listed, whole = marker["files"], True
    for key in sorted(there.keys() - listed.keys() - {GROUP_FILE}):
        note(key, "is not in the marker")
    for key, facts in sorted(listed.items()):
        content, fault = None, None
        if key not in there:
            fault = "is missing"
        elif there[key] != facts["bytes"]:
            fault = f"has {there[key]} bytes instead of {facts['bytes']}"
        elif deep or key.endswith(GROUP_FILE):
            content, fault = _digested(storage, joined(group, key), facts["sha256"])
        if fault is not None:
            note(key, fault)
            whole = False
        elif (
            content is not None and _is_halves(group, key) and not finite_halves(memoryview(content)[:-CHECKSUM_BYTES])
        ):
            # Chunk by chunk, as it is at hand: an hour of sound is too large to be held whole.
            note(key, "holds values that are not finite")
    return whole


def _digested(storage: Storage, key: str, sha256: str) -> tuple[bytes | None, str | None]:
    """Return a file's content, or what is wrong with it."""
    try:
        content = storage.read(key, MOST_CHUNK)
    except FileNotFoundError:
        return None, "is missing"
    except StoreError as error:
        return None, _fault(error)
    if hashlib.sha256(content).hexdigest() != sha256:
        return None, "does not have its digest: its content has changed"
    return content, None


def _is_halves(group: str, key: str) -> bool:
    return kind_of(group) != TEXT and key.startswith(f"{EMBEDDING}/c/")


def _arrays(
    storage: Storage,
    stream: str,
    group: str,
    marker: Mapping[str, Any],
    fingerprint: Mapping[str, Any],
    note: Callable[[str, str], None],
    *,
    deep: bool,
) -> Mapping[str, ArrayForm]:
    """Note arrays whose form or (deep) values are not what the stream holds; return the forms."""
    forms: dict[str, ArrayForm] = {}
    name = ""
    try:
        for name in arrays_of(marker):
            forms[name] = read_form(storage, group, name, marker)
    except StoreError as error:
        note(name, _fault(error))
    else:
        for key, fault in form_faults(stream, marker, forms, fingerprint):
            note(key, fault)
    if deep:
        try:
            arrays: dict[str, np.ndarray] = {
                name: read_array(storage, group, name, marker)
                for name in arrays_of(marker)
                if name != EMBEDDING or kind_of(stream) == TEXT
            }
        except StoreError as error:
            note("", _fault(error))
            return forms
        for key, fault in content_faults(stream, marker, arrays):
            note(key, fault)
    return forms


def _across(
    tree: Mapping[str, Collection[str]], looked: _Looked, widths: Mapping[str, tuple[int, ...]]
) -> Iterator[Fault]:
    """Yield videos that are not in all streams, are unlike the others, or whose streams do not fit each other."""
    markers = looked.markers
    for (stream, video), width in looked.widths.items():
        if width != widths.get(stream, width):
            most = " x ".join(map(str, widths[stream]))
            fault = f"has embeddings of {' x '.join(map(str, width))} numbers, and most other videos of {most}"
            yield Fault(stream, video, EMBEDDING, fault)
    streams = [stream for stream in tree if kind_of(stream) not in (TEXT, FAILED)]
    failed = {video for stream, videos in tree.items() if kind_of(stream) == FAILED for video in videos}
    for video in sorted({video for _, video in markers}):
        own = {stream: markers[stream, video] for stream in streams if (stream, video) in markers}
        for stream in streams:
            if video not in tree[stream] and video not in failed:
                yield Fault(stream, video, GROUP_FILE, f"is missing, though {next(iter(own))} of the video is there")
        splits = {stream: marker.get("split") for stream, marker in own.items()}
        if len(set(splits.values())) > 1:
            told = ", ".join(f"{stream}: {split}" for stream, split in splits.items())
            # Whatever is made anew, all others are moved to its split with it: so of what is there, the cheapest.
            cheapest = min(own, key=lambda stream: (stream != "labels", _listed(own[stream])))
            yield Fault(cheapest, video, GROUP_FILE, f"is of different splits ({told})")
        made_of = {stream: media for stream, marker in own.items() if (media := medium_of(marker)) is not None}
        # Labels have no names: whatever name is made again of a file that has changed, they are made with it.
        latest = "labels" if "labels" in made_of else next(iter(made_of), "")
        for stream, media in made_of.items():
            if media != made_of[latest]:
                yield Fault(stream, video, GROUP_FILE, f"is made of another state of the video's file than {latest}")
        for stream, marker in own.items():
            frames, rows = marker["counts"].get("frames"), own.get("labels", marker)["counts"].get("frames", 0)
            if kind_of(stream) == "image" and rows > frames:
                yield Fault("labels", video, "value", f"has {rows} rows, but the video has {frames} frames")


def _index(storage: Storage) -> tuple[Index | None, list[Fault]]:
    """Return the index, if there is one that is whole, and what is wrong with it."""
    try:
        content = storage.read(INDEX_FILE, MOST_INDEX)
    except FileNotFoundError:
        return None, []
    except StoreError as error:
        return None, [Fault("", "", INDEX_FILE, _fault(error))]
    index = parse_index(content)
    if index is None or content != index_bytes(index):
        return None, [Fault("", "", INDEX_FILE, "is not what was written")]
    return index, []


def _differences(index: Index, markers: Mapping[tuple[str, str], Mapping[str, Any]]) -> list[Fault]:
    """Return, if it is so, that an index tells of other markers than there are: whoever reads would believe it."""
    told = {(stream, video): one for stream, videos in index.markers.items() for video, one in videos.items()}
    for stream, video in sorted(told.keys() | markers.keys()):
        marker = markers.get((stream, video))
        if marker is None or told.get((stream, video)) != summary(marker, group_metadata(marker)):
            return [Fault("", "", INDEX_FILE, f"tells of another {stream}/{video} than is there")]
    return []


def _fault(error: StoreError) -> str:
    """Return the fault that an error tells of.

    Raises:
        UnreachableError: it tells of the network, and nothing of the store.
    """
    if isinstance(error, UnreachableError):
        raise error
    return error.fault


def _makers(markers: Iterable[Mapping[str, Any]]) -> list[Maker]:
    texts = Counter(json.dumps(marker[MADE_BY], sort_keys=True) for marker in markers if MADE_BY in marker)
    return [Maker(json.loads(text), count) for text, count in texts.most_common()]


def _listed(marker: Mapping[str, Any]) -> int:
    return sum(facts["bytes"] for facts in marker["files"].values())
