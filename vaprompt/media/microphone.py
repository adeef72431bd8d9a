"""Sound that arrives piece by piece, with the times at which it was heard; only the last window's length is held.

The same rules as for a file's sound (`vaprompt.media.audio`): mono, resampled, silence where none came.

Axes: L samples.
"""

from __future__ import annotations

from collections import deque

import av
import numpy as np
from jaxtyping import Float32, Int16

from vaprompt.errors import MediaError
from vaprompt.media.audio import PACKED, cut_pieces, mono
from vaprompt.media.limits import LONGEST_VIDEO, MOST_SAMPLES, SOUND_RATES

GAP_SECONDS = 0.2
"""Clocks of sound and picture drift, and messages come in bursts: times that differ by more are a real gap."""


class Microphone:
    """The last seconds of sound, at the rate that an encoder wants."""

    def __init__(self, given: int, rate: int, seconds: float) -> None:
        """Begin in silence.

        Args:
            given: samples a second of what arrives.
            rate: samples a second of what is wanted.
            seconds: how much is held.

        Raises:
            MediaError: no sound has that rate.
        """
        least, most = SOUND_RATES
        if not least <= given <= most:
            fault = f"has {given} samples a second; allowed are {least} to {most}"
            raise MediaError("the microphone", fault=fault, remedy="choose another one")
        self._given, self._rate, self._seconds = given, rate, seconds
        self._held: deque[tuple[int, Float32[np.ndarray, "_"]]] = deque()
        self._resampler: av.AudioResampler | None = None
        self._expected = 0.0
        self._position = 0

    @property
    def reached(self) -> float:
        """The time up to which sound is there, in seconds."""
        return self._position / self._rate

    def hear(self, time: float, wave_L: Int16[np.ndarray, "L"]) -> None:
        """Take in mono samples, of which the first was heard at `time`, in seconds.

        Raises:
            MediaError: they are too many at once, or lie in the past or at no time.
        """
        if not 0 <= time <= LONGEST_VIDEO or time < self._expected - self._seconds:
            raise MediaError("the microphone", fault=f"is at {time:.6g} s", remedy="begin the live view again")
        if len(wave_L) > MOST_SAMPLES:
            fault = f"brings {len(wave_L)} samples at once; {MOST_SAMPLES} are allowed"
            raise MediaError("the microphone", fault=fault, remedy="send them in smaller pieces")
        if not len(wave_L):
            return  # decoders take no frame of nothing
        if self._resampler is None or abs(time - self._expected) > GAP_SECONDS:
            # A resampler knows samples, not time: after a gap a fresh one starts.
            self._resampler = av.AudioResampler(format=PACKED, layout="mono", rate=self._rate)
            self._position, self._expected = round(time * self._rate), time
        self._expected += len(wave_L) / self._given
        piece = av.AudioFrame.from_ndarray(np.ascontiguousarray(wave_L[None]), format="s16", layout="mono")
        piece.sample_rate = self._given
        for new_L in mono(self._resampler, piece):
            self._held.append((self._position, new_L))
            self._position += len(new_L)
        while self._held and self._held[0][0] < self._position - round((self._seconds + GAP_SECONDS) * self._rate):
            self._held.popleft()

    def window(self, end: float, seconds: float) -> Float32[np.ndarray, "L"]:
        """Return the sound of the `seconds` before `end`, in [-1, 1]; silence where there is none."""
        length = round(seconds * self._rate)
        return cut_pieces(self._held, round(end * self._rate) - length, length)
