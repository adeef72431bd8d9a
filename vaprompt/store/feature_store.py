"""The feature store: what the frozen encoders made of a data set, as a Zarr v3 group (docs/store-format.md)."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from vaprompt import __version__
from vaprompt.errors import StoreError, TargetError
from vaprompt.store.features import AudioFeatures, ImageFeatures, StoredLabels
from vaprompt.store.fingerprint import Fingerprint, require_equal
from vaprompt.store.index import INDEX_FILE, Index, build_index, index_bytes, read_index
from vaprompt.store.layout import (
    FAILED,
    FORMAT,
    GROUP_FILE,
    SPLITS,
    STREAMS,
    TEXT,
    Stream,
    checked_name,
    damaged,
    joined,
    place,
    read_attributes,
    writable,
    write_attributes,
    write_file,
)
from vaprompt.store.reading import read_array
from vaprompt.store.storage import Folder, Storage, open_storage
from vaprompt.store.writing import GroupWriter, exclusive, remove, video_writer


class FeatureStore:
    """A store in a folder, or packed into a zip file. `open` reads one; `create` begins a folder or goes on with it."""

    def __init__(self, storage: Storage, root: Mapping[str, Any]) -> None:
        """Use `open` or `create` instead."""
        self._storage, self._root = storage, dict(root)
        self._markers: dict[tuple[str, str], dict[str, Any]] = {}
        self._known: Index | None = None

    @classmethod
    def open(cls, location: Path | str) -> FeatureStore:
        """Return the store at `location`.

        Raises:
            StoreError: there is none, it is of another format, or its metadata is damaged.
        """
        storage = open_storage(location)
        root = None if storage is None else read_attributes(storage)
        if storage is None or root is None:
            fault = "there is no feature store" if storage is None else "holds no feature store"
            remedy = "check the path, or make one with: vaprompt extract DATA --store STORE"
            raise StoreError(str(location), fault=fault, remedy=remedy)
        if root.get("format") != FORMAT:
            raise StoreError(
                str(location),
                fault=f"has format {root.get('format', 'of another program')}, vaprompt {__version__} reads "
                f"format {FORMAT}",
                remedy=_other_format(root),
            )
        return cls(storage, root)

    @classmethod
    def create(
        cls, path: Path | str, *, dataset: Mapping[str, Any] | None = None, recipe: Mapping[str, Any] | None = None
    ) -> FeatureStore:
        """Return the store in the folder `path`, beginning one where there is none.

        Args:
            path: the folder, whose parents are made; by convention its name ends in `.zarr`.
            dataset: `name`, `layout` and `faces` of the data set that the store is made of, and `label_range` if any.
            recipe: the resolved extraction recipe; replaces the one kept, which must agree in all that is keyed.

        Raises:
            TargetError: it cannot be written, or something else is there.
            StoreError: there is a store of another format, or a damaged one.
            FingerprintError: the store there was made of another data set.
        """
        path = Path(path)
        if (path / GROUP_FILE).exists():
            store = cls.open(path)
            if dataset is not None:
                require_equal(store.dataset, dataset, where=path, remedy="give each data set a store of its own")
            if recipe is not None and store.recipe != recipe:
                store._set_root(recipe=recipe)
            return store
        with writable(path):
            if path.exists() and (not path.is_dir() or any(path.iterdir())):
                raise TargetError(
                    path, fault="exists and is not a feature store", remedy="choose another place, or remove it first"
                )
            path.mkdir(parents=True, exist_ok=True)
        store = cls(Folder(path), {})
        store._set_root(format=FORMAT, dataset=dict(dataset or {}), recipe=dict(recipe or {}))
        return store

    @property
    def location(self) -> Path | str:
        """Where it lies, as the user calls it."""
        return self._storage.location

    @property
    def storage(self) -> Storage:
        """Its files."""
        return self._storage

    @property
    def path(self) -> Path:
        """The store's folder, to write into.

        Raises:
            StoreError: it is not in a folder, so it can only be read.
        """
        if not isinstance(self._storage, Folder):
            raise StoreError(
                str(self.location), fault="can only be read", remedy="give a folder, or unpack it with: vaprompt store"
            )
        return self._storage.location

    @property
    def dataset(self) -> dict[str, Any]:
        """`name`, `layout` and `faces` of the data set; `label_range` where its labels had another scale."""
        return dict(self._root.get("dataset", {}))

    @property
    def recipe(self) -> dict[str, Any]:
        """The resolved extraction recipe, as JSON."""
        return dict(self._root.get("recipe", {}))

    @property
    def streams(self) -> tuple[Stream, ...]:
        """The streams that the store has, in the order image, audio, labels."""
        return tuple(stream for stream in STREAMS if read_attributes(self._storage, stream) is not None)

    def fingerprint(self, stream: str) -> dict[str, Any]:
        """Return everything that determines the values of a stream (or of `text`).

        Raises:
            StoreError: the store has no such stream.
        """
        attributes = read_attributes(self._storage, stream)
        if attributes is None:
            raise StoreError(str(self.location), fault=f"has no stream '{stream}'", remedy="extract it first")
        return dict(attributes.get("fingerprint", {}))

    def done(self, stream: str) -> set[str]:
        """Return the videos whose stream is whole.

        Raises:
            StoreError: a marker is damaged.
        """
        index = self._index()
        if index is not None:
            return set(index.markers.get(stream, ()))
        return {video for video in self._storage.folders(stream) if self._marker_or_none(stream, video)}

    def videos(self, split: str | None = None) -> list[str]:
        """Return the videos that are whole in all streams of the store, sorted; of one split, if given."""
        done = [self.done(stream) for stream in self.streams]
        names = sorted(set.intersection(*done)) if done else []
        return names if split is None else [name for name in names if self.split(name) == split]

    def split(self, video: str) -> str:
        """Return `train`, `validation` or `test`."""
        split = self.summary("labels", video).get("split")
        if split is None:
            group = place(self._storage, joined("labels", video))
            raise damaged(group, "does not say of which split the video is", group)
        return str(split)

    def summary(self, stream: str, video: str) -> Mapping[str, Any]:
        """Return what a video's marker says (see `marker`), without its `files`, but with their `bytes`.

        Raises:
            StoreError: the video's stream is not in the store, or its marker is damaged.
        """
        index = self._index()
        if index is not None and video in index.markers.get(stream, ()):
            return index.markers[stream][video]
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

    def image(self, video: str) -> ImageFeatures:
        """Return the embeddings of a video's frames.

        Raises:
            StoreError: they are not in the store, or damaged.
        """
        embedding_ND, frame_N, time_N = self._arrays("image", video, ("embedding", "frame", "time"))
        return ImageFeatures(embedding_ND, frame_N, time_N)

    def audio(self, video: str) -> AudioFeatures:
        """Return the embeddings of a video's windows of sound.

        Raises:
            StoreError: they are not in the store, or damaged.
        """
        embedding_WSD, end_W = self._arrays("audio", video, ("embedding", "end"))
        return AudioFeatures(embedding_WSD, end_W)

    def labels(self, video: str) -> StoredLabels:
        """Return a video's annotation and the times of its frames.

        Raises:
            StoreError: they are not in the store, or damaged.
        """
        value_F2, valid_F, time_F = self._arrays("labels", video, ("value", "valid", "time"))
        return StoredLabels(value_F2, valid_F, time_F)

    def text(self) -> dict[str, Float32[np.ndarray, "D"]]:
        """Return the text embedding of each prompt, not normalised; empty where there are none.

        Raises:
            StoreError: they are damaged.
        """
        attributes = read_attributes(self._storage, TEXT)
        if attributes is None:
            return {}
        embedding_PD = read_array(self._storage, TEXT, "embedding", attributes)
        return dict(zip(attributes["prompts"], embedding_PD, strict=True))

    def notes(self, video: str) -> list[str]:
        """Return what was remarked while the video was extracted, such as `no audio stream: silence`."""
        there = [stream for stream in self.streams if video in self.done(stream)]
        return list(dict.fromkeys(note for stream in there for note in self.summary(stream, video).get("notes", ())))

    def failed(self) -> dict[str, str]:
        """Return the videos that could not be extracted, with the reason."""
        found = {
            video: read_attributes(self._storage, joined(FAILED, video)) for video in self._storage.folders(FAILED)
        }
        return {video: str(attributes["reason"]) for video, attributes in found.items() if attributes is not None}

    def info(self) -> dict[str, Any]:
        """Return what is in the store and what made it, as plain JSON; hours are those of the videos' frames."""
        streams: dict[str, Any] = {}
        for stream in self.streams:
            markers = [self.summary(stream, video) for video in sorted(self.done(stream))]
            streams[stream] = {
                "videos": len(markers),
                "bytes": sum(marker["bytes"] for marker in markers),
                "fingerprint": self.fingerprint(stream),
            }
        splits: dict[str, Any] = {}
        for split in SPLITS:
            counts = [self.summary("labels", video).get("counts", {}) for video in self.videos(split)]
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
            "prompts": len((read_attributes(self._storage, TEXT) or {}).get("prompts", ())),
            "failed": self.failed(),
            "bytes": sum(facts["bytes"] for facts in streams.values()),
        }

    def exclusive(self) -> AbstractContextManager[None]:
        """Hold the store against a second writer, and clear away what a killed one left half-written.

        Raises:
            StoreError: another process is writing into it.
            TargetError: it cannot be written.
        """
        return exclusive(self.path)

    def require(self, stream: str, fingerprint: Fingerprint) -> None:
        """Check that a stream (or `text`), if it is there, has this fingerprint.

        Raises:
            FingerprintError: it has another one; the fields that differ are listed.
        """
        attributes = read_attributes(self._storage, stream)
        if attributes is not None:
            require_equal(
                attributes.get("fingerprint", {}),
                fingerprint,
                where=place(self._storage, stream),
                remedy="extract into another store, or set the fields as they are here",
            )

    def writer(self, stream: str, video: str, fingerprint: Fingerprint) -> GroupWriter:
        """Return the writer of one video's stream; the stream itself is begun if it is not there.

        Raises:
            FingerprintError: the stream was made differently.
            StoreError: the video's name cannot be a folder's.
            TargetError: the store cannot be written.
        """
        self.require(stream, fingerprint)
        writer = video_writer(self.path, stream, video)
        if read_attributes(self._storage, stream) is None:
            write_attributes(self.path / stream, {"fingerprint": fingerprint})
        self._markers.pop((stream, video), None)
        self._known = None
        return writer

    def write_text(self, embeddings: Mapping[str, Float32[np.ndarray, "D"]], fingerprint: Fingerprint) -> None:
        """Add the text embeddings of prompts to those that are there.

        Raises:
            FingerprintError: those that are there were made differently.
            TargetError: the store cannot be written.
        """
        self.require(TEXT, fingerprint)
        together = {**self.text(), **embeddings}
        with GroupWriter(self.path, TEXT) as writer:
            writer.append(embedding=np.stack(list(together.values())))
            writer.publish({"fingerprint": fingerprint, "prompts": list(together)})

    def record_failure(self, video: str, reason: str) -> None:
        """Remember that a video could not be extracted, and why.

        Raises:
            TargetError: the store cannot be written.
        """
        write_attributes(self.path / FAILED, {})
        write_attributes(self.path / FAILED / checked_name(video, self.path), {"reason": reason})

    def clear_failure(self, video: str) -> None:
        """Forget an earlier failure of a video, if there was one."""
        remove(self.path / FAILED / checked_name(video, self.path))

    def remove(self, stream: str, video: str = "") -> None:
        """Delete a video's stream (or the whole of `text`), so that the next extraction makes it again.

        Raises:
            TargetError: it cannot be deleted.
        """
        remove(self.path / stream / checked_name(video, self.path) if video else self.path / stream)
        self._markers.pop((stream, video), None)
        self._known = None

    def remove_index(self) -> None:
        """Delete the index; it is made again by the next extraction."""
        with writable(self.path):
            (self.path / INDEX_FILE).unlink(missing_ok=True)
        self._known = None

    def record_maker(self, versions: Mapping[str, str]) -> None:
        """Keep the versions of the programs that wrote last; they are not part of any fingerprint."""
        if self._root.get("made_by") != versions:
            self._set_root(made_by=dict(versions))

    def _set_root(self, **changes: Any) -> None:
        self._root.update(changes)
        write_attributes(self.path, self._root)

    def write_index(self) -> None:
        """Write the index of what is there now, so that the next reader need not look at every video.

        Raises:
            StoreError: a marker is damaged.
            TargetError: it cannot be written.
        """
        self._known = None
        if self._index() is None:
            write_file(self.path / INDEX_FILE, index_bytes(build_index(self._storage, self.streams)))

    def _index(self) -> Index | None:
        """Return the index if it tells of the present state."""
        if self._known is None or not self._known.current(self._storage):
            self._known = read_index(self._storage)
        return self._known

    def _arrays(self, stream: str, video: str, names: tuple[str, ...]) -> list[np.ndarray]:
        marker = self.marker(stream, video)
        return [read_array(self._storage, joined(stream, video), name, marker) for name in names]

    def _marker_or_none(self, stream: str, video: str) -> dict[str, Any] | None:
        key = (stream, checked_name(video, self.location))
        if key not in self._markers:
            found = read_attributes(self._storage, joined(stream, video))
            if found is None or found.get("status") != "done":
                return None
            self._markers[key] = found
        return self._markers[key]


def _other_format(root: Mapping[str, Any]) -> str:
    made_by = root.get("made_by")
    version = made_by.get("vaprompt") if isinstance(made_by, dict) else None
    return f"use vaprompt {version}, which wrote it, or later" if version else "use the vaprompt that made it"
