"""The feature store: what the frozen encoders made of a data set, as a Zarr v3 group (docs/store-format.md)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from vaprompt.errors import StoreError
from vaprompt.store.beginning import begin, require_made_so
from vaprompt.store.features import AudioFeatures, ImageFeatures, StoredLabels
from vaprompt.store.fingerprint import Fingerprint
from vaprompt.store.layout import (
    ASIDE,
    FAILED,
    FORMAT,
    GROUP_FILE,
    SPLITS,
    STREAMS,
    TEXT,
    Stream,
    checked_name,
    read_attributes,
    video_folders,
    write_attributes,
)
from vaprompt.store.leases import ROOT, Leases, present
from vaprompt.store.reading import read_array
from vaprompt.store.streams import checked_stream_name, folder_of, named_streams, require_stream
from vaprompt.store.writing import GroupWriter, remove


class FeatureStore:
    """A store on the local disk. `open` reads an existing one; `create` begins one or goes on with it."""

    def __init__(self, path: Path, root: Mapping[str, Any], stream: str | None = None) -> None:
        """Use `open` or `create` instead."""
        self._path, self._root, self._stream = path, dict(root), stream
        self._markers: dict[tuple[str, str], dict[str, Any]] = {}
        self._leases: Leases | None = None

    @classmethod
    def open(cls, path: Path | str, stream: str | None = None) -> FeatureStore:
        """Return the store in the folder `path`.

        Args:
            path: the folder.
            stream: which encoders' features `image`, `audio` and `text` are to be, by the name that they were
                extracted under; None: those extracted under no name.

        Raises:
            StoreError: there is none, it is of another format, its metadata is damaged, or it has no such stream.
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
        if stream is not None:
            require_stream(path, root, stream)
        return cls(path, root, stream)

    @classmethod
    def create(
        cls,
        path: Path | str,
        *,
        dataset: Mapping[str, Any] | None = None,
        recipe: Mapping[str, Any] | None = None,
        stream: str | None = None,
        fingerprints: Mapping[str, Fingerprint] | None = None,
    ) -> FeatureStore:
        """Return the store in the folder `path`, beginning one where there is none.

        Args:
            path: the folder, whose parents are made; by convention its name ends in `.zarr`.
            dataset: `name`, `layout` and `faces` of the data set that the store is made of, and `label_range` if any.
            recipe: the resolved extraction recipe; replaces the one kept, which must agree in all that is keyed.
            stream: the name under which the recipe's features are kept, beside those under no name.
            fingerprints: those of the streams (and of `text`), which are begun, or must be the same.

        Raises:
            TargetError: it cannot be written, or something else is there.
            StoreError: there is a store of another format, or a damaged one; or the name cannot be a stream's.
            FingerprintError: the store there was made of another data set, or its streams otherwise.
        """
        path = Path(path)
        if stream is not None:
            checked_stream_name(stream)
        if read_attributes(path) is not None:
            cls.open(path)  # of this format
        begin(path, dataset=dataset, recipe=recipe, stream=stream, fingerprints=fingerprints or {})
        return cls.open(path, stream)

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
        return tuple(stream for stream in STREAMS if read_attributes(self._place(stream)) is not None)

    def fingerprint(self, stream: str) -> dict[str, Any]:
        """Return everything that determines the values of a stream (or of `text`).

        Raises:
            StoreError: the store has no such stream.
        """
        attributes = read_attributes(self._place(stream))
        if attributes is None:
            raise self._lacks(stream)
        return dict(attributes.get("fingerprint", {}))

    def done(self, stream: str) -> set[str]:
        """Return the videos whose stream is whole.

        Raises:
            StoreError: a marker is damaged.
        """
        return {
            folder.name for folder in video_folders(self._place(stream)) if self._marker_or_none(stream, folder.name)
        }

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
        place = self._place(TEXT)
        attributes = read_attributes(place)
        if attributes is None:
            return {}
        return dict(zip(attributes["prompts"], read_array(place, "embedding", attributes), strict=True))

    def notes(self, video: str) -> list[str]:
        """Return what was remarked while the video was extracted, such as `no audio stream: silence`."""
        markers = [self._marker_or_none(stream, video) for stream in self.streams]
        return list(dict.fromkeys(note for marker in markers if marker for note in marker.get("notes", ())))

    def failed(self) -> dict[str, str]:
        """Return the videos that could not be extracted, with the reason."""
        folders = video_folders(self._place(FAILED))
        found = {folder.name: read_attributes(folder) for folder in folders}
        return {video: str(attributes["reason"]) for video, attributes in found.items() if attributes is not None}

    def info(self) -> dict[str, Any]:
        """Return what is in the store and what made it, as plain JSON; hours are those of the videos' frames."""
        streams: dict[str, Any] = {}
        failed: dict[str, str] = {}
        for name in (None, *sorted(named_streams(self._root))):
            view = FeatureStore(self._path, self._root, name)
            failed |= {video if name is None else f"{video}, {name}": why for video, why in view.failed().items()}
            for stream in view.streams:
                if view._place(stream).name not in streams:
                    markers = [view.marker(stream, video) for video in sorted(view.done(stream))]
                    streams[view._place(stream).name] = {
                        "videos": len(markers),
                        "bytes": sum(facts["bytes"] for marker in markers for facts in marker["files"].values()),
                        "fingerprint": view.fingerprint(stream),
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
            "names": {name: about["recipe"] for name, about in sorted(named_streams(self._root).items())},
            "prompts": len((read_attributes(self._place(TEXT)) or {}).get("prompts", ())),
            "failed": failed,
            "bytes": sum(facts["bytes"] for facts in streams.values()),
        }

    @contextmanager
    def writing(self) -> Iterator[Leases]:
        """Be one of the store's writers while the block runs, with leases on what is worked on.

        What dead writers left half-written is cleared away. Inside another such block, it is that one's writer.

        Raises:
            TargetError: the store cannot be written.
        """
        if self._leases is not None:
            yield self._leases
            return
        with present(self._path) as leases:
            self._leases = leases
            try:
                yield leases
            finally:
                self._leases = None

    def require(self, stream: str, fingerprint: Fingerprint) -> None:
        """Check that a stream (or `text`), if it is there, has this fingerprint.

        Raises:
            FingerprintError: it has another one; the fields that differ are listed.
        """
        attributes = read_attributes(self._place(stream))
        if attributes is not None:
            require_made_so(self._place(stream), attributes, fingerprint)

    def writer(self, stream: str, video: str, fingerprint: Fingerprint) -> GroupWriter:
        """Return the writer of one video's stream; the stream itself is begun if it is not there.

        Raises:
            FingerprintError: the stream was made differently.
            StoreError: the video's name cannot be a folder's.
            TargetError: the store cannot be written.
        """
        self.require(stream, fingerprint)
        place = self._place(stream)
        writer = GroupWriter(self._path, f"{place.name}/{checked_name(video, self._path)}", self._leases)
        if read_attributes(place) is None:
            write_attributes(place, {"fingerprint": fingerprint})
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
        with GroupWriter(self._path, self._place(TEXT).name, self._leases) as writer:
            writer.append(embedding=np.stack(list(together.values())))
            writer.publish({"fingerprint": fingerprint, "prompts": list(together)})

    def record_failure(self, video: str, reason: str) -> None:
        """Remember that a video could not be extracted, and why.

        Raises:
            TargetError: the store cannot be written.
        """
        place = self._place(FAILED)
        with self.writing() as leases:
            if read_attributes(place) is None:
                write_attributes(place, {}, aside=self._aside(leases))
            group = place / checked_name(video, self._path)
            write_attributes(group, {"reason": reason}, aside=self._aside(leases))

    def failure(self, video: str) -> tuple[str, int] | None:
        """Return why a video could not be extracted, and a number that is another whenever that is recorded anew."""
        group = self._place(FAILED) / checked_name(video, self._path)
        attributes = read_attributes(group)
        with suppress(FileNotFoundError):  # another writer can be forgetting it at this moment
            if attributes is not None:
                return str(attributes.get("reason")), (group / GROUP_FILE).stat().st_mtime_ns
        return None

    def clear_failure(self, video: str) -> None:
        """Forget an earlier failure of a video, if there was one.

        Raises:
            TargetError: the store cannot be written.
        """
        group = self._place(FAILED) / checked_name(video, self._path)
        if group.exists():
            with self.writing() as leases:
                remove(group, self._aside(leases))

    def mark(self, stream: str, video: str, **changes: Any) -> None:
        """Change attributes of a video's marker, such as `split`, and leave its arrays as they are.

        Raises:
            StoreError: the video's stream is not in the store.
            TargetError: the store cannot be written.
        """
        self.forget(video)
        marker = self.marker(stream, video) | changes
        with self.writing() as leases:
            write_attributes(self._place(stream) / video, marker, aside=self._aside(leases))
        self.forget(video)

    def forget(self, video: str) -> None:
        """Read a video's markers anew when they are next asked for, as another writer may have made them."""
        for stream in STREAMS:
            self._markers.pop((stream, video), None)

    def record_maker(self, versions: Mapping[str, str]) -> None:
        """Keep the versions of the programs that wrote last; they are not part of any fingerprint.

        Raises:
            TargetError: the store cannot be written.
        """
        if self._root.get("made_by") == versions:
            return
        with self.writing() as leases, leases.holding(ROOT):
            self._root = {**(read_attributes(self._path) or self._root), "made_by": dict(versions)}
            write_attributes(self._path, self._root, aside=self._aside(leases))

    def _place(self, stream: str) -> Path:
        return self._path / folder_of(stream, self._stream, self._root)

    def _aside(self, leases: Leases) -> Path:
        return self._path / ASIDE / leases.writer

    def _lacks(self, stream: str) -> StoreError:
        named = ", ".join(sorted(named_streams(self._root)))
        if self._stream is None and named:
            return StoreError(
                self._path,
                fault=f"has no {stream} that was extracted under no name; the names that it has: {named}",
                remedy=f"choose one, as in --set stream={min(named_streams(self._root))}",
            )
        return StoreError(self._path, fault=f"has no stream '{stream}'", remedy="extract it first")

    def _arrays(self, stream: str, video: str, names: tuple[str, ...]) -> list[np.ndarray]:
        marker = self.marker(stream, video)
        return [read_array(self._place(stream) / video, name, marker) for name in names]

    def _marker_or_none(self, stream: str, video: str) -> dict[str, Any] | None:
        key = (stream, checked_name(video, self._path))
        if key not in self._markers:
            found = read_attributes(self._place(stream) / video)
            if found is None or found.get("status") != "done":
                return None
            self._markers[key] = found
        return self._markers[key]
