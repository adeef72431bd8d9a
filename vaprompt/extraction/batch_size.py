"""How many items to encode at once: a number from the recipe, or what is fastest here, by measurement."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import torch
from jaxtyping import Float32, UInt8

from vaprompt.encoders.recipes import AudioEncoderRecipe, ImageEncoderRecipe
from vaprompt.memory import is_lack_of_memory

IN_FLIGHT, IN_FLIGHT_ELSEWHERE = 2, 3
"""Batches that the processor, or an accelerator, works on at once: while one is computed, others are put together,
copied and awaited. On an H200, two gave 0.92 of the network's own speed, three 0.95, four 0.97 for more memory."""
UNMEASURED_PICTURES, UNMEASURED_WINDOWS = 16, 4
"""What `auto` means where too little is encoded for a measurement, as in prediction."""
BUDGET = 10.0
"""Seconds after which nothing further is tried."""
SHORTEST = 0.1
"""Seconds that one measurement lasts at least."""
ROUNDS = 3
"""How often a size that may be the best is measured, in turns, so that a moment's disturbance decides nothing."""
HOPEFUL, ENOUGH = 0.5, 0.98
"""What is slower than the first share of the best is not measured again. Of sizes within the second share of the best,
the processor's is the smallest: it needs less memory and waits less. An accelerator's is the largest, as every batch
costs the threads that feed it: on an H200, an AST is as fast with 16 windows as with 32, and the extraction is not."""
LONG, GAIN = 1.0, 1.05
"""Sizes are not raised further where a batch takes so many seconds and the latest raise gained less than this."""


def in_flight(device: str) -> int:
    """Return how many batches a device works on at once."""
    return IN_FLIGHT if torch.device(device).type == "cpu" else IN_FLIGHT_ELSEWHERE


def own_stream(device: str) -> None:
    """Let this thread tell a GPU what to do in a stream of its own: one batch is copied while another is computed."""
    if torch.device(device).type == "cuda":
        stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        torch.cuda.set_device(stream.device)
        torch.cuda.set_stream(stream)


def fixed(recipe: ImageEncoderRecipe | AudioEncoderRecipe) -> int:
    """Return a recipe's size of batch, without measurement."""
    unmeasured = UNMEASURED_PICTURES if isinstance(recipe, ImageEncoderRecipe) else UNMEASURED_WINDOWS
    return unmeasured if recipe.batch == "auto" else recipe.batch


def fastest(
    encode: Callable[[int], object],
    sizes: Sequence[int],
    *,
    device: str = "cpu",
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[int, dict[int, float]]:
    """Return the size of batch to use, and the items a second of each size that was tried and may be used.

    Sizes are tried from the smallest on, each with as many batches in flight as in an extraction, until two in a row
    bring nothing, batches get long for little, the time is up, or memory does not suffice. Those that are near the
    best are then measured again in turns, and each size's best measurement counts: disturbances only make it slower.
    Where a size once ran out of memory, at most half of it is used, also if that is less than the smallest.

    Args:
        encode: encodes a batch of so many items, whatever they show.
        sizes: ascending.
        device: works on as many batches at once as in an extraction.
        clock: returns seconds.
    """
    speeds: dict[int, float] = {}
    started = clock()
    flying = in_flight(device)

    def measure(size: int) -> bool:
        """Note a size's speed, or that it does not fit; return whether it does."""
        speed = _speed(encode, size, pool, flying, clock)
        if speed is not None:
            speeds[size] = max(speed, speeds.get(size, 0.0))
            return True
        if torch.device(device).type != "cpu":
            torch.accelerator.empty_cache()  # what it took is of no use to smaller batches
        for other in [other for other in speeds if 2 * other > size]:
            del speeds[other]
        return False

    with ThreadPoolExecutor(flying, initializer=own_stream, initargs=(device,)) as pool:
        _fits(encode, sizes[0])  # the first batch also pays for what is set up once
        for size in sizes:
            if not measure(size) or clock() - started > BUDGET or not _worth_raising(speeds, flying):
                break
        for _ in range(ROUNDS - 1):
            for size in [size for size, speed in speeds.items() if speed >= HOPEFUL * max(speeds.values())]:
                if size in speeds and clock() - started <= 2 * BUDGET:
                    measure(size)
    if not speeds:
        return max(1, sizes[0] // 2), speeds
    best = max(speeds.values())
    as_fast = [size for size, speed in speeds.items() if speed >= ENOUGH * best]
    return as_fast[0 if torch.device(device).type == "cpu" else -1], speeds


def _worth_raising(speeds: dict[int, float], flying: int) -> bool:
    *before, (size, speed) = speeds.items()
    if not before:
        return True
    best = max(speeds.values())
    if all(speed < best for speed in list(speeds.values())[-2:]):
        return False
    seconds = flying * size / speed
    return seconds < LONG or speed >= GAIN * before[-1][1]


def _speed(
    encode: Callable[[int], object], size: int, pool: ThreadPoolExecutor, flying: int, clock: Callable[[], float]
) -> float | None:
    """Return the items a second, or None where memory does not suffice; none of the batches is under way then."""
    start, items = clock(), 0
    while items == 0 or clock() - start < SHORTEST:
        if not all(list(pool.map(partial(_fits, encode), [size] * flying))):
            return None
        items += flying * size
    return items / (clock() - start)


def _fits(encode: Callable[[int], object], size: int) -> bool:
    """Encode, and return whether there was memory for it."""
    try:
        encode(size)
    except (RuntimeError, MemoryError, OSError) as error:
        if not is_lack_of_memory(error):
            raise
        # Nobody keeps the error: its traceback would keep all that the batch had come to.
        return False
    return True


def sizes(device: str, stream: str) -> list[int]:
    """Return the sizes of batch that are worth trying for `image` or `audio` on a device."""
    # On the processor, larger batches only keep more waiting; a clip is as much work as six pictures.
    first, last = (0, 5) if torch.device(device).type == "cpu" else (3, 10)
    return [2**power for power in range(first, last + 1 - (3 if stream == "audio" else 0))]


def pictures(count: int, side: int) -> UInt8[np.ndarray, "B H W 3"]:
    """Return noise to measure with."""
    return np.random.default_rng(0).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def sounds(count: int, samples: int) -> Float32[np.ndarray, "B L"]:
    """Return noise to measure with."""
    return np.random.default_rng(0).random((count, samples), dtype=np.float32) - np.float32(0.5)
