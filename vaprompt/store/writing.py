"""Writing one stream of one video: aside, in bounded memory, onto the disk, then in place by one rename.

Whatever is killed, whenever: the store holds a video's stream whole and with its marker, or not at all.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from vaprompt.errors import TargetError
from vaprompt.store.aside import put_in_place, workplace
from vaprompt.store.layout import (
    GROUP_FILE,
    begin_sync,
    group_metadata,
    sync_folder,
    sync_tree,
    writable,
    write_attributes,
    write_file,
)
from vaprompt.store.leases import Leases, present
from vaprompt.store.reading import checksum

CHUNK_BYTES = 2**20
"""Chunks are as many whole rows as fit; a stream that ends earlier is one chunk of its own length."""


class GroupWriter:
    """Writes arrays of equal length into a group that appears at its place only once it is whole.

    Use as a context manager: `append` rows as they come, then `publish`; leaving without `publish` leaves nothing.
    """

    def __init__(
        self, store: Path, place: str, leases: Leases | None = None, *, said: Mapping[str, Any] | None = None
    ) -> None:
        """Begin the group `place` (such as `image/video1`) of the store.

        Args:
            store: the store's folder.
            place: the group's path in it.
            leases: who writes; None: a writer who is there for this group alone.
            said: what the marker says besides what `publish` is given.

        Raises:
            TargetError: the store cannot be written.
            StoreError: the writer was taken for dead by another.
        """
        self._store, self._place, self._said = store, store / place, dict(said or {})
        self._present = ExitStack()
        try:
            self._leases = leases or self._present.enter_context(present(store))
            self._leases.require_alive()
            with writable(store):
                self._work = workplace(store, self._leases.writer)
                self._aside = self._work / place
                self._aside.mkdir(parents=True)
            write_attributes(self._aside, {"status": "writing"})
        except BaseException:
            self._present.close()
            raise
        self._columns: dict[str, _Column] = {}

    def __enter__(self) -> GroupWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._present:
            shutil.rmtree(self._work, ignore_errors=True)

    def append(self, **rows: np.ndarray) -> None:
        """Append rows to the arrays named; every call names the same arrays, each with the same number of rows.

        Raises:
            TargetError: the disk is full, or another fault in writing.
            StoreError: the writer was taken for dead by another.
        """
        if len({len(row) for row in rows.values()}) > 1 or (self._columns and self._columns.keys() != rows.keys()):
            raise ValueError(f"arrays of one group grow together, not { ({k: v.shape for k, v in rows.items()}) }")
        with self._writing():
            for name, values in rows.items():
                if name not in self._columns:
                    self._columns[name] = _Column(self._aside, name, values)
                self._columns[name].append(values)

    def publish(self, marker: Mapping[str, Any]) -> None:
        """Finish the arrays, sync them, write the marker with every file's digest last, and put the group in place.

        Args:
            marker: the group's attributes; `status` and `files` are added.

        Raises:
            TargetError: the disk is full, or another fault in writing.
            StoreError: the writer was taken for dead by another.
        """
        with self._writing():
            for column in self._columns.values():
                column.finish()
        said = {**marker, **self._said, "status": "done"}
        self._put_in_place(lambda: group_metadata({**said, "files": _files(self._columns.values())}))

    def copy(self, file: str, content: bytes) -> None:
        """Add a file as it is in another store; `file` is its path in the group.

        Raises:
            TargetError: the disk is full, or another fault in writing.
        """
        with self._writing():
            target = self._aside / file
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)

    def link(self, file: str, other: Path) -> bool:
        """Add a file that another store on the same disk has, without copying it; say whether that could be done."""
        target = self._aside / file
        with self._writing():
            target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(other, target, follow_symlinks=False)
        except OSError:
            return False
        return True

    def publish_copy(self, metadata: bytes) -> None:
        """Put a group of copied files in place, with the `zarr.json` that it has in the other store.

        Raises:
            TargetError: the disk is full, or another fault in writing.
        """
        self._put_in_place(lambda: metadata)

    def _put_in_place(self, metadata: Callable[[], bytes]) -> None:
        with self._writing():
            sync_tree(self._aside)
            write_file(self._aside / GROUP_FILE, metadata())
            self._leases.require_alive()
            self._place.parent.mkdir(exist_ok=True)
            put_in_place(self._aside, self._place, self._work)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """As `writable`; but whose files are gone because another took this writer for dead is told so."""
        try:
            with writable(self._store):
                yield
        except TargetError:
            self._leases.require_alive()
            raise


class _Column:
    """One growing array: full chunks are written at once, the rest waits in memory (never more than a chunk).

    Its chunks are written here and not by zarr, which takes four times as long and holds Python's lock meanwhile, for
    which the threads wait that feed an accelerator. Paths are strings for the same reason. What a chunk is, zarr's
    metadata says, and tests compare.
    """

    def __init__(self, group: Path, name: str, like: np.ndarray) -> None:
        self._group, self._name = str(group), name
        self._shape, self._dtype = like.shape[1:], like.dtype
        row = max(1, like.dtype.itemsize * int(np.prod(self._shape, dtype=np.int64)))
        self._rows = max(1, CHUNK_BYTES // row)
        self._pending: list[np.ndarray] = []
        self._waiting = self._written = 0
        self.files: dict[str, dict[str, Any]] = {}
        """Length and SHA-256 of every file, by its path in the group."""

    def append(self, values: np.ndarray) -> None:
        if values.shape[1:] != self._shape or values.dtype != self._dtype:
            raise ValueError(f"{self._name} holds {self._dtype} {self._shape}, not {values.dtype} {values.shape[1:]}")
        self._pending.append(values)
        self._waiting += len(values)
        # Strictly more: what fills one chunk exactly may be all there is.
        if self._waiting > self._rows:
            together = self._taken()
            start = 0
            while len(together) - start > self._rows:
                self._write(together[start : start + self._rows])
                start += self._rows
            self._pending, self._waiting = [together[start:].copy()], len(together) - start

    def finish(self) -> None:
        # Its import takes a quarter of a second, and most commands write no features.
        import zarr
        from zarr.codecs import Crc32cCodec

        if not self._written:
            self._rows = max(1, self._waiting)
        rest = self._taken()
        length = self._written + len(rest)
        if len(rest):
            # Every chunk has the same shape; what is behind the array's end counts for nothing.
            missing = np.zeros((self._rows - len(rest), *self._shape), dtype=self._dtype)
            self._write(np.concatenate((rest, missing)) if len(missing) else rest)
        zarr.create_array(
            f"{self._group}/{self._name}",
            shape=(length, *self._shape),
            chunks=(self._rows, *self._shape),
            dtype=self._dtype,
            filters=None,
            # Features hardly compress, and reading must be fast; but without a checksum a flipped bit is silent.
            compressors=Crc32cCodec(),
        )
        key = f"{self._name}/{GROUP_FILE}"
        metadata = Path(self._group, key).read_bytes()
        self.files[key] = {"bytes": len(metadata), "sha256": hashlib.sha256(metadata).hexdigest()}

    def _taken(self) -> np.ndarray:
        together = self._pending[0] if len(self._pending) == 1 else np.concatenate(self._pending)
        self._pending, self._waiting = [], 0
        return together

    def _write(self, chunk: np.ndarray) -> None:
        """Write one chunk, also one of zeros: a missing chunk always means damage."""
        content = np.ascontiguousarray(chunk, dtype=chunk.dtype.newbyteorder("<")).reshape(-1).view(np.uint8)
        content.flags.writeable = False  # else the checksum would be made of a copy
        end = checksum(content)
        key = self._new_chunk()
        with open(f"{self._group}/{key}", "wb", buffering=0) as target:  # noqa: PTH123
            for part in (content.data, memoryview(end)):
                while part:
                    part = part[target.write(part) :]
            # The disk has work while the next chunk is computed, and `publish` hardly waits for it.
            begin_sync(target.fileno())
        digest = hashlib.sha256(content.data)
        digest.update(end)
        self.files[key] = {"bytes": len(content) + len(end), "sha256": digest.hexdigest()}
        self._written += len(chunk)

    def _new_chunk(self) -> str:
        """Return the path of the next chunk in the group, once the folders for it are there."""
        folder = f"{self._name}/c"
        if not self._written:
            Path(self._group, folder).mkdir(parents=True)
        *folders, name = (str(self._written // self._rows), *("0" for _ in self._shape))
        for new in folders:
            folder = f"{folder}/{new}"
            os.mkdir(f"{self._group}/{folder}")  # noqa: PTH102
        return f"{folder}/{name}"


def _files(columns: Iterable[_Column]) -> dict[str, dict[str, Any]]:
    """Return length and SHA-256 of every file of finished columns, by path, in the order of the folders."""
    found = {key: facts for column in columns for key, facts in column.files.items()}
    return {key: found[key] for key in sorted(found, key=lambda key: key.split("/"))}


def remove(group: Path, aside: Path) -> None:
    """Delete a group's folder, if it is there: from one moment to the next, by way of the folder `aside`.

    Raises:
        TargetError: it cannot be deleted.
    """
    with writable(group), suppress(FileNotFoundError):
        group.rename(aside / f"removed-{group.name}")
        sync_folder(group.parent)
    shutil.rmtree(aside / f"removed-{group.name}", ignore_errors=True)
