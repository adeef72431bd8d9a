"""Arrays as text that a page carries: whole numbers of few bytes, as differences, deflated, in base64.

A screen has a few thousand pixels: steps of 1/32767 in values and of 0.1 ms in time are far finer than it can show.
`assets/data.js` reads what is written here.
"""

from __future__ import annotations

import base64
import zlib
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64, Integer

STEPS = 32767
"""Steps between 0 and the largest magnitude that a packed series has."""
GAP = -32768
"""Stands where there is no value."""
TICK = 1e-4
"""Seconds that packed times are rounded to."""
EVEN = 5e-4
"""Seconds by which times may stray from an even rate and still be given as start and step."""
LEVEL = 6
"""Of the compression: 9 takes three times as long for a hundredth less."""


def series(value_N: Float[np.ndarray, "N"], limit: float = 1.0) -> dict[str, Any]:
    """Return a series of numbers, each to within limit / 65534; not-a-number becomes a gap.

    Args:
        value_N: the numbers; what is beyond +-`limit` is cut off there.
        limit: the largest magnitude.
    """
    known_N = np.isfinite(value_N)
    scaled_N = np.clip(np.where(known_N, value_N, 0) / limit, -1, 1) * STEPS
    return _packed(np.where(known_N, np.rint(scaled_N), GAP).astype("<i2"), limit / STEPS, differences=True)


def shares(value: Float[np.ndarray, "*shape"], limit: float = 1.0) -> dict[str, Any]:
    """Return numbers from 0 to `limit` in 255 steps, such as the cells of a heat map; any shape."""
    scaled = np.rint(np.clip(value / limit, 0, 1) * 255).astype("u1")
    return _packed(scaled, limit / 255) | {"shape": list(value.shape)}


def counts(value: Integer[np.ndarray, "*shape"]) -> dict[str, Any]:
    """Return whole numbers from 0 to 4 billion; any shape."""
    return _packed(value.astype("<u4"), 1) | {"shape": list(value.shape)}


def times(time_N: Float64[np.ndarray, "N"]) -> dict[str, Any]:
    """Return ascending times in seconds: start, step and count where the rate is even, else each to 0.1 ms."""
    count = len(time_N)
    if count > 1:
        even_N = np.linspace(time_N[0], time_N[-1], count)
        if np.abs(even_N - time_N).max() <= EVEN:
            return {
                "start": float(time_N[0]),
                "step": float((time_N[-1] - time_N[0]) / (count - 1)),
                "count": count,
            }
    return _packed(np.rint(time_N / TICK).astype("<i4"), TICK, differences=True)


def spans(flag_N: Bool[np.ndarray, "N"]) -> list[int]:
    """Return where a flag is set, as first index and the index behind the last, one stretch after the other."""
    edge = np.flatnonzero(np.diff(np.concatenate(([False], flag_N, [False])).astype(np.int8)))
    return [int(index) for index in edge]


def extremes(
    value_N: Float[np.ndarray, "N"], columns: int
) -> tuple[Float64[np.ndarray, "C"], Float64[np.ndarray, "C"]]:
    """Return the least and the greatest value that fall on each of `columns` pixels (nan: none): no peak is lost."""
    if not len(value_N):
        return np.full(columns, np.nan), np.full(columns, np.nan)
    column_N = np.arange(len(value_N)) * columns // len(value_N)
    low_C, high_C = np.full(columns, np.inf), np.full(columns, -np.inf)
    known_N = np.isfinite(value_N)
    np.minimum.at(low_C, column_N[known_N], value_N[known_N])
    np.maximum.at(high_C, column_N[known_N], value_N[known_N])
    return np.where(np.isinf(low_C), np.nan, low_C), np.where(np.isinf(high_C), np.nan, high_C)


def telling(value_NC: Float[np.ndarray, "N C"], most: int) -> Int64[np.ndarray, "M"]:
    """Return which rows to keep so that about `most` remain and no peak is lost; all of them where they are few.

    Of each stretch of rows those are kept in which some column is least or greatest; the first and the last, too.
    """
    count, columns = value_NC.shape
    if count <= most:
        return np.arange(count)
    length = -(-count * (2 * columns) // max(most, 2 * columns))
    known_NC = np.where(np.isfinite(value_NC), value_NC, 0)
    kept = {0, count - 1}
    for first in range(0, count, length):
        stretch_LC = known_NC[first : first + length]
        kept.update((first + stretch_LC.argmin(axis=0)).tolist(), (first + stretch_LC.argmax(axis=0)).tolist())
    return np.array(sorted(kept), dtype=np.int64)


def _packed(value: np.ndarray, scale: float, *, differences: bool = False) -> dict[str, Any]:
    """Return integers as JSON-ready values; differences of neighbours compress far better where a series is smooth."""
    if differences:
        # Modulo the type's range, as the reader's sums are.
        value = np.diff(value, prepend=value.dtype.type(0))
    deflate = zlib.compressobj(LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
    data = deflate.compress(np.ascontiguousarray(value).tobytes()) + deflate.flush()
    return {
        "type": value.dtype.str.lstrip("<|"),
        "count": int(value.size),
        "scale": scale,
        "differences": differences,
        "data": base64.b64encode(data).decode("ascii"),
    }
