"""Small videos written on the spot, whose every frame and sample is known."""

from __future__ import annotations

import wave
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

WAV_RATE = 16000
LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1", 8: "7.1", 16: "hexadecagonal"}
"""FFmpeg's names of what sound with so many channels is written as."""


def grey(frame: int) -> int:
    """Return the brightness that frame `frame` (1-based) is painted with: neighbours differ by 16."""
    return 16 + 16 * ((frame - 1) % 14)


def write_clip(
    path: Path,
    *,
    times_ms: Sequence[int] = tuple(range(0, 1000, 40)),
    size: tuple[int, int] = (64, 48),
    sound: np.ndarray | None = None,
    sound_rate: int = 44100,
    sound_start: float = 0.0,
    video: str = "libx264",
    audio: str = "aac",
    options: dict[str, str] | None = None,
    rotation: int = 0,
    pixels: Fraction = Fraction(1),
) -> Path:
    """Write a grey frame at each time, and `sound` (samples, channels) in [-1, 1] from `sound_start` seconds on.

    `pixels` is their width over their height.
    """
    with av.open(str(path), "w", options=options or {}) as container:
        stream = container.add_stream(video, rate=1000 if video == "libx264" else 25)
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        # A finite time base for the codec too, else it rounds the times to its nominal rate.
        stream.codec_context.time_base = Fraction(1, 1000) if video == "libx264" else Fraction(1, 25)
        stream.codec_context.sample_aspect_ratio = pixels
        if rotation:
            stream.set_display_rotation(rotation)
        speech = None
        if sound is not None:
            speech = container.add_stream(audio, rate=sound_rate, layout=LAYOUTS[sound.shape[1]])
            for packet in speech.encode(_piece(sound, sound_rate, sound_start)) if len(sound) else ():
                container.mux(packet)
        for number, time in enumerate(times_ms, start=1):
            picture = np.full((size[1], size[0], 3), grey(number), dtype=np.uint8)
            picture[:8, :8] = 255  # marks the upper left corner
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            if video == "libx264":
                frame.pts, frame.time_base = time, Fraction(1, 1000)
            else:
                frame.pts, frame.time_base = number - 1, Fraction(1, 25)
            for packet in stream.encode(frame):
                container.mux(packet)
        for flushed in container.streams:
            for packet in flushed.encode(None):
                container.mux(packet)
    return path


def _piece(sound: np.ndarray, rate: int, start: float) -> av.AudioFrame:
    whole = np.round(np.clip(sound, -1, 1) * 32767).astype(np.int16)
    frame = av.AudioFrame.from_ndarray(
        np.ascontiguousarray(whole.reshape(1, -1)), format="s16", layout=LAYOUTS[sound.shape[1]]
    )
    frame.sample_rate = rate
    frame.pts, frame.time_base = round(start * rate), Fraction(1, rate)
    return frame


def write_wav(path: Path, wave_L: np.ndarray) -> Path:
    """Write mono sound in [-1, 1] as 16-bit numbers, `WAV_RATE` a second."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(WAV_RATE)
        file.writeframes((wave_L * 32767).round().clip(-32768, 32767).astype("<i2").tobytes())
    return path
