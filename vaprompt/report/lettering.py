"""Text in pictures: only letters that the font has, in lines that fit by their measured width."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from functools import cache

from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.textpath import text_to_path

ELLIPSIS = "…"
LEADING = 1.2
"""From line to line, in sizes of the letters; as matplotlib sets them."""


def drawable(text: str) -> str:
    r"""Return a text with escapes, such as \u65e5, for letters that the font lacks.

    Those are control characters and the lone surrogates in names that are no text, too; matplotlib refuses
    surrogates, and warns of every other letter that it lacks.
    """
    return "".join(letter if _has_glyph(letter) else letter.encode("unicode_escape").decode("ascii") for letter in text)


def measured(text: str, size: float, *, bold: bool = False) -> float:
    """Return how wide a line of drawable text is, in points, in letters of `size` points."""
    width, _, _ = text_to_path.get_text_width_height_descent(text, _font(bold, size), ismath=False)
    return float(width)


def fitted(text: str, width: float, size: float, *, bold: bool = False) -> str:
    """Return a text as one line of at most `width` points; an ellipsis stands for what does not fit."""
    line = " ".join(drawable(text).split())
    if measured(line, size, bold=bold) <= width:
        return line
    room = width - measured(ELLIPSIS, size, bold=bold)
    return line[: _fitting(line, room, size, bold)] + ELLIPSIS


def wrapped(text: str, width: float, size: float, *, bold: bool = False, most: int | None = None) -> str:
    """Return a text as lines of at most `width` points, broken between words where these are short enough.

    Args:
        text: whatever it holds.
        width: in points.
        size: of the letters, in points.
        bold: whether they are.
        most: lines; an ellipsis ends the last where there would be more. None: as many as it takes.
    """
    lines: list[str] = []
    for word in drawable(text).split():
        for piece in _pieces(word, width, size, bold):
            if lines and measured(f"{lines[-1]} {piece}", size, bold=bold) <= width:
                lines[-1] += f" {piece}"
            else:
                lines.append(piece)
    if most is not None and len(lines) > most:
        lines[most - 1 :] = [fitted(" ".join(lines[most - 1 : most + 1]), width, size, bold=bold)]
    return "\n".join(lines)


def _pieces(word: str, width: float, size: float, bold: bool) -> Iterator[str]:
    while word:
        count = max(1, _fitting(word, width, size, bold))
        yield word[:count]
        word = word[count:]


def _fitting(line: str, width: float, size: float, bold: bool) -> int:
    """Return how many of a line's first letters are at most `width` points wide together."""
    return bisect_right(range(1, len(line) + 1), width, key=lambda count: measured(line[:count], size, bold=bold))


@cache
def _has_glyph(letter: str) -> bool:
    # What stands in bold in one picture stands in plain letters in another.
    return all(get_font(findfont(_font(bold))).get_char_index(ord(letter)) for bold in (False, True))


@cache
def _font(bold: bool, size: float = 10) -> FontProperties:
    return FontProperties(family="sans-serif", size=size, weight="bold" if bold else "normal")
