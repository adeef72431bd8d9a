"""Where a store can be: a path, or a URL of a scheme that is known here. What is shown of a URL holds no secret."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit

from vaprompt.errors import StoreError

SCHEMES = ("s3", "gs", "hf", "https", "http", "file")
WEB = ("https", "http")
"""Schemes that can be read only, and not listed."""

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_PASSWORD = re.compile(r"^[^/?#@:\[]*:(?![0-9]*[/?#])[^/?#@]*[/?#][^@]*@")
"""What begins with no host and port, so that a / or ? before its @ can only be one of a password."""
_URLS = re.compile(rf"{_URL.pattern}\S*")


def scheme_of(location: Path | str) -> str | None:
    """Return the scheme of a URL, in small letters; None for a path.

    Raises:
        StoreError: it is a URL of a scheme that is not known here.
    """
    found = _URL.match(location) if isinstance(location, str) else None
    if found is None:
        return None
    scheme = found[1].lower()
    if scheme not in SCHEMES:
        allowed = ", ".join(f"{name}://" for name in SCHEMES)
        raise StoreError(
            shown(str(location)), fault=f"'{scheme}://' is no place for a store", remedy=f"use a path, or {allowed}"
        )
    return scheme


def local_path(location: Path | str) -> Path | None:
    """Return the path that a location is, or that a `file://` URL names; None where it is on a network.

    Raises:
        StoreError: the URL cannot be understood.
    """
    scheme = scheme_of(location)
    if scheme is None:
        return Path(location)
    if scheme != "file":
        return None
    parts = parts_of(str(location))
    if parts.netloc not in ("", "localhost"):
        raise StoreError(shown(str(location)), fault="names another machine", remedy="write file:///FOLDER")
    return Path(unquote(parts.path))


def parts_of(url: str) -> SplitResult:
    """Return the parts of a URL.

    Raises:
        StoreError: it has none that can be told apart, or the port of a web server is no number of one.
    """
    try:
        parts = urlsplit(url)
        if parts.scheme in WEB:
            _ = parts.port
    except ValueError:  # whose words hold what may be a secret
        remedy = "write https://HOST:PORT/STORE.zarr, with %40, %2F and the like in a password"
        raise StoreError(shown(url), fault="is no URL", remedy=remedy) from None
    return parts


def shown(url: str) -> str:
    """Return a URL without user, password, query and fragment, as it may stand in messages and files."""
    found = _URL.match(url)
    if found is None:
        return url
    rest = url[found.end() :]
    if found[1].lower() in WEB:
        rest = _PASSWORD.sub("", rest)
    rest = re.split(r"[?#]", rest, maxsplit=1)[0]
    host, slash, path = rest.partition("/")
    return f"{found[1].lower()}://{host.rpartition('@')[2]}{slash}{path}".rstrip("/")


def without_secrets(text: str) -> str:
    """Return a text, such as what a library says of its error, with every URL in it as it is `shown`."""
    return _URLS.sub(lambda found: shown(found[0]), text)


def same_place(location: str, other: str) -> bool:
    """Say whether two locations are one, as they are or as `shown` makes them.

    Raises:
        StoreError: one of them cannot be understood.
    """
    paths = [local_path(each) for each in (location, other)]
    if None in paths:
        return shown(location) == shown(other)
    first, second = (path.resolve() for path in paths if path is not None)
    return first == second
