"""From speech to sound: harmonics of the pitch, weighed by formants and spectral tilt, breath, and the room's noise.

Axes: L sound samples, C control instants, N harmonics.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32, Float64

from vaprompt.datasets.synthetic.person import Conditions, VoiceIdentity
from vaprompt.datasets.synthetic.speech import CONTROL_RATE, Speech

RATE = 16000
"""Samples a second."""
HARMONICS = 30
BANDWIDTH = 110.0
"""Of the formants, in hertz."""
LEVEL = 0.09
"""Amplitude of a voice of 0 dB; leaves room for shouting."""


def sing(
    random: np.random.Generator, speech: Speech, voice: VoiceIdentity, *, samples: int
) -> Float32[np.ndarray, "L"]:
    """Return the bare voice, `samples` long, at 16 kHz, from the start of the speech."""
    time_L = np.arange(samples) / RATE
    time_C = np.arange(len(speech.pitch_C)) / CONTROL_RATE
    phase_L = 2 * np.pi * np.cumsum(np.interp(time_L, time_C, speech.pitch_C)) / RATE
    level_C = LEVEL * 10 ** (speech.loudness_C / 20) * speech.syllable_C

    wave_L = np.zeros(samples, dtype=np.float32)
    double_cos_L = (2 * np.cos(phase_L)).astype(np.float32)
    before_L, now_L = np.zeros(samples, dtype=np.float32), np.sin(phase_L).astype(np.float32)
    for number in range(1, HARMONICS + 1):
        weight_C = level_C * _spectrum(number * speech.pitch_C, speech)
        wave_L += now_L * np.interp(time_L, time_C, weight_C).astype(np.float32)
        # sin((n+1)x) = 2 cos(x) sin(nx) - sin((n-1)x): one sine for all harmonics.
        before_L, now_L = now_L, double_cos_L * now_L - before_L

    hiss_L = np.diff(random.standard_normal(samples + 1, dtype=np.float32))
    breath_C = level_C * voice.breath * 0.5 + 0.5 * LEVEL * 10 ** (speech.loudness_C / 20) * speech.noise_C
    wave_L += hiss_L * np.interp(time_L, time_C, 0.5 * breath_C).astype(np.float32)
    return wave_L


def room(random: np.random.Generator, conditions: Conditions, *, samples: int) -> Float32[np.ndarray, "L"]:
    """Return the sound of the place: coloured noise and mains hum."""
    white_L = random.standard_normal(samples + 63, dtype=np.float32)
    # A running mean leaves mostly low frequencies, as traffic and ventilation do; some white noise stays.
    sum_L = np.cumsum(np.concatenate(([0.0], white_L)), dtype=np.float64)
    dull_L = ((sum_L[64:] - sum_L[:-64]) / 8).astype(np.float32)
    time_L = np.arange(samples) / RATE
    hum_L = np.sin(2 * np.pi * 50 * time_L) + 0.5 * np.sin(2 * np.pi * 150 * time_L + random.uniform(0, 6))
    noise_L = (dull_L + 0.4 * white_L[:samples]) * LEVEL * 10 ** (conditions.hiss / 20)
    return (noise_L + hum_L * LEVEL * 10 ** (conditions.hum / 20)).astype(np.float32)


def _spectrum(frequency_C: Float64[np.ndarray, "C"], speech: Speech) -> Float64[np.ndarray, "C"]:
    """Return the amplitude that glottis and vocal tract give to a partial of the given frequency."""
    octaves_C = np.log2(np.maximum(frequency_C, 60) / 150)
    source_C = 10 ** (speech.tilt_C * octaves_C / 20)
    resonance_C = np.full_like(frequency_C, 0.12)
    for formant_C, weight in zip(speech.formant_CK.T, (1.0, 0.8, 0.5), strict=True):
        resonance_C += weight / (1 + ((frequency_C - formant_C) / BANDWIDTH) ** 2)
    # Nothing near or above half the sampling rate: it would fold back.
    level_C: Float64[np.ndarray, "C"] = source_C * resonance_C * np.clip((7500 - frequency_C) / 500, 0, 1)
    return level_C
