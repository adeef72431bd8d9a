"""Reading a feature store, wherever it lies (docs/store-format.md); `FeatureStore` writes as well."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Float16, Float32, Float64, Int32

from vaprompt.errors import NoStoreError, StoreError
from vaprompt.store.content import ARRAYS, EMBEDDING, content_faults
from vaprompt.store.features import AudioFeatures, ImageFeatures, StoredLabels
from vaprompt.store.groups import Group
from vaprompt.store.layout import (
    GROUP_FILE,
    STREAMS,
    TEXT,
    UNFINISHED,
    damaged,
    joined,
    read_attributes,
    require_format,
)
from vaprompt.store.listing import StoreListing
from vaprompt.store.reading import read_array, read_form, read_pieces
from vaprompt.store.storage import Storage, open_storage
from vaprompt.store.streams import require_stream
from vaprompt.store.urls import shown

_HOW_TO_GET_ONE = "check the path, or make one with: vaprompt extract DATA --store STORE"

Reader = TypeVar("Reader", bound="StoreReader")


class StoreReader(StoreListing):
    """A store in a folder, packed into a zip file, or behind a URL."""

    @classmethod
    def open(cls: type[Reader], location: Path | str, stream: str | None = None, *, copying: bool = False) -> Reader:
        """Return the store at `location`.

        Args:
            location: its folder, zip file or URL.
            stream: which encoders' features `image`, `audio` and `text` are to be, by the name that they were
                extracted under; None: those extracted under no name.
            copying: whether whoever asks is to finish the copy that it is.

        Raises:
            StoreError: there is none, it is of another format, its metadata is damaged, it has no such stream, or it is
                a copy that is not finished.
        """
        storage = open_storage(location)
        if storage is None:
            raise NoStoreError(shown(str(location)), fault="there is no feature store", remedy=_HOW_TO_GET_ONE)
        return cls.from_storage(storage, stream, copying=copying)

    @classmethod
    def from_storage(
        cls: type[Reader],
        storage: Storage,
        stream: str | None = None,
        *,
        copy_of: str | None = None,
        copying: bool = False,
    ) -> Reader:
        """Return the store whose files these are; else as `open`.

        `copy_of` is the URL that users know it by, where it is a copy in the cache.
        """
        root = read_attributes(storage)
        if root is None and storage.size(UNFINISHED) is not None:
            fault = "holds no feature store yet, as copying it was not finished"
            raise StoreError(str(storage.location), fault=fault, remedy="run the command again that copied it")
        if root is None:
            if any(storage.size(joined(stream, GROUP_FILE)) is not None for stream in STREAMS):
                fault = f"lacks the {GROUP_FILE} that makes it a feature store, as where a copy was cut short"
                raise StoreError(str(storage.location), fault=fault, remedy="copy it again, with all its files")
            raise StoreError(str(storage.location), fault="holds no feature store", remedy=_HOW_TO_GET_ONE)
        require_format(storage.location, root)
        # Only a folder is copied group by group; for whatever else it would be one more request.
        if not copying and storage.stamp("") and storage.size(UNFINISHED) is not None:
            fault = "is not whole, as copying or pulling it was not finished"
            raise StoreError(str(storage.location), fault=fault, remedy="run the command again that copied it")
        if stream is not None:
            require_stream(storage.location, root, stream, lambda: cls(storage, root, copy_of=copy_of).streams)
        return cls(storage, root, stream, copy_of=copy_of)

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

    def embedding_shape(self, stream: str, video: str) -> tuple[int, ...]:
        """Return the shape of a video's embeddings, rows first.

        Raises:
            StoreError: they are not in the store, or damaged.
        """
        group = joined(self._group(stream), video)
        return read_form(self._storage, group, "embedding", self.marker(stream, video)).shape

    def embedding_pieces(self, stream: str, video: str) -> Iterator[Float16[np.ndarray, "_ ..."]]:
        """Yield a video's embeddings some rows at a time, in order.

        Raises:
            StoreError: they are not in the store, or damaged.
        """
        with self._reading(stream, video) as group:
            form = read_form(self._storage, group.key, "embedding", group.attributes)
            yield from read_pieces(self._storage, group.key, "embedding", group.attributes, form)

    def image_times(self, video: str) -> tuple[Int32[np.ndarray, "N"], Float64[np.ndarray, "N"]]:
        """Return which frames (from 1) a video's image embeddings are of, and their times, without the embeddings.

        Raises:
            StoreError: the video's stream is not in the store, or damaged.
        """
        frame_N, time_N = self._arrays("image", video, ("frame", "time"))
        return frame_N, time_N

    def audio_ends(self, video: str) -> Float64[np.ndarray, "W"]:
        """Return when a video's cached windows of sound end, without their embeddings.

        Raises:
            StoreError: the video's stream is not in the store, or damaged.
        """
        (end_W,) = self._arrays("audio", video, ("end",))
        return end_W

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
        return read_text(self._storage, self._group(TEXT))

    def _arrays(self, stream: str, video: str, names: tuple[str, ...]) -> list[np.ndarray]:
        with self._reading(stream, video) as group:
            arrays = {name: read_array(self._storage, group.key, name, group.attributes) for name in names}
            self._require_sense(stream, group.key, group.attributes, arrays)
        return list(arrays.values())

    @contextmanager
    def _reading(self, stream: str, video: str) -> Iterator[Group]:
        """Yield a video's group to read from while the block runs.

        Raises:
            StoreError: it is not in the store; or somebody made it anew since its marker was read, and so files may be
                of a state that the marker, by which a cache or another stream of the video is chosen, does not tell of.
        """
        group = Group(self._storage, joined(self._group(stream), video), self.marker(stream, video))
        try:
            yield group
        except StoreError:
            group.require_unchanged()
            raise
        if self._storage.stamp(""):  # elsewhere nothing is replaced by a rename
            group.require_unchanged()

    def _require_sense(
        self, stream: str, group: str, marker: Mapping[str, Any], arrays: Mapping[str, np.ndarray]
    ) -> None:
        """Check what digests do not tell of arrays: their types, and that times and counts can be what they say.

        Raises:
            StoreError: they cannot.
        """
        for name, values in arrays.items():
            dtype, dimensions = ARRAYS[stream][name]
            if (values.dtype.name, values.ndim) != (dtype, dimensions):
                fault = f"is {values.dtype.name} in {values.ndim} dimensions and not {dtype} in {dimensions}"
                raise damaged(self._storage, joined(group, name), fault, group)
        small = {name: values for name, values in arrays.items() if name != EMBEDDING}
        if len({len(values) for values in arrays.values()}) > 1:
            lengths = ", ".join(f"{name} {len(values)}" for name, values in arrays.items())
            raise damaged(self._storage, group, f"has arrays of {lengths} rows", group)
        for name, fault in content_faults(stream, marker, small):
            raise damaged(self._storage, joined(group, name), fault, group)


def read_text(storage: Storage, group: str) -> dict[str, Float32[np.ndarray, "D"]]:
    """Return the embedding of each prompt in a group such as `text` or `text.NAME`; see `StoreReader.text`."""
    attributes = read_attributes(storage, group)
    if attributes is None:
        return {}
    embedding_PD = read_array(storage, group, "embedding", attributes)
    prompts = attributes.get("prompts")
    if not isinstance(prompts, list) or len(prompts) != len(embedding_PD) or embedding_PD.ndim != 2:
        raise damaged(storage, group, "does not have an embedding for each of its prompts", group)
    return dict(zip(map(str, prompts), embedding_PD, strict=True))
