"""Aff-Wild2's annotation files: a header, then one row of valence and arousal for each frame.

Axes: F frames of a video; row i (1-based) belongs to frame i.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float64

from vaprompt.datasets.base import Annotation, Dataset, Labels, Video
from vaprompt.errors import AnnotationError

HEADER = "valence,arousal"
INVALID = -5.0
"""Stands in both columns of a frame that the annotators marked as invalid."""

_LEAVE_OUT = "correct the row, or leave the video out with `exclude` in the data set's description"


@dataclass(frozen=True)
class FrameAnnotation:
    """Labels of which row i belongs to frame i; see `vaprompt.datasets.base.Annotation`."""

    labels: Labels
    path: Path

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.labels.valid_F)

    @property
    def invalid(self) -> int:
        """Number of rows of -5."""
        return int(np.sum(~self.labels.valid_F))

    @property
    def per_frame(self) -> bool:
        """Rows are frames."""
        return True

    def fitted(self, time_F: Float64[np.ndarray, "F"]) -> tuple[Labels, list[str]]:
        """Return the labels of the frames that exist on both sides, and a remark where the counts differ.

        Raises:
            AnnotationError: rows and frames differ by more than 1 % and by more than 10.
        """
        note = alignment_note(self.rows, len(time_F))
        return align(self.labels, len(time_F), self.path), [] if note is None else [note]


def annotation_of(dataset: Dataset, video: Video) -> Annotation | None:
    """Return a video's annotation, or None where it has none.

    Raises:
        AnnotationError: it breaks its format; the error names file and line.
    """
    if video.annotation is None:
        return None
    if dataset.annotations is not None:
        return dataset.annotations.read(video.name)
    return FrameAnnotation(read_annotation(video.annotation), video.annotation)


def read_annotation(path: Path) -> Labels:
    """Return the labels in an annotation file, -5 kept as it is and marked as not valid.

    Raises:
        AnnotationError: the file is missing or no text, its first line is not exactly `valence,arousal`, or a row is
            not two numbers that both lie in [-1, 1] or are both -5. The error names the line.
    """
    lines = _lines(path)
    if not lines:
        raise AnnotationError(path, fault="is empty", remedy="copy it again from the data set")
    if lines[0] != HEADER:
        raise AnnotationError(
            path, line=1, fault=f"the header is {lines[0][:40]!r}, not '{HEADER}'", remedy="restore the first line"
        )
    if len(lines) == 1:
        raise AnnotationError(path, fault="has a header but no rows", remedy="copy it again from the data set")
    rows = [_row(line, path, number) for number, line in enumerate(lines[1:], start=2)]
    value_F2 = np.array(rows, dtype=np.float32)
    return Labels(value_F2, value_F2[:, 0] != INVALID)


def align(labels: Labels, frames: int, path: Path) -> Labels:
    """Return the labels of the frames that exist on both sides, counted from the start.

    Annotation rows and decoded frames of Aff-Wild2 differ by a few at the end of some videos; the shorter is kept
    (`alignment_note` words the difference).

    Args:
        labels: one row a frame.
        frames: how many frames the video decodes to.
        path: the annotation file, for the error.

    Raises:
        AnnotationError: they differ by more than 1 % and by more than 10 frames.
    """
    rows = len(labels.valid_F)
    difference = abs(rows - frames)
    if difference > 10 and difference > 0.01 * max(rows, frames):
        raise AnnotationError(
            path,
            fault=f"has {rows} rows but the video decodes to {frames} frames",
            remedy="check that this is the annotation of this video, and that the video is complete",
        )
    kept = min(rows, frames)
    return Labels(labels.value_F2[:kept], labels.valid_F[:kept])


def alignment_note(rows: int, frames: int) -> str | None:
    """Return a remark on annotation rows and decoded frames that differ; None where they do not."""
    if rows == frames:
        return None
    return f"{rows} annotation rows, {frames} decoded frames: the first {min(rows, frames)} of both are used"


def _lines(path: Path) -> list[str]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise AnnotationError(path, fault="there is no such file", remedy="check the path") from None
    except (OSError, UnicodeDecodeError) as error:
        raise AnnotationError(path, fault=f"cannot be read as text ({error})", remedy="copy it again") from None
    # Universal newlines have made \r\n into \n already; empty lines at the end are no rows.
    return text.rstrip("\n").split("\n") if text.strip() else []


def _row(line: str, path: Path, number: int) -> tuple[float, float]:
    cells = line.split(",")
    if len(cells) != 2:
        fault = f"the row has {len(cells)} values, not two ('{line[:40]}')" if line.strip() else "the row is empty"
        raise AnnotationError(path, line=number, fault=fault, remedy=_LEAVE_OUT)
    try:
        # Python alone reads 0_1 as a number, and as 1.
        valence, arousal = (float(cell.replace("_", "x")) for cell in cells)
    except ValueError:
        raise AnnotationError(path, line=number, fault=f"'{line[:40]}' is not two numbers", remedy=_LEAVE_OUT) from None
    if (-1 <= valence <= 1 and -1 <= arousal <= 1) or valence == arousal == INVALID:
        return valence, arousal
    if INVALID in (valence, arousal):
        fault = f"only one of valence {valence:g} and arousal {arousal:g} is the invalid mark -5"
    else:
        name, value = ("arousal", arousal) if -1 <= valence <= 1 else ("valence", valence)
        fault = f"{name} {value:g} is outside [-1, 1] and is not the invalid mark -5"
    raise AnnotationError(path, line=number, fault=fault, remedy=_LEAVE_OUT)
