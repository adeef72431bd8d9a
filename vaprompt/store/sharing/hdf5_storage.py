"""An HDF5 file that `store export` wrote, read as the store that it was: each file of it by its key.

What lies where is found out by another process (`hdf5_listing`), within limits of time and memory; here the bytes are
read at the places that it names, by the operating system. Nothing that the file says makes libhdf5 run in this process.
"""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vaprompt.errors import StoreError
from vaprompt.store.layout import GROUP_FILE, joined
from vaprompt.store.reading import CHECKSUM_BYTES, checksum, parse_form
from vaprompt.store.sharing import hdf5_listing
from vaprompt.store.storage import HDF5, MOST_METADATA

PATIENCE = 30.0
"""Seconds for which the listing may say nothing."""
PROCESSOR_SECONDS, BYTES_A_SECOND = 60, 10**7
"""Processor time that the listing may take: so much, and a second for so many bytes of the file."""
MEMORY = 2**31
"""Bytes of address space of the listing's process; it takes a quarter of them."""
MOST_LINE = 2**26
"""Bytes of a line of the listing: an array of a million chunks takes half of them."""


@dataclass(frozen=True)
class _Piece:
    """Where the bytes of one file of the store are."""

    offset: int = 0
    length: int = 0
    inline: bytes | None = None
    """The bytes themselves; they are in no place of their own."""
    checksum: bool = False
    """Whether they are followed by their checksum in a store, which HDF5 has no place for."""

    @property
    def size(self) -> int:
        if self.inline is not None:
            return len(self.inline)
        return self.length + (CHECKSUM_BYTES if self.checksum else 0)


class Hdf5:
    """The files of a store in an HDF5 file; see `vaprompt.store.storage.Storage`."""

    def __init__(self, path: Path, *, patience: float = PATIENCE) -> None:
        """List the file.

        Raises:
            StoreError: it is no HDF5 file, or holds anything that `store export` does not write.
        """
        self._path = path
        self._pieces: dict[str, _Piece] = {}
        self._folders: dict[str, set[str]] = {}
        try:
            if path.exists() and not path.is_file() and not path.is_dir():
                raise _unfit(path, "is no plain file")  # a pipe would never end
            with path.open("rb") as file:
                if file.read(len(HDF5)) != HDF5:
                    raise _unfit(path, "is no HDF5 file")
                self._bytes = os.fstat(file.fileno()).st_size
        except OSError as error:
            fault = f"cannot be read ({error.strerror or error})"
            raise StoreError(path, fault=fault, remedy="check the path and its rights") from None
        try:
            for line in _listing(path, self._bytes, patience):
                self._add(line)
        except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
            raise _unfit(path, f"cannot be understood ({error})") from None

    @property
    def location(self) -> Path:
        """The file."""
        return self._path

    def read(self, key: str, most: int = MOST_METADATA) -> bytes:
        """Return a file's content."""
        piece = self._pieces.get(key)
        if piece is None:
            raise FileNotFoundError(f"{self._path}/{key}")
        if piece.size > most:
            raise _unfit(self._path, f"has {piece.size} bytes at '{key}', more than {most}")
        if piece.inline is not None:
            return piece.inline
        try:
            with self._path.open("rb") as file:
                content = os.pread(file.fileno(), piece.length, piece.offset)
        except OSError as error:
            raise _unfit(self._path, f"cannot be read ({error.strerror or error})") from None
        return content + checksum(content) if piece.checksum else content

    def size(self, key: str) -> int | None:
        """Return a file's bytes; None where there is none."""
        piece = self._pieces.get(key)
        return None if piece is None else piece.size

    def folders(self, key: str) -> list[str]:
        """Return the names of the folders in a folder."""
        return sorted(self._folders.get(key, ()))

    def files(self, key: str) -> dict[str, int]:
        """Return the bytes of all files below a folder."""
        prefix = f"{key}/" if key else ""
        return {
            name.removeprefix(prefix): piece.size for name, piece in self._pieces.items() if name.startswith(prefix)
        }

    def stamp(self, key: str) -> int | None:
        """Return 0: the file does not change under its reader."""
        return 0

    def _add(self, found: dict[str, Any]) -> None:
        """Take in one line of the listing, whose places must lie in the file."""
        if "group" in found:
            key = found["group"]
            self._put(joined(key, GROUP_FILE), self._within(*found["at"]))
            return
        key, metadata = found["array"], found["metadata"].encode("utf-8")
        form = parse_form(metadata)
        if (found["shape"], found["rows"], found["type"]) != (
            list(form.shape),
            [form.rows, *form.shape[1:]],
            form.dtype.name,
        ):
            raise ValueError(f"'{key}' is not what its attribute zarr.json says")
        self._put(joined(key, GROUP_FILE), _Piece(inline=metadata))
        if [row for row, _, _ in found["chunks"]] != [chunk * form.rows for chunk in range(len(found["chunks"]))]:
            raise ValueError(f"'{key}' has chunks at other places than whole rows of them")
        for chunk, (_, offset, length) in enumerate(found["chunks"]):
            if length != form.chunk_bytes:
                raise ValueError(f"a chunk of '{key}' has {length} bytes instead of {form.chunk_bytes}")
            self._put(joined(key, form.key(chunk)), self._within(offset, length, checksum=True))

    def _within(self, offset: object, length: object, *, checksum: bool = False) -> _Piece:
        if type(offset) is not int or type(length) is not int or not 0 <= offset <= self._bytes - length <= self._bytes:
            raise ValueError(f"{length} bytes at {offset} are not in a file of {self._bytes}")
        return _Piece(offset, length, checksum=checksum)

    def _put(self, key: str, piece: _Piece) -> None:
        self._pieces[key] = piece
        parts = key.split("/")
        for depth in range(len(parts) - 1):
            self._folders.setdefault("/".join(parts[:depth]), set()).add(parts[depth])


def _listing(path: Path, size: int, patience: float) -> Iterator[dict[str, Any]]:
    """Yield what another process says of the file, line by line.

    Raises:
        StoreError: it refuses the file, crashes, or says nothing for too long.
    """
    seconds = PROCESSOR_SECONDS + size // BYTES_A_SECOND
    script = str(Path(hdf5_listing.__file__).resolve())
    # -P: the script's own folder is not searched for modules.
    command = [sys.executable, "-P", script, str(path.resolve()), str(seconds), str(MEMORY)]
    # One thread is enough, and each would take address space; no filter is loaded from anywhere.
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1", "HDF5_PLUGIN_PRELOAD": "::"}
    with subprocess.Popen(  # noqa: S603
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
    ) as process:
        try:
            for line in _lines(process, patience):
                found = json.loads(line)
                if "fault" in found:
                    raise _unfit(path, str(found["fault"]))
                if "end" in found:
                    return
                yield found
        except TimeoutError:
            raise _unfit(path, f"cannot be read as HDF5 (libhdf5 found nothing in it for {patience:g} s)") from None
        finally:
            process.kill()
        raise _unfit(path, f"cannot be read as HDF5 (libhdf5 gave up with status {process.wait()})")


def _lines(process: subprocess.Popen[bytes], patience: float) -> Iterator[bytes]:
    """Yield the lines that a process writes.

    Raises:
        TimeoutError: it wrote nothing for `patience` seconds.
        ValueError: a line is too long.
    """
    assert process.stdout is not None
    parts: list[bytes] = []
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while selector.select(patience):
            read = os.read(process.stdout.fileno(), 2**16)
            if not read:
                return
            first, *rest = read.split(b"\n")
            parts.append(first)
            for following in rest:
                yield b"".join(parts)
                parts = [following]
            if len(parts) > MOST_LINE // 2**16 and sum(map(len, parts)) > MOST_LINE:
                raise ValueError("its listing has no end")
    raise TimeoutError


def _unfit(path: Path, fault: str) -> StoreError:
    return StoreError(path, fault=fault, remedy="take a file that `vaprompt store export` wrote, whole")
