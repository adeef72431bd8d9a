"""Things that hide part of a face for a while: when, and what they look like.

Axes: M corners of a polygon; the last axis of points is (x, y) in the face's units (see face.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image

from vaprompt.datasets.synthetic.face import Brush, Points, Pose
from vaprompt.datasets.synthetic.person import Colour, Conditions, OccluderKind


@dataclass(frozen=True)
class Stretch:
    """One occlusion: from `start` to `end` seconds."""

    start: float
    end: float
    kind: OccluderKind
    side: int
    """-1 or 1: which half of the face."""
    place: float
    """0 to 1: where the thing is held, within its kind's range."""
    colour: Colour


def draw_stretches(
    random: np.random.Generator, *, conditions: Conditions, skin: Colour, hair: Colour, seconds: float
) -> list[Stretch]:
    """Draw when and by what the face is hidden within `seconds` seconds."""
    stretches: list[Stretch] = []
    at = 0.0
    while True:
        length = float(random.uniform(0.8, 3.5))
        at += float(random.exponential(2.15 * (1 / conditions.occluded - 1)))
        if at >= seconds:
            return stretches
        kind = conditions.occluders[random.integers(len(conditions.occluders))]
        red, green, blue = (int(level) for level in random.integers(20, 235, 3))
        own: dict[str, Colour] = {"hand": skin, "hair": hair}
        stretches.append(
            Stretch(
                start=at,
                end=at + length,
                kind=kind,
                side=1 if random.random() < 0.5 else -1,
                place=float(random.uniform(0, 1)),
                colour=own.get(kind, (red, green, blue)),
            )
        )
        at += length


def paint_occluder(canvas: Image.Image, pose: Pose, stretch: Stretch, time: float) -> None:
    """Draw the occluder as it is at `time`: it comes in and goes out within a fifth of a second."""
    away = max(0.0, 1 - (time - stretch.start) / 0.2, 1 - (stretch.end - time) / 0.2)
    brush = Brush(canvas, pose, offset=(stretch.side * 1.2 * away, 0.8 * away))
    red, green, blue = stretch.colour
    edge: Colour = (int(red * 0.7), int(green * 0.7), int(blue * 0.7))
    _SHAPES[stretch.kind](brush, stretch, edge)


def _hand(brush: Brush, stretch: Stretch, edge: Colour) -> None:
    side, top = stretch.side, -0.3 + 0.6 * stretch.place
    brush.fill(_box(side * 0.15, top + 0.25, side * 1.3, top + 1.5), edge)
    for finger in range(4):
        y = top + 0.22 * finger
        brush.fill(_box(side * (-0.1 + 0.06 * finger), y, side * 1.2, y + 0.18), stretch.colour)


def _hair(brush: Brush, stretch: Stretch, edge: Colour) -> None:
    side, reach = stretch.side, 0.1 + 0.5 * stretch.place
    brush.fill(np.array([[side * -0.1, -1.2], [side * 0.95, -1.1], [side * 1.0, reach], [side * 0.35, reach]]), edge)
    for lock in range(3):
        x = side * (0.15 + 0.28 * lock)
        brush.fill(np.array([[x, -1.2], [x + side * 0.2, -1.2], [x + side * 0.3, reach + 0.2]]), stretch.colour)


def _bar(brush: Brush, stretch: Stretch, edge: Colour) -> None:
    y = -0.6 + 1.3 * stretch.place
    brush.fill(_box(-1.4, y, 1.4, y + 0.34), stretch.colour)
    brush.fill(_box(-1.4, y + 0.3, 1.4, y + 0.38), edge)


def _cup(brush: Brush, stretch: Stretch, edge: Colour) -> None:
    top = 0.2 + 0.25 * stretch.place
    brush.fill(np.array([[-0.42, top], [0.42, top], [0.32, top + 0.8], [-0.32, top + 0.8]]), stretch.colour)
    brush.fill(_box(-0.44, top - 0.04, 0.44, top + 0.06), edge)


def _phone(brush: Brush, stretch: Stretch, edge: Colour) -> None:
    x, y = stretch.side * (0.2 + 0.3 * stretch.place), -0.9
    brush.fill(_box(x, y, x + stretch.side * 0.75, y + 1.5), edge)
    brush.fill(_box(x + stretch.side * 0.06, y + 0.06, x + stretch.side * 0.69, y + 1.44), stretch.colour)


def _scarf(brush: Brush, stretch: Stretch, edge: Colour) -> None:
    top = 0.35 + 0.3 * stretch.place
    brush.fill(np.array([[-1.2, top - 0.15], [0, top], [1.2, top - 0.15], [1.2, 1.6], [-1.2, 1.6]]), stretch.colour)
    for fold in range(3):
        y = top + 0.2 + 0.22 * fold
        brush.fill(np.array([[-1.1, y - 0.1], [0, y], [1.1, y - 0.1], [0, y + 0.05]]), edge)


def _box(left: float, top: float, right: float, bottom: float) -> Points:
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom]])


_SHAPES: dict[OccluderKind, Callable[[Brush, Stretch, Colour], None]] = {
    "hand": _hand,
    "hair": _hair,
    "bar": _bar,
    "cup": _cup,
    "phone": _phone,
    "scarf": _scarf,
}
