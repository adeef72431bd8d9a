"""Where a store's files lie: in a folder, in one zip file, or behind a URL (remote.py); all else asks for them by key.

A key is a path below the store's root with `/` between its parts, such as `image/video1/embedding/c/0/0`. Whatever a
key or a file in the store says, nothing outside the root is read: parts are checked, and no symbolic link is followed.
"""

from __future__ import annotations

import os
import stat
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol, runtime_checkable

from vaprompt.errors import StoreError, TooLargeError
from vaprompt.store.urls import local_path

MOST_METADATA = 2**26
"""Bytes of the largest metadata file that is read; a marker of a day of video has less than a tenth of it."""

LINK = "is a symbolic link"
HDF5 = b"\x89HDF\r\n\x1a\n"
"""What a file that `store export` wrote begins with."""


@runtime_checkable
class Storage(Protocol):
    """Files by key, to read."""

    @property
    def location(self) -> Path | str:
        """What the user calls it: a path or a URL."""
        ...

    def read(self, key: str, most: int = MOST_METADATA) -> bytes:
        """Return a file's content.

        Raises:
            FileNotFoundError: there is no such file.
            StoreError: it has more than `most` bytes, is no plain file, or cannot be read.
        """
        ...

    def size(self, key: str) -> int | None:
        """Return a file's bytes; None where there is none.

        Raises:
            StoreError: it is no plain file, or cannot be looked at.
        """
        ...

    def folders(self, key: str) -> list[str]:
        """Return the names of the folders in a folder, sorted, hidden ones left out; none where there is none.

        Raises:
            StoreError: it cannot be read, or has a symbolic link in it.
        """
        ...

    def files(self, key: str) -> dict[str, int]:
        """Return the bytes of all files below a folder, by their paths from it.

        Raises:
            StoreError: one is no plain file, such as a symbolic link.
        """
        ...

    def stamp(self, key: str) -> int | None:
        """Return a number that changes when a folder gets or loses an entry; None where nothing like it is known."""
        ...


def open_storage(location: Path | str) -> Storage | None:
    """Return the storage at a location, a path or a URL; None where nothing is there.

    Raises:
        StoreError: what is there is neither a folder nor a zip file, or cannot be read.
    """
    path = local_path(location)
    if path is None:
        from vaprompt.store.remote import open_remote  # it needs the index, which needs this module

        return open_remote(str(location))
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:  # no rights, a disk that fails, a server that is away: more than not there
        raise _unreadable(str(path), error) from None
    return Folder(path) if stat.S_ISDIR(mode) else Zip(path) if stat.S_ISREG(mode) else None


class Folder:
    """A folder on a file system."""

    def __init__(self, root: Path) -> None:
        """Read below `root`, which may itself be a symbolic link."""
        self._root = root
        self._folders = {str(root)}
        """Those that were found to be no links."""

    @property
    def location(self) -> Path:
        """The folder."""
        return self._root

    def read(self, key: str, most: int = MOST_METADATA) -> bytes:
        """Return a file's content; see `Storage`."""
        path = self._below(key)
        try:
            _plain_size(path)  # before it is opened, as a pipe is not to be waited for
            with open(path, "rb", buffering=0) as file:  # noqa: PTH123 - a Path for each chunk would cost more
                # Of what was opened: another writer may have put a longer file in its place meanwhile.
                size = os.fstat(file.fileno()).st_size
                require_small(path, size, most)
                return file.read(size)
        except (FileNotFoundError, NotADirectoryError):
            raise FileNotFoundError(path) from None
        except OSError as error:
            raise _unreadable(path, error) from None

    def size(self, key: str) -> int | None:
        """Return a file's bytes; see `Storage`."""
        path = self._below(key)
        try:
            return _plain_size(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise _unreadable(path, error) from None

    def folders(self, key: str) -> list[str]:
        """Return the folders in a folder; see `Storage`."""
        found, links = self.folders_and_links(key)
        if links:  # left out, what it leads to would be missing without a word
            raise _link(f"{self._below(key)}{os.sep}{links[0]}")
        return found

    def folders_and_links(self, key: str) -> tuple[list[str], list[str]]:
        """Return the names of the folders in a folder, and of the symbolic links in it, as `folders` does."""
        place = self._below(key)
        found: list[str] = []
        links: list[str] = []
        try:
            with os.scandir(place) as entries:
                for entry in entries:
                    if entry.name.startswith("."):
                        continue
                    if entry.is_symlink():
                        links.append(entry.name)
                    elif entry.is_dir(follow_symlinks=False):
                        found.append(entry.name)
        except (FileNotFoundError, NotADirectoryError):
            return [], []
        except OSError as error:
            raise _unreadable(place, error) from None
        return sorted(found), sorted(links)

    def files(self, key: str) -> dict[str, int]:
        """Return all files below a folder; see `Storage`."""
        return dict(_walk(self._below(key), ""))

    def stamp(self, key: str) -> int | None:
        """Return when a folder's list of entries changed last; see `Storage`."""
        try:
            return os.stat(self._below(key)).st_mtime_ns  # noqa: PTH116
        except OSError:
            return None

    def _below(self, key: str) -> str:
        """Return a key's path, none of whose parts leads elsewhere."""
        path = str(self._root)
        for part in key_parts(key, self._root):
            path = f"{path}{os.sep}{part}"
            if path in self._folders:
                continue
            try:
                mode = os.lstat(path).st_mode
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError as error:
                raise _unreadable(path, error) from None
            if stat.S_ISLNK(mode):
                raise _link(path)
            if stat.S_ISDIR(mode):
                self._folders.add(path)
        return path


class Copy(Folder):
    """A copy in the cache of a store behind a URL: what is damaged or missing in it can be fetched again."""


class Zip:
    """One zip file, read in place; only entries that are stored as they are, so that reading is a copy."""

    def __init__(self, path: Path) -> None:
        """Open the file and read its directory.

        Raises:
            StoreError: it is no zip file, or holds compressed, encrypted or doubled entries.
        """
        self._path = path
        self._lock = threading.Lock()
        try:
            self._zip = zipfile.ZipFile(path)
            self._state = self._state_now()
        except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError) as error:
            fault = f"is no feature store, neither a folder nor a zip file ({error})"
            remedy = "check the path, or make one with: vaprompt extract DATA --store STORE"
            if _is_hdf5(path):
                fault = "is a store as HDF5, which is not read in place"
                remedy = f"make a folder of it with: vaprompt store import {path} STORE"
            raise StoreError(path, fault=fault, remedy=remedy) from None
        self._entries: dict[str, zipfile.ZipInfo] = {}
        for entry in self._zip.infolist():
            if entry.filename and entry.is_dir():
                continue
            plain = entry.compress_type == zipfile.ZIP_STORED and not entry.flag_bits & 1
            if not plain or entry.compress_size != entry.file_size or entry.filename in self._entries:
                fault = f"holds the entry '{entry.filename[:80]}' compressed, encrypted or twice"
                raise StoreError(path, fault=fault, remedy="pack the store again with: vaprompt store pack")
            if not key_parts(entry.filename, path):
                raise StoreError(path, fault="holds an entry without a name", remedy="do not trust this store")
            self._entries[entry.filename] = entry
        self._children: dict[str, set[str]] = {}
        for name in self._entries:
            parts = name.split("/")
            for depth in range(len(parts) - 1):
                self._children.setdefault("/".join(parts[:depth]), set()).add(parts[depth])

    @property
    def location(self) -> Path:
        """The file."""
        return self._path

    def read(self, key: str, most: int = MOST_METADATA) -> bytes:
        """Return an entry's content; see `Storage`."""
        entry = self._entries.get(key)
        if entry is None:
            raise FileNotFoundError(f"{self._path}/{key}")
        require_small(f"{self._path}/{key}", entry.file_size, most)
        try:
            with self._lock:  # one file handle for all threads
                return self._zip.read(entry)
        except (OSError, zipfile.BadZipFile, EOFError, RuntimeError, NotImplementedError) as error:
            if self._state_now() != self._state:  # its entries lie elsewhere now
                fault = "was written over while it was being read"
                raise StoreError(self._path, fault=fault, remedy="run the same command again") from None
            raise _unreadable(f"{self._path}/{key}", error) from None

    def _state_now(self) -> tuple[int, int]:
        """Return what changes when the file that was opened is written to; a rename puts another one in its place."""
        assert self._zip.fp is not None
        state = os.fstat(self._zip.fp.fileno())
        return state.st_size, state.st_mtime_ns

    def size(self, key: str) -> int | None:
        """Return an entry's bytes; see `Storage`."""
        entry = self._entries.get(key)
        return None if entry is None else entry.file_size

    def folders(self, key: str) -> list[str]:
        """Return the folders in a folder; see `Storage`."""
        return sorted(name for name in self._children.get(key, ()) if not name.startswith("."))

    def files(self, key: str) -> dict[str, int]:
        """Return all entries below a folder; see `Storage`."""
        prefix = f"{key}/" if key else ""
        return {
            name.removeprefix(prefix): entry.file_size
            for name, entry in self._entries.items()
            if name.startswith(prefix)
        }

    def stamp(self, key: str) -> int | None:
        """Return 0: an archive does not change under its reader."""
        return 0


def key_parts(key: str, where: Path | str) -> list[str]:
    """Return the parts of a key.

    Raises:
        StoreError: they could lead out of the store at `where`.
    """
    parts = key.split("/") if key else []
    if any(part in ("", ".", "..") or "\\" in part or "\0" in part for part in parts):
        raise StoreError(
            where, fault=f"names a file '{key[:80]}' that could leave it", remedy="do not trust this store"
        )
    return parts


def _plain_size(path: str) -> int:
    state = os.stat(path)  # noqa: PTH116
    if not stat.S_ISREG(state.st_mode):  # a pipe or a device would never end
        raise _no_file(path)
    return state.st_size


def _walk(folder: str, prefix: str) -> Iterator[tuple[str, int]]:
    try:
        with os.scandir(folder) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise _unreadable(folder, error) from None
    for entry in found:
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(entry.path, f"{prefix}{entry.name}/")
        elif entry.is_file(follow_symlinks=False):
            try:
                size = entry.stat(follow_symlinks=False).st_size
            except OSError as error:
                raise _unreadable(entry.path, error) from None
            yield prefix + entry.name, size
        else:
            raise _no_file(entry.path)


def require_small(path: Path | str, size: int, most: int) -> None:
    """Check that a file has not more bytes than it may.

    Raises:
        TooLargeError: it has.
    """
    if size > most:
        raise TooLargeError(path, fault=f"has {size} bytes, more than {most}", remedy="do not trust this store")


def _link(path: str) -> StoreError:
    remedy = "put what it leads to in its place; only the store as a whole may lie behind a link"
    return StoreError(path, fault=LINK, remedy=remedy)


def _no_file(path: str) -> StoreError:
    return StoreError(path, fault="is no plain file", remedy="copy the store's files themselves, without links")


def _unreadable(path: str, error: Exception) -> StoreError:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return StoreError(path, fault=f"cannot be read ({reason})", remedy="check its rights and the disk")


def _is_hdf5(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(HDF5)) == HDF5
    except OSError:
        return False
