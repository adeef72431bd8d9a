"""Tables of labels, CSV or parquet: `video,time|frame,valence,arousal[,split]`, read row by row.

A row that breaks the format is a fault of its video alone, told with file and line when that video is read; nothing
is clipped, filled or skipped. Only what cannot be laid to one video's charge stops the reading.

Axes: R rows of a video.
"""

from __future__ import annotations

import csv
import hashlib
import json
import math
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from vaprompt.datasets.timed import TimedAnnotation
from vaprompt.errors import AnnotationError
from vaprompt.recipes import Recipe

_MEND = "correct the row, or leave the video out with `exclude` in the description"


class ColumnRecipe(Recipe):
    """What the columns are called; other columns are not looked at."""

    video: str = "video"
    """The video's file: its name, or its path below `root`; with or without suffix."""
    time: str = "time"
    """Seconds from the first frame."""
    frame: str = "frame"
    """Number of the frame, from 1; read where there is no column of times."""
    valence: str = "valence"
    arousal: str = "arousal"
    split: str = "split"
    """`train`, `validation` or `test`; need not be there."""


class TableRecipe(Recipe):
    """What a description says of its labels; for the layouts `csv` and `csv-per-video`."""

    path: str = Field(min_length=1)
    """The table (`csv`) or the folder of tables (`csv-per-video`), relative to `root`."""
    columns: ColumnRecipe = ColumnRecipe()
    delimiter: str = Field(",", min_length=1, max_length=1)
    label_range: tuple[float, float] = (-1.0, 1.0)
    """Lowest and highest value of the labels' scale: mapped to [-1, 1], and back in predictions."""
    invalid: float | None = None
    """A number that marks a row as not valid, standing in both columns, such as -5; empty cells always do."""
    longest_gap: float | None = Field(None, gt=0)
    """Seconds; rows that are further apart are not interpolated. Default: all are."""


@dataclass
class VideoRows:
    """The rows of one video."""

    path: Path
    by_frame: bool
    longest_gap: float | None
    split: str | None
    group: str | None
    position: array[float] = field(default_factory=lambda: array("d"))
    value: array[float] = field(default_factory=lambda: array("d"))
    """Valence and arousal by turns; nan where a row is not valid."""
    fault: AnnotationError | None = None
    """The first row that breaks the format."""

    @property
    def digest(self) -> str:
        """SHA-256 of all that labels are made of; rows that break the format differ from those that do not."""
        found = hashlib.sha256(f"{'frame' if self.by_frame else 'time'} {self.fault is not None}\n".encode())
        for numbers in (self.position, self.value):
            found.update(np.array(numbers, dtype="<f8").tobytes())
        return found.hexdigest()

    def annotation(self) -> TimedAnnotation:
        """Return the rows as an annotation.

        Raises:
            AnnotationError: a row breaks the format.
        """
        if self.fault is not None:
            raise self.fault
        value_R2 = np.array(self.value, dtype=np.float64).reshape(-1, 2)
        return TimedAnnotation(
            self.path,
            np.array(self.position, dtype=np.float64),
            value_R2,
            ~np.isnan(value_R2[:, 0]),
            self.by_frame,
            self.longest_gap,
        )


def read_table(
    path: Path, how: TableRecipe, *, group: str | None = None, video: str | None = None
) -> dict[str, VideoRows]:
    """Return the rows of each video as the file names it, in the order of their first rows.

    Args:
        path: a CSV in UTF-8 with a header, or a parquet file (`.parquet`).
        how: columns and scale; its own path is not looked at.
        group: a column whose value each video has one of, such as the person.
        video: the video that all rows belong to, where the table has no column for it.

    Raises:
        AnnotationError: the file is missing, no table, or lacks a column; a row names no video; or a video has
            two splits or groups. The error names the line (in parquet: the row, from 1).
    """
    reading = _Reading(path, how, group, video)
    for line, cells in _parquet(path) if path.suffix.lower() == ".parquet" else _csv(path, how.delimiter):
        reading.take(line, cells)
    if not reading.videos:
        raise AnnotationError(path, fault="has no rows", remedy="copy it again")
    return reading.videos


class _Reading:
    """The state of reading one table; the first line given to `take` is the header."""

    def __init__(self, path: Path, how: TableRecipe, group: str | None, video: str | None) -> None:
        self.videos: dict[str, VideoRows] = {}
        self._path, self._how, self._group, self._video = path, how, group, video
        self._place: dict[str, int] | None = None
        self._width = 0
        self._by_frame = False

    def take(self, line: int, cells: Sequence[Any]) -> None:
        if self._place is None:
            self._header(cells)
            return
        if len(cells) != self._width:
            fault = f"the row has {len(cells)} cells, and the header {self._width}"
            raise AnnotationError(self._path, line=line, fault=fault, remedy="correct the row")
        named = self._video if self._video is not None else str(self._cell("video", cells) or "").strip()
        if not named:
            raise AnnotationError(self._path, line=line, fault="the row names no video", remedy="correct the row")
        split, group = (
            None if cell is None else str(cell) for cell in (self._own("split", cells), self._own("group", cells))
        )
        rows = self.videos.get(named)
        if rows is None:
            rows = VideoRows(self._path, self._by_frame, self._how.longest_gap, split, group)
            self.videos[named] = rows
        for what, first, now in (("split", rows.split, split), ("group", rows.group, group)):
            if first != now:
                fault = f"{what} {now!r} of video '{named}' was {first!r} in an earlier row"
                raise AnnotationError(self._path, line=line, fault=fault, remedy=f"a video has one {what}")
        if rows.fault is None:
            try:
                self._row(rows, cells)
            except _RowError as error:
                rows.fault = AnnotationError(self._path, line=line, fault=str(error), remedy=_MEND)

    def _header(self, cells: Sequence[Any]) -> None:
        names = [str(cell).strip() for cell in cells]
        columns = self._how.columns
        self._by_frame = columns.time not in names
        wanted = {"valence": columns.valence, "arousal": columns.arousal}
        wanted["position"] = columns.frame if self._by_frame else columns.time
        if self._video is None:
            wanted["video"] = columns.video
        if self._group is not None:
            wanted["group"] = self._group
        for key, name in wanted.items():
            shown = f"{columns.time}' or '{columns.frame}" if key == "position" else name
            if name not in names:
                fault = f"has no column '{shown}', only {', '.join(names)[:120]}"
                remedy = "name the columns under [labels.columns] in the description"
                between = next((sign for sign in ";\t|" if len(names) == 1 and sign in names[0]), None)
                if between is not None:
                    remedy = f"its columns are parted otherwise: set delimiter = {json.dumps(between)} under [labels]"
                raise AnnotationError(self._path, line=1, fault=fault, remedy=remedy)
            if names.count(name) > 1:
                raise AnnotationError(
                    self._path, line=1, fault=f"has two columns '{name}'", remedy="remove or rename one of them"
                )
        if columns.split in names:
            wanted["split"] = columns.split
        self._place = {key: names.index(name) for key, name in wanted.items()}
        self._width = len(names)

    def _cell(self, key: str, cells: Sequence[Any]) -> Any:
        assert self._place is not None
        return cells[self._place[key]]

    def _own(self, key: str, cells: Sequence[Any]) -> Any:
        assert self._place is not None
        cell = cells[self._place[key]] if key in self._place else None
        return cell.strip() if isinstance(cell, str) else cell

    def _row(self, rows: VideoRows, cells: Sequence[Any]) -> None:
        name = "frame" if self._by_frame else "time"
        position = _number(self._cell("position", cells), name)
        if position is None or not math.isfinite(position):
            raise _RowError(f"there is no {name}" if position is None else f"{name} {position:g} is not finite")
        if self._by_frame and (position < 1 or position != int(position)):
            raise _RowError(f"frame {position:g} is not a whole number from 1")
        if rows.position and position <= rows.position[-1]:
            raise _RowError(f"{name} {position:.10g} does not come after {rows.position[-1]:.10g}, the row before it")
        values = [_number(self._cell(axis, cells), axis) for axis in ("valence", "arousal")]
        rows.value.extend(self._values(*values))
        rows.position.append(position)

    def _values(self, valence: float | None, arousal: float | None) -> tuple[float, float]:
        low, high = self._how.label_range
        marks = [value is None or value == self._how.invalid for value in (valence, arousal)]
        if all(marks):
            return math.nan, math.nan
        if any(marks):
            raise _RowError("only one of valence and arousal is there")
        mapped = []
        for axis, value in (("valence", valence), ("arousal", arousal)):
            assert value is not None
            if not low <= value <= high:
                raise _RowError(f"{axis} {value:g} is outside [{low:g}, {high:g}]")
            mapped.append(min(1.0, max(-1.0, 2 * (value - low) / (high - low) - 1)))  # rounding only: checked above
        return mapped[0], mapped[1]


class _RowError(Exception):
    """What is wrong with a row."""


def _number(cell: Any, name: str) -> float | None:
    """Return a cell's number; None where it is empty (in parquet: null or nan)."""
    if cell is None or (isinstance(cell, str) and not cell.strip()):
        return None
    if isinstance(cell, float) and math.isnan(cell):
        return None
    try:
        # Python alone reads 0_1 as a number, and as 1.
        number = float(cell.replace("_", "x") if isinstance(cell, str) else cell)
    except (TypeError, ValueError):
        raise _RowError(f"{name} '{str(cell)[:40]}' is not a number") from None
    if math.isnan(number):
        raise _RowError(f"{name} is nan; leave the cell empty where there is no label")
    return number


def _csv(path: Path, delimiter: str) -> Iterator[tuple[int, Sequence[Any]]]:
    try:
        # A byte order mark, as spreadsheets write it, is no part of the first column's name.
        with path.open(encoding="utf-8-sig", newline="") as text:
            rows = csv.reader(text, delimiter=delimiter, strict=True)
            for cells in rows:
                if cells:
                    yield rows.line_num, cells
    except FileNotFoundError:
        raise AnnotationError(path, fault="there is no such file", remedy="check `labels` in the description") from None
    except (OSError, UnicodeDecodeError) as error:
        raise AnnotationError(path, fault=f"cannot be read as text ({error})", remedy="save it as UTF-8") from None
    except csv.Error as error:
        raise AnnotationError(path, fault=f"is not a CSV ({error})", remedy="save it again as CSV") from None


def _parquet(path: Path) -> Iterator[tuple[int, Sequence[Any]]]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise AnnotationError(
            path, fault="is a parquet file, which needs pyarrow", remedy="pip install 'vaprompt[parquet]', or use CSV"
        ) from None
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            yield 0, file.schema_arrow.names
            number = 0
            for batch in file.iter_batches():
                for cells in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                    number += 1
                    yield number, cells
    except FileNotFoundError:
        raise AnnotationError(path, fault="there is no such file", remedy="check `labels` in the description") from None
    except (OSError, pyarrow.ArrowException) as error:
        raise AnnotationError(
            path, fault=f"is not a readable parquet file ({error})", remedy="write it again"
        ) from None
