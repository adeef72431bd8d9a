"""How many items to encode at once: a number from the recipe, or what is fastest here, by measurement."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from jaxtyping import Float32, UInt8

from vaprompt.encoders.recipes import Batch

IN_FLIGHT = 2
"""Batches that a device works on at once: while one is copied or awaited, the other is computed."""
UNMEASURED = {"image": 16, "audio": 4}
"""What `auto` means where too little is encoded for a measurement, as in prediction."""
BUDGET = 12.0
"""Seconds after which no further size is tried."""
SHORTEST = 0.1
"""Seconds that one measurement lasts at least."""
ENOUGH = 0.98
"""The smallest size within this share of the best is taken: smaller batches need less memory and wait less."""


def fixed(batch: Batch, stream: str) -> int:
    """Return a recipe's size of batch, without measurement."""
    return UNMEASURED[stream] if batch == "auto" else batch


def fastest(
    encode: Callable[[int], object], sizes: Sequence[int], *, clock: Callable[[], float] = time.perf_counter
) -> tuple[int, dict[int, float]]:
    """Return the size of batch to use, and the items a second of each size that was tried.

    Sizes are tried from the smallest on, each with as many batches in flight as in an extraction, until two in a row
    bring nothing, the time is up, or memory does not suffice; then all are tried once more, and the better of both
    counts, so that a moment's disturbance decides nothing.

    Args:
        encode: encodes a batch of so many items, whatever they show.
        sizes: ascending.
        clock: returns seconds.
    """
    speeds: dict[int, float] = {}
    started = clock()
    with ThreadPoolExecutor(IN_FLIGHT) as pool:
        encode(sizes[0])  # the first batch also pays for what is set up once
        for size in sizes:
            try:
                speeds[size] = _speed(encode, size, pool, clock)
            except torch.OutOfMemoryError:
                break
            best = max(speeds.values())
            if clock() - started > BUDGET or all(speed < best for speed in list(speeds.values())[-2:]):
                break
        for size in speeds:
            if clock() - started <= 2 * BUDGET:
                speeds[size] = max(speeds[size], _speed(encode, size, pool, clock))
    best = max(speeds.values())
    return next(size for size, speed in speeds.items() if speed >= ENOUGH * best), speeds


def _speed(encode: Callable[[int], object], size: int, pool: ThreadPoolExecutor, clock: Callable[[], float]) -> float:
    start, items = clock(), 0
    while items == 0 or clock() - start < SHORTEST:
        for done in [pool.submit(encode, size) for _ in range(IN_FLIGHT)]:
            done.result()
        items += IN_FLIGHT * size
    return items / (clock() - start)


def sizes(device: str, stream: str) -> list[int]:
    """Return the sizes of batch that are worth trying for `image` or `audio` on a device."""
    # On the processor, larger batches only keep more waiting; a clip is as much work as six pictures.
    first, last = (0, 5) if torch.device(device).type == "cpu" else (3, 10)
    return [2**power for power in range(first, last + 1 - (3 if stream == "audio" else 0))]


def pictures(count: int, side: int) -> UInt8[np.ndarray, "B H W 3"]:
    """Return noise to measure with."""
    return np.random.default_rng(0).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def sounds(count: int, samples: int) -> Float32[torch.Tensor, "B L"]:
    """Return noise to measure with."""
    return torch.rand(count, samples, generator=torch.Generator().manual_seed(0)) - 0.5
