"""How loud a file is over time, and where a voice is heard in it: by signal processing alone, no network.

A voice is told from noise by its pitch: short pieces of sound that repeat themselves 70 to 400 times a second and stand
out from what is quietest in the file. Singing and many instruments do so, too; a whisper does not.

Axes: G instants of a regular grid, L samples, P pieces of sound, B bins of frequency.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float32, Float64
from scipy import ndimage

from vaprompt.media.audio import audio_windows, has_audio

RATE = 16000
STEP = 0.05
"""Seconds from one instant to the next."""
PIECE = 0.064
"""Seconds of sound around an instant: more than four periods of the lowest voice."""
BLOCK = 200
"""Instants that are looked at together, 10 s."""
SILENCE = -100.0
"""The level, in dB of full scale, that stands for digital silence."""
LOWEST, HIGHEST = 70.0, 400.0
"""Pitch of voices, in hertz."""
BAND = (70.0, 1200.0)
"""Hertz in which pitch is looked for: above lie breath and hiss."""
PERIODIC = 0.55
"""Correlation of a piece with itself, one period later, from which on it counts as voiced."""
ABOVE_FLOOR, FAINTEST = 1.0, -60.0
"""Decibels by which a voice stands out from the file's quietest tenth (so that a steady hum is none), and its least
level."""
BRIDGE, SHORTEST = 0.4, 0.15
"""Seconds: a pause within speech is no silence; a click is no voice."""


@dataclass(frozen=True)
class Loudness:
    """A file's sound at instants `STEP` apart, from its first frame on."""

    level_G: Float32[np.ndarray, "G"]
    """Root mean square in dB of full scale, of a sine of full scale -3; `SILENCE` at least."""
    voice_G: Bool[np.ndarray, "G"]
    """Whether a voice is heard, short pauses included."""
    silent: bool
    """Whether the file has no sound stream, or nothing but digital silence in it."""

    def at(self, time_F: Float64[np.ndarray, "F"]) -> tuple[Float32[np.ndarray, "F"], Bool[np.ndarray, "F"]]:
        """Return level and voice at times in seconds: those of the nearest instant."""
        index_F = np.clip(np.rint(time_F / STEP).astype(np.int64), 0, len(self.level_G) - 1)
        return self.level_G[index_F], self.voice_G[index_F]


def measure_loudness(path: Path, *, last: float) -> Loudness:
    """Return how loud a media file is, and where a voice is heard, up to the time of its last frame in seconds.

    Raises:
        MediaError: the file cannot be decoded.
    """
    count = int(np.floor(max(last, 0.0) / STEP)) + 1
    if not has_audio(path):
        return Loudness(np.full(count, SILENCE, np.float32), np.zeros(count, bool), silent=True)
    first_G = np.arange(0, count, BLOCK)
    # A block's pieces reach half a piece beyond its first and last instant.
    seconds = (BLOCK - 1) * STEP + PIECE
    end_G = (first_G + BLOCK - 1) * STEP + PIECE / 2
    levels, periodic = [], []
    for wave_L in audio_windows(path, end_G.astype(np.float64), window=seconds, rate=RATE):
        level_P, period_P = _pieces(wave_L)
        levels.append(level_P)
        periodic.append(period_P)
    level_G, periodic_G = np.concatenate(levels)[:count], np.concatenate(periodic)[:count]
    return Loudness(level_G, find_voice(level_G, periodic_G), silent=bool(level_G.max() <= SILENCE))


def find_voice(level_G: Float32[np.ndarray, "G"], periodic_G: Float32[np.ndarray, "G"]) -> Bool[np.ndarray, "G"]:
    """Return where a voice is heard, from the level in dB and how much each piece repeats itself (0 to 1)."""
    floor = float(np.percentile(level_G, 10))
    loud_G = level_G > max(floor + ABOVE_FLOOR, FAINTEST)
    voiced_G = loud_G & (periodic_G >= PERIODIC)
    return ~_long_enough(~_long_enough(voiced_G, SHORTEST), BRIDGE)


def _long_enough(flag_G: Bool[np.ndarray, "G"], seconds: float) -> Bool[np.ndarray, "G"]:
    """Return the flag without its stretches that are shorter than so many seconds."""
    stretch_G, found = ndimage.label(flag_G)
    if not found:
        return flag_G
    length = np.bincount(stretch_G.ravel())
    length[0] = 0
    # What is no stretch has the length 0.
    kept_G: Bool[np.ndarray, "G"] = length[stretch_G] * STEP >= max(seconds, STEP) - 1e-9
    return kept_G


def _pieces(wave_L: Float32[np.ndarray, "L"]) -> tuple[Float32[np.ndarray, "P"], Float32[np.ndarray, "P"]]:
    """Return the level of each piece of a block in dB, and how much it repeats itself at a voice's pitch."""
    size, step = round(PIECE * RATE), round(STEP * RATE)
    piece_PL = np.lib.stride_tricks.sliding_window_view(wave_L, size)[::step]
    power_P = np.mean(np.square(piece_PL, dtype=np.float64), axis=1)
    level_P = 10 * np.log10(np.maximum(power_P, 10 ** (SILENCE / 10)))

    window_L = np.hanning(size)
    bins = 1 << (2 * size - 1).bit_length()
    spectrum_PB = np.square(np.abs(np.fft.rfft(piece_PL * window_L, bins, axis=1)))
    hertz_B = np.fft.rfftfreq(bins, 1 / RATE)
    spectrum_PB[:, (hertz_B < BAND[0]) | (hertz_B > BAND[1])] = 0
    similar_PL = np.fft.irfft(spectrum_PB, bins, axis=1)[:, :size]
    # The window alone would make every later lag look less alike.
    own_L = np.fft.irfft(np.square(np.abs(np.fft.rfft(window_L, bins))), bins)[:size]
    short, long = int(RATE / HIGHEST), int(RATE / LOWEST)
    zero_P = np.maximum(similar_PL[:, 0], 1e-12) / own_L[0]
    periodic_P = (similar_PL[:, short : long + 1] / own_L[short : long + 1]).max(axis=1) / zero_P
    return level_P.astype(np.float32), np.clip(periodic_P, 0, 1).astype(np.float32)
