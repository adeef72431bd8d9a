"""Video frames with the times that the container gives them.

Zero time is the first decoded frame. Neither a frame's number, nor a nominal rate, nor the file's name is ever
taken for time: Aff-Wild2 has files of 6 to 30 frames a second, some of them with a rate that varies.

Axes: N frames of a video, H height, W width, C colour channels (red, green, blue).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.video.reformatter import Interpolation
from av.video.stream import VideoStream
from jaxtyping import Float64, UInt8

from vaprompt.errors import MediaError
from vaprompt.media.container import REPAIR, audio_stream, cut_off, opened, video_stream


@dataclass(frozen=True)
class AudioInfo:
    """What a file's header says of its sound."""

    rate: int
    """Samples a second."""
    channels: int
    duration: float | None
    """Seconds; None where the header does not say."""


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
    """The picture, upright; None where it was not wanted."""


def probe(path: Path) -> MediaInfo:
    """Return what the header of a video file says, without decoding it.

    Raises:
        MediaError: the file is missing, is not media, is cut off, or has no video stream.
    """
    with opened(path) as container:
        video, audio = video_stream(container, path), audio_stream(container)
        return MediaInfo(
            width=video.codec_context.width,
            height=video.codec_context.height,
            rate=float(video.average_rate) if video.average_rate else None,
            duration=_duration(video, container),
            audio=None if audio is None else AudioInfo(audio.rate, audio.channels, _duration(audio, container)),
            frames=video.frames or None,
        )


def frame_times(path: Path) -> Float64[np.ndarray, "N"]:
    """Return the presentation time of every decoded frame, in seconds from the first.

    Variable frame rates are honoured: the times are the container's time stamps.

    Raises:
        MediaError: the file cannot be decoded to its end, or its time stamps run backwards.
    """
    return np.array([frame.time for frame in read_frames(path, wanted=lambda frame, time: False)], dtype=np.float64)


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
        MediaError: the file cannot be decoded to its end, or its time stamps run backwards. A frame that does
            not decode is an error and is never skipped: all later frames would be off by one against the labels.
    """
    number = 0
    with opened(path) as container:
        clock = _Clock(path)
        for decoded in _decode(container, path):
            number += 1
            time = clock.time(decoded)
            needed = wanted is None or wanted(number, time)
            yield VideoFrame(number, time, _picture(decoded, max_side) if needed else None)
    if number == 0:
        raise MediaError(path, fault="holds no frame that can be decoded", remedy=REPAIR)


def first_frame_seconds(path: Path) -> float:
    """Return the container's own time of the first decoded frame, in seconds; sound is placed relative to it.

    Raises:
        MediaError: there is no frame to decode.
    """
    with opened(path) as container:
        for decoded in _decode(container, path):
            return 0.0 if decoded.time is None else decoded.time
    raise MediaError(path, fault="holds no frame that can be decoded", remedy=REPAIR)


def _decode(container: InputContainer, path: Path) -> Iterator[av.VideoFrame]:
    for packet in container.demux(video_stream(container, path)):
        if packet.is_corrupt:
            raise cut_off(path)
        for decoded in packet.decode():
            assert isinstance(decoded, av.VideoFrame)
            yield decoded


class _Clock:
    """Turns time stamps into seconds from the first frame."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._first: int | None = None
        self._latest = 0.0

    def time(self, decoded: av.VideoFrame) -> float:
        if decoded.pts is None or decoded.time_base is None:
            raise MediaError(self._path, fault="has a frame without a time stamp", remedy=REPAIR)
        if self._first is None:
            self._first = decoded.pts
        # Integers as long as possible: a difference of two rounded floats would drift from the true grid.
        ticks = (decoded.pts - self._first) * decoded.time_base.numerator
        time = ticks / decoded.time_base.denominator
        if time < self._latest:
            raise MediaError(
                self._path, fault=f"time stamps run backwards, from {self._latest:.3f} s to {time:.3f} s", remedy=REPAIR
            )
        self._latest = time
        return time


def _picture(decoded: av.VideoFrame, max_side: int | None) -> UInt8[np.ndarray, "H W 3"]:
    width, height = decoded.width, decoded.height
    scaling = Interpolation.BILINEAR
    if max_side is not None and max(width, height) > max_side:
        scale = max_side / max(width, height)
        width, height = max(1, round(width * scale)), max(1, round(height * scale))
        scaling = Interpolation.AREA
    # One thread: starting several takes longer than converting a picture.
    rgb_HWC = decoded.to_ndarray(format="rgb24", width=width, height=height, interpolation=scaling, threads=1)
    # Telephones record lying pictures and say how far they are to be turned, counter-clockwise.
    turned_HWC = np.rot90(rgb_HWC, k=round(decoded.rotation / 90))
    return np.ascontiguousarray(turned_HWC, dtype=np.uint8)


def _duration(stream: VideoStream | av.AudioStream, container: InputContainer) -> float | None:
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    return None if container.duration is None else container.duration / av.time_base
