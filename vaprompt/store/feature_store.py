"""The feature store: what the frozen encoders made of a data set, as a Zarr v3 group (docs/store-format.md)."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from vaprompt.errors import StoreError
from vaprompt.store.attributes import MADE_AS
from vaprompt.store.beginning import begin, require_made_so
from vaprompt.store.fingerprint import Fingerprint
from vaprompt.store.index import INDEX_FILE, build_index, index_file, other_groups, outdate
from vaprompt.store.layout import (
    ASIDE,
    FAILED,
    GROUP_FILE,
    STREAMS,
    TEXT,
    checked_name,
    digest_of,
    joined,
    place,
    read_attributes,
    writable,
    write_attributes,
    write_file,
)
from vaprompt.store.leases import FAILURES, ROOT, Leases, present
from vaprompt.store.reader import StoreReader
from vaprompt.store.storage import Folder, Storage
from vaprompt.store.streams import checked_stream_name, kind_of
from vaprompt.store.writing import GroupWriter, remove


class FeatureStore(StoreReader):
    """A store. `open` reads one, from a folder or a zip file; `create` begins a folder or goes on with it."""

    def __init__(
        self, storage: Storage, root: Mapping[str, Any], stream: str | None = None, *, copy_of: str | None = None
    ) -> None:
        """Use `open` or `create` instead."""
        super().__init__(storage, root, stream, copy_of=copy_of)
        self._leases: Leases | None = None

    @classmethod
    def create(
        cls,
        path: Path | str,
        *,
        dataset: Mapping[str, Any] | None = None,
        recipe: Mapping[str, Any] | None = None,
        stream: str | None = None,
        fingerprints: Mapping[str, Fingerprint] | None = None,
        copying: bool = False,
    ) -> FeatureStore:
        """Return the store in the folder `path`, beginning one where there is none.

        Args:
            path: the folder, whose parents are made; by convention its name ends in `.zarr`.
            dataset: `name`, `layout` and `faces` of the data set that the store is made of, and `label_range` if any.
            recipe: the resolved extraction recipe; replaces the one kept, which must agree in all that is keyed.
            stream: the name under which the recipe's features are kept, beside those under no name.
            fingerprints: those of the streams (and of `text`), which are begun, or must be the same.
            copying: whether it is to become a copy: if it is begun here, it is none yet for whoever reads.

        Raises:
            TargetError: it cannot be written, or something else is there.
            StoreError: there is a store of another format, a damaged one, or a copy that is not finished; or the name
                cannot be a stream's.
            FingerprintError: the store there was made of another data set, or its streams otherwise.
        """
        path = Path(path)
        if stream is not None:
            checked_stream_name(stream)
        if os.path.exists(path / GROUP_FILE):  # noqa: PTH110 - what cannot be looked at is told of by `begin`
            cls.open(path, copying=copying)  # of this format
        begin(path, dataset=dataset, recipe=recipe, stream=stream, fingerprints=fingerprints or {}, copying=copying)
        return cls.open(path, stream, copying=copying)

    @property
    def path(self) -> Path:
        """The store's folder, to write into.

        Raises:
            StoreError: it is not in a folder, so it can only be read.
        """
        if not isinstance(self._storage, Folder) or self._copy_of is not None:
            raise StoreError(
                str(self.location),
                fault="can only be read",
                remedy="give a folder, or copy it into one with: vaprompt store unpack, or pull",
            )
        return self._storage.location

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
        with present(self.path) as leases:
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
        group = self._group(stream)
        attributes = read_attributes(self._storage, group)
        if attributes is not None:
            require_made_so(place(self._storage, group), attributes, fingerprint)

    def writer(self, stream: str, video: str, fingerprint: Fingerprint) -> GroupWriter:
        """Return the writer of one video's stream; the stream itself is begun if it is not there.

        Raises:
            FingerprintError: the stream was made differently.
            StoreError: the video's name cannot be a folder's.
            TargetError: the store cannot be written.
        """
        self.require(stream, fingerprint)
        place = self._place(stream)
        there = read_attributes(Folder(place))
        # Of the stream's own fingerprint: one that is equal can be written otherwise, as 3 and 3.0.
        made_as = digest_of(fingerprint if there is None else there.get("fingerprint", {}))
        key = f"{place.name}/{checked_name(video, self.path)}"
        if there is None:
            with self.writing() as leases:
                write_attributes(place, {"fingerprint": fingerprint}, aside=self._aside(leases))
        self._markers.pop((stream, video), None)
        self._forget_index()
        return GroupWriter(self.path, key, self._leases, said={MADE_AS: made_as})

    def write_text(self, embeddings: Mapping[str, Float32[np.ndarray, "D"]], fingerprint: Fingerprint) -> None:
        """Add the text embeddings of prompts to those that are there.

        Raises:
            FingerprintError: those that are there were made differently.
            TargetError: the store cannot be written.
        """
        self.require(TEXT, fingerprint)
        together = {**self.text(), **embeddings}
        with GroupWriter(self.path, self._place(TEXT).name, self._leases) as writer:
            writer.append(embedding=np.stack(list(together.values())))
            writer.publish({"fingerprint": fingerprint, "prompts": list(together)})

    def record_failure(self, video: str, reason: str) -> None:
        """Remember that a video could not be extracted, and why.

        Raises:
            TargetError: the store cannot be written.
        """
        place = self._place(FAILED)
        with self.writing() as leases, leases.holding(FAILURES):
            if read_attributes(Folder(place)) is None:
                write_attributes(place, {}, aside=self._aside(leases))
            group = place / checked_name(video, self.path)
            write_attributes(group, {"reason": reason}, aside=self._aside(leases))

    def failure(self, video: str) -> tuple[str, int] | None:
        """Return why a video could not be extracted, and a number that is another whenever that is recorded anew."""
        group = self._place(FAILED) / checked_name(video, self.path)
        attributes = read_attributes(Folder(group))
        with suppress(FileNotFoundError):  # another writer can be forgetting it at this moment
            if attributes is not None:
                return str(attributes.get("reason")), (group / GROUP_FILE).stat().st_mtime_ns
        return None

    def clear_failure(self, video: str) -> None:
        """Forget an earlier failure of a video, if there was one.

        Raises:
            TargetError: the store cannot be written.
        """
        group = self._place(FAILED) / checked_name(video, self.path)
        if group.exists():
            self.remove(group.parent.name, video)

    def mark(self, stream: str, video: str, **changes: Any) -> None:
        """Change attributes of a video's marker, such as `split`, and leave its arrays as they are.

        Raises:
            StoreError: the video's stream is not in the store.
            TargetError: the store cannot be written.
        """
        self.forget(video)
        self._mark(self._group(stream), video, self.marker(stream, video) | changes)

    def move(self, video: str, split: str, *, but: Collection[str] = ()) -> None:
        """Let the markers of what is there of a video, under whatever name it was extracted, say the same split.

        Args:
            video: which.
            split: its split now.
            but: streams that are about to be made anew, and are left as they are.

        Raises:
            TargetError: the store cannot be written.
        """
        left = {self._group(stream) for stream in but}
        for folder in self._storage.folders(""):
            if kind_of(folder) in STREAMS and folder not in left:
                with suppress(StoreError):  # another name's that is damaged must not keep this one's from being made
                    marker = read_attributes(self._storage, joined(folder, video)) or {}
                    if marker.get("status") == "done" and marker.get("split") != split:
                        self._mark(folder, video, {**marker, "split": split})

    def _mark(self, folder: str, video: str, marker: Mapping[str, Any]) -> None:
        with self.writing() as leases:
            # First, so that none is believed if this is killed in between.
            self.remove_index()
            write_attributes(self.path / folder / video, marker, aside=self._aside(leases))
            outdate(self.path / folder)
        self.forget(video)

    def remove(self, stream: str, video: str = "") -> None:
        """Delete a video's group (or the whole of `text`), so that the next extraction makes it again.

        With the last failure goes the list of them, as if there had been none.

        Args:
            stream: the folder, such as `image` or `image.NAME`.
            video: whose group; empty for all of it.

        Raises:
            TargetError: it cannot be deleted.
        """
        group = self.path / stream / checked_name(video, self.path) if video else self.path / stream
        with self.writing() as leases:
            if kind_of(stream) == FAILED:
                with leases.holding(FAILURES):
                    last = self._storage.folders(stream) == [video]
                    remove(self.path / stream if last else group, self._aside(leases))
            else:
                remove(group, self._aside(leases))
        self._markers.clear()
        self._forget_index()

    def remove_index(self) -> None:
        """Delete the index; it is made again by the next extraction."""
        with writable(self.path):
            (self.path / INDEX_FILE).unlink(missing_ok=True)
        self._forget_index()

    def record_maker(self, versions: Mapping[str, str]) -> None:
        """Keep the versions of the programs that wrote last; they are not part of any fingerprint.

        Raises:
            TargetError: the store cannot be written.
        """
        if self._root.get("made_by") == versions:
            return
        with self.writing() as leases, leases.holding(ROOT):
            self._root = {**(read_attributes(Folder(self.path)) or self._root), "made_by": dict(versions)}
            write_attributes(self.path, self._root, aside=self._aside(leases))

    def write_index(self) -> None:
        """Write the index of what is there now, so that the next reader need not look at every video.

        None is kept where it would be too large to be read.

        Raises:
            StoreError: a marker is damaged.
            TargetError: it cannot be written.
        """
        there = self._index()
        if there is None or there.groups != other_groups(self._storage):
            content = index_file(build_index(self._storage))
            if content is None:
                self.remove_index()
            else:
                with self.writing() as leases:
                    write_file(self.path / INDEX_FILE, content, aside=self._aside(leases))

    def _place(self, stream: str) -> Path:
        return self.path / self._group(stream)

    def _aside(self, leases: Leases) -> Path:
        return self.path / ASIDE / leases.writer
