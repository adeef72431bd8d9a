"""A store's features joined in files that can be mapped into memory, so that a training begins at once.

A store keeps each video's features apart, in pieces with checksums, to be shared and verified. Training wants all
videos' rows behind each other. They are joined once and kept in the cache folder under the digests of what they were
made of; several processes that map a file share its memory, and what does not fit is read again when it is needed.

Axes: N rows of all videos, V videos.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import math
import mmap
import os
import shutil
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Literal

import numpy as np
import torch
from jaxtyping import Float16
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from torch import Tensor

from vaprompt.caching import cache_folder
from vaprompt.errors import StoreError, TargetError
from vaprompt.memory import is_lack_of_memory
from vaprompt.progress import Task
from vaprompt.sizes import parse_size
from vaprompt.store import FeatureStore
from vaprompt.store.layout import digest_of
from vaprompt.training.usable import require_finite

FORM = 1
"""Of the files; part of what they are kept under."""
EMBEDDING, ROWS = "embedding.f16", "rows.safetensors"
SPARE = 2**30
"""Bytes that are left free on the cache's disk."""
LEAST = 2**25
"""Bytes of embeddings below which those of few videos are not kept: reading them is a matter of moments."""
MANY = 64
"""Videos of which all is kept, labels too: each costs a millisecond or two to read, however short it is."""
LEAST_READERS = 4
"""Threads that read videos."""
LIMIT_VARIABLE = "VAPROMPT_CACHE_LIMIT"
LIMIT = 64 * 10**9
"""Bytes of joined features that are kept, if the variable says nothing else; those used longest ago go first."""
OTHER_CACHE = "let VAPROMPT_CACHE name a folder on a disk with room, or leave --memory out"
UNRESERVED = 0x4000 if sys.platform == "linux" else 0
"""Linux's MAP_NORESERVE, which this Python has no name for."""

_PUBLISHING: list[threading.Thread] = []

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

    def of(self, video: int) -> dict[str, np.ndarray]:
        """Return one video's arrays."""
        place = slice(int(self.begin_V[video]), int(self.begin_V[video] + self.count_V[video]))
        return {name: array[place] for name, array in self.rows.items()}


class Keeping:
    """Lets what was joined while its block runs take its place in the cache behind it, when nothing reads the disk.

    It is done beside all that is done meanwhile with what is mapped. Whoever joins several streams of a store does so
    in the same order as everybody else, or two would wait for each other.
    """

    def __init__(self) -> None:
        """Keep nothing yet."""
        self._waiting: list[tuple[Path, Path, ExitStack]] = []

    def add(self, aside: Path, folder: Path, lock: ExitStack) -> None:
        """Let a folder take its place, and give up the lock on it."""
        self._waiting.append((aside, folder, lock))

    def __enter__(self) -> Keeping:
        """Begin."""
        return self

    def __exit__(self, *_: object) -> None:
        """Begin to sync."""
        if self._waiting:
            _PUBLISHING.append(threading.Thread(target=self._publish, name="keeping features"))
            _PUBLISHING[-1].start()

    def _publish(self) -> None:
        for aside, folder, lock in self._waiting:
            with lock, suppress(OSError):  # a disk that fails costs the next start its time, and nothing else
                for file in aside.iterdir():
                    with file.open("rb+") as written:
                        os.fsync(written.fileno())
                shutil.rmtree(folder, ignore_errors=True)
                aside.replace(folder)


def joined(
    store: FeatureStore, kind: Kind, videos: Sequence[str], task: Task, keeping: Keeping, most: int | None = None
) -> Joined:
    """Return a stream of videos, from the cache if it is there, else read and, where there is room, kept there.

    Args:
        store: where from.
        kind: which stream.
        videos: which, in this order.
        task: told of each video, as it is read, or of all at once.
        keeping: takes what is to be kept.
        most: bytes that may lie in memory if it cannot be kept; None: all.

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
        lock = _locked(folder) if nbytes >= LEAST or len(videos) >= MANY or too_many else None
        if lock is None:
            if too_many:
                raise _pass(kind, nbytes, folder.parent, ("it cannot be written", OTHER_CACHE))
            return _in_memory(store, kind, videos, shapes, task)
        with ExitStack() as unlocking:
            unlocking.enter_context(lock)
            there, hindrance = _mapped(folder), None
            if there is None:
                try:
                    hindrance = _hindrance(folder.parent, nbytes)
                    if hindrance is None:
                        aside = _filled(folder, store, kind, videos, shapes, task)
                        there, read = _mapped(aside), True
                        keeping.add(aside, folder, unlocking.pop_all())
                except (OSError, SafetensorError) as error:  # of the cache: the store has errors of its own
                    if is_lack_of_memory(error):
                        raise
                    hindrance = f"writing it failed ({error})", OTHER_CACHE
            if hindrance is not None:
                if too_many:
                    raise _pass(kind, nbytes, folder.parent, hindrance)
                return _in_memory(store, kind, videos, shapes, task)
            if there is None:
                raise RuntimeError(f"{folder}: what was written is not whole")
    # Each was told as it was read, if it was read now.
    task.advance(0 if read else len(videos), f"{kind} from {folder}")
    return there


def _mapped(folder: Path) -> Joined | None:
    """Return what is kept in a folder; None where there is nothing whole."""
    try:
        rows = load_file(folder / ROWS)
        begin_V, count_V, shape = rows.pop("begin"), rows.pop("count"), tuple(rows.pop("shape").tolist())
        with suppress(PermissionError):  # in a cache that is another user's
            os.utime(folder)
        if not shape:
            return Joined(None, rows, begin_V, count_V, None)
        with (folder / EMBEDDING).open("rb") as file:
            if os.fstat(file.fileno()).st_size != 2 * math.prod(shape):
                return None
            # A private map: a tensor wants to be writable, though nothing writes, and the file would not change. No
            # memory is set aside for that, or what is larger than the memory could not be mapped.
            flags, writable = mmap.MAP_PRIVATE | UNRESERVED, mmap.PROT_READ | mmap.PROT_WRITE
            content = mmap.mmap(file.fileno(), 0, flags=flags, prot=writable)
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        if is_lack_of_memory(error):
            raise
        return None
    return Joined(torch.frombuffer(content, dtype=torch.float16).view(shape), rows, begin_V, count_V, content)


def _filled(
    folder: Path,
    store: FeatureStore,
    kind: Kind,
    videos: Sequence[str],
    shapes: Sequence[tuple[int, ...]],
    task: Task,
) -> Path:
    """Write what `_mapped` reads aside, and return where.

    Raises:
        OSError, SafetensorError: it cannot be written, as when the disk is full.
    """
    aside = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    aside.mkdir(exist_ok=True)
    told: list[str] = []

    def done(name: str) -> None:
        told.append(name)
        task.advance(1, name)

    try:
        with (aside / EMBEDDING).open("wb", buffering=0) as file:  # it stays empty for labels
            put = partial(_write_at, file.fileno()) if kind != "labels" else None
            rows, shape = _read(store, kind, videos, shapes, put, done)
        save_file(rows | {"shape": np.array(shape, np.int64)}, aside / ROWS)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        task.advance(-len(told))  # who reads them once more tells of them, too
        raise
    return aside


def settle() -> None:
    """Wait until all that is to be kept is in its place; a process does not end before."""
    while _PUBLISHING:
        _PUBLISHING.pop().join()


def _write_at(file: int, offset: int, piece: np.ndarray) -> None:
    rest = np.ascontiguousarray(piece).reshape(-1).view(np.uint8)
    while rest.size:
        written = os.pwrite(file, rest.data, offset)
        rest, offset = rest[written:], offset + written


def _in_memory(
    store: FeatureStore, kind: Kind, videos: Sequence[str], shapes: Sequence[tuple[int, ...]], task: Task
) -> Joined:
    def done(name: str) -> None:
        task.advance(1, name)

    if kind == "labels":
        rows, _ = _read(store, kind, videos, shapes, None, done)
        return Joined(None, rows, rows.pop("begin"), rows.pop("count"), None)
    embedding = torch.empty(sum(shape[0] for shape in shapes), *shapes[0][1:], dtype=torch.float16)
    flat = embedding.numpy().reshape(-1).view(np.uint8)

    def put(offset: int, piece: np.ndarray) -> None:
        flat[offset : offset + piece.nbytes] = np.ascontiguousarray(piece).reshape(-1).view(np.uint8)

    rows, _ = _read(store, kind, videos, shapes, put, done)
    return Joined(embedding, rows, rows.pop("begin"), rows.pop("count"), None)


def _read(
    store: FeatureStore,
    kind: Kind,
    videos: Sequence[str],
    shapes: Sequence[tuple[int, ...]],
    put: Callable[[int, np.ndarray], None] | None,
    done: Callable[[str], None],
) -> tuple[dict[str, np.ndarray], tuple[int, ...]]:
    """Read all videos, several at once, and return the rows' arrays, with `begin` and `count`, and the whole shape."""
    unlike = [name for name, shape in zip(videos, shapes, strict=False) if shape[1:] != shapes[0][1:]]
    if unlike:
        raise StoreError(
            store.location,
            fault=f"{kind}/{unlike[0]} has embeddings of another size than {kind}/{videos[0]}",
            remedy="extract that video again",
        )
    starts = np.cumsum([0] + [math.prod(shape) for shape in shapes])[:-1]

    def read(number: int) -> dict[str, np.ndarray]:
        name = videos[number]
        if put is not None:
            offset, row = 2 * int(starts[number]), 0
            for piece in store.embedding_pieces(kind, name):
                require_finite(store, kind, name, piece, row)
                put(offset, piece)
                offset, row = offset + piece.nbytes, row + len(piece)
        done(name)
        return _row_arrays(store, kind, name)

    # More than there are cores: a part of them waits for the disk.
    with ThreadPoolExecutor(max(LEAST_READERS, 2 * torch.get_num_threads())) as readers:
        parts = list(readers.map(read, range(len(videos))))
    count_V = np.array([len(part[ROW_ARRAYS[kind][0]]) for part in parts], np.int64)
    rows = {name: np.concatenate([part[name] for part in parts]) for name in ROW_ARRAYS[kind]}
    whole = (int(count_V.sum()), *shapes[0][1:]) if shapes else ()
    return rows | {"begin": np.cumsum(count_V) - count_V, "count": count_V}, whole


def _row_arrays(store: FeatureStore, kind: Kind, name: str) -> dict[str, np.ndarray]:
    if kind == "image":
        frame_N, time_N = store.image_times(name)
        return {"frame": frame_N, "time": time_N}
    if kind == "audio":
        return {"end": store.audio_ends(name)}
    labels = store.labels(name)
    return {"value": labels.value_F2, "valid": labels.valid_F, "time": labels.time_F}


def _locked(folder: Path) -> IO[str] | None:
    """Keep others from filling a folder until the file that is returned is closed; None where none can be written."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = folder.with_suffix(".lock").open("w")
    except OSError:
        return None
    fcntl.flock(lock, fcntl.LOCK_EX)
    for left in folder.parent.glob(f".{folder.name}.*"):
        shutil.rmtree(left, ignore_errors=True)  # by one that was killed
    return lock


def _hindrance(folder: Path, nbytes: int) -> tuple[str, str] | None:
    """Make room for so many bytes; return why there is none, and what helps, or None where there is."""
    limit = parse_size(f"{LIMIT_VARIABLE} =", os.environ.get(LIMIT_VARIABLE, str(LIMIT)), least=0)
    _clear_after_killed(folder)
    sizes = _sizes(folder)
    # What is being written counts as well, and stays.
    kept = sorted((path for path in sizes if not path.name.startswith(".")), key=lambda path: sizes[path][1])
    while kept and _sum(sizes) + nbytes > limit:
        # Whoever has mapped it keeps what it has.
        shutil.rmtree(kept[0], ignore_errors=True)
        del sizes[kept.pop(0)]
    if _sum(sizes) + nbytes > limit:
        return f"no more than {_megabytes(limit)} are kept there", f"raise {LIMIT_VARIABLE}, or leave --memory out"
    free = shutil.disk_usage(folder).free
    if free <= nbytes + SPARE:
        return f"its disk has {_megabytes(free)} free, of which {_megabytes(SPARE)} are left", OTHER_CACHE
    return None


def _pass(kind: Kind, nbytes: int, folder: Path, hindrance: tuple[str, str]) -> TargetError:
    """Return what to say of features that may not lie in memory, and nowhere else either."""
    why, remedy = hindrance
    fault = f"{_megabytes(nbytes)} of {kind} features pass --memory, and cannot be read from here either: {why}"
    return TargetError(folder, fault=fault, remedy=remedy)


def _megabytes(nbytes: int) -> str:
    return f"{nbytes / 1e6:,.0f} MB"


def _sum(sizes: Mapping[Path, tuple[int, float]]) -> int:
    return sum(nbytes for nbytes, _ in sizes.values())


def _sizes(folder: Path) -> dict[Path, tuple[int, float]]:
    """Return the bytes of each folder in a folder, and when it was last used, while others publish and delete."""
    while True:
        with suppress(FileNotFoundError):
            return {
                path: (sum(file.stat().st_size for file in path.iterdir()), path.stat().st_mtime)
                for path in folder.iterdir()
                if path.is_dir()
            }


def _clear_after_killed(folder: Path) -> None:
    """Delete what was begun by processes that are no more: nobody holds the lock on it."""
    for aside in folder.glob(".*.partial"):
        with (folder / f"{aside.name.split('.')[1]}.lock").open("w") as lock, suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(aside, ignore_errors=True)
