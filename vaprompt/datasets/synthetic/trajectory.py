"""Smooth random functions of time, from which everything that moves in a synthetic video is made.

Each is a sum of sinusoids with random periods and phases, so that it can be asked for any instant: pictures and
sound, whatever their rates, are samples of one and the same motion.

Axes: N instants, C channels, K sinusoids.
"""

from __future__ import annotations

import zlib

import numpy as np
from jaxtyping import Float64

WAVES = 12
"""Sinusoids a channel; with a dozen the values are very nearly normally distributed."""


def random_source(seed: int, *names: str | int) -> np.random.Generator:
    """Return the random numbers for one named purpose; other names give independent ones."""
    keys = [name if isinstance(name, int) else zlib.crc32(name.encode()) for name in names]
    return np.random.default_rng([seed, *keys])


class SmoothPath:
    """`channels` independent functions of time, each of zero mean and unit variance over the long run."""

    def __init__(self, random: np.random.Generator, *, channels: int, shortest: float, longest: float) -> None:
        """Draw the functions; their periods lie between `shortest` and `longest` seconds, evenly in the logarithm."""
        period_CK = np.exp(random.uniform(np.log(shortest), np.log(longest), (channels, WAVES)))
        self._pulse_CK = 2 * np.pi / period_CK
        self._phase_CK = random.uniform(0, 2 * np.pi, (channels, WAVES))

    def __call__(self, time_N: Float64[np.ndarray, "N"]) -> Float64[np.ndarray, "N C"]:
        """Return the values at the given seconds."""
        value_CN = np.empty((len(self._pulse_CK), len(time_N)))
        for value_N, pulse_K, phase_K in zip(value_CN, self._pulse_CK, self._phase_CK, strict=True):
            value_N[:] = np.cos(time_N[:, None] * pulse_K + phase_K).sum(axis=1)
        value_CN *= np.sqrt(2 / WAVES)
        return value_CN.T


class AffectPath:
    """Valence and arousal over time: every part of the plane is visited equally often in the long run."""

    # An extreme follows the opposite one after half a period, so from 3 s on.
    SHORTEST = 6.0
    REACH = 0.95

    def __init__(self, random: np.random.Generator, *, longest: float) -> None:
        """Draw a path whose slowest waves take `longest` seconds."""
        self._path = SmoothPath(random, channels=2, shortest=self.SHORTEST, longest=longest)

    def __call__(self, time_N: Float64[np.ndarray, "N"]) -> Float64[np.ndarray, "N 2"]:
        """Return valence and arousal, within [-0.95, 0.95], at the given seconds."""
        affect_N2: Float64[np.ndarray, "N 2"] = self.REACH * uniform_from_normal(self._path(time_N))
        return affect_N2


def uniform_from_normal(value: Float64[np.ndarray, "*any"]) -> Float64[np.ndarray, "*any"]:
    """Map normally distributed values to evenly distributed ones in (-1, 1) (tanh form of the error function)."""
    even: Float64[np.ndarray, "*any"] = np.tanh(np.sqrt(2 / np.pi) * (value + 0.044715 * value**3))
    return even
