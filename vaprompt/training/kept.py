"""A store's features joined in files that can be mapped into memory, so that a training begins at once.

A store keeps each video's features apart, in pieces with checksums, to be shared and verified. Training wants all
videos' rows behind each other. They are joined once and kept in the cache folder under the digests of what they were
made of; several processes that map a file share its memory, and what does not fit is read again when it is needed.

Axes: N rows of all videos, V videos.
"""

from __future__ import annotations

import hashlib
import json
import math
import mmap
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, Literal

import numpy as np
import torch
from jaxtyping import Float16
from safetensors import SafetensorError
from safetensors.numpy import load_file
from torch import Tensor

from vaprompt.caching import cache_folder
from vaprompt.errors import StoreError, TargetError
from vaprompt.memory import is_lack_of_memory
from vaprompt.progress import SILENT, Task
from vaprompt.store import FeatureStore
from vaprompt.store.layout import digest_of
from vaprompt.tensors import write_tensors
from vaprompt.training.coming import LEAST_READERS, Coming
from vaprompt.training.keeping import Aside, Keeping
from vaprompt.training.room import OTHER_CACHE, locked, megabytes, reserve, room_lacking
from vaprompt.training.usable import require_finite

FORM = 1
"""Of the files; part of what they are kept under."""
EMBEDDING, ROWS = "embedding.f16", "rows.safetensors"
LEAST = 2**25
"""Bytes of embeddings below which those of few videos are not kept: reading them is a matter of moments."""
MANY = 64
"""Videos of which all is kept, labels too: each costs a millisecond or two to read, however short it is."""
UNRESERVED = 0x4000 if sys.platform == "linux" else 0
"""Linux's MAP_NORESERVE, which this Python has no name for."""

Kind = Literal["image", "audio", "labels"]
ROW_ARRAYS: Mapping[Kind, tuple[str, ...]] = {
    "image": ("frame", "time"),
    "audio": ("end",),
    "labels": ("value", "valid", "time"),
}
"""What is kept beside the embeddings of each row; labels have no embeddings."""


@dataclass(frozen=True)
class Joined:
    """One stream of all videos, one behind the other."""

    embedding: Float16[Tensor, "N ..."] | None
    """None for labels."""
    rows: Mapping[str, np.ndarray]
    """Arrays by name, each with N rows."""
    begin_V: np.ndarray
    """Where each video's rows begin."""
    count_V: np.ndarray
    mapped: mmap.mmap | None
    """The file behind the embeddings; None where they lie in memory of their own."""
    coming: Coming | None = None
    """Brings the embeddings that are not there, once it is started; None where all are."""

    def of(self, video: int) -> dict[str, np.ndarray]:
        """Return one video's arrays."""
        place = slice(int(self.begin_V[video]), int(self.begin_V[video] + self.count_V[video]))
        return {name: array[place] for name, array in self.rows.items()}


def joined(
    store: FeatureStore,
    kind: Kind,
    videos: Sequence[str],
    task: Task,
    keeping: Keeping,
    most: int | None = None,
    *,
    wait: bool = True,
    say: Callable[[str], None] = SILENT.say,
) -> Joined:
    """Return a stream of videos, from the cache if it is there, else read and, where there is room, kept there.

    Args:
        store: where from.
        kind: which stream.
        videos: which, in this order.
        task: told of each video, as it is read, or of all at once.
        keeping: takes what is to be kept.
        most: bytes that may lie in memory if it cannot be kept; None: all.
        wait: whether to return only once all embeddings are there, and not when they are `coming`.
        say: is told where another one is waited for that reads the same.

    Raises:
        StoreError: a video is not in the store, damaged, or has features that are not finite.
        TargetError: it is more than `most`, and cannot be kept.
        OptionError: VAPROMPT_CACHE_LIMIT is no size.
    """
    about = {"form": FORM, "kind": kind, "videos": [[name, digest_of(store.marker(kind, name))] for name in videos]}
    folder = cache_folder() / "features" / hashlib.sha256(json.dumps(about).encode()).hexdigest()[:32]
    there, read = _mapped(folder), False
    if there is None:
        shapes = [store.embedding_shape(kind, name) for name in videos] if kind != "labels" else []
        nbytes = 2 * sum(math.prod(shape) for shape in shapes)
        too_many = most is not None and nbytes > most
        # Pages that a limit lets go are read from the file again: all of them must have come to lie there.
        wanted = _Wanted(store, kind, videos, shapes, task, wait or most is not None)
        _require_alike(wanted)
        lock = locked(folder, say) if nbytes >= LEAST or len(videos) >= MANY or too_many else None
        if lock is None:
            if too_many:
                raise _pass(kind, nbytes, folder.parent, ("it cannot be written", OTHER_CACHE))
            return _in_memory(wanted)
        with ExitStack() as unlocking:
            unlocking.enter_context(lock)
            there, hindrance = _mapped(folder), None
            if there is None:
                try:
                    hindrance = room_lacking(folder.parent, nbytes)
                    if hindrance is None:
                        there, aside = _filled(folder, wanted)
                        read = True
                        aside.open.enter_context(unlocking.pop_all())
                        keeping.add(aside)
                except OSError as error:  # of the cache: the store has errors of its own
                    if is_lack_of_memory(error):
                        raise
                    hindrance = f"writing it failed ({error})", OTHER_CACHE
            if hindrance is not None:
                if too_many:
                    raise _pass(kind, nbytes, folder.parent, hindrance)
                return _in_memory(wanted)
            if there is None:
                raise RuntimeError(f"{folder}: what was written is not whole")
    # Each was told as it was read, if it was read now.
    task.advance(0 if read else len(videos), f"{kind} from {folder}")
    return there


@dataclass(frozen=True)
class _Wanted:
    """What is to be read of a store."""

    store: FeatureStore
    kind: Kind
    videos: Sequence[str]
    shapes: Sequence[tuple[int, ...]]
    """Of the videos' embeddings; none for labels."""
    task: Task
    wait: bool
    """Whether nothing may be coming any more when it is returned."""
    told: list[str] = field(default_factory=list)

    def tell(self, name: str) -> None:
        """Tell of a video that is read."""
        self.told.append(name)
        self.task.advance(1, name)

    def take_back(self) -> None:
        """Tell of none so far."""
        self.task.advance(-len(self.told))
        self.told.clear()

    @property
    def shape(self) -> tuple[int, ...]:
        """Of all embeddings, one behind the other."""
        return (sum(shape[0] for shape in self.shapes), *self.shapes[0][1:]) if self.shapes else ()


def _mapped(folder: Path) -> Joined | None:
    """Return what is kept in a folder; None where there is nothing whole."""
    try:
        rows = load_file(folder / ROWS)
        begin_V, count_V, shape = rows.pop("begin"), rows.pop("count"), tuple(rows.pop("shape").tolist())
        with suppress(OSError):  # in a cache that is another user's, or that may only be read
            os.utime(folder)
        if not shape:
            return Joined(None, rows, begin_V, count_V, None)
        with (folder / EMBEDDING).open("rb") as file:
            if os.fstat(file.fileno()).st_size != 2 * math.prod(shape):
                return None
            embedding, content = _map(file, shape)
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        if is_lack_of_memory(error):
            raise
        return None
    return Joined(embedding, rows, begin_V, count_V, content)


def _map(file: IO[bytes], shape: tuple[int, ...]) -> tuple[Float16[Tensor, "N ..."], mmap.mmap]:
    """Return a file's content as embeddings of a shape, and the map that they lie in."""
    # A private map: a tensor wants to be writable, though nothing writes, and the file would not change. No memory is
    # set aside for that, or what is larger than the memory could not be mapped.
    flags, writable = mmap.MAP_PRIVATE | UNRESERVED, mmap.PROT_READ | mmap.PROT_WRITE
    content = mmap.mmap(file.fileno(), 0, flags=flags, prot=writable)
    return torch.frombuffer(content, dtype=torch.float16).view(shape), content


def _filled(folder: Path, wanted: _Wanted) -> tuple[Joined, Aside]:
    """Return what is read, or being read, into a folder beside the one that it is to be kept in.

    Raises:
        OSError: it cannot be written, as when the disk is full.
    """
    aside = Aside(folder.with_name(f".{folder.name}.{os.getpid()}.partial"), folder, ExitStack())
    aside.path.mkdir(exist_ok=True)
    embedding = content = None

    def put(offset: int, piece: np.ndarray) -> None:
        try:
            _write_at(file.fileno(), offset, piece)
        except OSError:
            if wanted.wait:
                raise
            aside.spoiled = True
        # The map is this process's own: what is put there reaches no file. A page that two videos share is whole,
        # as whoever puts something there has this one's bytes before it or finds it spoiled.
        if aside.spoiled and embedding is not None:
            _put(embedding, offset, piece)

    try:
        file = aside.open.enter_context((aside.path / EMBEDDING).open("wb+", buffering=0))  # empty for labels
        if shape := wanted.shape:
            file.truncate(2 * math.prod(shape))
            reserve(file.fileno(), 2 * math.prod(shape))
            embedding, content = _map(file, shape)
        rows, aside.coming = _read(wanted, put if shape else None)
        write_tensors(aside.path / ROWS, rows | {"shape": np.array(shape, np.int64)})
    except BaseException:
        aside.delete()
        wanted.take_back()  # who reads them once more tells of them, too
        raise
    return Joined(embedding, rows, rows.pop("begin"), rows.pop("count"), content, aside.coming), aside


def _write_at(file: int, offset: int, piece: np.ndarray) -> None:
    rest = np.ascontiguousarray(piece).reshape(-1).view(np.uint8)
    while rest.size:
        written = os.pwrite(file, rest.data, offset)
        rest, offset = rest[written:], offset + written


def _in_memory(wanted: _Wanted) -> Joined:
    embedding = torch.empty(wanted.shape, dtype=torch.float16) if wanted.shapes else None
    rows, coming = _read(wanted, None if embedding is None else partial(_put, embedding))
    return Joined(embedding, rows, rows.pop("begin"), rows.pop("count"), None, coming)


def _put(embedding: Float16[Tensor, "N ..."], offset: int, piece: np.ndarray) -> None:
    flat = embedding.numpy().reshape(-1).view(np.uint8)
    flat[offset : offset + piece.nbytes] = np.ascontiguousarray(piece).reshape(-1).view(np.uint8)


def _read(
    wanted: _Wanted, put: Callable[[int, np.ndarray], None] | None
) -> tuple[dict[str, np.ndarray], Coming | None]:
    """Read all videos, several at once; return the rows' arrays, with `begin` and `count`, and what is still coming."""
    store, kind, videos = wanted.store, wanted.kind, wanted.videos
    begin_V = np.cumsum([0] + [shape[0] for shape in wanted.shapes])[:-1]

    def read_embeddings(number: int) -> None:
        assert put is not None
        name, width = videos[number], math.prod(wanted.shapes[number][1:])
        row = 0
        for piece in store.embedding_pieces(kind, name):
            if coming is not None:
                coming.require_wanted()
            require_finite(store, kind, name, piece, row)
            put(2 * width * (int(begin_V[number]) + row), piece)
            row += len(piece)
        if wanted.wait:
            wanted.tell(name)

    def read_rows(name: str) -> dict[str, np.ndarray]:
        found = _row_arrays(store, kind, name)
        if coming is None or not wanted.wait:
            wanted.tell(name)
        return found

    coming = None if put is None else Coming(read_embeddings, begin_V)
    try:
        if coming is not None and wanted.wait:
            coming.start()
        with ThreadPoolExecutor(LEAST_READERS) as readers:
            parts = list(readers.map(read_rows, videos))
        if coming is not None and wanted.wait:
            coming.wait()
    except BaseException:
        if coming is not None:
            coming.stop()
        raise
    count_V = np.array([len(part[ROW_ARRAYS[kind][0]]) for part in parts], np.int64)
    rows = {name: np.concatenate([part[name] for part in parts]) for name in ROW_ARRAYS[kind]}
    return rows | {"begin": np.cumsum(count_V) - count_V, "count": count_V}, None if wanted.wait else coming


def _row_arrays(store: FeatureStore, kind: Kind, name: str) -> dict[str, np.ndarray]:
    if kind == "image":
        frame_N, time_N = store.image_times(name)
        return {"frame": frame_N, "time": time_N}
    if kind == "audio":
        return {"end": store.audio_ends(name)}
    labels = store.labels(name)
    return {"value": labels.value_F2, "valid": labels.valid_F, "time": labels.time_F}


def _require_alike(wanted: _Wanted) -> None:
    """Refuse embeddings that cannot stand behind each other.

    Raises:
        StoreError: two videos' are not of one size.
    """
    for name, shape in zip(wanted.videos, wanted.shapes, strict=False):
        if shape[1:] != wanted.shapes[0][1:]:
            raise StoreError(
                wanted.store.location,
                fault=f"{wanted.kind}/{name} has embeddings of another size than {wanted.kind}/{wanted.videos[0]}",
                remedy="extract that video again",
            )


def _pass(kind: Kind, nbytes: int, folder: Path, hindrance: tuple[str, str]) -> TargetError:
    """Return what to say of features that may not lie in memory, and nowhere else either."""
    why, remedy = hindrance
    fault = f"{megabytes(nbytes)} of {kind} features pass --memory, and cannot be read from here either: {why}"
    return TargetError(folder, fault=fault, remedy=remedy)
