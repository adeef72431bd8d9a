"""Colours, letters and smooth lines for pictures that are drawn frame by frame.

Pillow draws lines without smoothing them: what moves is drawn `FINE` times larger and averaged.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import matplotlib
from PIL import Image, ImageDraw, ImageFont

FINE = 2
PAPER, CARD, RAISED = "#0f1318", "#171c23", "#202731"
INK, SOFT, RULE = "#e8ecf1", "#a2adba", "#2c3541"
REGION, SOUND, VOICE, GONE = "#f0a830", "#9ba7b5", "#17372d", "#2d3744"
PEOPLE = ("#56b4e9", "#ff8b4d", "#34c79f", "#dd9fe6", "#f0c24a", "#c3ccd6")
"""Told apart with every kind of colour vision (after Okabe and Ito), as on the page's dark side."""
MOST_LETTERS = 200


class Box(NamedTuple):
    """A part of a picture, in pixels."""

    left: int
    top: int
    width: int
    height: int


@cache
def font(size: int, *, bold: bool = False) -> ImageFont.FreeTypeFont:
    """Return the letters that come with matplotlib: they know European scripts, and are the same everywhere."""
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name, size)


def fitted(text: str, width: float, letters: ImageFont.FreeTypeFont) -> str:
    """Return a text as one line that is no wider than `width` pixels; an ellipsis stands for what does not fit."""
    shown = "".join(letter if letter.isprintable() else " " for letter in text[: MOST_LETTERS + 1])
    line = " ".join(shown.split())
    if len(text) <= MOST_LETTERS and letters.getlength(line) <= width:
        return line
    line = line[:MOST_LETTERS]
    while line and letters.getlength(f"{line}…") > width:
        line = line[:-1]
    return f"{line}…"


def signed(number: float) -> str:
    """Return a number with its sign, of two decimals, and a true minus."""
    return f"{number:+z.2f}".replace("-", "\u2212")


def clock(seconds: float) -> str:
    """Return a moment, such as 1:05.3."""
    tenths = int(seconds * 10 + 1e-6)
    return f"{tenths // 600}:{tenths // 10 % 60:02}.{tenths % 10}"


def fine(width: int, height: int, colour: str = CARD) -> Image.Image:
    """Return a sheet to draw on, `FINE` times larger."""
    return Image.new("RGB", (FINE * width, FINE * height), colour)


def outline(picture: Image.Image, points: Sequence[tuple[float, float]], colour: str, width: float) -> None:
    """Draw a smooth closed line on a picture, on a dark rim that is seen on any ground."""
    margin = round(width) + 3
    left, top = (max(0, int(min(point[axis] for point in points)) - margin) for axis in (0, 1))
    right, bottom = (min(picture.size[axis], int(max(point[axis] for point in points)) + margin + 1) for axis in (0, 1))
    if right <= left or bottom <= top:
        return
    closed = [(FINE * (x - left), FINE * (y - top)) for x, y in (*points, points[0], points[1])]
    for tone, thick, strength in (("#000000", width + 2, 140), (colour, width, 255)):
        mask = Image.new("L", (FINE * (right - left), FINE * (bottom - top)))
        ImageDraw.Draw(mask).line(closed, fill=strength, width=round(FINE * thick), joint="curve")
        picture.paste(tone, (left, top), mask.reduce(FINE))
