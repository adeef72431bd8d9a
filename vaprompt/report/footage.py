"""Where a page finds the video that it shows: beside it on the disk, inside it, or where a server says."""

from __future__ import annotations

import base64
import mimetypes
import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote_from_bytes

from vaprompt.errors import MediaError
from vaprompt.media.container import COPY_AGAIN, file_size

MOST_EMBEDDED = 20_000_000
"""Bytes of a video that a page may hold."""


@dataclass(frozen=True)
class Footage:
    """A video, from a page's point of view."""

    address: str = ""
    """URL, relative to the page or absolute; empty where the page holds the video itself."""
    content: str = ""
    """The video in base64, where the page holds it."""
    kind: str = ""
    """Its media type, such as video/mp4 or audio/x-wav."""

    @property
    def policy(self) -> dict[str, str]:
        """What the page has to be allowed so that it can play the video."""
        # Opened from disk, a page is not "itself" to every browser.
        return {"media-src": "blob:" if self.content else "'self' file:"}


def beside(media: Path, page: Path) -> Footage:
    """Return a video as it is found from a page on the same disk."""
    return Footage(address(media, page), kind=_kind(media))


def address(file: Path, page: Path) -> str:
    """Return the URL of a file as seen from a page on the same disk; names need not be Unicode."""
    return quote_from_bytes(os.fsencode(os.path.relpath(file, page.parent)), safe="/")


def inside(media: Path) -> Footage:
    """Return a video as the page's own; who calls this looks at `fits` first.

    Raises:
        MediaError: the file cannot be read.
    """
    try:
        content = media.read_bytes()
    except OSError as error:
        raise MediaError(media, fault=f"cannot be read ({error.strerror})", remedy=COPY_AGAIN) from None
    return Footage(content=base64.b64encode(content).decode("ascii"), kind=_kind(media))


def fits(media: Path) -> bool:
    """Say whether a video is small enough to lie inside a page.

    Raises:
        MediaError: there is no such file.
    """
    return file_size(media) <= MOST_EMBEDDED


def _kind(media: Path) -> str:
    known = mimetypes.guess_type(media.name)[0] or ""
    return known if known.startswith(("video/", "audio/")) else "video/mp4"
