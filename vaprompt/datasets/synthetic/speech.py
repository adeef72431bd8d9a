"""What a person says, as control curves: phrases, pauses, syllables, pitch, loudness, spectrum.

The sound (voice.py) and the mouth (expression.py) are both made from these curves, so that lips and voice agree.
Pitch, loudness, syllable rate and spectral tilt follow arousal; pitch range and formants follow valence, weakly.

Axes: C control instants, 100 a second; N instants; P the parameters named in `PARAMETERS`; K formants.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64

from vaprompt.datasets.synthetic.person import VoiceIdentity
from vaprompt.datasets.synthetic.trajectory import AffectPath, SmoothPath

CONTROL_RATE = 100
"""Control instants a second."""

PARAMETERS = ("talking", "pitch", "loudness", "rate", "tilt", "valence", "arousal")
"""What `Speech.parameters` returns: what the miniature sound encoder learns to hear."""

# Formants in hertz of a, e, i, o, u, and how far each opens the mouth.
VOWELS_5K = np.array(
    [[730, 1200, 2500], [530, 1840, 2480], [290, 2250, 2950], [560, 880, 2420], [320, 900, 2260]], dtype=np.float64
)
OPENNESS_5 = np.array([1.0, 0.65, 0.35, 0.75, 0.3])


class Speech:
    """One person's speech over a stretch of time."""

    def __init__(
        self, random: np.random.Generator, *, voice: VoiceIdentity, affect: AffectPath, seconds: float
    ) -> None:
        """Draw what is said within `seconds` seconds under the given feelings."""
        count = int(np.ceil(seconds * CONTROL_RATE)) + 1
        time_C = np.arange(count) / CONTROL_RATE
        valence_C, arousal_C = affect(time_C).T
        wander_C5 = SmoothPath(random, channels=5, shortest=0.5, longest=4.0)(time_C)
        gain = voice.gain

        semitones_C = gain * (5.0 * arousal_C + 0.8 * valence_C)
        # Delight swings more widely than displeasure.
        melody_C = (1.6 + 0.7 * valence_C) * wander_C5[:, 0]
        self.pitch_C = voice.pitch * 2 ** ((semitones_C + melody_C) / 12)
        self.loudness_C = voice.loudness + gain * 6.0 * arousal_C + 1.8 * wander_C5[:, 1]
        self.tilt_C = voice.tilt + gain * 3.5 * arousal_C + 1.0 * wander_C5[:, 2]
        self.rate_C = voice.rate * np.exp(gain * 0.3 * arousal_C + 0.1 * wander_C5[:, 3])
        self.talking_C = np.zeros(count)
        self.syllable_C = np.zeros(count)
        self.mouth_C = np.zeros(count)
        self.noise_C = np.zeros(count)
        formant_CK = np.repeat(VOWELS_5K[:1], count, axis=0)
        self._speak(random, arousal_C, formant_CK)
        smile_C = 1 + 0.05 * gain * valence_C
        self.formant_CK = _smoothed(formant_CK, 7) * (voice.tract * smile_C)[:, None]
        self._time_C = time_C
        self._affect_C2 = np.stack((valence_C, arousal_C), axis=1)
        self._voice = voice

    def _speak(
        self, random: np.random.Generator, arousal_C: Float64[np.ndarray, "C"], formant_CK: Float64[np.ndarray, "C K"]
    ) -> None:
        """Fill the curves phrase by phrase, syllable by syllable."""
        end = len(arousal_C)
        at = int(random.uniform(-1.0, 1.2) * CONTROL_RATE)
        while at < end:
            stop = at + int(random.uniform(1.2, 4.5) * CONTROL_RATE)
            self.talking_C[max(at, 0) : max(stop, 0)] = 1
            while at < stop:
                here = int(np.clip(at, 0, end - 1))
                length = max(int(CONTROL_RATE / self.rate_C[here] * np.exp(random.normal(0, 0.15))), 6)
                vowel = int(random.integers(5))
                stress = random.uniform(0.6, 1.0)
                arch_C = np.sin(np.pi * (np.arange(length) + 0.5) / length)
                left, right = max(at, 0), min(at + length, end)
                if left < right:
                    inside = slice(left - at, right - at)
                    self.syllable_C[left:right] = (stress * arch_C**0.7)[inside]
                    self.mouth_C[left:right] = (stress * OPENNESS_5[vowel] * arch_C)[inside]
                    formant_CK[left:right] = VOWELS_5K[vowel]
                    if random.random() < 0.4:
                        self.noise_C[left : left + min(7, right - left)] = random.uniform(0.3, 1.0)
                at += length
            here = int(np.clip(at, 0, end - 1))
            at += int(random.uniform(0.3, 1.2) * (1.5 - 0.8 * arousal_C[here]) * CONTROL_RATE)

    def mouth(self, time_N: Float64[np.ndarray, "N"]) -> Float64[np.ndarray, "N"]:
        """Return how far talking opens the mouth, 0 to 1, at the given seconds."""
        open_N: Float64[np.ndarray, "N"] = np.interp(time_N, self._time_C, self.mouth_C)
        return open_N

    def parameters(self, time_N: Float64[np.ndarray, "N"]) -> Float64[np.ndarray, "N P"]:
        """Return the parameters named in `PARAMETERS` at the given seconds, each scaled to about unit size.

        Pitch is in octaves from 150 Hz, loudness in tens of decibels, tilt in tens of decibels from -9 an octave,
        the syllable rate in the natural logarithm of its ratio to 3.9 a second.
        """
        curve_CP = np.stack(
            (
                _smoothed(self.talking_C[:, None], 31)[:, 0],
                np.log2(self.pitch_C / 150),
                self.loudness_C / 10,
                np.log(self.rate_C / 3.9),
                (self.tilt_C + 9) / 10,
                self._affect_C2[:, 0],
                self._affect_C2[:, 1],
            ),
            axis=1,
        )
        return np.stack([np.interp(time_N, self._time_C, curve_C) for curve_C in curve_CP.T], axis=1)


def _smoothed(value_CK: Float64[np.ndarray, "C K"], width: int) -> Float64[np.ndarray, "C K"]:
    """Return the running mean over `width` (odd) control instants."""
    padded_CK = np.pad(value_CK, ((width // 2, width // 2), (0, 0)), mode="edge")
    sum_CK = np.cumsum(np.concatenate((np.zeros_like(padded_CK[:1]), padded_CK)), axis=0)
    mean_CK: Float64[np.ndarray, "C K"] = (sum_CK[width:] - sum_CK[:-width]) / width
    return mean_CK
