"""What a file is, by its first bytes: neither its name nor what a browser calls it says what a decoder will meet."""

from __future__ import annotations

from dataclasses import dataclass

from vaprompt.media.header import LEADING_BOXES

HEAD = 512
"""Bytes that are looked at."""
SUFFIXES = ".mp4,.m4v,.mov,.mkv,.webm,.avi,.ts,.m2ts,.mts,.mpg,.mpeg,.flv,.wmv,.asf,.ogv,.mxf"
"""What a file chooser shows; of no meaning for what is taken."""
SOUND_SUFFIXES = ".wav,.m4a,.ogg"
"""What it shows besides where a run only listens."""
CONTENT_TYPES = ("video/", "audio/", "application/octet-stream", "application/mxf", "application/ogg")
"""Beginnings of what an upload may call itself: a form, a text or an archive is none."""
TS_PACKETS = ((0, 188), (4, 192))
"""Where the first packet of a transport stream begins, and where the next does so relative to the file's start."""


@dataclass(frozen=True)
class Kind:
    """A container that is taken."""

    suffix: str
    """Of the name that it is stored under."""
    content_type: str
    """What browsers are told that it is."""


MP4, MOV = Kind(".mp4", "video/mp4"), Kind(".mov", "video/quicktime")
WEBM, MKV = Kind(".webm", "video/webm"), Kind(".mkv", "video/x-matroska")
WAV = Kind(".wav", "audio/wav")
AVI, TS, MPG = Kind(".avi", "video/x-msvideo"), Kind(".ts", "video/mp2t"), Kind(".mpg", "video/mpeg")
FLV, WMV, OGV, MXF = (
    Kind(".flv", "video/x-flv"),
    Kind(".wmv", "video/x-ms-wmv"),
    Kind(".ogv", "video/ogg"),
    Kind(".mxf", "application/mxf"),
)
MAGIC = (
    (b"FLV\x01", FLV),
    (bytes.fromhex("3026b2758e66cf11"), WMV),
    (b"OggS", OGV),
    (bytes.fromhex("060e2b34"), MXF),
    (b"\x00\x00\x01\xba", MPG),
)


def suffixes(*, sound: bool) -> str:
    """Return what a file chooser shows, with files of sound alone if those are taken."""
    return f"{SUFFIXES},{SOUND_SUFFIXES}" if sound else SUFFIXES


def kind_of(head: bytes, *, sound: bool = False) -> Kind | None:
    """Return what a file is that begins with these bytes; None where it is of no kind that is read.

    Whether MP4 and Ogg hold pictures does not stand at their beginning. WAV never does, and is taken with `sound`.
    """
    if head[4:8] in LEADING_BOXES:
        return MOV if head[8:12] == b"qt  " or head[4:8] != b"ftyp" else MP4
    if head.startswith(b"\x1a\x45\xdf\xa3"):
        return WEBM if b"webm" in head[:64] else MKV
    if head.startswith(b"RIFF") and head[8:12] == b"AVI ":
        return AVI
    if sound and head.startswith(b"RIFF") and head[8:12] == b"WAVE":
        return WAV
    for first, size in TS_PACKETS:
        if head[first : first + 1] == b"G" and head[first + size : first + size + 1] == b"G":
            return TS
    return next((kind for magic, kind in MAGIC if head.startswith(magic)), None)
