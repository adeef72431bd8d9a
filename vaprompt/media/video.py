"""Video frames with the times that the container gives them.

Zero time is the first decoded frame. Neither a frame's number, nor a nominal rate, nor the file's name is ever
taken for time: Aff-Wild2 has files of 6 to 30 frames a second, some of them with a rate that varies.

Axes: N frames of a video, H height, W width, C colour channels (red, green, blue).
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from av.packet import Packet
from av.stream import Stream
from av.video.reformatter import Interpolation
from jaxtyping import Float64, UInt8

from vaprompt.errors import MediaError
from vaprompt.media.container import (
    REPAIR,
    audio_stream,
    check_picture,
    faults,
    opened,
    packets,
    pixel_aspect,
    video_stream,
)
from vaprompt.media.header import duration, lead
from vaprompt.media.limits import LONGEST_GAP, LONGEST_VIDEO, MOST_FRAMES
from vaprompt.media.patience import Pulse, patiently, patiently_each

UNSEEN = 0.01
"""By how much pixels may be no squares and are taken for some: rounded headers are, and nobody sees it."""


@dataclass(frozen=True)
class AudioInfo:
    """What a file's header says of its sound."""

    rate: int
    """Samples a second."""
    channels: int
    duration: float | None
    """Seconds; None where the header does not say."""
    start: float = 0.0
    """Seconds from the picture's first time stamp to the sound's; below 0 where the sound begins first."""


@dataclass(frozen=True)
class MediaInfo:
    """What a file's header says; what is decoded may differ a little."""

    width: int
    height: int
    rate: float | None
    """Mean frames a second; None where the header does not say."""
    duration: float | None
    """Seconds of picture; None where the header does not say."""
    audio: AudioInfo | None
    """None where there is no audio stream."""
    frames: int | None = None
    """Number of frames; None where the header does not say."""


@dataclass(frozen=True)
class VideoFrame:
    """One decoded frame."""

    frame: int
    """1-based, counted in the order of presentation."""
    time: float
    """Seconds from the first frame."""
    rgb_HWC: UInt8[np.ndarray, "H W 3"] | None
    """The picture, upright and of square pixels; None where it was not wanted."""


def probe(path: Path) -> MediaInfo:
    """Return what the header of a video file says, without decoding it.

    Raises:
        MediaError: the file is missing, is not media, is cut off, has no video stream, or breaks a limit.
    """

    def work(pulse: Pulse) -> MediaInfo:
        with opened(path) as container:
            video, audio = video_stream(container, path), audio_stream(container, path)
            return MediaInfo(
                width=video.codec_context.width,
                height=video.codec_context.height,
                rate=float(video.average_rate) if video.average_rate else None,
                duration=duration(video, container),
                audio=None
                if audio is None
                else AudioInfo(audio.rate, audio.channels, duration(audio, container), lead(video, audio)),
                frames=video.frames or None,
            )

    return patiently(path, work)


def probe_sound(path: Path) -> AudioInfo | None:
    """Return what the header of any media file says of its sound; None where there is none.

    Raises:
        MediaError: the file is missing, is not media, is cut off, or breaks a limit.
    """

    def work(pulse: Pulse) -> AudioInfo | None:
        with opened(path) as container:
            audio = audio_stream(container, path)
            return None if audio is None else AudioInfo(audio.rate, audio.channels, duration(audio, container))

    return patiently(path, work)


def frame_times(path: Path, reached: Callable[[float], None] = lambda seconds: None) -> Float64[np.ndarray, "N"]:
    """Return the presentation time of every decoded frame, in seconds from the first.

    Variable frame rates are honoured: the times are the container's time stamps.

    Args:
        path: the video file.
        reached: told the time of each frame, in another thread; what it raises is raised here.

    Raises:
        MediaError: the file cannot be decoded to its end, or its time stamps run backwards or leap.
    """

    def work(pulse: Pulse) -> Float64[np.ndarray, "N"]:
        clock, times = _Clock(path), array("d")
        with closing(_decode(path, pulse)) as frames:
            for decoded, _ in frames:
                times.append(clock.time(decoded))
                reached(times[-1])
        clock.require_frames()
        return np.array(times, dtype=np.float64)

    return patiently(path, work)


def read_frames(
    path: Path, *, wanted: Callable[[int, float], bool] | None = None, max_side: int | None = None
) -> Iterator[VideoFrame]:
    """Decode a video from its first frame to its last, holding a few frames at a time.

    Args:
        path: the video file.
        wanted: told a frame's number (1-based) and time (seconds), says whether its picture is needed; None
            wants all. Frames that are not wanted come without picture and cost their decoding only.
        max_side: pictures whose longer side has more pixels are scaled down to it (area average).

    Raises:
        MediaError: the file cannot be decoded to its end, or its time stamps run backwards or leap. A frame that
            does not decode is an error and is never skipped: all later frames would be off by one against the labels.
    """
    clock = _Clock(path)
    with closing(patiently_each(lambda: path, lambda pulse: _decode(path, pulse))) as frames:
        for number, (decoded, aspect) in enumerate(frames, start=1):
            time = clock.time(decoded)
            needed = wanted is None or wanted(number, time)
            yield VideoFrame(number, time, _picture(decoded, aspect, max_side, path) if needed else None)
    clock.require_frames()


def first_frame_seconds(path: Path, pulse: Pulse) -> float:
    """Return the container's own time of the first decoded frame, in seconds; sound is placed relative to it.

    Args:
        path: the video file.
        pulse: called whenever there is progress; who calls this watches it.

    Raises:
        MediaError: there is no frame to decode.
    """
    with closing(_decode(path, pulse)) as frames:
        for decoded, _ in frames:
            return 0.0 if decoded.time is None else decoded.time
    raise _no_frame(path)


def _decode(path: Path, pulse: Pulse) -> Generator[tuple[av.VideoFrame, float]]:
    """Yield the frames in the order of presentation, each with the width of its pixels over their height."""
    with opened(path) as container:
        stream = video_stream(container, path)
        in_slots = container.format.name == "avi" and stream.codec_context.name in _Slots.CODECS
        slots = _Slots() if in_slots else None
        aspect = pixel_aspect(stream)
        for packet in packets(container, stream, path, pulse):
            if slots is not None:
                slots.passed(packet)
            for decoded in packet.decode():
                assert isinstance(decoded, av.VideoFrame)
                check_picture(path, decoded.width, decoded.height)
                if slots is not None:
                    decoded.pts = slots.of(decoded)
                yield decoded, aspect


class _Slots:
    """Times the frames of an avi by the slots of its packets, one a frame, the first for the first frame.

    An avi says nothing else of time, and packets come in the order of decoding. Where frames may be predicted from
    later ones FFmpeg guesses: it begins late against the sound, and with H.264 can run backwards.
    """

    CODECS = ("h264", "mpeg4")

    def __init__(self) -> None:
        self._first: int | None = None
        self._delay = 0
        self._latest: int | None = None

    def passed(self, packet: Packet[Stream]) -> None:
        """Take note of a packet before it is decoded."""
        if self._first is None and packet.size:
            self._first = packet.dts

    def of(self, decoded: av.VideoFrame) -> int:
        """Return the slot of a frame; frames come in the order of presentation."""
        if decoded.dts is None:  # one of those that the decoder still held at the end
            self._latest = (self._first or 0) if self._latest is None else self._latest + 1
            return self._latest
        # The slot of the packet that brought it out, which is later by as many as the decoder holds back.
        if self._latest is None:
            self._delay = decoded.dts - (self._first or 0)
        self._latest = decoded.dts - self._delay
        return self._latest


def _no_frame(path: Path) -> MediaError:
    return MediaError(path, fault="holds no frame that can be decoded", remedy=REPAIR)


class _Clock:
    """Turns time stamps into seconds from the first frame."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._first: int | None = None
        self._latest = 0.0
        self._frames = 0

    def time(self, decoded: av.VideoFrame) -> float:
        if decoded.pts is None or not decoded.time_base:
            raise MediaError(self._path, fault="has a frame without a time stamp", remedy=REPAIR)
        if self._first is None:
            self._first = decoded.pts
        # Integers as long as possible: a difference of two rounded floats would drift from the true grid.
        ticks = (decoded.pts - self._first) * decoded.time_base.numerator
        time = ticks / decoded.time_base.denominator
        if time < self._latest:
            self._refuse(f"time stamps run backwards, from {self._latest:.3f} s to {time:.3f} s")
        if time > LONGEST_VIDEO:
            self._refuse(f"has a frame at {time:.6g} s; a video may last {LONGEST_VIDEO:.0f} s")
        if time > self._latest + LONGEST_GAP:
            self._refuse(
                f"time stamps leap from {self._latest:.3f} s to {time:.3f} s; {LONGEST_GAP:.0f} s may lie in between"
            )
        self._frames += 1
        if self._frames > MOST_FRAMES:
            fault = f"has more than the {MOST_FRAMES} frames that are allowed"
            raise MediaError(self._path, fault=fault, remedy="cut it into pieces")
        self._latest = time
        return time

    def require_frames(self) -> None:
        if not self._frames:
            raise _no_frame(self._path)

    def _refuse(self, fault: str) -> None:
        raise MediaError(self._path, fault=fault, remedy=REPAIR)


def scaled(rgb_HWC: UInt8[np.ndarray, "H W 3"], max_side: int) -> UInt8[np.ndarray, "h w 3"]:
    """Return a picture as `read_frames` hands it out: scaled down if its longer side has more pixels (area average)."""
    if max(rgb_HWC.shape[:2]) <= max_side:
        return rgb_HWC
    return _picture(
        av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb_HWC), format="rgb24"), 1.0, max_side, Path("picture")
    )


def _picture(decoded: av.VideoFrame, aspect: float, max_side: int | None, path: Path) -> UInt8[np.ndarray, "H W 3"]:
    width, height = _square(decoded.width, decoded.height, aspect)
    check_picture(path, width, height)
    scaling = Interpolation.BILINEAR
    if max_side is not None and max(width, height) > max_side:
        scale = max_side / max(width, height)
        width, height = max(1, round(width * scale)), max(1, round(height * scale))
        scaling = Interpolation.AREA
    # One thread: starting several takes longer than converting a picture.
    with faults(path):
        rgb_HWC = decoded.to_ndarray(format="rgb24", width=width, height=height, interpolation=scaling, threads=1)
        # Telephones record lying pictures and say how far they are to be turned, counter-clockwise.
        turned_HWC = np.rot90(rgb_HWC, k=round(decoded.rotation / 90))
    return np.ascontiguousarray(turned_HWC, dtype=np.uint8)


def _square(width: int, height: int, aspect: float) -> tuple[int, int]:
    """Return the size of a picture once its pixels are square: the shorter sides grow, and nothing is lost."""
    if abs(aspect - 1) <= UNSEEN:
        return width, height
    return (round(width * aspect), height) if aspect > 1 else (width, round(height / aspect))
