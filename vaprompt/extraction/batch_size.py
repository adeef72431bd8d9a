"""How many items to encode at once: a number from the recipe, or what is fastest here, by measurement."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from jaxtyping import Float32, UInt8

from vaprompt.encoders.recipes import AudioEncoderRecipe, ImageEncoderRecipe
from vaprompt.lanes import Worked, lanes
from vaprompt.memory import is_lack_of_memory

IN_FLIGHT, IN_FLIGHT_ELSEWHERE = 2, 3
"""Batches that the processor, or an accelerator, works on at once: while one is computed, others are put together,
copied and awaited. On an H200, two gave 0.92 of the network's own speed, three 0.95, four 0.97 for more memory."""
UNMEASURED_PICTURES, UNMEASURED_WINDOWS = 16, 4
"""What `auto` means where too little is encoded for a measurement, as in prediction."""
BUDGET, COMPARED = 10.0, 20.0
"""Seconds after which nothing further is tried, and after which no further turn of comparisons begins."""
TRIED, MEASURED = 0.1, 0.5
"""Seconds that a size is tried at least, and measured at least in every turn."""
TURNS, CLEAR = 3, 0.02
"""The sizes that may be the best are measured in turns, each once a turn: so often at least, and on until the standard
error of how much slower than the best one is falls below this share for all of them. What matters is how they compare
in the same turn, on average over the turns: a machine's speed may also rise for a moment."""
HOPEFUL, CHANCE = 0.5, 0.8
"""What is slower than the first share of the best when it is tried is not compared; what is slower than the second
after two turns is not measured again."""
ENOUGH = 0.98
"""Of sizes within this share of the best, the processor's is the smallest: it needs less memory and waits less. An
accelerator's is the largest, as every batch costs the threads that feed it: on an H200, an AST is as fast with 16
windows as with 32, and the extraction is not."""
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
    best are then compared in turns, so that a machine whose speed comes and goes treats all of them alike. On the
    processor they are compared by how many items come out in the time that a core takes for one piece of a batch:
    that is the same work whatever the size, and takes twice as long from one second to the next on a shared machine.
    Where a size once ran out of memory, at most half of it is used, also if that is less than the smallest.

    Args:
        encode: encodes a batch of so many items, whatever they show.
        sizes: ascending.
        device: works on as many batches at once as in an extraction.
        clock: returns seconds.
    """
    on_processor = torch.device(device).type == "cpu"
    flying, pace = in_flight(device), _Pace(on_processor=on_processor)
    started = clock()
    logs: dict[int, list[float]] = {}  # of every size that fits, the logarithms of its speeds

    def measure(size: int, seconds: float, *, turn: int) -> bool:
        """Note a size's speed, or that it does not fit; return whether it does."""
        speed = _speed(encode, size, pool, flying, seconds, clock, pace)
        if speed is not None:
            # Before the first turn it was only tried, which also paid for what is set up once for this size.
            logs[size] = [*(logs[size] if turn else []), math.log(speed)]
            return True
        if not on_processor:
            torch.accelerator.empty_cache()  # what it took is of no use to smaller batches
        for other in [other for other in logs if 2 * other > size]:
            del logs[other]
        return False

    with ThreadPoolExecutor(flying, initializer=own_stream, initargs=(device,)) as pool:
        _fits(encode, sizes[0])  # the first batch also pays for what is set up once
        for size in sizes:
            if not measure(size, TRIED, turn=0) or clock() - started > BUDGET:
                break
            if not _worth_raising(_speeds(logs, pace.all()), flying):
                break
        compared, turns = _near_the_best(logs, HOPEFUL), 0
        while compared and clock() - started <= COMPARED and not _clear(logs, compared, turns):
            if not all(measure(size, MEASURED, turn=turns) for size in compared):
                compared, turns = _near_the_best(logs, HOPEFUL), 0
                continue
            turns += 1
            if turns > 1:
                compared = _near_the_best({size: logs[size] for size in compared}, CHANCE)
    if not logs:
        return max(1, sizes[0] // 2), {}
    as_fast = _near_the_best({size: logs[size] for size in compared}, ENOUGH)
    return as_fast[0 if on_processor else -1], _speeds(logs, pace.all())


class _Pace:
    """What speeds are measured against: on the processor the time of one piece, shared by the cores; else a second."""

    def __init__(self, *, on_processor: bool) -> None:
        self._lanes = lanes() if on_processor else None
        self._start = self.now()

    def now(self) -> Worked:
        """Return what was worked until now."""
        return self._lanes.worked if self._lanes is not None else Worked(0, 0.0)

    def since(self, start: Worked) -> float:
        """Return the mean in seconds since then."""
        pieces, seconds = (now - then for now, then in zip(self.now(), start, strict=True))
        return seconds / pieces / self._lanes.count if self._lanes is not None and pieces else 1.0

    def all(self) -> float:
        """Return the mean in seconds since this was made."""
        return self.since(self._start)


def _speeds(logs: dict[int, list[float]], pace: float = 1.0) -> dict[int, float]:
    """Return the geometric means of the sizes' measurements: items a second, or in another time of so many seconds."""
    return {size: math.exp(statistics.fmean(of)) / pace for size, of in logs.items()}


def _near_the_best(logs: dict[int, list[float]], share: float) -> list[int]:
    """Return the sizes that are as fast as this share of the fastest."""
    speeds = _speeds(logs)
    return [size for size, speed in speeds.items() if speed >= share * max(speeds.values())]


def _clear(logs: dict[int, list[float]], compared: list[int], turns: int) -> bool:
    """Say whether it is known well enough by how much each size is slower than the best in the same turns."""
    if turns < TURNS:
        return False
    best = max(compared, key=lambda size: statistics.fmean(logs[size]))
    behind = [[ours - best_s for ours, best_s in zip(logs[size], logs[best], strict=True)] for size in compared]
    return all(statistics.stdev(by) <= CLEAR * math.sqrt(turns) for by in behind)


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
    encode: Callable[[int], object],
    size: int,
    pool: ThreadPoolExecutor,
    flying: int,
    seconds: float,
    clock: Callable[[], float],
    pace: _Pace,
) -> float | None:
    """Return the items in the pace's time, or None where memory does not suffice; no batch is under way then."""
    start, worked = clock(), pace.now()

    def one_behind_the_other(_: int) -> int | None:
        batches = 0
        while batches == 0 or clock() - start < seconds:
            if not _fits(encode, size):
                return None
            batches += 1
        return batches

    batches = list(pool.map(one_behind_the_other, range(flying)))
    fitting = [count for count in batches if count is not None]
    return size * sum(fitting) / (clock() - start) * pace.since(worked) if len(fitting) == flying else None


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
