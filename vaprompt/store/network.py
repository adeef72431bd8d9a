"""Files behind a URL, with time-outs and further tries: buckets through fsspec, plain web servers through aiohttp.

What may pass (a server's 5xx, a cut connection, silence) is tried again after pauses that double; what will not (no
rights, not there) is said at once. Credentials are found by each library's own means, such as the AWS_* variables.
"""

from __future__ import annotations

import base64
import logging
import os
import random
import time
from collections.abc import Callable
from functools import lru_cache
from importlib import import_module
from typing import Any, Protocol, TypeVar, runtime_checkable
from urllib.parse import quote, urlsplit

from vaprompt.errors import StoreError, UnreachableError
from vaprompt.store.answers import is_ours, is_refusal, lasts, remedy, require_fine, s3_code
from vaprompt.store.urls import WEB, parts_of, scheme_of, shown, without_secrets

CONNECT, READ = 10, 30
"""Seconds to wait for a connection, and for the next bytes on it."""
PAUSES = (0.5, 1, 2, 4, 8)
"""Seconds before each further try."""
GIVE_UP = 60
"""Seconds since the first try after which no further one begins."""
TALKATIVE = ("fsspec", "gcsfs", "google", "s3fs")
"""Loggers of libraries that tell in their own way what is told in one line here."""
CONNECTIONS = 32

NEEDED = {"s3": "s3fs", "gs": "gcsfs", "hf": "huggingface_hub", "https": "aiohttp", "http": "aiohttp"}
"""Scheme -> the package that it needs besides fsspec."""
INSTALL = "pip install 'vaprompt[remote]'"

_CHANGED = ("PreconditionFailed", "412", "NoSuchKey")
_UNCONDITIONAL = ("NotImplemented", "501", "InvalidArgument", "InvalidRequest")
"""S3's words where a file is no more the one that was to be replaced, and where a server knows no such conditions."""

Answer = TypeVar("Answer")


@runtime_checkable
class Objects(Protocol):
    """Files by key below a URL. Each method raises UnreachableError when the server does not answer as it should."""

    lists: bool
    """Whether it can say what is there."""

    def get(self, key: str, most: int) -> bytes:
        """Return a file's content, at most `most + 1` bytes of it; FileNotFoundError where there is none."""
        ...

    def size(self, key: str) -> int | None:
        """Return a file's bytes; None where there is none."""
        ...

    def files(self, key: str) -> dict[str, int]:
        """Return the bytes of all files below a folder, by their paths from it."""
        ...

    def folders(self, key: str) -> list[str]:
        """Return the names of the folders in a folder, sorted."""
        ...

    def version(self, key: str) -> str | None:
        """Return what tells a file's content from others that it had; empty where there is none, None if not known."""
        ...

    def put(self, key: str, content: bytes, digest: bytes, *, over: str | None = None) -> bool:
        """Write a file whose SHA-256 is `digest`; say whether it was.

        It is not where the file's `version` is not `over` any more and the server is one that looks; None: whatever.
        """
        ...

    def remove(self, keys: list[str]) -> None:
        """Remove files; those that are not there do not matter."""
        ...


def connect(url: str) -> Objects:
    """Return the files below a URL.

    Raises:
        StoreError: the URL cannot be used, or a package is missing.
    """
    scheme = scheme_of(url)
    parts = parts_of(url)
    if scheme not in NEEDED:
        raise StoreError(shown(url), fault="is not on a network", remedy="give its path")
    if scheme not in WEB and (parts.query or parts.fragment or "@" in parts.netloc):
        instead = "leave them out, and set the variables that your storage's own tools use (docs/sharing.md)"
        raise StoreError(shown(url), fault="has credentials or options in the URL", remedy=instead)
    if not parts.hostname:
        raise StoreError(shown(url), fault="names no bucket or server", remedy=f"write {scheme}://PLACE/STORE.zarr")
    for package in ("fsspec", NEEDED[scheme]):
        try:
            import_module(package)
        except ImportError:
            fault = f"cannot be read without the package {package}"
            raise StoreError(shown(url), fault=fault, remedy=f"install it with: {INSTALL}") from None
    return Web(url) if scheme in WEB else Bucket(url, scheme)


class Bucket:
    """Objects of S3, Google Cloud Storage or the Hugging Face hub."""

    lists = True

    def __init__(self, url: str, scheme: str) -> None:
        """Connect when first asked; see `connect`."""
        self._url, self._scheme = url, scheme
        self._root = urlsplit(url)._replace(scheme="").geturl().strip("/")
        self._files = attempted(url, lambda: _session(scheme, READ, tuple(sorted(os.environ.items()))))

    def get(self, key: str, most: int) -> bytes:
        """Return a file's content; see `Objects`."""

        def read() -> bytes:
            try:
                return bytes(self._files.cat_file(self._at(key), start=0, end=most + 1))
            except OSError as error:
                if s3_code(error) == "InvalidRange":  # of a file of no bytes not even the first
                    return b""
                raise

        return self._do(key, read)

    def size(self, key: str) -> int | None:
        """Return a file's bytes; see `Objects`."""
        try:
            found = self._do(key, lambda: self._files.info(self._at(key)))
        except FileNotFoundError:
            return None
        return int(found["size"]) if found["type"] == "file" else None

    def files(self, key: str) -> dict[str, int]:
        """Return all files below a folder; see `Objects`."""
        try:
            found = self._do(key, lambda: self._files.find(self._at(key), detail=True))
        except FileNotFoundError:
            return {}
        start = len(self._at(key)) + 1
        return {name[start:]: int(facts["size"]) for name, facts in found.items() if not name.endswith("/")}

    def folders(self, key: str) -> list[str]:
        """Return the folders in a folder; see `Objects`."""
        try:
            found = self._do(key, lambda: self._files.ls(self._at(key), detail=True))
        except FileNotFoundError:
            return []
        return sorted(item["name"].rstrip("/").rpartition("/")[2] for item in found if item["type"] == "directory")

    def version(self, key: str) -> str | None:
        """Return a file's ETag; see `Objects`."""
        if self._scheme != "s3":
            return None
        try:
            return str(self._do(key, lambda: self._files.info(self._at(key)))["ETag"])
        except FileNotFoundError:
            return ""
        except KeyError:
            return None

    def put(self, key: str, content: bytes, digest: bytes, *, over: str | None = None) -> bool:
        """Write a file; see `Objects`. S3 compares the digest itself, and refuses what does not have it."""
        options: dict[str, Any] = {}
        if self._scheme == "s3":
            options["ChecksumSHA256"] = base64.b64encode(digest).decode()
        condition: dict[str, Any] = {}
        if over is not None:
            # In one request, as no condition goes with a file that is sent in parts.
            condition = {"IfMatch": over} if over else {"IfNoneMatch": "*"}
            condition["chunksize"] = max(len(content), 2**26)

        def write() -> bool:
            try:
                self._files.pipe_file(self._at(key), content, **options, **condition)
            except OSError as error:
                code = s3_code(error)
                if condition and code in _CHANGED:
                    return False
                if condition and code in _UNCONDITIONAL:
                    self._files.pipe_file(self._at(key), content, **options)
                else:
                    raise
            return True

        try:
            return self._do(key, write)
        except FileNotFoundError:
            raise StoreError(shown(self._url), fault="is in no bucket that exists", remedy="make it first") from None

    def remove(self, keys: list[str]) -> None:
        """Remove files; see `Objects`."""
        for key in keys:
            try:
                self._do(key, lambda key=key: self._files.rm_file(self._at(key)))  # type: ignore[misc]
            except FileNotFoundError:
                continue

    def _at(self, key: str) -> str:
        return f"{self._root}/{key}".rstrip("/")

    def _do(self, key: str, action: Callable[[], Answer]) -> Answer:
        return attempted(f"{shown(self._url)}/{key}".rstrip("/"), action)


@lru_cache(maxsize=4)
def _session(scheme: str, read: float, environment: tuple[tuple[str, str], ...]) -> Any:
    """Return fsspec's file system; beginning one takes half a second, so one is kept while the environment stays."""
    import fsspec

    for library in TALKATIVE:  # who asked for logs has them; else Python would write them on stderr, tracebacks and all
        logging.getLogger(library).addHandler(logging.NullHandler())
    options: dict[str, Any] = {}
    if scheme == "s3":
        options["config_kwargs"] = {
            "connect_timeout": CONNECT,
            "read_timeout": read,
            "max_pool_connections": CONNECTIONS,
            "retries": {"total_max_attempts": 1},  # we try again ourselves, for a stated time
        }
    elif scheme in WEB:
        import aiohttp

        waits = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT, sock_read=read)
        options["client_kwargs"] = {"timeout": waits, "trust_env": True}  # proxies, and ~/.netrc
    # Nothing is remembered of what is there: what was listed a minute ago can be another store's by now.
    files = fsspec.filesystem(scheme, skip_instance_cache=True, use_listings_cache=False, **options)
    if scheme == "s3":
        files.retries = 1
    return files


class Web:
    """Files of a plain web server, to read: it cannot say what is there."""

    lists = False

    def __init__(self, url: str) -> None:
        """Connect when first asked; see `connect`."""
        from fsspec.asyn import sync

        self._url, self._sync = url, sync
        self._files = _session("http", READ, tuple(sorted(os.environ.items())))

    def get(self, key: str, most: int) -> bytes:
        """Return a file's content; see `Objects`."""
        return bytes(self._do(key, lambda: self._sync(self._files.loop, self._get, self._at(key), most)))

    def size(self, key: str) -> int | None:
        """Return a file's bytes; see `Objects`."""
        try:
            return int(self._do(key, lambda: self._sync(self._files.loop, self._size, self._at(key))))
        except FileNotFoundError:
            return None

    def files(self, key: str) -> dict[str, int]:
        """Refuse: a web server does not say."""
        raise self._read_only("cannot say what it holds")

    def folders(self, key: str) -> list[str]:
        """Refuse: a web server does not say."""
        raise self._read_only("cannot say what it holds")

    def version(self, key: str) -> str | None:
        """Return None: it does not matter, as nothing can be written."""
        return None

    def put(self, key: str, content: bytes, digest: bytes, *, over: str | None = None) -> bool:
        """Refuse: there is no one way to write to a web server."""
        raise self._read_only("is a web server, which can only be read")

    def remove(self, keys: list[str]) -> None:
        """Refuse: there is no one way to write to a web server."""
        raise self._read_only("is a web server, which can only be read")

    async def _get(self, url: str, most: int) -> bytes:
        session = await self._files.set_session()
        async with session.get(url, headers={"Accept-Encoding": "identity"}) as answer:
            require_fine(answer.status)
            content = bytearray()
            async for part in answer.content.iter_chunked(2**16):
                content += part
                if len(content) > most:  # whoever asked says what is wrong with it
                    break
            return bytes(content[: most + 1])

    async def _size(self, url: str) -> int:
        session = await self._files.set_session()
        async with session.head(url, headers={"Accept-Encoding": "identity"}, allow_redirects=True) as answer:
            length = answer.headers.get("Content-Length")
            plain = answer.headers.get("Content-Encoding", "identity") == "identity"
            if answer.status not in (405, 501):
                require_fine(answer.status)
                if length is not None and plain:
                    return int(length)
        # The server takes no HEAD, or does not say how many bytes the file has when nothing compresses it on the way.
        async with session.get(url, headers={"Accept-Encoding": "identity"}) as answer:
            require_fine(answer.status)
            return sum([len(part) async for part in answer.content.iter_chunked(2**16)])

    def _at(self, key: str) -> str:
        parts = urlsplit(self._url)
        return parts._replace(path=f"{parts.path.rstrip('/')}/{quote(key)}").geturl()

    def _do(self, key: str, action: Callable[[], Answer]) -> Answer:
        return attempted(f"{shown(self._url)}/{key}".rstrip("/"), action)

    def _read_only(self, fault: str) -> StoreError:
        return StoreError(shown(self._url), fault=fault, remedy="use s3://, gs:// or a folder for that")


def attempted(url: str, action: Callable[[], Answer]) -> Answer:
    """Return what `action` returns, trying again as long as the fault may pass.

    Raises:
        FileNotFoundError: the server says that there is no such file.
        StoreError: it does not let us.
        UnreachableError: it did not answer as it should, until we gave up.
    """
    where, started = shown(url), time.monotonic()
    for pause in (*PAUSES, None):
        try:
            return action()
        except (FileNotFoundError, StoreError):
            raise
        except Exception as error:
            if is_ours(error):
                raise
            said = without_secrets(f"{type(error).__name__}: {error}".removesuffix(": "))
            reason = " ".join(said.split())[:200]
            if is_refusal(error):
                rights = "check the credentials that your storage's own tools use, and its rules (docs/sharing.md)"
                raise StoreError(where, fault=f"no rights to do that ({reason})", remedy=rights) from None
            waited = time.monotonic() - started
            if pause is None or waited > GIVE_UP or lasts(error):
                tries = f", tried for {waited:.0f} s" if waited > 1 else ""
                raise UnreachableError(
                    where,
                    fault=f"the server did not do what was asked ({reason}{tries})",
                    remedy=remedy(error),
                ) from None
        time.sleep(pause * random.uniform(0.8, 1.2))  # many clients must not come back at once
    raise AssertionError
