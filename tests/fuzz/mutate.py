"""Ways to damage a file: blindly, and along the grain of its format."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Callable, Iterator

import numpy as np

EXTREMES = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)
CONTAINERS = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"edts", b"dinf", b"udta", b"meta", b"RIFF", b"LIST")

Rng = np.random.Generator
Mutation = Callable[[bytes, Rng], bytes]


def mutants(content: bytes, own: Mutation, count: int, seed: int) -> Iterator[bytes]:
    """Yield damaged copies of a file, each another; every second one is damaged in its format's own way, some twice."""
    seen = {content}
    for number in itertools.count():
        rng = np.random.default_rng([seed, number])
        mutant = content
        for _ in range(1 + int(rng.random() < 0.3)):
            change = own if rng.random() < 0.5 else BLIND[rng.integers(len(BLIND))]
            mutant = change(mutant, rng) or mutant
        if mutant not in seen:
            seen.add(mutant)
            yield mutant
        if len(seen) > count:
            return


def _span(content: bytes, rng: Rng, most: int = 4096) -> tuple[int, int]:
    start = int(rng.integers(len(content)))
    return start, min(len(content), start + 1 + int(rng.integers(most)))


def flip_bits(content: bytes, rng: Rng) -> bytes:
    """Flip a few bits anywhere."""
    changed = bytearray(content)
    for place in rng.integers(len(content), size=1 + rng.integers(16)):
        changed[place] ^= 1 << int(rng.integers(8))
    return bytes(changed)


def flip_bits_in_head(content: bytes, rng: Rng) -> bytes:
    """Flip a few bits where headers are."""
    head = min(len(content), 1024)
    return flip_bits(content[:head], rng) + content[head:]


def truncate(content: bytes, rng: Rng) -> bytes:
    """Cut the end off."""
    return content[: 1 + int(rng.integers(len(content)))]


def cut_out(content: bytes, rng: Rng) -> bytes:
    """Leave a piece out."""
    start, stop = _span(content, rng)
    return content[:start] + content[stop:]


def splice(content: bytes, rng: Rng) -> bytes:
    """Put a piece in at another place."""
    start, stop = _span(content, rng)
    place = int(rng.integers(len(content)))
    return content[:place] + content[start:stop] + content[place:]


def garbage(content: bytes, rng: Rng) -> bytes:
    """Overwrite a piece."""
    start, stop = _span(content, rng)
    return content[:start] + rng.bytes(stop - start) + content[stop:]


def garbage_behind_head(content: bytes, rng: Rng) -> bytes:
    """Keep the head and overwrite all the rest."""
    head = int(rng.integers(8, 2048))
    return content[:head] + rng.bytes(max(0, len(content) - head))


def extreme_number(content: bytes, rng: Rng) -> bytes:
    """Set a number anywhere to a boundary value."""
    return _set_number(content, int(rng.integers(len(content))), rng)


def _set_number(content: bytes, place: int, rng: Rng) -> bytes:
    value = EXTREMES[rng.integers(len(EXTREMES))]
    size = int(rng.choice([1, 2, 4, 8]))
    order = "big" if rng.random() < 0.5 else "little"
    packed = (value % 256**size).to_bytes(size, order)
    return content[:place] + packed + content[place + size :]


BLIND: tuple[Mutation, ...] = (
    flip_bits,
    flip_bits_in_head,
    truncate,
    cut_out,
    splice,
    garbage,
    garbage_behind_head,
    extreme_number,
)


def _boxes(content: bytes, start: int, stop: int) -> Iterator[tuple[int, int, int]]:
    """Yield start, start of the payload and end of every box of an mp4, those inside others too."""
    while start + 8 <= stop:
        size, kind = struct.unpack(">I4s", content[start : start + 8])
        end = min(stop, start + size) if size >= 8 else stop
        yield start, start + 8, end
        if kind in CONTAINERS:
            yield from _boxes(content, start + 8, end)
        elif kind == b"stsd":  # its entries hold pictures' sizes, rates and channels, and the decoders' own headers
            yield from _boxes(content, start + 16, end)
        start = end


def _chunks(content: bytes, start: int, stop: int) -> Iterator[tuple[int, int, int]]:
    """Yield the same of every chunk of a RIFF file, such as wav and avi."""
    while start + 8 <= stop:
        kind, size = struct.unpack("<4sI", content[start : start + 8])
        end = min(stop, start + 8 + size)
        yield start, start + 8, end
        if kind in CONTAINERS:
            yield from _chunks(content, start + 12, end)
        start = end + end % 2


def _segments(content: bytes, start: int, stop: int) -> Iterator[tuple[int, int, int]]:
    """Yield the same of every segment of a jpg up to its pixels."""
    start = 2
    while start + 4 <= stop and content[start] == 0xFF:
        end = min(stop, start + 2 + int.from_bytes(content[start + 2 : start + 4], "big"))
        yield start, start + 4, end
        start = end


def _parts_of(walk: Callable[[bytes, int, int], Iterator[tuple[int, int, int]]]) -> Mutation:
    def mutate(content: bytes, rng: Rng) -> bytes:
        parts = list(walk(content, 0, len(content)))
        if not parts:
            return content
        start, payload, end = parts[rng.integers(len(parts))]
        match int(rng.integers(6)):
            case 0:  # its length, or its name
                return _set_number(content, start + int(rng.choice([0, 2, 4])), rng)
            case 1:  # gone
                return content[:start] + content[end:]
            case 2:  # there again
                return content[:end] + content[start:end] + content[end:]
            case 3:  # another in its place
                other, _, other_end = parts[rng.integers(len(parts))]
                return content[:start] + content[other:other_end] + content[end:]
            case _:  # a field of it; the first ones mostly
                place = payload + int(min(rng.integers(64), rng.integers(64)))
                return _set_number(content, min(place, len(content) - 1), rng)

    return mutate


boxes, chunks, segments = _parts_of(_boxes), _parts_of(_chunks), _parts_of(_segments)


def elements(content: bytes, rng: Rng) -> bytes:
    """Damage an mkv in its headers: its elements are short and lie close together."""
    return _set_number(content, int(rng.integers(min(len(content), 1500))), rng)
