"""What a feature store holds and what made it, by its attributes, markers and index, without reading an array."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vaprompt.errors import StoreError
from vaprompt.store.index import Index, read_index
from vaprompt.store.layout import (
    FAILED,
    FORMAT,
    SPLITS,
    STREAMS,
    TEXT,
    Stream,
    checked_name,
    damaged,
    joined,
    read_attributes,
)
from vaprompt.store.storage import Storage
from vaprompt.store.streams import folder_of, named_streams

MOST_MARKERS = 4096
"""Markers that are kept in memory, of some 10 kB each."""


class StoreListing:
    """What is in a store, as seen under the name of a stream or under none."""

    def __init__(
        self, storage: Storage, root: Mapping[str, Any], stream: str | None = None, *, copy_of: str | None = None
    ) -> None:
        """Use `StoreReader.open` instead."""
        self._storage, self._root, self._stream, self._copy_of = storage, dict(root), stream, copy_of
        self._markers: dict[tuple[str, str], dict[str, Any]] = {}
        self._known: Index | None = None
        self._looked: dict[str, int | None] | None = None

    @property
    def location(self) -> Path | str:
        """Where it lies, as the user calls it."""
        return self._copy_of or self._storage.location

    @property
    def storage(self) -> Storage:
        """Its files."""
        return self._storage

    @property
    def dataset(self) -> dict[str, Any]:
        """`name`, `layout` and `faces` of the data set; `label_range` where its labels had another scale."""
        return dict(self._root.get("dataset", {}))

    @property
    def recipe(self) -> dict[str, Any]:
        """The resolved extraction recipe, as JSON; of the named stream, if the store was opened with one."""
        about = self._root if self._stream is None else named_streams(self._root)[self._stream]
        return dict(about.get("recipe", {}))

    @property
    def stream(self) -> str | None:
        """The name that image, audio and text were extracted under; None where they have none."""
        return self._stream

    @property
    def streams(self) -> tuple[Stream, ...]:
        """The streams that the store has, in the order image, audio, labels."""
        return tuple(stream for stream in STREAMS if read_attributes(self._storage, self._group(stream)) is not None)

    def fingerprint(self, stream: str) -> dict[str, Any]:
        """Return everything that determines the values of a stream (or of `text`).

        Raises:
            StoreError: the store has no such stream.
        """
        attributes = read_attributes(self._storage, self._group(stream))
        if attributes is None:
            raise self._lacks(stream)
        return dict(attributes.get("fingerprint", {}))

    def done(self, stream: str) -> set[str]:
        """Return the videos whose stream is whole.

        Raises:
            StoreError: a marker is damaged.
        """
        index = self._index()
        if index is not None:
            return set(index.markers.get(self._group(stream), {}))
        return {video for video in self._storage.folders(self._group(stream)) if self._marker_or_none(stream, video)}

    def has(self, stream: str, video: str) -> bool:
        """Say whether a video's stream is whole.

        Raises:
            StoreError: its marker is damaged, or the name cannot be a video's.
        """
        return self._marker_or_none(stream, video) is not None

    def videos(self, split: str | None = None) -> list[str]:
        """Return the videos that are whole in all streams of the store, sorted; of one split, if given."""
        done = [self.done(stream) for stream in self.streams]
        names = sorted(set.intersection(*done)) if done else []
        return names if split is None else [name for name in names if self.split(name) == split]

    def split(self, video: str) -> str:
        """Return `train`, `validation` or `test`."""
        split = self.summary("labels", video).get("split")
        if split is None:
            group = joined("labels", video)
            raise damaged(self._storage, group, "does not say of which split the video is", group)
        return str(split)

    def summary(self, stream: str, video: str) -> Mapping[str, Any]:
        """Return what a video's marker says (see `marker`), without its `files`, but with their `bytes`.

        Raises:
            StoreError: the video's stream is not in the store, or its marker is damaged.
        """
        # Not looked at anew for every video: `done` does, and `forget` makes it be read again.
        known = self._known_summary(stream, video)
        if known is not None:
            return known
        marker = self.marker(stream, video)
        return {key: value for key, value in marker.items() if key != "files"} | {
            "bytes": sum(facts["bytes"] for facts in marker["files"].values())
        }

    def marker(self, stream: str, video: str) -> dict[str, Any]:
        """Return the attributes of one video's group: status, split, source, counts, notes, and every file's digest.

        Raises:
            StoreError: the video's stream is not in the store, or its marker is damaged.
        """
        found = self._marker_or_none(stream, video)
        if found is None:
            raise StoreError(
                str(self.location), fault=f"has no {stream} of video '{video}'", remedy="run extract again"
            )
        return found

    def notes(self, video: str) -> list[str]:
        """Return what was remarked while the video was extracted, such as `no audio stream: silence`."""
        index = self._known or self._index()
        known = self._known_summary if index is not None else self._marker_or_none
        found = (known(stream, video) or {} for stream in STREAMS)
        return list(dict.fromkeys(note for said in found for note in said.get("notes", ())))

    def failed(self) -> dict[str, str]:
        """Return the videos that could not be extracted, with the reason."""
        folder = self._group(FAILED)
        found = {
            video: read_attributes(self._storage, joined(folder, video)) for video in self._storage.folders(folder)
        }
        return {video: str(attributes["reason"]) for video, attributes in found.items() if attributes is not None}

    def info(self) -> dict[str, Any]:
        """Return what is in the store and what made it, as plain JSON; hours are those of the videos' frames."""
        streams: dict[str, Any] = {}
        failed: dict[str, str] = {}
        for name in (None, *sorted(named_streams(self._root))):
            view = StoreListing(self._storage, self._root, name)
            view._known, view._looked = self._index(), self._looked  # one index for all, as it can be large
            failed |= {video if name is None else f"{video}, {name}": why for video, why in view.failed().items()}
            for stream in view.streams:
                if view._group(stream) not in streams:
                    markers = [view.summary(stream, video) for video in sorted(view.done(stream))]
                    streams[view._group(stream)] = {
                        "videos": len(markers),
                        "bytes": sum(marker["bytes"] for marker in markers),
                        "fingerprint": view.fingerprint(stream),
                    }
        splits: dict[str, Any] = {}
        # Features without labels, such as another program's, are of no split.
        split_of = {video: self.split(video) for video in self.videos()} if "labels" in self.streams else {}
        for split in SPLITS:
            counts = [self.summary("labels", video).get("counts", {}) for video in split_of if split_of[video] == split]
            splits[split] = {
                "videos": len(counts),
                "frames": sum(count.get("frames", 0) for count in counts),
                "valid": sum(count.get("valid", 0) for count in counts),
                "hours": sum(count.get("seconds", 0.0) for count in counts) / 3600,
            }
        return {
            "format": FORMAT,
            "dataset": self.dataset,
            "recipe": self.recipe,
            "made_by": dict(self._root.get("made_by", {})),
            "streams": streams,
            "splits": splits,
            "names": {name: about["recipe"] for name, about in sorted(named_streams(self._root).items())},
            "prompts": len((read_attributes(self._storage, self._group(TEXT)) or {}).get("prompts", ())),
            "failed": failed,
            "bytes": sum(facts["bytes"] for facts in streams.values()),
        }

    def forget(self, video: str) -> None:
        """Read a video's markers anew when they are next asked for, as another writer may have made them."""
        for stream in STREAMS:
            self._markers.pop((stream, video), None)
        self._forget_index()

    def _index(self) -> Index | None:
        """Return the index if it tells of the present state; it is read again only where something has changed."""
        folders = ("", *self._storage.folders("")) if self._storage.stamp("") else ()
        state = {folder: self._storage.stamp(folder) for folder in folders}
        if self._looked != state:
            self._known, self._looked = read_index(self._storage), state
        return self._known

    def _forget_index(self) -> None:
        self._known = self._looked = None

    def _known_summary(self, stream: str, video: str) -> Mapping[str, Any] | None:
        index = self._known or self._index()
        return None if index is None else index.markers.get(self._group(stream), {}).get(video)

    def _lacks(self, stream: str) -> StoreError:
        # What is not there under no name, no name shares.
        named = sorted(name for name, about in named_streams(self._root).items() if stream in about["own"])
        if self._stream is None and named:
            return StoreError(
                str(self.location),
                fault=f"has no {stream} that was extracted under no name; the names that have one: {', '.join(named)}",
                remedy=f"choose one, as in --set stream={named[0]}",
            )
        return StoreError(
            str(self.location),
            fault=f"has no stream '{stream}' (streams that it has: {', '.join(self.streams) or 'none'})",
            remedy="extract it first, or leave it out of model.modalities",
        )

    def _marker_or_none(self, stream: str, video: str) -> dict[str, Any] | None:
        key = (stream, checked_name(video, self.location))
        if key not in self._markers:
            found = read_attributes(self._storage, joined(self._group(stream), video))
            if found is None or found.get("status") != "done":
                return None
            if len(self._markers) >= MOST_MARKERS:
                self._markers.clear()
            self._markers[key] = found
        return self._markers[key]

    def _group(self, stream: str) -> str:
        """Return the key of a stream's group, as seen under the name that the store was opened with."""
        return folder_of(stream, self._stream, self._root)
