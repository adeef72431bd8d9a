"""Ways to damage the content of JSON, which stays JSON."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import numpy as np

VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 7, 2**31, 2**62, 2**64, 10**40, -(2**63), 0.5, -0.0, 1e308),
    *("", "x", "done", "train", "float16", "object", "../..", "/etc/passwd", "\u0000", "\ud800", "a" * 5000, "1e999"),
    *([], {}, [[]], [None], {"": None}, [2**40, 2**40], [0], [1.5], ["image"]),
)


def _places(content: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the way to everything inside."""
    inside = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in inside:
        yield (*path, key)
        yield from _places(value, (*path, key))


def changed(content: Any, rng: np.random.Generator) -> Any:
    """Return JSON with one thing in it changed, renamed, moved, added or gone."""
    content = copy.deepcopy(content)
    places = list(_places(content))
    if not places:
        return VALUES[rng.integers(len(VALUES))]
    *way, key = places[rng.integers(len(places))]
    parent = content
    for step in way:
        parent = parent[step]
    value = VALUES[rng.integers(len(VALUES))]
    match int(rng.integers(7)):
        case 0:
            del parent[key]
        case 1 if isinstance(parent, dict):
            parent[str(VALUES[rng.integers(len(VALUES))])[:40]] = parent.pop(key)
        case 2:
            other = content
            for step in places[rng.integers(len(places))]:
                other = other[step]
            parent[key] = copy.deepcopy(other)
        case 3 if type(parent[key]) in (int, float):
            parent[key] = parent[key] * int(rng.choice([-1, 2, 1000])) + int(rng.integers(-1, 2))
        case 4:
            nested: Any = value
            for _ in range(int(rng.choice([1, 20, 200]))):
                nested = [nested]
            parent[key] = nested
        case _:
            parent[key] = value
    return content
