"""Who works on which part of a store: leases among several writers, on one machine or on many that share a disk.

Each writer has a file below `.leases` that says where it runs, and renews its modification time: its heartbeat. A
lease is a file, too, created exclusively, that names its writer. It runs out when its writer is gone: at once where the
process can be looked for, else when its heartbeat has not changed for a while **on the observer's own clock**; clocks
of two machines are never compared. Nothing is locked, as locks do not hold on every network's file system.

A store's parts are not all that is shared so: the trials of a search are, in a folder of runs.

A lease is about work, not about what is right: whatever happens to leases, groups are published whole or not at all.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vaprompt.errors import StoreError, TakenOverError, TargetError
from vaprompt.files import parsed_json
from vaprompt.store.aside import clear_away
from vaprompt.store.attributes import shown
from vaprompt.store.layout import ASIDE, LEASES, writable

WRITER, LEASE = ".writer", ".lease"
BEGINS = ".begins"
"""Ends the name of a writer's file until its content is whole."""

BEAT = 5.0
"""Seconds between two heartbeats."""
PATIENCE = 60.0
"""Seconds without a new heartbeat after which a writer is taken for dead."""
POLL = 0.5
"""Seconds between two looks at what others hold."""

PROC = Path("/proc")

ROOT, PROMPTS, FAILURES = "root", "prompts", "failures"
"""Keys of what is no video: the store's own attributes, the prompts, and the list of what failed."""


def video_key(video: str) -> str:
    """Return the key of a video's lease, which is on all its streams."""
    return f"video {video}"


@dataclass(frozen=True)
class Holder:
    """Who holds a lease, as the lease says."""

    host: str
    pid: str
    lives: bool
    """Whether it is known to: it runs here, or its heart was seen to beat. Else that takes up to `PATIENCE` to know."""


class Leases:
    """One writer's presence in a store, and what it holds; threads may share it. `present` makes it."""

    def __init__(self, store: Path) -> None:
        """Use `present` instead."""
        self._store, self._folder = store, store / LEASES
        host = re.sub(r"[^A-Za-z0-9-]+", "-", socket.gethostname())[:48]
        self.writer = f"{host}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        """The writer's name, unlike any other's."""
        self._file = self._folder / f"{self.writer}{WRITER}"
        self._lock = threading.RLock()
        self._held: set[str] = set()
        self._seen: dict[str, tuple[int, float]] = {}
        self._beating: set[str] = set()
        self._ended, self._lost = threading.Event(), threading.Event()

    def acquire(self, key: str) -> bool:
        """Take the lease of `key` if it is free, or its holder is dead; say whether it is ours now.

        Raises:
            StoreError: this writer was taken for dead.
            TargetError: the store cannot be written.
        """
        self.require_alive()
        with self._lock, writable(self._store):
            while not self._create(key):
                holder = self._holder(key)
                if holder == self.writer:
                    break
                if holder is None:  # given back at this moment
                    time.sleep(POLL / 100)
                    continue
                if not self._dead(key, holder):
                    return False
                # Of several that find the holder dead, one alone may take over from it: who holds this second lease.
                succession = f"{key} after {holder}"
                if not self.acquire(succession):
                    return False
                try:
                    self._bury(holder)
                    if self._holder(key) == holder:
                        self._replace(key)
                        break
                finally:
                    self.release(succession)
            self._held.add(key)
            return True

    def release(self, key: str) -> None:
        """Give a lease back; one that is not held, or was taken over, is left alone."""
        with self._lock:
            if key in self._held:
                self._held.discard(key)
                with suppress(OSError):
                    if self._holder(key) == self.writer:
                        self._lease(key).unlink(missing_ok=True)

    @contextmanager
    def holding(self, key: str) -> Iterator[None]:
        """Wait for a lease, and hold it while the block runs.

        Raises:
            StoreError: this writer was taken for dead.
            TargetError: the store cannot be written.
        """
        while not self.acquire(key):
            time.sleep(POLL / 10)
        try:
            yield
        finally:
            self.release(key)

    def keys(self) -> set[str]:
        """Return what is held now, by whomever.

        Raises:
            TargetError: the store cannot be read.
        """
        found = set()
        with writable(self._store):
            for lease in self._folder.glob(f"*{LEASE}"):
                with suppress(FileNotFoundError):
                    found.add(_read_lease(lease)[0])
        return found - {""}

    def holder(self, key: str) -> Holder | None:
        """Return who holds a lease that `acquire` did not get; None where it has been given back.

        Raises:
            TargetError: the store cannot be read.
        """
        with self._lock, writable(self._store):
            try:
                about = _mapping(self._lease(key).read_bytes())
                writer = self._holder(key)
            except FileNotFoundError:
                return None
            here = about.get("space") is not None and about["space"] == _here()["space"]
            host, pid = (shown(about.get(name, "unknown")) for name in ("host", "pid"))
            return Holder(host, pid, lives=here or f"{writer}{WRITER}" in self._beating)

    def require_alive(self) -> None:
        """Check that nobody took this writer for dead, as then others do its work.

        Raises:
            TakenOverError: somebody did.
        """
        with writable(self._store):
            there = self._file.exists()
        if self._lost.is_set() or not there:
            raise TakenOverError(
                self._store,
                fault=f"this command gave no sign of life for {PATIENCE:g} s, and another took it for dead",
                remedy="run the same command again: it goes on with what is left",
            )

    def sweep(self) -> None:
        """Clear away what dead writers left: their half-written groups, their leases, and themselves."""
        with self._lock, writable(self._store):
            for file in self._folder.glob(f"*{BEGINS}"):
                file.unlink(missing_ok=True)  # whoever lives begins once more
            for file in self._folder.glob(f"*{WRITER}"):
                if file != self._file and self._dead("", file.name.removesuffix(WRITER)):
                    self._bury(file.name.removesuffix(WRITER))
            for folder in (self._store / ASIDE).glob("*"):
                # The file is made before the folder: without the one, the other is nobody's.
                if not (self._folder / f"{folder.name}{WRITER}").exists():
                    clear_away(self._store, folder.name)
            for lease in self._folder.glob(f"*{LEASE}"):
                with suppress(FileNotFoundError):
                    key, _ = _read_lease(lease)
                    if key and key not in self._held and self.acquire(key):
                        self.release(key)

    def _begin(self) -> None:
        with writable(self._store):
            for tries_left in range(99, -1, -1):
                self._folder.mkdir(exist_ok=True)
                try:
                    # Whole at one moment: of a writer that died with an empty file, nobody could tell where it ran.
                    begins = self._file.with_suffix(BEGINS)
                    _write_new(begins, {**_here(), "writer": self.writer})
                    begins.rename(self._file)
                    (self._store / ASIDE / self.writer).mkdir(parents=True)
                    break
                except FileNotFoundError:  # another writer was just clearing it away, or the empty folder
                    if not tries_left:
                        raise
        threading.Thread(target=self._beat, name="heartbeat", daemon=True).start()

    def _beat(self) -> None:
        while not self._ended.wait(BEAT):
            try:
                os.utime(self._file)
            except FileNotFoundError:
                self._lost.set()
                return
            except OSError:  # what is wrong with the disk, the work itself will say
                continue

    def _end(self) -> None:
        self._ended.set()
        for key in list(self._held):
            self.release(key)
        with suppress(StoreError, TargetError, OSError):
            self.sweep()
        clear_away(self._store, self.writer)
        with suppress(OSError):
            self._file.unlink()
        # Gone when nobody writes, so that other Zarr readers see groups and arrays only.
        for folder in (self._store / ASIDE, self._folder):
            with suppress(OSError):
                folder.rmdir()

    def _lease(self, key: str) -> Path:
        return self._folder / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}{LEASE}"

    def _create(self, key: str) -> bool:
        try:
            _write_new(self._lease(key), {**_here(), "writer": self.writer, "key": key})
        except FileExistsError:
            return False
        return True

    def _replace(self, key: str) -> None:
        aside = self._store / ASIDE / self.writer / self._lease(key).name
        _write_new(aside, {**_here(), "writer": self.writer, "key": key})
        aside.replace(self._lease(key))

    def _holder(self, key: str) -> str | None:
        """Return who holds a lease: empty where the lease does not say, None where there is no lease."""
        try:
            return _read_lease(self._lease(key))[1]
        except FileNotFoundError:
            return None

    def _dead(self, key: str, writer: str) -> bool:
        """Say whether a writer is no more; one that a lease does not name is judged by the lease's own age."""
        file = self._folder / f"{writer}{WRITER}" if writer else self._lease(key)
        try:
            # Opening makes a network's file system ask for the present state.
            with file.open("rb") as opened:
                beat = os.fstat(opened.fileno()).st_mtime_ns
                about = _mapping(opened.read())
        except FileNotFoundError:
            return True
        if writer and about.get("space") is not None and about["space"] == _here()["space"]:
            pid, started = about.get("pid"), about.get("started")
            if isinstance(pid, int) and started != _started(pid) and not _is_hidden(pid):
                return True
        now = time.monotonic()
        before, since = self._seen.get(file.name, (None, now))
        if before != beat:
            if before is not None:
                self._beating.add(file.name)
            self._seen[file.name] = beat, now
            return False
        return now - since > PATIENCE

    def _bury(self, writer: str) -> None:
        if writer:
            clear_away(self._store, writer)
            (self._folder / f"{writer}{WRITER}").unlink(missing_ok=True)


@contextmanager
def present(store: Path) -> Iterator[Leases]:
    """Be a writer of the store in the folder `store` while the block runs; what dead writers left is cleared away.

    Raises:
        TargetError: the store cannot be written.
        StoreError: what lies aside in it is elsewhere, by a symbolic link.
    """
    for folder in (store / LEASES, store / ASIDE):
        with writable(store):
            link = folder.is_symlink()
        if link:  # what is cleared away must not lie elsewhere
            raise StoreError(folder, fault="is a symbolic link", remedy="delete it; vaprompt never makes one there")
    leases = Leases(store)
    try:
        leases._begin()
        leases.sweep()
        yield leases
    finally:
        leases._end()


def _here() -> dict[str, Any]:
    """Return where this process runs: host, number, start, and within what space its number says who it is."""
    space = None
    with suppress(OSError):
        # Of one start of one machine, and of one container on it: elsewhere the same number is another process.
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        space = f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    return {"host": socket.gethostname(), "pid": os.getpid(), "started": _started(os.getpid()), "space": space}


def _started(pid: int) -> int | None:
    """Return when a running process started, in the kernel's ticks, so that a number used again is told apart."""
    try:
        fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except (OSError, UnicodeDecodeError):
        return None
    return None if fields[0] in "ZX" else int(fields[19])  # a killed process that nobody waited for runs no more


def _is_hidden(pid: int) -> bool:
    """Say whether a process runs that cannot be looked at: another user's, where `/proc` shows everybody their own."""
    try:
        os.kill(pid, 0)
    except PermissionError:
        return not (PROC / str(pid)).exists()
    except (OSError, OverflowError):
        return False
    return False


def _write_new(file: Path, content: dict[str, Any]) -> None:
    """Create a file with JSON in it.

    Raises:
        FileExistsError: there is one.
    """
    descriptor = os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as out:
            json.dump(content, out)
    except OSError:
        file.unlink(missing_ok=True)
        raise


def _read_lease(lease: Path) -> tuple[str, str]:
    """Return key and writer of a lease, empty where it is not (yet) whole.

    Raises:
        FileNotFoundError: there is no such lease.
    """
    about = _mapping(lease.read_bytes())
    key, writer = about.get("key"), about.get("writer")
    # A name is a folder's, too, that is deleted with its owner: it must not lead elsewhere.
    if not isinstance(writer, str) or not re.fullmatch(r"[A-Za-z0-9-]+", writer):
        writer = ""
    return key if isinstance(key, str) else "", writer


def _mapping(content: bytes) -> dict[str, Any]:
    with suppress(ValueError):
        found = parsed_json(content)
        if isinstance(found, dict):
            return found
    return {}
