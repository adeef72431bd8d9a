"""Any data set of videos and tables of labels, as its description says: the layouts `csv` and `csv-per-video`."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from vaprompt.datasets.base import Dataset, Modality, Problem, Rates, Video
from vaprompt.datasets.splits import Named, SplitRecipe, assign
from vaprompt.datasets.survey import MEDIA_SUFFIXES, SOUND_SUFFIXES
from vaprompt.datasets.tables import TableRecipe, VideoRows, read_table
from vaprompt.datasets.timed import TimedAnnotation
from vaprompt.errors import AnnotationError, DatasetError, RecipeError

NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")
TABLES = (".csv", ".parquet")


@dataclass(frozen=True)
class TableAnnotations:
    """The rows of all videos; see `vaprompt.datasets.base.Annotations`."""

    rows: Mapping[str, VideoRows]
    recipe: TableRecipe

    def read(self, video: str) -> TimedAnnotation:
        """Return one video's annotation.

        Raises:
            AnnotationError: a row of it breaks the format; the error names file and line.
        """
        return self.rows[video].annotation()

    def digest(self, video: str) -> str:
        """Return the SHA-256 of one video's rows, however the table writes their numbers."""
        return self.rows[video].digest

    @property
    def fingerprint(self) -> dict[str, Any]:
        """What decides how rows become labels."""
        return {
            "values": "as annotated, between rows linearly in time; not valid before the first and behind the last",
            "label_range": list(self.recipe.label_range),
            "invalid": self.recipe.invalid,
            "longest_gap": self.recipe.longest_gap,
        }


def read_tabular(
    root: Path,
    *,
    source: Path,
    name: str,
    layout: Literal["csv", "csv-per-video"],
    faces: Literal["crops", "frames", "auto"],
    labels: TableRecipe,
    splits: SplitRecipe | None,
    crops: str | None,
    modalities: tuple[Modality, ...],
    rates: Rates,
) -> Dataset:
    """Return the videos that the tables name, each with its split, media file, crops and labels.

    Args:
        root: the folder that holds everything.
        source: the description, for errors.
        name: the data set's name.
        layout: one table for all videos, or one a video.
        faces: read face crops, whole frames, or (auto) crops where `crops` is given.
        labels: where the labels are and how they are read.
        splits: the description's splits; None: a column says them.
        crops: folder of face crops below `root`, with one folder a video in it.
        modalities: what is taken of it. For sound alone, files of sound do where there is no video of that name.
        rates: rows a second where no video tells its frames' times.

    Raises:
        RecipeError: the description contradicts itself.
        AnnotationError: a table is missing or none.
        DatasetError: splits are unknown, a video's name cannot be used, or is that of two files.
    """
    low, high = labels.label_range
    if not low < high:
        raise RecipeError(source, fault=f"label_range = [{low:g}, {high:g}] is not allowed", remedy="low comes first")
    if faces == "crops" and crops is None:
        raise RecipeError(source, fault="faces = 'crops', but it names no folder of crops", remedy="set `crops`")
    group = None if splits is None else splits.group
    table = _below(root, labels.path, source)
    rows = read_table(table, labels, group=group) if layout == "csv" else _tables(table, labels, group)
    cells = _cells(rows, table)
    splits = None if splits is None else _plain_names(splits)
    _require_splits(rows, splits)
    named = [Named(video, rows[cell].split, rows[cell].group) for video, cell in cells.items()]
    media = _Media(root, MEDIA_SUFFIXES)
    sounds = _Media(root, SOUND_SUFFIXES if "image" not in modalities else ())
    dataset = Dataset(
        name=name,
        layout=layout,
        root=root,
        faces="crops" if crops is not None and faces != "frames" else "frames",
        videos=(),
        annotations=TableAnnotations({video: rows[cell] for video, cell in cells.items()}, labels),
        label_range=None if labels.label_range == (-1.0, 1.0) else labels.label_range,
        modalities=modalities,
        rates=rates,
    )
    crop_folder = None if crops is None else _below(root, crops, source)
    videos, problems = [], []
    for video, split in assign(named, splits, source=source, table=table).items():
        cell = cells.get(video, video)
        entry = Video(
            video,
            split,
            media.find(cell, table) or sounds.find(cell, table),
            None if crop_folder is None or not (crop_folder / video).is_dir() else crop_folder / video,
            rows[cell].path if video in cells else None,
        )
        videos.append(entry)
        if entry.media is None and dataset.needs_media(video):
            kind = "video" if "image" in modalities else "video or sound"
            problems.append(Problem("no media", video, f"no {kind} file of this name below {root}"))
        if dataset.needs_crops and entry.crops is None:
            problems.append(Problem("no crops", video, f"no folder {video} in {crop_folder}"))
    order = {"train": 0, "validation": 1, "test": 2}
    videos.sort(key=lambda video: (order[video.split], video.name))
    return replace(dataset, videos=tuple(videos), problems=tuple(problems))


def video_name(cell: str) -> str:
    """Return the name of a video from how a table or list writes it: without suffix, folders joined by `_`."""
    path = PurePosixPath(cell)
    bare = path.with_suffix("") if path.suffix.lower() in MEDIA_SUFFIXES + SOUND_SUFFIXES else path
    return "_".join(bare.parts)


def media_below(root: Path, suffixes: tuple[str, ...] = MEDIA_SUFFIXES) -> list[Path]:
    """Return the media files in a folder and the folders below it, by name; hidden ones are left out."""
    found: list[Path] = []
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        visible = (name for name in sorted(files) if not name.startswith("."))
        found += [Path(folder) / name for name in visible if Path(name).suffix.lower() in suffixes]
    return found


class _Media:
    """The media files by all the ways in which a table may name them."""

    def __init__(self, root: Path, suffixes: tuple[str, ...]) -> None:
        self._paths: dict[str, list[Path]] = {}
        for path in media_below(root, suffixes) if suffixes else ():
            inside = path.relative_to(root)
            ways = (inside.as_posix(), inside.with_suffix("").as_posix(), path.name, path.stem)
            for way in dict.fromkeys(ways):
                self._paths.setdefault(way, []).append(path)

    def find(self, cell: str, table: Path) -> Path | None:
        found = self._paths.get(PurePosixPath(cell).as_posix(), [])
        if len(found) > 1:
            raise DatasetError(
                table,
                fault=f"'{cell}' may be {found[0]} or {found[1]}",
                remedy="write the path below root, with its suffix",
            )
        return found[0] if found else None


def _tables(folder: Path, how: TableRecipe, group: str | None) -> dict[str, VideoRows]:
    """Read a folder of tables, each named like its video; one that is faulty is that video's fault alone."""
    if not folder.is_dir():
        raise DatasetError(folder, fault="there is no such folder of tables", remedy="check `labels.path`")
    rows: dict[str, VideoRows] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in TABLES and not path.name.startswith("."):
            if path.stem in rows:
                raise DatasetError(path, fault="is a second table of this name", remedy="keep one of them")
            try:
                rows |= read_table(path, how, group=group, video=path.stem)
            except AnnotationError as error:
                rows[path.stem] = VideoRows(path, False, None, None, None, fault=error)
    if not rows:
        raise DatasetError(folder, fault="holds no .csv or .parquet", remedy="check `labels.path` in the description")
    return rows


def _require_splits(rows: Mapping[str, VideoRows], splits: SplitRecipe | None) -> None:
    """Raise the fault of a table that would have said the split of its video."""
    for faulty in (video for video in rows.values() if video.fault is not None and video.split is None):
        if faulty.fault is not None and (splits is None or not splits.decides):
            raise faulty.fault


def _cells(rows: Mapping[str, VideoRows], table: Path) -> dict[str, str]:
    """Return how the table writes each video's name."""
    cells: dict[str, str] = {}
    for cell in rows:
        name = video_name(cell)
        if not NAME.fullmatch(name) or ".." in PurePosixPath(cell).parts:
            raise DatasetError(
                table,
                fault=f"'{cell[:80]}' cannot be the name of a video",
                remedy="names are made of letters, digits, dot, dash and underscore: rename the file",
            )
        if name in cells:
            raise DatasetError(
                table, fault=f"'{cells[name]}' and '{cell}' are both called {name}", remedy="write one and the same"
            )
        cells[name] = cell
    return cells


def _plain_names(splits: SplitRecipe) -> SplitRecipe:
    def plain(names: Sequence[str]) -> list[str]:
        return [video_name(name) for name in names]

    return splits.model_copy(update={"validation": plain(splits.validation), "test": plain(splits.test)})


def _below(root: Path, inside: str, source: Path) -> Path:
    """Return a path below `root`; descriptions are shared, and must not read elsewhere by accident."""
    path = Path(inside)
    if path.is_absolute() or ".." in path.parts:
        raise RecipeError(source, fault=f"'{inside}' leaves the data set's root", remedy="give a path below `root`")
    return root / path
