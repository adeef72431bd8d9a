"""A video that is written picture by picture, with the sound of another: H.264 and AAC, which play everywhere.

Axes: H height, W width, C channels of sound, L samples.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.video.reformatter import ColorRange, Colorspace
from av.video.stream import VideoStream
from jaxtyping import Float32, UInt8

from vaprompt.errors import TargetError
from vaprompt.files import published, require_file
from vaprompt.media.audio import channel_pieces
from vaprompt.media.video import AudioInfo

SUFFIXES = (".mp4", ".m4v", ".mov")
TICKS = 90_000
"""Time stamps a second: fine enough for every rate that cameras have."""
QUALITY = {"crf": "20", "preset": "veryfast"}
BT709 = 1
"""The number of what high-definition pictures' colours mean, in FFmpeg's tables."""
SOUND_RATES = (16000, 22050, 24000, 32000, 44100, 48000)
"""Samples a second that are kept; other sound is resampled to the last."""
SOUND_BITS = 96_000
"""Bits a second for each channel of sound."""
PIECE = 48_000
"""Samples of silence that are written at once where there is no sound."""


class VideoWriter:
    """Takes pictures with their times; `written` makes one."""

    def __init__(self, container: OutputContainer, width: int, height: int, rate: float, sound: _Sound | None) -> None:
        """Begin; see `written`."""
        self._container = container
        # Players take the rate for no more than a hint; the time stamps are what counts.
        nominal = Fraction(min(max(rate, 1.0), 240.0)).limit_denominator(1001)
        stream = container.add_stream("libx264", rate=nominal, options=QUALITY)
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        context = stream.codec_context
        context.time_base = Fraction(1, TICKS)
        context.gop_size = max(1, round(2 * nominal))
        context.colorspace = context.color_primaries = context.color_trc = BT709
        context.color_range = ColorRange.MPEG
        self._stream, self._sound, self._latest = stream, sound, -1

    def add(self, rgb_HWC: UInt8[np.ndarray, "H W 3"], time: float) -> None:
        """Write a picture that is shown from a time on, in seconds; times ascend, the first is 0."""
        frame = av.VideoFrame.from_ndarray(rgb_HWC, format="rgb24")
        frame = frame.reformat(format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG)
        # Two frames at one moment, which some cameras write, are shown one after the other.
        self._latest = max(round(time * TICKS), self._latest + 1)
        frame.pts, frame.time_base = self._latest, Fraction(1, TICKS)
        self._container.mux(self._stream.encode(frame))
        # Side by side, as files are read: else all of one would have to wait in memory for the other.
        if self._sound is not None:
            self._sound.reach(time)

    def finish(self) -> None:
        """Write what still waits, and the rest of the sound."""
        self._container.mux(self._stream.encode(None))
        if self._sound is not None:
            self._sound.finish()


class _Sound:
    """Writes the sound of a media file from its first frame on, silence where there is none."""

    def __init__(self, container: OutputContainer, path: Path, info: AudioInfo) -> None:
        self._container = container
        self._rate = info.rate if info.rate in SOUND_RATES else SOUND_RATES[-1]
        self._channels = min(info.channels, 2)
        self._layout = ("mono", "stereo")[self._channels - 1]
        stream = container.add_stream("aac", rate=self._rate, layout=self._layout)
        assert isinstance(stream, AudioStream)
        stream.codec_context.bit_rate = SOUND_BITS * self._channels
        self._stream = stream
        self._pieces = channel_pieces(path, rate=self._rate, layout=self._layout)
        self._next: tuple[int, Float32[np.ndarray, "C L"]] | None = next(self._pieces, None)
        self._written = 0

    def reach(self, time: float) -> None:
        """Write everything that begins before a time, in seconds."""
        while self._next is not None and self._next[0] < time * self._rate:
            position, wave_CL = self._next
            self._silence(position)
            # What lies before the first frame, or was there already, is left out.
            self._write(wave_CL[:, max(0, self._written - position) :])
            self._next = next(self._pieces, None)

    def finish(self) -> None:
        self.reach(float("inf"))
        self._container.mux(self._stream.encode(None))

    def _silence(self, until: int) -> None:
        while self._written < until:
            self._write(np.zeros((self._channels, min(PIECE, until - self._written)), np.float32))

    def _write(self, wave_CL: Float32[np.ndarray, "C L"]) -> None:
        if not wave_CL.shape[1]:
            return
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(wave_CL), format="fltp", layout=self._layout)
        frame.sample_rate, frame.time_base, frame.pts = self._rate, Fraction(1, self._rate), self._written
        self._container.mux(self._stream.encode(frame))
        self._written += wave_CL.shape[1]


@contextmanager
def written(
    target: Path, *, width: int, height: int, rate: float, sound: tuple[Path, AudioInfo] | None = None
) -> Iterator[VideoWriter]:
    """Yield what takes a video's pictures; when the block ends well, the video is published at `target`.

    Args:
        target: the video; `check_target` says what is wrong with it beforehand.
        width: pixels, an even number.
        height: pixels, an even number.
        rate: pictures a second, roughly.
        sound: a media file with sound and what its header says of that; it starts with the file's first frame.

    Raises:
        TargetError: the file cannot be written.
        MediaError: the sound cannot be decoded.
    """
    with published(target) as aside:
        try:
            # Its index comes first, so that a browser can begin before it has all.
            with av.open(str(aside), "w", format="mp4", options={"movflags": "+faststart"}) as container:
                heard = None if sound is None else _Sound(container, *sound)
                writer = VideoWriter(container, width, height, rate, heard)
                yield writer
                writer.finish()
        except av.error.FFmpegError as error:
            fault = f"cannot be written ({error.strerror})"
            raise TargetError(target, fault=fault, remedy="check the path, its rights and the disk") from None


def check_target(target: Path, media: Path) -> None:
    """Refuse a target that no video can be written to.

    Raises:
        TargetError: it is called otherwise than such a video, is the file that is read, or cannot be written.
    """
    if target.suffix.lower() not in SUFFIXES:
        fault = f"'{target.suffix}' is no suffix of an H.264 video"
        raise TargetError(target, fault=fault, remedy="name a .mp4 file")
    if target.exists() and media.exists() and target.samefile(media):
        raise TargetError(target, fault="is the video that is read", remedy="name another file")
    require_file(target)
