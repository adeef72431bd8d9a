"""Opens media files so that only local media are ever read, and every fault ends in one line.

FFmpeg guesses formats from content: a text named `.mp4` could be a playlist that makes it fetch other files or
addresses. Only formats that hold their own picture and sound are allowed here, through the `file:` protocol.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.video.stream import VideoStream

from vaprompt.errors import MediaError

FORMATS = ("mov", "mp4", "avi", "matroska", "webm", "mpegts", "mpeg", "flv", "asf", "ogg", "m4v", "mxf", "wav")
LARGEST_PICTURE = 8192 * 8192
LEADING_BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot")
VITAL_BOXES = (b"moov", b"mdat", b"moof")
REPAIR = "check that it plays, or convert it with: ffmpeg -i FILE -c:v libx264 -c:a aac NEW.mp4"


@contextmanager
def opened(path: Path) -> Iterator[InputContainer]:
    """Open a media file for reading and close it at the end.

    Faults that FFmpeg finds while the body of the `with` reads on become a `MediaError` too.

    Raises:
        MediaError: the file is missing, empty, not media, cut off, or cannot be decoded.
    """
    if not path.exists():
        raise MediaError(path, fault="there is no such file", remedy="check the path")
    if not path.is_file():
        raise MediaError(path, fault="is not a file", remedy="name the video file itself")
    size = path.stat().st_size
    if size == 0:
        raise MediaError(path, fault="is empty", remedy="copy it again from where it came")
    try:
        _refuse_cut_off(path, size)
        container = av.open(
            f"file:{path}",
            metadata_errors="replace",
            container_options={"format_whitelist": ",".join(FORMATS), "protocol_whitelist": "file"},
        )
        with container:
            yield container
    except PermissionError:
        raise MediaError(path, fault="may not be read", remedy="change its permissions") from None
    except av.error.FFmpegError as error:
        raise MediaError(path, fault=f"cannot be decoded ({error.strerror})", remedy=REPAIR) from None


def video_stream(container: InputContainer, path: Path) -> VideoStream:
    """Return the main video stream, its decoder set to use all cores.

    Raises:
        MediaError: there is none, or its pictures are larger than 8192 x 8192.
    """
    stream = container.streams.best("video")
    if not isinstance(stream, VideoStream):
        raise MediaError(path, fault="has no video stream", remedy="give a file with moving pictures")
    width, height = stream.codec_context.width, stream.codec_context.height
    if width * height > LARGEST_PICTURE:
        raise MediaError(path, fault=f"{width}x{height} exceeds 8192x8192", remedy="scale the video down")
    stream.thread_type = "AUTO"
    return stream


def audio_stream(container: InputContainer) -> AudioStream | None:
    """Return the main audio stream, or None where there is none."""
    stream = container.streams.best("audio")
    return stream if isinstance(stream, AudioStream) else None


def cut_off(path: Path) -> MediaError:
    """Return the error for a file whose end is missing."""
    return MediaError(path, fault="is cut off: its end is missing", remedy="copy it again from where it came")


def _refuse_cut_off(path: Path, size: int) -> None:
    """Compare an mp4's size with the lengths that its own boxes state, before anything is decoded.

    FFmpeg plays a shortened file up to where it breaks; half a video must not pass for a whole one. Only boxes that
    matter count (ISO/IEC 14496-12, section 4.2): some recorders leave rubbish behind the last one.
    """
    with path.open("rb") as file:
        position = 0
        while position + 8 <= size:
            file.seek(position)
            length, kind = struct.unpack(">I4s", file.read(8))
            if position == 0 and kind not in LEADING_BOXES:
                return
            if length == 1:  # the length did not fit and follows in 64 bits
                length = int.from_bytes(file.read(8), "big")
            if length < 8:  # 0: up to the end of the file
                return
            position += length
            if position > size and kind in VITAL_BOXES:
                raise cut_off(path)
