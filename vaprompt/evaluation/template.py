"""The challenge's submission files: a header, then `<video>/00001.jpg,valence,arousal`, a row for each frame.

A submission has its template's rows in the template's order. Lines are counted from 1; the header is line 1.

Axes: L rows of the template, the header left out.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

import numpy as np
from jaxtyping import Int32

from vaprompt.errors import VapromptError

COLUMNS = ("image_location", "valence", "arousal")
FIRST_ROW = 2
"""Line of the first row."""

LONGEST = 10_000
"""Characters of a line that no row has; of a file without lines, such as a device that never ends, no more is read."""


class SubmissionError(VapromptError):
    """A template or a submission breaks its format, or the two do not fit together."""


@dataclass(frozen=True)
class Template:
    """What a submission must have a row for."""

    path: Path
    header: str
    videos: list[str]
    """In the order in which they first come."""
    video_L: Int32[np.ndarray, "L"]
    """Which of `videos` each row is of."""
    frame_L: Int32[np.ndarray, "L"]
    """Number of the frame, from 1."""


@dataclass(frozen=True)
class Fault:
    """Something wrong in a submission."""

    line: int
    fault: str


def read_template(path: Path) -> Template:
    """Return the rows that a template asks for; the values in it are not looked at.

    Raises:
        SubmissionError: it cannot be read, its header is not `image_location,...`, a row names no frame of a video,
            or a frame comes twice. The error names the line.
    """
    rows = _lines(path)
    header = next(rows, "")
    if header.split(",")[0] != COLUMNS[0]:
        raise SubmissionError(
            path, line=1, fault=f"the header is {header[:60]!r}, not '{','.join(COLUMNS)}'", remedy=_DOWNLOAD
        )
    index: dict[str, int] = {}
    latest, number = "", 0
    # As C keeps them: a million of Python's integers are 60 MB.
    video_L, frame_L = array("i"), array("i")
    for line, row in enumerate(rows, start=FIRST_ROW):
        video, _, name = row.partition(",")[0].rpartition("/")
        stem, _, suffix = name.partition(".")
        # isdigit alone would let through digits of other scripts, and superscripts
        frame = int(stem) if stem.isdigit() and stem.isascii() else 0
        if not video or not suffix or not 1 <= frame < 2**31:
            raise SubmissionError(path, line=line, fault=f"'{row[:60]}' is not <video>/00001.jpg,...", remedy=_DOWNLOAD)
        if video != latest:
            latest, number = video, index.setdefault(video, len(index))
        video_L.append(number)
        frame_L.append(frame)
    if len(frame_L) == 0:
        raise SubmissionError(path, fault="has a header but no rows", remedy=_DOWNLOAD)
    template = Template(path, header, list(index), np.array(video_L), np.array(frame_L))
    _require_once(template)
    return template


def check_submission(path: Path, template: Path, most: int = 20) -> tuple[list[Fault], int]:
    """Return the first faults of a submission by line, no more than `most`, and how many there are in all.

    Rows are compared with the template's until the first that is another: behind it, rows are out of step, and only
    their values are looked at.

    Raises:
        SubmissionError: either file cannot be read, or the template is none.
    """
    asked = _lines(template)
    header = next(asked, "")
    if header.split(",")[0] != COLUMNS[0]:
        raise SubmissionError(
            template, line=1, fault=f"the header is {header[:60]!r}, not '{','.join(COLUMNS)}'", remedy=_DOWNLOAD
        )
    given = _lines(path)
    found: list[Fault] = []
    total = 0
    in_step = True
    written = next(given, "")
    if written != header:
        found.append(Fault(1, f"the header is {written[:60]!r}, the template's is {header!r}"))
        total += 1
    for line, (row, wanted) in enumerate(zip_longest(given, asked), start=FIRST_ROW):
        if row is None:
            left = 1 + sum(1 for _ in asked)
            fault: str | None = f"the file ends here; {left} rows of the template are missing"
        elif wanted is None:
            extra = 1 + sum(1 for _ in given)
            fault = f"the template ends before this row; {extra} rows are too many"
        else:
            fault = _row_fault(row, wanted.partition(",")[0] if in_step else None)
            in_step = in_step and (fault is None or not fault.startswith(_OTHER))
        if fault is not None:
            total += 1
            if len(found) < most:
                found.append(Fault(line, fault))
    return found, total


_DOWNLOAD = "take the template that the edition's organisers sent"
_OTHER = "is the row of"


def _row_fault(row: str, location: str | None) -> str | None:
    """Return what is wrong with a row; its location is compared where `location` is given."""
    if _is_right(row, location):
        return None
    cells = row.split(",")
    if location is not None and cells[0] != location:
        return f"{_OTHER} '{cells[0][:60]}', the template has '{location[:60]}' here"
    if len(cells) != len(COLUMNS):
        return f"has {len(cells)} values, not {len(COLUMNS)} ({row[:60]!r})"
    for name, cell in zip(COLUMNS[1:], cells[1:], strict=True):
        try:
            # Python alone reads 0_1 as a number.
            value = float(cell.replace("_", "x"))
        except ValueError:
            return f"{name} '{cell[:30]}' is not a number"
        if not -1 <= value <= 1:
            return f"{name} {cell[:30]} is {'not in [-1, 1]' if math.isfinite(value) else 'not finite'}"
    return None


def _is_right(row: str, location: str | None) -> bool:
    """Return whether nothing is wrong with a row, as with nearly all: without the questions that a message needs."""
    try:
        given, valence, arousal = row.split(",")
        right = -1 <= float(valence) <= 1 and -1 <= float(arousal) <= 1
    except ValueError:
        return False
    return right and (location is None or given == location) and "_" not in valence and "_" not in arousal


def _lines(path: Path) -> Iterator[str]:
    """Yield a text file's lines without their ends, empty ones at the end left out; memory does not grow."""
    empty = 0
    try:
        with path.open(encoding="utf-8-sig") as file:
            for number, text in enumerate(iter(lambda: file.readline(LONGEST), ""), start=1):
                if len(text) == LONGEST:
                    raise SubmissionError(
                        path, line=number, fault=f"has {LONGEST} characters or more", remedy="give a text file of rows"
                    )
                line = text.rstrip("\r\n")
                if not line:
                    empty += 1
                    continue
                for _ in range(empty):
                    yield ""
                empty = 0
                yield line
    except FileNotFoundError:
        raise SubmissionError(path, fault="there is no such file", remedy="check the path") from None
    except (OSError, UnicodeDecodeError) as error:
        raise SubmissionError(path, fault=f"cannot be read as text ({error})", remedy="give a text file") from None


def _require_once(template: Template) -> None:
    key_L = template.video_L.astype(np.int64) << 32 | template.frame_L
    order_L = np.argsort(key_L, kind="stable")
    again_L = order_L[1:][np.diff(key_L[order_L]) == 0]
    if len(again_L):
        row = int(again_L.min())
        video, frame = template.videos[template.video_L[row]], template.frame_L[row]
        raise SubmissionError(
            template.path,
            line=row + FIRST_ROW,
            fault=f"frame {frame} of '{video}' comes a second time",
            remedy=_DOWNLOAD,
        )
