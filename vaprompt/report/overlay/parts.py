"""The parts of an overlay that stand beside its video; each draws itself for one frame.

Axes: F frames of a video, K regions, N people, P points; the last axis 2 is valence, arousal.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from jaxtyping import Bool, Float
from PIL import Image, ImageDraw

from vaprompt.media.loudness import STEP, Loudness
from vaprompt.regions import RegionRecipe
from vaprompt.report.overlay.brush import (
    CARD,
    FINE,
    GONE,
    INK,
    PAPER,
    RAISED,
    REGION,
    RULE,
    SOFT,
    SOUND,
    VOICE,
    Box,
    clock,
    fine,
    fitted,
    font,
    signed,
)
from vaprompt.report.overlay.subject import Subject

SPAN = 20.0
"""Seconds that are seen of the traces at once."""
QUIETEST = -80.0
"""Decibels at the foot of the sound's trace."""
GAP = 22
"""Pixels between traces, for what is written above each."""
SMALL, PLAIN = 12, 14
FEWEST_PIXELS = 12
"""Height of a row of regions in which its number and phrase can be read; 5 x 5 regions have that much."""
AIRY = 18
"""Height of a row where not all regions have one."""


class Plane:
    """The valence-arousal plane with a point for each person, and its tail."""

    def __init__(self, box: Box, regions: RegionRecipe) -> None:
        """Draw what never moves."""
        self._box = box
        self._margin = 26
        self._field = box.width - self._margin - 6
        self._back = fine(box.width, box.height)
        draw = ImageDraw.Draw(self._back)
        low, high = self._place(-1, -1), self._place(1, 1)
        draw.rectangle((low[0], high[1], high[0], low[1]), fill=RAISED, outline=RULE, width=FINE)
        for at in (-0.5, 0.0, 0.5):
            tone = SOFT if at == 0 else RULE
            draw.line((self._place(at, -1), self._place(at, 1)), fill=tone, width=FINE // 2 or 1)
            draw.line((self._place(-1, at), self._place(1, at)), fill=tone, width=FINE // 2 or 1)
        small = font(FINE * SMALL)
        for number, (valence, arousal) in enumerate(regions.centres_K2(), start=1):
            draw.text(self._place(valence, arousal), str(number), REGION, font(FINE * SMALL, bold=True), anchor="mm")
        for at, text in ((-1.0, "\u22121"), (0.0, "0"), (1.0, "1")):
            x, y = self._place(at, -1)[0], self._place(-1, at)[1]
            draw.text(
                (x, low[1] + 4 * FINE), text, SOFT, small, anchor="mt" if abs(at) < 1 else "lt" if at < 0 else "rt"
            )
            draw.text(
                (low[0] - 4 * FINE, y), text, SOFT, small, anchor="rm" if abs(at) < 1 else "rb" if at < 0 else "rt"
            )
        draw.text((self._place(0.5, 0)[0], low[1] + 4 * FINE), "valence", SOFT, small, anchor="mt")
        upright = Image.new("RGB", (80 * FINE, 16 * FINE), CARD)
        ImageDraw.Draw(upright).text((40 * FINE, 8 * FINE), "arousal", SOFT, small, anchor="mm")
        turned = upright.rotate(90, expand=True)
        self._back.paste(turned, (FINE, round(self._place(0, 0.5)[1]) - turned.height // 2))

    def draw(self, picture: Image.Image, subjects: Sequence[Subject], index: int) -> None:
        """Put the plane at a frame (from 0) into the picture."""
        sheet = self._back.copy()
        draw = ImageDraw.Draw(sheet)
        for subject in subjects:
            self._tail(draw, subject.tail_P2(index), subject.colour)
        for subject in subjects:
            valence, arousal = subject.video.value_F2[index]
            x, y = self._place(float(valence), float(arousal))
            there = bool(subject.there_F[index])
            reach = 8 * FINE
            ends = (x - reach, y - reach, x + reach, y + reach)
            draw.ellipse(
                ends,
                fill=subject.colour if there else RAISED,
                outline=PAPER if there else subject.colour,
                width=2 * FINE,
            )
            draw.text((x, y), subject.mark, PAPER if there else subject.colour, font(FINE * 11, bold=True), anchor="mm")
        picture.paste(sheet.reduce(FINE), self._box[:2])

    def _tail(self, draw: ImageDraw.ImageDraw, value_P2: Float[np.ndarray, "P 2"], colour: str) -> None:
        points = [self._place(float(valence), float(arousal)) for valence, arousal in value_P2]
        count = len(points) - 1
        for number, (start, end) in enumerate(pairwise(points)):
            # The nearer, the brighter and the thicker.
            share = (number + 1) / count
            draw.line(
                (start, end), fill=_mixed(RAISED, colour, 0.15 + 0.7 * share), width=round(FINE * (1.5 + 2.5 * share))
            )

    def _place(self, valence: float, arousal: float) -> tuple[float, float]:
        return (
            FINE * (self._margin + (valence + 1) / 2 * self._field),
            FINE * (6 + (1 - arousal) / 2 * self._field),
        )


class People:
    """Who is who, with the numbers of the moment."""

    def __init__(self, box: Box) -> None:
        """Take a place."""
        self._box = box

    def draw(self, picture: Image.Image, subjects: Sequence[Subject], index: int, time: float) -> None:
        """Write the moment and everybody's numbers into the picture."""
        draw = ImageDraw.Draw(picture)
        left, top, width, height = self._box
        draw.text((left + width, top + 4), clock(time), INK, font(PLAIN + 4, bold=True), anchor="rt")
        top += 34
        step = min(64, (height - 34) // max(1, len(subjects)))
        for subject in subjects:
            valence, arousal = (float(value) for value in subject.video.value_F2[index])
            there = bool(subject.there_F[index])
            draw.text((left, top), fitted(subject.name, width, font(SMALL)), subject.colour, font(SMALL), anchor="lt")
            for row, (name, value) in enumerate((("valence", valence), ("arousal", arousal))):
                y = top + 16 + 16 * row
                draw.text((left, y), name, SOFT, font(SMALL), anchor="lt")
                tone = INK if there else SOFT
                draw.text((left + width, y), signed(value), tone, font(SMALL, bold=there), anchor="rt")
            top += step


class Regions:
    """A bar for each region and person, with number and phrase; only for the most likely ones, if not all have room."""

    def __init__(self, box: Box, regions: RegionRecipe) -> None:
        """Take a place, and make the phrases fit it."""
        self._box, self._count = box, len(regions.phrases)
        self._all = box.height / self._count >= FEWEST_PIXELS
        # Below the most likely ones, a row tells how many are not shown.
        self._rows = self._count if self._all else box.height // AIRY - 1
        self._pitch = box.height / self._count if self._all else AIRY
        self._from = round(box.width * 0.66)
        self._width = box.width - self._from - 44
        self._phrases = [fitted(phrase, self._from - 36, font(SMALL)) for phrase in regions.phrases]

    def draw(self, picture: Image.Image, subjects: Sequence[Subject], time: float) -> None:
        """Put the bars of a moment into the picture."""
        sheet = Image.new("RGB", self._box[2:], CARD)
        draw = ImageDraw.Draw(sheet)
        share_NK = np.stack([subject.regions_K(time) for subject in subjects])
        most_N = share_NK.argmax(axis=1)
        for row, region in enumerate(self._shown(share_NK)):
            middle = (row + 0.5) * self._pitch
            draw.text((14, middle), str(region + 1), REGION, font(SMALL, bold=True), anchor="mm")
            draw.text((28, middle), self._phrases[region], INK, font(SMALL), anchor="lm")
            draw.rectangle(self._bar(row, 0, 1, 1.0), fill=RAISED)
            for number, subject in enumerate(subjects):
                share, most = float(share_NK[number, region]), bool(region == most_N[number])
                tone = subject.colour if most else _mixed(CARD, subject.colour, 0.5)
                draw.rectangle(self._bar(row, number, len(subjects), share), fill=tone)
                if len(subjects) == 1:
                    draw.text((self._box.width - 2, middle), f"{share:.0%}", INK, font(SMALL, bold=most), anchor="rm")
        if not self._all:
            text = f"and {self._count - self._rows} less likely regions"
            draw.text((28, (self._rows + 0.5) * self._pitch), text, SOFT, font(SMALL), anchor="lm")
        picture.paste(sheet, self._box[:2])

    def _shown(self, share_NK: Float[np.ndarray, "N K"]) -> list[int]:
        """Return the regions that have a row: all in their order, or those that are most likely for anybody."""
        if self._all:
            return list(range(self._count))
        return [int(region) for region in np.argsort(-share_NK.max(axis=0), kind="stable")[: self._rows]]

    def _bar(self, row: int, person: int, people: int, share: float) -> tuple[float, float, float, float]:
        gap = min(5.0, self._pitch / 6)
        height = (self._pitch - 2 * gap) / people
        top = row * self._pitch + gap + person * height
        # Pillow's rectangles hold their last row: neighbours would touch.
        return (self._from, top, self._from + share * self._width, max(top, top + height - (people > 1)))


class Traces:
    """Valence, arousal and the sound's level over some seconds around the moment."""

    def __init__(self, box: Box, loudness: Loudness | None) -> None:
        """Take a place."""
        self._box = box
        self._loudness = None if loudness is None or loudness.silent else loudness
        parts = 2 if self._loudness is None else 2.5
        self._height = int((box.height - GAP - GAP * np.ceil(parts)) / parts)
        self._left, self._right = 34, 8

    def draw(self, picture: Image.Image, subjects: Sequence[Subject], time: float) -> None:
        """Put the traces around a moment into the picture."""
        time_F = subjects[0].video.time_F
        last = max(float(time_F[-1]), 1e-3)
        span = min(SPAN, last)
        start = min(max(0.0, time - span / 2), last - span)
        rows = slice(max(0, int(np.searchsorted(time_F, start)) - 1), int(np.searchsorted(time_F, start + span)) + 1)
        width = self._box.width - self._left - self._right
        place_F = (time_F[rows] - start) / span * width * FINE
        written = ImageDraw.Draw(picture)
        left, top = self._box[:2]
        picture.paste(CARD, (left, top, left + self._box.width, top + self._box.height))
        top += GAP
        for axis, name in enumerate(("valence", "arousal")):
            sheet, draw = self._ground(width, self._height)
            if len(subjects) == 1:
                _shade(draw, place_F, ~subjects[0].there_F[rows], self._height, GONE)
            self._rules(draw, width, self._height, (0.5,))
            for subject in subjects:
                there_F = subject.there_F[rows] if len(subjects) > 1 else np.ones(len(place_F), np.bool_)
                height_F = (1 - subject.video.value_F2[rows, axis].astype(np.float64)) / 2 * self._height * FINE
                _line(draw, place_F, height_F, there_F, subject.colour, 2)
            self._finish(picture, sheet, draw, (time - start) / span, top)
            shaded = "no face" if len(subjects) == 1 and not subjects[0].there_F[rows].all() else ""
            self._head(written, top, name, shaded)
            for at, text in ((0.0, "1"), (0.5, "0"), (1.0, "\u22121")):
                written.text((left + self._left - 6, top + at * self._height), text, SOFT, font(SMALL), anchor="rm")
            top += self._height + GAP
        if self._loudness is not None:
            self._sound(picture, self._loudness, start, span, time, top)
            top += self._height // 2 + GAP
        foot = top - GAP + 4
        written.text((left + self._left, foot), clock(start), SOFT, font(SMALL), anchor="lt")
        written.text((left + self._left + width, foot), clock(start + span), SOFT, font(SMALL), anchor="rt")

    def _sound(
        self, picture: Image.Image, loudness: Loudness, start: float, span: float, time: float, top: int
    ) -> None:
        width, height = self._box.width - self._left - self._right, self._height // 2
        sheet, draw = self._ground(width, height)
        count = len(loudness.level_G)
        rows = slice(max(0, int(start / STEP) - 1), min(count, int((start + span) / STEP) + 2))
        place_G = (np.arange(count)[rows] * STEP - start) / span * width * FINE
        _shade(draw, place_G, loudness.voice_G[rows], height, VOICE)
        height_G = np.clip(loudness.level_G[rows].astype(np.float64) / QUIETEST, 0, 1) * height * FINE
        _line(draw, place_G, height_G, np.ones(len(place_G), np.bool_), SOUND, 1.5)
        self._finish(picture, sheet, draw, (time - start) / span, top)
        written = ImageDraw.Draw(picture)
        left = self._box.left + self._left
        self._head(written, top, "sound level (dB)", "a voice" if loudness.voice_G[rows].any() else "")
        written.text((left - 6, top + 1), "0", SOFT, font(SMALL - 1), anchor="rt")
        written.text(
            (left - 6, top + height - 1), f"{QUIETEST:.0f}".replace("-", "\u2212"), SOFT, font(SMALL - 1), anchor="rb"
        )

    def _head(self, written: ImageDraw.ImageDraw, top: int, name: str, shaded: str) -> None:
        """Write above a trace what it is, and what its shade stands for."""
        left, letters = self._box.left + self._left, font(SMALL, bold=True)
        written.text((left, top - 4), name, INK, letters, anchor="ls")
        if shaded:
            place = left + letters.getlength(name) + 14
            written.text((place, top - 4), f"shaded: {shaded}", SOFT, font(SMALL), anchor="ls")

    def _ground(self, width: int, height: int) -> tuple[Image.Image, ImageDraw.ImageDraw]:
        sheet = fine(width, height, RAISED)
        return sheet, ImageDraw.Draw(sheet)

    def _rules(self, draw: ImageDraw.ImageDraw, width: int, height: int, shares: Sequence[float]) -> None:
        for share in shares:
            draw.line((0, share * height * FINE, width * FINE, share * height * FINE), fill=RULE, width=FINE)

    def _finish(
        self, picture: Image.Image, sheet: Image.Image, draw: ImageDraw.ImageDraw, share: float, top: int
    ) -> None:
        """Mark the moment, and put a trace in its place."""
        x = share * sheet.width
        draw.line((x, 0, x, sheet.height), fill=INK, width=2 * FINE)
        picture.paste(sheet.reduce(FINE), (self._box.left + self._left, top))


def _line(
    draw: ImageDraw.ImageDraw,
    place_P: Float[np.ndarray, "P"],
    height_P: Float[np.ndarray, "P"],
    there_P: Bool[np.ndarray, "P"],
    colour: str,
    width: float,
) -> None:
    """Draw a line with gaps where it is not there."""
    for first, behind in _stretches(there_P):
        points = list(zip(place_P[first:behind].tolist(), height_P[first:behind].tolist(), strict=True))
        if len(points) > 1:
            draw.line(points, fill=colour, width=round(FINE * width), joint="curve")


def _shade(
    draw: ImageDraw.ImageDraw, place_P: Float[np.ndarray, "P"], flag_P: Bool[np.ndarray, "P"], height: int, colour: str
) -> None:
    for first, behind in _stretches(flag_P):
        draw.rectangle((place_P[first], 0, place_P[min(behind, len(place_P) - 1)], height * FINE), fill=colour)


def _stretches(flag_P: Bool[np.ndarray, "P"]) -> list[tuple[int, int]]:
    edge = np.flatnonzero(np.diff(np.concatenate(([False], flag_P, [False])).astype(np.int8)))
    return [(int(first), int(behind)) for first, behind in edge.reshape(-1, 2)]


def _mixed(ground: str, colour: str, share: float) -> str:
    """Return a colour laid over a ground with so much of its strength."""
    parts = [
        round((1 - share) * int(ground[at : at + 2], 16) + share * int(colour[at : at + 2], 16)) for at in (1, 3, 5)
    ]
    return "#" + "".join(f"{part:02x}" for part in parts)
