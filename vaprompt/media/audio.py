"""Sound on the picture's clock: mono, resampled, cut into windows that end at given times.

Zero time is the first video frame, so a stream that starts late, early or stops before the picture does lies where
it is heard; wherever there is no sound there is silence. Of a file without pictures it is the start of its sound.
Sound is decoded once, front to back, and only as much is held as one window needs.

Axes: W windows, L samples, C channels; K windows together, M samples of them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from jaxtyping import Float32, Float64, Int64

from vaprompt.errors import MediaError
from vaprompt.media.container import REPAIR, audio_stream, check_sound, has_moving_pictures, opened, packets
from vaprompt.media.limits import BACKWARDS_SOUND, LONGEST_VIDEO
from vaprompt.media.patience import Pulse, patiently, patiently_each
from vaprompt.media.video import first_frame_seconds

GAP_SECONDS = 0.02
"""Time stamps further than this from where the samples have come to are a real gap, or drift; less is rounding."""
LOST_SHARE, STRAYING_SECONDS = 0.75, 0.008
"""A lost packet, which can be shorter than that, leaves a gap of about its own length. The least is more than stamps
stray that are whole ms, or those of Vorbis' short blocks."""
PACKED = "flt"
"""FFmpeg's format of what a resampler makes, with all channels in one plane: of a frame with eight planes or more PyAV
looks for others beyond the last, and the process dies of it."""


def has_audio(path: Path) -> bool:
    """Say whether the file has an audio stream (which may hold nothing but silence).

    Raises:
        MediaError: the file is missing or is not media, or its sound breaks a limit.
    """

    def work(pulse: Pulse) -> bool:
        with opened(path) as container:
            return audio_stream(container, path) is not None

    return patiently(path, work)


def audio_tracks(path: Path) -> tuple[int, int]:
    """Return how many audio streams a file has, and which of them is read, counted from 1; zeros without any.

    Raises:
        MediaError: the file is missing or is not media, or its sound breaks a limit.
    """

    def work(pulse: Pulse) -> tuple[int, int]:
        with opened(path) as container:
            read, all_tracks = audio_stream(container, path), container.streams.audio
            return (0, 0) if read is None else (len(all_tracks), 1 + [s.index for s in all_tracks].index(read.index))

    return patiently(path, work)


def sound_extent(path: Path) -> tuple[float, float] | None:
    """Return when the sound starts and ends, in seconds from the first video frame; None without sound.

    Raises:
        MediaError: the file cannot be decoded.
    """

    def work(pulse: Pulse) -> tuple[float, float] | None:
        start = end = None
        for seconds, decoded in _decode(path, pulse):
            start = seconds if start is None else start
            end = seconds + decoded.samples / decoded.sample_rate
        return None if start is None or end is None else (start, end)

    return patiently(path, work)


def sound_start(path: Path) -> float:
    """Return the container's own time of zero, in seconds from the container's start or, if that is later, from 0.

    Raises:
        MediaError: the file cannot be decoded.
    """

    def work(pulse: Pulse) -> float:
        with opened(path) as container:
            begin = min(0.0, (container.start_time or 0) / av.time_base)
        return _zero(path, pulse) - begin

    return patiently(path, work)


def audio_windows(
    path: Path, end_W: Float64[np.ndarray, "W"], *, window: float, rate: int = 16000
) -> Iterator[Float32[np.ndarray, "L"]]:
    """Yield, for each end, the `window` seconds of sound before it: mono in [-1, 1], round(window * rate) samples.

    Args:
        path: a video file; one without an audio stream gives silence.
        end_W: the windows' ends in ascending order, in seconds from the first video frame; may be negative.
        window: length in seconds.
        rate: samples a second of the result.

    Raises:
        MediaError: the file cannot be decoded.
    """
    for together in windows_together(path, end_W, window=window, rate=rate, most=1):
        yield together.sound_M


@dataclass(frozen=True)
class Together:
    """Windows of sound that overlap, or follow each other: what all of them hear, only once."""

    sound_M: Float32[np.ndarray, "M"]
    start_K: Int64[np.ndarray, "K"]
    """Where each window begins in the sound."""


def windows_together(
    path: Path, end_W: Float64[np.ndarray, "W"], *, window: float, rate: int, most: int, most_samples: int = 0
) -> Iterator[Together]:
    """Yield the windows of `audio_windows`, several at a time: at most so many and, but for a single one, samples.

    Args:
        path: a video file; one without an audio stream gives silence.
        end_W: the windows' ends in ascending order, in seconds from the first video frame; may be negative.
        window: length in seconds.
        rate: samples a second of the result.
        most: windows that are yielded together.
        most_samples: of the sound that they are cut from; a single window may have more.

    Raises:
        MediaError: the file cannot be decoded.
    """
    if np.any(np.diff(end_W) < 0):
        raise ValueError("the ends of audio windows must ascend")
    yield from patiently_each(
        lambda: path, lambda pulse: _together(_mono_pieces(path, rate, pulse), end_W, window, rate, most, most_samples)
    )


def sound_pieces(path: Path, *, rate: int = 16000) -> Iterator[tuple[int, Float32[np.ndarray, "_"]]]:
    """Yield all of the sound piece by piece, front to back: where each starts, and its mono samples in [-1, 1].

    Places are in samples from the first video frame, before which sound can start. Where no piece lies there is
    silence; of two that overlap the later holds.

    Args:
        path: a video file; one without an audio stream gives nothing.
        rate: samples a second of the result.

    Raises:
        MediaError: the file cannot be decoded.
    """
    yield from patiently_each(lambda: path, lambda pulse: _mono_pieces(path, rate, pulse))


def channel_pieces(path: Path, *, rate: int, layout: str) -> Iterator[tuple[int, Float32[np.ndarray, "C _"]]]:
    """Yield all of the sound piece by piece, as `sound_pieces` does, with its channels.

    Args:
        path: a video file; one without an audio stream gives nothing.
        rate: samples a second of the result.
        layout: FFmpeg's name of the result's channels, such as mono or stereo.

    Raises:
        MediaError: the file cannot be decoded.
    """
    yield from patiently_each(lambda: path, lambda pulse: _pieces(path, rate, layout, pulse))


def _together(
    pieces: Iterator[tuple[int, Float32[np.ndarray, "_"]]],
    end_W: Float64[np.ndarray, "W"],
    window: float,
    rate: int,
    most: int,
    most_samples: int,
) -> Generator[Together]:
    length = round(window * rate)
    held: deque[tuple[int, Float32[np.ndarray, "_"]]] = deque()
    waiting: list[int] = []
    """Where windows start that are decoded and not handed over."""
    reached: float = -np.inf

    def handed_over() -> Together:
        first = waiting[0]
        sound_M = cut_pieces(held, first, waiting[-1] + length - first)
        start_K = np.array(waiting, dtype=np.int64) - first
        waiting.clear()
        return Together(sound_M, start_K)

    for end in end_W:
        stop = round(float(end) * rate)
        if waiting and (len(waiting) == most or stop - waiting[0] > most_samples):
            yield handed_over()
        while reached < stop:
            position, wave_L = next(pieces, (None, None))
            if position is None or wave_L is None:
                reached = np.inf
                continue
            if waiting and position < reached:
                # The later of two pieces holds, but not in windows that were decoded before it came.
                yield handed_over()
            held.append((position, wave_L))
            reached = position + len(wave_L)
        waiting.append(stop - length)
        while held and held[0][0] + len(held[0][1]) <= waiting[0]:
            held.popleft()
    if waiting:
        yield handed_over()


def cut_pieces(
    held: Iterable[tuple[int, Float32[np.ndarray, "_"]]], start: int, length: int
) -> Float32[np.ndarray, "L"]:
    """Return `length` samples from `start` on of sound that lies in pieces: silence between, the later of two holds."""
    window_L = np.zeros(length, dtype=np.float32)
    for position, wave_L in held:
        first, last = max(position, start), min(position + len(wave_L), start + length)
        if first < last:
            window_L[first - start : last - start] = wave_L[first - position : last - position]
    return window_L


def _mono_pieces(path: Path, rate: int, pulse: Pulse) -> Iterator[tuple[int, Float32[np.ndarray, "_"]]]:
    """Yield the sound piece by piece: position in samples from the first video frame, and mono samples."""
    for position, wave_CL in _pieces(path, rate, None, pulse):
        yield position, _mixed(wave_CL)


def _pieces(
    path: Path, rate: int, layout: str | None, pulse: Pulse
) -> Iterator[tuple[int, Float32[np.ndarray, "C _"]]]:
    """Yield the sound piece by piece: position in samples from the first video frame, and samples of each channel.

    Channels are those of the file where no `layout` is given.
    """
    resampler: av.AudioResampler | None = None
    given: tuple[str, str, int] | None = None
    expected = 0.0
    position = 0
    for seconds, decoded in _decode(path, pulse):
        seen = (decoded.format.name, decoded.layout.name, decoded.sample_rate)
        if resampler is None or seen != given or _lie_apart(expected, seconds, decoded):
            # A resampler knows samples, not time: after a gap, or when the stream changes, a fresh one starts.
            if resampler is not None:
                for wave_CL in _resampled(resampler, None):
                    yield position, wave_CL
                    position += wave_CL.shape[1]
            resampler = av.AudioResampler(format=PACKED, layout=layout or decoded.layout, rate=rate)
            given, position, expected = seen, round(seconds * rate), seconds
        # Counted from where the resampler started, not from the stamp before: little errors of each frame add up.
        expected += decoded.samples / decoded.sample_rate
        for wave_CL in _resampled(resampler, decoded):
            yield position, wave_CL
            position += wave_CL.shape[1]
    if resampler is not None:
        for wave_CL in _resampled(resampler, None):
            yield position, wave_CL
            position += wave_CL.shape[1]


def _lie_apart(expected: float, seconds: float, decoded: av.AudioFrame) -> bool:
    """Say whether a piece does not begin where the one before it has ended, but for the rounding of its stamp."""
    lost = max(STRAYING_SECONDS, LOST_SHARE * decoded.samples / decoded.sample_rate)
    return not -GAP_SECONDS <= seconds - expected <= min(GAP_SECONDS, lost)


def mono(resampler: av.AudioResampler, decoded: av.AudioFrame | None) -> Iterator[Float32[np.ndarray, "_"]]:
    """Yield what a resampler makes of a piece of sound, its channels mixed to one; None asks it for the rest."""
    for wave_CL in _resampled(resampler, decoded):
        yield _mixed(wave_CL)


def _mixed(wave_CL: Float32[np.ndarray, "C L"]) -> Float32[np.ndarray, "L"]:
    # The plain mean: FFmpeg's own mixing to one channel would raise two equal channels by 3 dB.
    mixed_L: Float32[np.ndarray, "L"] = wave_CL.mean(axis=0, dtype=np.float32)
    return mixed_L


def _resampled(resampler: av.AudioResampler, decoded: av.AudioFrame | None) -> Iterator[Float32[np.ndarray, "C _"]]:
    if decoded is not None:
        decoded.pts = None
    for resampled in resampler.resample(decoded):
        yield np.ascontiguousarray(resampled.to_ndarray().reshape(-1, resampled.layout.nb_channels).T)


def _zero(path: Path, pulse: Pulse) -> float:
    """Return the container's own time of what counts as zero, in seconds."""
    with opened(path) as container:
        sound = container.streams.best("audio")
        if sound is not None and not has_moving_pictures(container):
            start, base = sound.start_time, sound.time_base
            return 0.0 if start is None or base is None else float(start * base)
    return first_frame_seconds(path, pulse)


def _decode(path: Path, pulse: Pulse) -> Iterator[tuple[float, av.AudioFrame]]:
    """Yield each decoded piece of sound with the time of its start, in seconds from zero time."""
    zero = _zero(path, pulse)
    with opened(path) as container:
        stream = audio_stream(container, path)
        if stream is None:
            return
        following: float | None = None
        for packet in packets(container, stream, path, pulse):
            for decoded in packet.decode():
                assert isinstance(decoded, av.AudioFrame)
                check_sound(path, decoded.sample_rate, decoded.layout.nb_channels)
                given = None if decoded.time is None else decoded.time - zero
                seconds = given if given is not None else 0.0 if following is None else following
                if abs(seconds) > LONGEST_VIDEO:
                    fault = f"has sound at {seconds:.6g} s; {LONGEST_VIDEO:.0f} s are allowed"
                    raise MediaError(path, fault=fault, remedy=REPAIR)
                if following is not None and seconds < following - BACKWARDS_SOUND:
                    fault = f"time stamps of its sound run backwards, from {following:.3f} s to {seconds:.3f} s"
                    raise MediaError(path, fault=fault, remedy=REPAIR)
                following = seconds + decoded.samples / decoded.sample_rate
                yield seconds, decoded
