"""New stores from others: several merged into one, or a part of one. Published groups are copied as they are."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from vaprompt.errors import StoreError
from vaprompt.progress import SILENT, Progress
from vaprompt.store.feature_store import FeatureStore
from vaprompt.store.fingerprint import require_equal
from vaprompt.store.layout import FAILED, SPLITS, TEXT, place
from vaprompt.store.reader import read_text
from vaprompt.store.sharing.comparing import differing_parts, same_prompt, streams_of
from vaprompt.store.sharing.contents import Listed, contents, open_contents, root_of
from vaprompt.store.sharing.folder import write_store
from vaprompt.store.streams import kind_of, named_streams
from vaprompt.store.urls import same_place, shown

Opened = tuple[FeatureStore, list[Listed]]


@dataclass(frozen=True)
class Written:
    """What a new store holds."""

    videos: list[str]
    """Those that are whole in all of its streams."""
    incomplete: list[str]
    """Those that lack a stream: training does not see them."""
    prompts: int
    shared: int = 0
    """Groups that several of the merged stores have, with the same content."""


def merge(
    locations: Sequence[Path | str],
    target: Path,
    *,
    prefer: Path | str | None = None,
    progress: Progress = SILENT,
) -> Written:
    """Write a store that holds what all of the stores hold; a killed call is finished by the next.

    A video that several have with the same content is taken once. The root's recipe and versions are the first's.

    Args:
        locations: the stores, two or more.
        target: the folder of the new store.
        prefer: the one among them whose content counts where contents differ.
        progress: who is told.

    Raises:
        FingerprintError: a stream of theirs, or the data set, was made differently; the fields are named.
        StoreError: contents differ, all named, and none or another one is preferred; or a store is damaged.
        TargetError: something else is at `target`, or it cannot be written.
    """
    names = [str(location) for location in locations]
    if len(names) < 2:
        raise StoreError(None, fault="one store cannot be merged", remedy="name two or more")
    if prefer is not None:
        first = str(prefer)
        if first not in names:
            same = [name for name in names if same_place(name, first)]
            if not same:
                remedy = f"name one of {', '.join(map(shown, names))}"
                raise StoreError(shown(first), fault="is preferred, but not merged", remedy=remedy)
            first = same[0]
        names.remove(first)
        names.insert(0, first)
    opened = [open_contents(name) for name in names]
    chosen, shared = _united(opened, preferred=prefer is not None)
    with tempfile.TemporaryDirectory(prefix="vaprompt-merge-") as folder:
        text = _united_text(opened, Path(folder))
        return _write(target, opened[0][0], [*chosen, *text], shared=shared, verb="merging", progress=progress)


def subset(
    location: Path | str,
    target: Path,
    *,
    splits: Collection[str] = (),
    videos: Collection[str] = (),
    progress: Progress = SILENT,
) -> Written:
    """Write a new store of a part of a store's videos and all prompts; a killed call is finished by the next.

    Args:
        location: the store.
        target: the folder of the new store.
        splits: videos of these splits only; all where none is given.
        videos: these videos only; all where none is given.
        progress: who is told.

    Raises:
        StoreError: there is no such split or video, no video is left, or a file is damaged.
        TargetError: something else is at `target`, or it cannot be written.
    """
    store, groups = open_contents(location)
    unknown = sorted(set(splits) - set(SPLITS))
    if unknown:
        raise StoreError(
            None, fault=f"there is no split {', '.join(unknown)}", remedy=f"choose from {', '.join(SPLITS)}"
        )
    there = {group.video for group in groups if group.video is not None}
    missing = sorted(set(videos) - there)
    if missing:
        fault = f"has no video {', '.join(missing)}"
        raise StoreError(str(store.location), fault=fault, remedy="list what it has with: vaprompt store info --json")
    kept = [
        group
        for group in groups
        if group.video is None
        or ((not videos or group.video in videos) and (not splits or group.group().attributes.get("split") in splits))
    ]
    if not any(streams_of(kept).values()):
        raise StoreError(str(store.location), fault="has no such video", remedy="ask for other splits or videos")
    return _write(target, store, kept, verb="copying", progress=progress)


def _united(opened: Sequence[Opened], *, preferred: bool) -> tuple[list[Listed], int]:
    """Return what a merged store holds besides prompts, and how many groups several stores have alike."""
    chosen: dict[str, Listed] = {}
    shared, conflicts = 0, dict[str, list[str]]()
    overruled = set[tuple[Path | str, str]]()
    first = opened[0][0]
    for store, groups in opened:
        require_equal(
            store.dataset,
            first.dataset,
            where=str(store.location),
            other=f"in {first.location}",
            remedy="merge stores of one data set only",
        )
        require_equal(
            _named(store),
            _named(first),
            where=f"{store.location} (streams under a name)",
            other=f"in {first.location}",
            remedy="merge stores that have the same named streams, or extract what one of them lacks",
        )
        for group in groups:
            there = chosen.setdefault(group.key, group)
            if there is group or kind_of(group.stream) in (FAILED, TEXT):
                continue
            if group.video is None:
                require_equal(
                    group.group().attributes.get("fingerprint", {}),
                    there.group().attributes.get("fingerprint", {}),
                    where=place(group.source, group.key),
                    other=f"in {there.source.location}",
                    remedy="merge stores of one recipe only, or extract again",
                )
            elif not differing_parts(there.group().attributes, group.group().attributes):
                shared += 1
            else:
                if not preferred or there.source is not first.storage:
                    conflicts.setdefault(group.video, []).append(group.stream)
                overruled.add((group.source.location, group.video))
    for video, parts in _of_different_splits(chosen.values()).items():
        if not preferred or all(group.source is not first.storage for group in parts):
            conflicts.setdefault(video, []).extend(group.stream for group in parts)
        overruled |= {(group.source.location, video) for group in parts if group.source is not first.storage}
    if conflicts:
        named = "; ".join(f"{video} ({', '.join(dict.fromkeys(streams))})" for video, streams in conflicts.items())
        raise StoreError(
            ", ".join(str(store.location) for store, _ in opened),
            fault=f"hold different content of {len(conflicts)} videos: {named}",
            remedy="look with `vaprompt store diff`, then name the store that counts with --prefer",
        )
    # What is another video in one stream is so in those, too, that the preferred store lacks: no video is of both.
    for key, group in list(chosen.items()):
        if (group.source.location, group.video) in overruled and kind_of(group.stream) != FAILED:
            del chosen[key]
    whole = _whole(list(chosen.values()))
    kept = [
        group
        for group in chosen.values()
        if kind_of(group.stream) != TEXT and not (kind_of(group.stream) == FAILED and group.video in whole)
    ]
    return kept, shared


def _named(store: FeatureStore) -> dict[str, list[str]]:
    """Return, of each named stream, the kinds that it does not share; how they were made is in their fingerprints."""
    return {name: about["own"] for name, about in named_streams(root_of(store).attributes).items()}


def _of_different_splits(groups: Collection[Listed]) -> dict[str, list[Listed]]:
    """Return the streams of those videos that are taken from several stores, which say different splits."""
    of_video: dict[str, list[Listed]] = {}
    for group in groups:
        if group.video is not None and kind_of(group.stream) != FAILED:
            of_video.setdefault(group.video, []).append(group)
    return {
        video: parts
        for video, parts in of_video.items()
        if len({part.source.location for part in parts}) > 1
        and len({part.group().attributes.get("split") for part in parts}) > 1
    }


def _united_text(opened: Sequence[Opened], folder: Path) -> list[Listed]:
    """Return the groups of all prompts, of those under no name and under each."""
    keys = {group.key for _, groups in opened for group in groups if kind_of(group.key) == TEXT}
    return [_united_prompts(key, opened, folder) for key in sorted(keys)]


def _united_prompts(key: str, opened: Sequence[Opened], folder: Path) -> Listed:
    """Return a group such as `text`: that of a store which has all prompts, or one that is written in `folder`."""
    having = [group for _, groups in opened for group in groups if group.key == key]
    fingerprint = having[0].group().attributes.get("fingerprint", {})
    united = dict(read_text(having[0].source, key))
    for group in having[1:]:
        require_equal(
            group.group().attributes.get("fingerprint", {}),
            fingerprint,
            where=place(group.source, key),
            other=f"in {having[0].source.location}",
            remedy="merge stores of one recipe only",
        )
        for prompt, embedding_D in read_text(group.source, key).items():
            if not same_prompt(united.setdefault(prompt, embedding_D), embedding_D):
                fault = f"holds another embedding of '{prompt}' than the stores before it"
                raise StoreError(place(group.source, key), fault=fault, remedy="find out which one is right")
    for group in having:
        if read_text(group.source, key).keys() == united.keys():
            return group
    name = key.partition(".")[2] or None
    written = FeatureStore.create(folder / key, recipe={}, stream=name, fingerprints={TEXT: fingerprint})
    written.write_text(united, fingerprint)
    return next(group for group in contents(written.storage) if group.key == key)


def _write(
    target: Path, like: FeatureStore, groups: Sequence[Listed], *, verb: str, progress: Progress, shared: int = 0
) -> Written:
    groups = sorted(groups, key=lambda group: group.key.split("/"))
    write_store(target, root_of(like), groups, verb=verb, progress=progress)
    whole = _whole(groups)
    everything = {video for videos in streams_of(groups).values() for video in videos}
    return Written(sorted(whole), sorted(everything - whole), len(FeatureStore.open(target).text()), shared)


def _whole(groups: list[Listed]) -> set[str]:
    """Return the videos that have all streams."""
    streams = [set(videos) for videos in streams_of(groups).values()]
    return set.intersection(*streams) if streams else set()
