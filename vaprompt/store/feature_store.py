"""The feature store: what the frozen encoders made of a data set, as a Zarr v3 group (docs/store-format.md)."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from vaprompt.errors import StoreError, TargetError
from vaprompt.store.features import AudioFeatures, ImageFeatures, StoredLabels
from vaprompt.store.fingerprint import Fingerprint, require_equal
from vaprompt.store.layout import (
    FAILED,
    FORMAT,
    SPLITS,
    STREAMS,
    TEXT,
    Stream,
    checked_name,
    read_attributes,
    video_folders,
    writable,
    write_attributes,
)
from vaprompt.store.reading import read_array
from vaprompt.store.writing import GroupWriter, exclusive, remove, video_writer


class FeatureStore:
    """A store on the local disk. `open` reads an existing one; `create` begins one or goes on with it."""

    def __init__(self, path: Path, root: Mapping[str, Any]) -> None:
        """Use `open` or `create` instead."""
        self._path, self._root = path, dict(root)
        self._markers: dict[tuple[str, str], dict[str, Any]] = {}

    @classmethod
    def open(cls, path: Path | str) -> FeatureStore:
        """Return the store in the folder `path`.

        Raises:
            StoreError: there is none, it is of another format, or its metadata is damaged.
        """
        path = Path(path)
        root = read_attributes(path)
        if root is None:
            fault = "is a folder, but not a feature store" if path.is_dir() else "there is no feature store"
            raise StoreError(
                path, fault=fault, remedy="check the path, or make one with: vaprompt extract DATA --store STORE"
            )
        if root.get("format") != FORMAT:
            raise StoreError(
                path,
                fault=f"has format {root.get('format', 'of another program')}, this program reads format {FORMAT}",
                remedy="use the version of vaprompt that made it, or extract again",
            )
        return cls(path, root)

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
        if read_attributes(path) is not None:
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
        store = cls(path, {})
        store._set_root(format=FORMAT, dataset=dict(dataset or {}), recipe=dict(recipe or {}))
        return store

    @property
    def path(self) -> Path:
        """The store's folder."""
        return self._path

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
        return tuple(stream for stream in STREAMS if read_attributes(self._path / stream) is not None)

    def fingerprint(self, stream: str) -> dict[str, Any]:
        """Return everything that determines the values of a stream (or of `text`).

        Raises:
            StoreError: the store has no such stream.
        """
        attributes = read_attributes(self._path / stream)
        if attributes is None:
            raise StoreError(self._path, fault=f"has no stream '{stream}'", remedy="extract it first")
        return dict(attributes.get("fingerprint", {}))

    def done(self, stream: str) -> set[str]:
        """Return the videos whose stream is whole.

        Raises:
            StoreError: a marker is damaged.
        """
        return {
            folder.name for folder in video_folders(self._path / stream) if self._marker_or_none(stream, folder.name)
        }

    def videos(self, split: str | None = None) -> list[str]:
        """Return the videos that are whole in all streams of the store, sorted; of one split, if given."""
        done = [self.done(stream) for stream in self.streams]
        names = sorted(set.intersection(*done)) if done else []
        return names if split is None else [name for name in names if self.split(name) == split]

    def split(self, video: str) -> str:
        """Return `train`, `validation` or `test`."""
        return str(self.marker("labels", video)["split"])

    def marker(self, stream: str, video: str) -> dict[str, Any]:
        """Return the attributes of one video's group: status, split, source, counts, notes, and every file's digest.

        Raises:
            StoreError: the video's stream is not in the store, or its marker is damaged.
        """
        found = self._marker_or_none(stream, video)
        if found is None:
            raise StoreError(self._path, fault=f"has no {stream} of video '{video}'", remedy="run extract again")
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
        attributes = read_attributes(self._path / TEXT)
        if attributes is None:
            return {}
        return dict(zip(attributes["prompts"], read_array(self._path / TEXT, "embedding", attributes), strict=True))

    def notes(self, video: str) -> list[str]:
        """Return what was remarked while the video was extracted, such as `no audio stream: silence`."""
        markers = [self._marker_or_none(stream, video) for stream in self.streams]
        return list(dict.fromkeys(note for marker in markers if marker for note in marker.get("notes", ())))

    def failed(self) -> dict[str, str]:
        """Return the videos that could not be extracted, with the reason."""
        folders = video_folders(self._path / FAILED)
        found = {folder.name: read_attributes(folder) for folder in folders}
        return {video: str(attributes["reason"]) for video, attributes in found.items() if attributes is not None}

    def info(self) -> dict[str, Any]:
        """Return what is in the store and what made it, as plain JSON; hours are those of the videos' frames."""
        streams: dict[str, Any] = {}
        for stream in self.streams:
            markers = [self.marker(stream, video) for video in sorted(self.done(stream))]
            streams[stream] = {
                "videos": len(markers),
                "bytes": sum(facts["bytes"] for marker in markers for facts in marker["files"].values()),
                "fingerprint": self.fingerprint(stream),
            }
        splits: dict[str, Any] = {}
        for split in SPLITS:
            counts = [self.marker("labels", video)["counts"] for video in self.videos(split)]
            splits[split] = {
                "videos": len(counts),
                "frames": sum(count["frames"] for count in counts),
                "valid": sum(count["valid"] for count in counts),
                "hours": sum(count["seconds"] for count in counts) / 3600,
            }
        return {
            "format": FORMAT,
            "dataset": self.dataset,
            "recipe": self.recipe,
            "made_by": dict(self._root.get("made_by", {})),
            "streams": streams,
            "splits": splits,
            "prompts": len((read_attributes(self._path / TEXT) or {}).get("prompts", ())),
            "failed": self.failed(),
            "bytes": sum(facts["bytes"] for facts in streams.values()),
        }

    def exclusive(self) -> AbstractContextManager[None]:
        """Hold the store against a second writer, and clear away what a killed one left half-written.

        Raises:
            StoreError: another process is writing into it.
            TargetError: it cannot be written.
        """
        return exclusive(self._path)

    def require(self, stream: str, fingerprint: Fingerprint) -> None:
        """Check that a stream (or `text`), if it is there, has this fingerprint.

        Raises:
            FingerprintError: it has another one; the fields that differ are listed.
        """
        attributes = read_attributes(self._path / stream)
        if attributes is not None:
            require_equal(
                attributes.get("fingerprint", {}),
                fingerprint,
                where=self._path / stream,
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
        writer = video_writer(self._path, stream, video)
        if read_attributes(self._path / stream) is None:
            write_attributes(self._path / stream, {"fingerprint": fingerprint})
        self._markers.pop((stream, video), None)
        return writer

    def write_text(self, embeddings: Mapping[str, Float32[np.ndarray, "D"]], fingerprint: Fingerprint) -> None:
        """Add the text embeddings of prompts to those that are there.

        Raises:
            FingerprintError: those that are there were made differently.
            TargetError: the store cannot be written.
        """
        self.require(TEXT, fingerprint)
        together = {**self.text(), **embeddings}
        with GroupWriter(self._path, TEXT) as writer:
            writer.append(embedding=np.stack(list(together.values())))
            writer.publish({"fingerprint": fingerprint, "prompts": list(together)})

    def record_failure(self, video: str, reason: str) -> None:
        """Remember that a video could not be extracted, and why.

        Raises:
            TargetError: the store cannot be written.
        """
        write_attributes(self._path / FAILED, {})
        write_attributes(self._path / FAILED / checked_name(video, self._path), {"reason": reason})

    def clear_failure(self, video: str) -> None:
        """Forget an earlier failure of a video, if there was one."""
        remove(self._path / FAILED / checked_name(video, self._path))

    def record_maker(self, versions: Mapping[str, str]) -> None:
        """Keep the versions of the programs that wrote last; they are not part of any fingerprint."""
        if self._root.get("made_by") != versions:
            self._set_root(made_by=dict(versions))

    def forget(self, video: str) -> None:
        """Read a video's markers again when they are next asked for: they may have changed."""
        for stream in STREAMS:
            self._markers.pop((stream, video), None)

    def _set_root(self, **changes: Any) -> None:
        self._root.update(changes)
        write_attributes(self._path, self._root)

    def _arrays(self, stream: str, video: str, names: tuple[str, ...]) -> list[np.ndarray]:
        marker = self.marker(stream, video)
        return [read_array(self._path / stream / video, name, marker) for name in names]

    def _marker_or_none(self, stream: str, video: str) -> dict[str, Any] | None:
        key = (stream, checked_name(video, self._path))
        if key not in self._markers:
            found = read_attributes(self._path / stream / video)
            if found is None or found.get("status") != "done":
                return None
            self._markers[key] = found
        return self._markers[key]
