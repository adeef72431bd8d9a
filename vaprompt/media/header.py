"""Where a media file ends by its own account, so that half a video does not pass for a whole one.

FFmpeg plays a shortened file up to where it breaks, without an error if that is between two packets.
"""

from __future__ import annotations

import re
import struct
from pathlib import Path

import av
from av.container import InputContainer
from av.packet import Packet
from av.stream import Stream
from av.video.stream import VideoStream

LEADING_BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot")
VITAL_BOXES = (b"moov", b"mdat", b"moof")
FEW_FRAMES, FEW_SHARE = 10, 0.01
"""A header may be off by no more than one of these, as annotations may (conventions of Aff-Wild2)."""
USUAL_RATE = 20.0
"""Frames a second, to make frames of seconds, where the header states more or none: high rates are mostly nominal."""
HEAD_BYTES = 2**20
UNKNOWN_LENGTH = 2**32 - 1
"""What a wav says that was written into a pipe."""
MATROSKA_DURATION = re.compile(rb"\x15\x49\xa9\x66.{1,4096}?\x44\x89(\x84.{4}|\x88.{8})", re.DOTALL)
"""Element Duration inside element Info (RFC 9559, sections 5.1.2 and 5.1.2.10), a float of 4 or 8 bytes."""


def is_cut_off(path: Path, size: int) -> bool:
    """Compare the size of an mp4 or wav with the lengths that it states itself, before anything is decoded.

    Of an mp4 only boxes that matter count (ISO/IEC 14496-12, section 4.2): some recorders leave rubbish behind the
    last one.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        position = 0
        while position + 8 <= size:
            file.seek(position)
            length, kind = struct.unpack(">I4s", file.read(8))
            if position == 0 and length == int.from_bytes(b"RIFF", "big"):
                stated = int.from_bytes(kind, "little")
                return file.read(4) == b"WAVE" and stated != UNKNOWN_LENGTH and stated + 8 > size + 1
            if position == 0 and kind not in LEADING_BOXES:
                return False
            if length == 1:  # the length did not fit and follows in 64 bits
                length = int.from_bytes(file.read(8), "big")
            if length < 8:  # 0: up to the end of the file
                return False
            position += length
            if position > size and kind in VITAL_BOXES:
                return True
    return False


def duration(stream: Stream, container: InputContainer) -> float | None:
    """Return the seconds that the header states for a stream, or else for the file; None where it does not."""
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    if container.duration is None:
        return None
    seconds, start = container.duration / av.time_base, (container.start_time or 0) / av.time_base
    # FFmpeg states in an mkv or webm where it ends, whenever it begins.
    return seconds - start if "matroska" in container.format.name and 0 < start < seconds else seconds


def lead(first: Stream, second: Stream) -> float:
    """Return the seconds from the first stream's start to the second's; 0 where the header states no length of it."""
    begin, start = first.start_time, second.start_time
    if second.duration is None or begin is None or start is None or not (first.time_base and second.time_base):
        return 0.0
    return float(start * second.time_base) - float(begin * first.time_base)


class StatedEnd:
    """Compares the end that the header of an avi or mkv states with where its packets end.

    Lengths are compared, not numbers of frames: an avi counts frames that it dropped. Other containers are left out:
    FFmpeg knows their length from their end, or guesses it.
    """

    def __init__(self, container: InputContainer, path: Path) -> None:
        """Take what the header says."""
        self._container = container
        self._end = [-(2**63)] * len(container.streams)
        self._stated, self._frame = _stated(container, path), _frame_seconds(container)

    def passed(self, packet: Packet[Stream]) -> None:
        """Take note of a packet of any stream."""
        start = packet.dts if packet.pts is None else packet.pts
        if start is not None and (index := packet.stream.index) < len(self._end):
            self._end[index] = max(self._end[index], start + (packet.duration or 0))

    def short(self) -> str | None:
        """Return by how much the packets that passed fall short, in words; None where they do not."""
        if self._stated is None:
            return None
        ends = [
            float(end * stream.time_base)
            for end, stream in zip(self._end, self._container.streams, strict=False)
            if stream.time_base is not None and end > -(2**63)
        ]
        reached = max(ends, default=0.0)
        missing = self._stated - reached
        if missing <= FEW_FRAMES * self._frame or missing <= FEW_SHARE * self._stated:
            return None
        return f"it ends at {reached:.2f} s, and its header states {self._stated:.2f} s"


def _stated(container: InputContainer, path: Path) -> float | None:
    """Return the seconds that a header really states; FFmpeg's own number can be an estimate."""
    if container.format.name == "avi":
        video = container.streams.best("video")
        if not isinstance(video, VideoStream) or video.time_base is None:
            return None
        # One tick is one frame; FFmpeg makes the duration of a shortened file fit its size.
        return float(video.frames * video.time_base) or None
    if "matroska" in container.format.name and container.duration is not None:
        with path.open("rb") as file:
            if MATROSKA_DURATION.search(file.read(HEAD_BYTES)):
                return container.duration / av.time_base
    return None


def _frame_seconds(container: InputContainer) -> float:
    video = container.streams.best("video")
    rate = video.average_rate if isinstance(video, VideoStream) else None
    return 1 / min(USUAL_RATE, float(rate) if rate else USUAL_RATE)
