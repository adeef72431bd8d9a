"""Where the parts of an overlay lie: the video first, the traces below, plane and regions beside it."""

from __future__ import annotations

from dataclasses import dataclass

from vaprompt.report.overlay.brush import Box

WIDTH, HEIGHT = 1280, 720
RIM = 16
PLANE = 316
"""Side of the plane with its numbers."""
TALL = 0.9
"""Videos that are narrower than so many times their height stand beside everything else."""


@dataclass(frozen=True)
class Layout:
    """The places of all parts."""

    video: Box
    plane: Box
    people: Box
    regions: Box
    traces: Box


def layout(shape: float) -> Layout:
    """Return where everything lies for a video of so many times its height in width."""
    if shape < TALL:
        video = _inside(shape, Box(RIM, RIM, 400, HEIGHT - 2 * RIM))
        left = video.left + video.width + RIM
        width = WIDTH - left - RIM
        traces = Box(left, RIM + PLANE + RIM, width, HEIGHT - PLANE - 3 * RIM)
        plane = Box(left, RIM, PLANE, PLANE)
        people = Box(left + PLANE + RIM // 2, RIM, 116, PLANE)
        beside = people.left + people.width + RIM // 2
        return Layout(video, plane, people, Box(beside, RIM, WIDTH - RIM - beside, PLANE), traces)
    column = 776
    video = _inside(shape, Box(RIM, RIM, column, 436))
    traces = Box(RIM, 468, column, HEIGHT - 468 - RIM)
    left = RIM + column + RIM
    plane = Box(left, RIM, PLANE, PLANE)
    people = Box(left + PLANE + RIM // 2, RIM, WIDTH - RIM - left - PLANE - RIM // 2, PLANE)
    below = RIM + PLANE + RIM
    return Layout(video, plane, people, Box(left, below, WIDTH - RIM - left, HEIGHT - RIM - below), traces)


def _inside(shape: float, room: Box) -> Box:
    """Return the largest box of a shape inside a room, in its middle."""
    width = min(room.width, round(room.height * shape))
    height = max(1, min(room.height, round(width / shape)))
    width = max(1, width)
    return Box(room.left + (room.width - width) // 2, room.top + (room.height - height) // 2, width, height)
