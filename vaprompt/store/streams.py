"""Several encoders' features in one store: those extracted under no name, and beside them those under a name.

What is made under the name `b32` and differs from what is there under none lies in `image.b32`, `audio.b32` and
`text.b32`; what is the same is shared. Labels are always shared.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from vaprompt.errors import MissingStreamError, StoreError
from vaprompt.store.attributes import kind_of as kind_of
from vaprompt.store.fingerprint import Fingerprint, differences
from vaprompt.store.layout import FAILED, TEXT, read_attributes
from vaprompt.store.storage import Folder

STREAM_NAME = r"[A-Za-z0-9_-]{1,64}"
ENCODED = ("image", "audio", TEXT)
"""What encoders make, and what can therefore be there under several names."""


def checked_stream_name(name: str) -> str:
    """Return a stream's name if it can be part of a folder's.

    Raises:
        StoreError: it cannot.
    """
    if not re.fullmatch(STREAM_NAME, name):
        raise StoreError(
            None,
            fault=f"'{name}' cannot be the name of a stream",
            remedy="use 1 to 64 letters, digits, hyphens and underscores",
        )
    return name


def named_streams(root: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return `own`, the kinds that have a folder of their own, and `recipe` of each name in a store's root attributes.

    What is not as it would have been written is left out.
    """
    streams = root.get("streams", {})
    found: dict[str, dict[str, Any]] = {}
    for name, about in streams.items() if isinstance(streams, dict) else ():
        if re.fullmatch(STREAM_NAME, name) and isinstance(about, dict) and isinstance(about.get("recipe"), dict):
            own = about.get("own")
            if isinstance(own, list) and all(kind in ENCODED for kind in own):
                found[name] = about
    return found


def with_streams(root: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Return the attributes of a store's root, and besides its named streams those that another copy's root has."""
    streams = {**named_streams(other), **root.get("streams", {})}
    return {**root, "streams": streams} if streams else dict(root)


def require_stream(store: Path | str, root: Mapping[str, Any], name: str, streams: Callable[[], Iterable[str]]) -> None:
    """Check that a store has features under a name; `streams` returns the streams that are to be told.

    Raises:
        MissingStreamError: it has none.
    """
    there = named_streams(root)
    if name not in there:
        names = ", ".join(sorted(there)) or "none"
        raise MissingStreamError(
            store,
            fault=f"has no stream '{name}' (names that it has: {names}; streams: {', '.join(streams()) or 'none'})",
            remedy="choose such a name, leave stream out, or add it with: "
            f"vaprompt extract DATA RECIPE --store STORE --stream {name}",
        )


def folder_of(kind: str, name: str | None, root: Mapping[str, Any]) -> str:
    """Return the folder of `image`, `audio`, `labels`, `text` or `failed`, as seen under a name."""
    if name is not None and (kind == FAILED or kind in named_streams(root).get(name, {}).get("own", ())):
        return f"{kind}.{name}"
    return kind


def own_kinds(store: Path, root: Mapping[str, Any], name: str, fingerprints: Mapping[str, Fingerprint]) -> list[str]:
    """Return the kinds that a name has, or is to have, folders of its own for.

    Raises:
        StoreError: the name is new, and everything under it would be what is there under none.
    """
    there = named_streams(root)
    if name in there:
        return list(there[name]["own"])
    own = []
    for kind in ENCODED:
        if kind not in fingerprints:
            continue  # the data set leaves it out
        attributes = read_attributes(Folder(store), kind)
        if attributes is None or differences(attributes.get("fingerprint", {}), fingerprints[kind]):
            own.append(kind)
    if not own:
        raise StoreError(
            store,
            fault=f"holds already, under no name, all that the recipe would make as '{name}'",
            remedy="leave --stream out, or give another recipe",
        )
    return own
